//! One client after the other on a character device, whatever they speak there.
//!
//! A [`Conversation`] is what is said, without a connection; a [`Service`] begins conversations and does what is asked in
//! them; the pump between the two and the character device never waits for only one of its sides. So a client that does
//! not read, a command that takes its time, a flood of events and a client that hangs up are each no trouble to the
//! others:
//!
//! * Events and the client's bytes take turns. Events that came before a reply go out before it.
//! * What was received before a client hung up is carried out, also if the next client is there already.
//! * A client that does not read is not listened to either, and nothing is worked out for it meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::task::JoinSet;

use super::attention::Attention;
use super::events::{EventReader, Happened};
use crate::chardev::{Chunk, FrontEnd, FrontEvent, FrontReader, FrontWriter};
use crate::ipc::frame::MAX_FDS;
use crate::qapi::session::Output;

/// How many bytes are made for a client before it has to read some.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// How many clients that have gone may still have commands running before the next is let in.
const MOST_FORMER: usize = 8;

/// What one client and the monitor say to each other.
pub trait Conversation {
    /// Something to be done.
    type Request;
    /// How it went.
    type Done;

    /// Takes what the client said, however it is split.
    fn feed(&mut self, bytes: &[u8]);
    /// What is to be sent or done next; none until something comes from outside.
    fn next_output(&mut self) -> Option<Output<Self::Request>>;
    /// Takes how a request went.
    fn complete(&mut self, done: Self::Done);
    /// Whether the client may say more.
    fn wants_input(&self) -> bool;
    /// Whether everything the client said is dealt with.
    fn is_idle(&self) -> bool;
    /// Whether no request has come in part: descriptors that are there now belong to none that is still to come.
    fn is_between_requests(&self) -> bool;
    /// The client's input was given to, or taken from, this conversation by a multiplexer.
    fn focus(&mut self, on: bool);
}

/// A request that is being done.
pub type Task<D> = Pin<Box<dyn Future<Output = D>>>;

/// Talks to clients.
pub trait Service: 'static {
    /// How.
    type Talk: Conversation;
    /// What happens meanwhile.
    type Event: 'static;

    /// A client is there.
    fn begin(&self) -> Self::Talk;
    /// What happens from now on.
    fn events(&self) -> EventReader<Self::Event>;
    /// What the client is told of an event, if anything.
    fn tell(&self, talk: &Self::Talk, happened: &Happened<Self::Event>) -> Option<Vec<u8>>;
    /// Does what a client asked for.
    fn start(
        &self,
        context: &CallContext,
        request: <Self::Talk as Conversation>::Request,
    ) -> Task<<Self::Talk as Conversation>::Done>;
}

/// Where a request came from.
#[derive(Clone, Default)]
pub struct CallContext {
    /// Descriptors that came with the client's bytes and that no command has taken.
    pub fds: Rc<RefCell<VecDeque<OwnedFd>>>,
}

impl CallContext {
    /// The next descriptor the client sent.
    #[must_use]
    pub fn take_fd(&self) -> Option<OwnedFd> {
        self.fds.borrow_mut().pop_front()
    }
}

/// Serves clients on `front` until the character device goes or there are no more events.
pub async fn serve<S: Service>(service: Rc<S>, front: FrontEnd) {
    let FrontEnd { reader, writer } = front;
    let mut pump = Pump {
        events: service.events(),
        service,
        reader,
        writer,
        client: None,
        former: JoinSet::new(),
        focused: true,
        attention: Attention::default(),
    };
    while pump.step().await {}
}

struct Pump<S: Service> {
    service: Rc<S>,
    events: EventReader<S::Event>,
    reader: FrontReader,
    writer: FrontWriter,
    client: Option<Client<S>>,
    /// What is left to do for clients that have gone.
    former: JoinSet<()>,
    focused: bool,
    attention: Attention,
}

/// One client from its connection to its end.
struct Client<S: Service> {
    talk: S::Talk,
    context: CallContext,
    tasks: Vec<Task<<S::Talk as Conversation>::Done>>,
    outgoing: Vec<u8>,
    /// It says nothing more. It may still read, as long as nobody else wants to talk.
    gone: bool,
}

