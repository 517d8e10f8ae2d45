//! QMP clients on a character device, one after the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::mpsc;

use crate::chardev::{FrontEnd, FrontEvent, FrontWriter};
use crate::ipc::frame::MAX_FDS;
use crate::qapi::Error;
use crate::qapi::qmp::{API, Call, CommandId};
use crate::qapi::session::{Config, Output, Request, Session, Ticket};
use crate::qapi::visit::encoded;

use super::attention::Attention;
use super::guest::Guest;

/// Where a command came from.
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

/// Serves QMP on `front` until the character device or the guest goes.
pub async fn serve(guest: Rc<Guest>, front: FrontEnd, pretty: bool) {
    let FrontEnd { mut reader, writer } = front;
    let mut events = guest.events.subscribe();
    let (done, mut finished) = mpsc::unbounded_channel();
    let attention = Attention::default();
    let mut clients = 0;
    let mut client: Option<Client> = None;
    loop {
        let listens = client.as_ref().is_none_or(|client| client.session.wants_input());
        tokio::select! {
            biased;
            Some((number, ticket, result)) = finished.recv() => {
                if let Some(client) = client.as_mut().filter(|client| client.number == number) {
                    let outputs = client.session.complete(ticket, result);
                    client.act(outputs).await;
                    client.close_unclaimed();
                }
            }
            happened = events.recv() => match (happened, client.as_mut()) {
                (Some(happened), Some(client)) => {
                    if let Some(bytes) = client.session.event(&happened.event, happened.at) {
                        client.writer.send(bytes).await;
                    }
                }
                (Some(_), None) => {}
                (None, _) => return,
            },
            event = reader.recv(), if listens => match event {
                Some(FrontEvent::Opened) => {
                    clients += 1;
                    let next = Client::new(clients, Rc::clone(&guest), writer.clone(), done.clone(), pretty);
                    next.writer.send(next.session.greeting()).await;
                    client = Some(next);
                }
                Some(FrontEvent::Data(chunk)) => {
                    if let Some(client) = client.as_mut() {
                        client.context.fds.borrow_mut().extend(chunk.fds);
                        let outputs = client.session.feed(&chunk.bytes);
                        client.act(outputs).await;
                        client.close_unclaimed();
                        attention.renew();
                    }
                }
                Some(FrontEvent::Closed) => client = None,
                Some(FrontEvent::Break | FrontEvent::FocusIn | FrontEvent::FocusOut) => {}
                None => return,
            },
        }
    }
}

type Finished = (u64, Ticket, Result<Vec<u8>, Error>);

/// One client from its connection to its end.
struct Client {
    number: u64,
    session: Session<CommandId>,
    context: CallContext,
    guest: Rc<Guest>,
    writer: FrontWriter,
    done: mpsc::UnboundedSender<Finished>,
}

impl Client {
    fn new(
        number: u64,
        guest: Rc<Guest>,
        writer: FrontWriter,
        done: mpsc::UnboundedSender<Finished>,
        pretty: bool,
    ) -> Self {
        let config = Config {
            api: API,
            target: guest.target(),
            version: encoded(&super::version()),
            oob: true,
            pretty,
        };
        Self {
            number,
            session: Session::new(config),
            context: CallContext::default(),
            guest,
            writer,
            done,
        }
    }

    /// Closes the descriptors that no command has taken, once there is none left that could; and those beyond what one
    /// message carries, the oldest first.
    fn close_unclaimed(&self) {
        let mut fds = self.context.fds.borrow_mut();
        let kept = if self.session.is_idle() { 0 } else { MAX_FDS };
        let surplus = fds.len().saturating_sub(kept);
        fds.drain(..surplus);
    }

    /// Sends what there is to send and starts what there is to run.
    async fn act(&mut self, outputs: Vec<Output<CommandId>>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Send(bytes) => self.writer.send(bytes).await,
                Output::Run(request) => {
                    let (ticket, mut task) = self.start(request);
                    // Most commands are done at once, and then need no task of their own.
                    match poll_once(&mut task).await {
                        Some(result) => outputs.extend(self.session.complete(ticket, result)),
                        None => self.finish_later(ticket, task),
                    }
                }
            }
        }
    }

    fn start(&self, request: Request<CommandId>) -> (Ticket, Task) {
        let (guest, context) = (Rc::clone(&self.guest), self.context.clone());
        let ticket = request.ticket;
        let task = async move {
            let call = Call::decode(request.command.id, request.arguments)?;
            guest.run(&context, call).await
        };
        (ticket, Box::pin(task))
    }

    fn finish_later(&self, ticket: Ticket, task: Task) {
        let (number, done) = (self.number, self.done.clone());
        tokio::task::spawn_local(async move {
            // A client that has gone does not wait for its answer.
            let _ = done.send((number, ticket, task.await));
        });
    }
}

type Task = Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>>>>;

async fn poll_once(task: &mut Task) -> Option<Result<Vec<u8>, Error>> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match task.as_mut().poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        })
    })
    .await
}