/// What a pump waits for.
enum Came<E, D> {
    Event(Option<Rc<Happened<E>>>),
    Input(Option<FrontEvent>),
    Done(D),
    /// The client has gone; what it said is still to be read.
    Hangup,
    /// There is another client, or the character device goes.
    Successor,
    /// The character device takes more.
    Room,
    FormerDone,
}

impl<S: Service> Pump<S> {
    /// Waits for the next thing to happen, and acts on it. Returns whether there is more to come.
    async fn step(&mut self) -> bool {
        if let Some(client) = &mut self.client {
            client.advance(&*self.service, &mut self.events).await;
            client.close_unclaimed();
            if !client.outgoing.is_empty() && self.writer.try_send(&mut client.outgoing) {
                return true;
            }
            if client.gone && client.is_done() {
                self.client = None;
            }
        }
        match self.wait().await {
            Came::Event(Some(happened)) => {
                if let Some(client) = &mut self.client {
                    client.tell(&*self.service, &happened);
                }
            }
            Came::Event(None) => {
                self.part().await;
                return false;
            }
            Came::Done(done) => {
                if let Some(client) = &mut self.client {
                    client.catch_up(&*self.service, &mut self.events);
                    client.talk.complete(done);
                }
            }
            Came::Input(Some(event)) => self.take(event),
            Came::Input(None) => {
                self.dismiss();
                self.finish_all().await;
                return false;
            }
            Came::Hangup => self.take_the_rest(),
            Came::Successor => self.dismiss(),
            Came::Room => {
                if let Some(client) = &mut self.client {
                    self.writer.try_send(&mut client.outgoing);
                }
            }
            Came::FormerDone => {}
        }
        true
    }

    async fn wait(&mut self) -> Came<S::Event, <S::Talk as Conversation>::Done> {
        let Self {
            events,
            reader,
            writer,
            client,
            former,
            ..
        } = self;
        let may_leave = former.len() < MOST_FORMER;
        let Some(client) = client else {
            return tokio::select! {
                happened = events.next() => Came::Event(happened),
                event = reader.recv() => Came::Input(event),
                Some(()) = one_less(former) => Came::FormerDone,
            };
        };
        let (reads, gone) = (client.outgoing.is_empty(), client.gone);
        let listens = reads && !gone && client.talk.wants_input();
        let from_outside = async {
            if listens {
                return Came::Input(reader.recv().await);
            }
            if !gone {
                reader.hangup().await;
                return Came::Hangup;
            }
            reader.waiting().await;
            Came::Successor
        };
        tokio::select! {
            done = any_done(&mut client.tasks), if client.outgoing.len() < OUTPUT_LIMIT => Came::Done(done),
            happened = events.next(), if reads => Came::Event(happened),
            came = from_outside, if !gone || may_leave => came,
            () = writer.room(), if !reads => Came::Room,
            Some(()) = one_less(former) => Came::FormerDone,
        }
    }

    fn take(&mut self, event: FrontEvent) {
        match event {
            FrontEvent::Opened => {
                let mut talk = self.service.begin();
                talk.focus(self.focused);
                self.dismiss();
                self.client = Some(Client {
                    talk,
                    context: CallContext::default(),
                    tasks: Vec::new(),
                    outgoing: Vec::new(),
                    gone: false,
                });
            }
            FrontEvent::Data(chunk) => {
                if let Some(client) = &mut self.client {
                    client.feed(chunk);
                    self.attention.renew();
                }
            }
            FrontEvent::Closed => {
                if let Some(client) = &mut self.client {
                    client.gone = true;
                }
            }
            FrontEvent::Break => {}
            FrontEvent::FocusIn | FrontEvent::FocusOut => {
                let on = matches!(event, FrontEvent::FocusIn);
                if self.focused != on {
                    self.focused = on;
                    if let Some(client) = &mut self.client {
                        client.talk.focus(on);
                    }
                }
            }
        }
    }

    /// Reads what a client that has gone had said before, whether or not it was to wait.
    fn take_the_rest(&mut self) {
        while let Some(event) = self.reader.try_recv() {
            let is_last = matches!(event, FrontEvent::Closed);
            self.take(event);
            if is_last {
                return;
            }
        }
    }

    /// The client has gone and another one is there. What it had asked for is carried out all the same.
    fn dismiss(&mut self) {
        if let Some(client) = self.client.take() {
            self.former.spawn_local(client.finish(Rc::clone(&self.service)));
        }
    }

    /// The character device is gone: does what there is left to do, unless the guest ends.
    async fn finish_all(&mut self) {
        loop {
            tokio::select! {
                happened = self.events.next() => if happened.is_none() {
                    return;
                },
                ended = self.former.join_next() => if ended.is_none() {
                    return;
                },
            }
        }
    }

    /// There are no more events, as the guest has ended: sends what is to be sent, with the replies that are there.
    async fn part(&mut self) {
        let Some(client) = &mut self.client else {
            return;
        };
        while let Some(done) = poll_once(any_done(&mut client.tasks)).await {
            client.talk.complete(done);
        }
        while let Some(output) = client.talk.next_output() {
            if let Output::Send(bytes) = output {
                client.outgoing.extend(bytes);
            }
        }
        while !client.outgoing.is_empty() {
            self.writer.room().await;
            self.writer.try_send(&mut client.outgoing);
        }
    }
}

impl<S: Service> Client<S> {
    fn is_done(&self) -> bool {
        self.outgoing.is_empty() && self.tasks.is_empty() && self.talk.is_idle()
    }

    fn feed(&mut self, chunk: Chunk) {
        self.context.fds.borrow_mut().extend(chunk.fds);
        self.talk.feed(&chunk.bytes);
    }

    /// Closes the descriptors that no command has taken, once there is none left that could; and those beyond what one
    /// message carries, the oldest first.
    fn close_unclaimed(&self) {
        let mut fds = self.context.fds.borrow_mut();
        if fds.is_empty() {
            return;
        }
        let is_over = self.tasks.is_empty() && self.talk.is_idle() && self.talk.is_between_requests();
        let kept = if is_over { 0 } else { MAX_FDS };
        let surplus = fds.len().saturating_sub(kept);
        fds.drain(..surplus);
    }

    /// Starts what there is to run and collects what there is to send, until the client has enough to read.
    async fn advance(&mut self, service: &S, events: &mut EventReader<S::Event>) {
        while self.outgoing.len() < OUTPUT_LIMIT {
            match self.talk.next_output() {
                None => return,
                Some(Output::Send(bytes)) if self.outgoing.is_empty() => self.outgoing = bytes,
                Some(Output::Send(bytes)) => self.outgoing.extend(bytes),
                Some(Output::Run(request)) => {
                    let mut task = service.start(&self.context, request);
                    // Most commands are done at once.
                    match poll_once(task.as_mut()).await {
                        Some(done) => {
                            self.catch_up(service, events);
                            self.talk.complete(done);
                        }
                        None => self.tasks.push(task),
                    }
                }
            }
        }
    }

    /// Tells of what has happened by now.
    fn catch_up(&mut self, service: &S, events: &mut EventReader<S::Event>) {
        while let Some(happened) = events.try_next() {
            self.tell(service, &happened);
        }
    }

    fn tell(&mut self, service: &S, happened: &Happened<S::Event>) {
        if let Some(bytes) = service.tell(&self.talk, happened) {
            self.outgoing.extend(bytes);
        }
    }

    /// Does all that was asked for, with nobody there to hear of it.
    async fn finish(mut self, service: Rc<S>) {
        loop {
            while let Some(output) = self.talk.next_output() {
                if let Output::Run(request) = output {
                    self.tasks.push(service.start(&self.context, request));
                }
            }
            if self.tasks.is_empty() {
                return;
            }
            let done = any_done(&mut self.tasks).await;
            self.talk.complete(done);
        }
    }
}

/// One of `tasks` ended; none if there was none.
async fn one_less(tasks: &mut JoinSet<()>) -> Option<()> {
    // One that panicked has said so, and has ended as well.
    tasks.join_next().await.map(drop)
}

/// The first of `tasks` that is done; never, if there is none.
async fn any_done<D>(tasks: &mut Vec<Task<D>>) -> D {
    poll_fn(|cx| {
        for index in 0..tasks.len() {
            if let Poll::Ready(done) = tasks[index].as_mut().poll(cx) {
                drop(tasks.swap_remove(index));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

async fn poll_once<D>(task: impl Future<Output = D>) -> Option<D> {
    let mut task = std::pin::pin!(task);
    poll_fn(|cx| {
        Poll::Ready(match task.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

#[cfg(test)]
mod tests;
