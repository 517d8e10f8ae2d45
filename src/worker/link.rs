//! The worker's end of the link to its monitor.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::io::{EventLoop, Handle};
use crate::ipc::channel::{Channel, ChannelError};
use crate::ipc::field::Malformed;
use crate::ipc::frame::FrameError;
use crate::ipc::message::{FromWorker, Hello, MonitorRequest, ToWorker};
use crate::machine::chardevs::User;
use crate::qapi::Error;

/// What the monitor answers: a descriptor.
pub type Answer = Result<OwnedFd, Error>;

/// What asks for the character device of a guest's device.
#[must_use]
pub fn chardev_request(user: User<'_>) -> MonitorRequest {
    let id = user.chardev().to_owned();
    match user.is_port() {
        true => MonitorRequest::OpenPort(id),
        false => MonitorRequest::OpenChardev(id),
    }
}

/// Makes the main thread's loop turn.
struct Turn(Handle);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// The link of a worker; it belongs to the main thread.
pub struct Link {
    channel: Channel<ToWorker, FromWorker>,
    greeted: Cell<bool>,
    next_id: Cell<u64>,
    asked: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
    failure: RefCell<Option<ChannelError>>,
}

impl Link {
    /// Takes over the socket to the monitor, and introduces this process.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        let link = Self {
            channel: Channel::new(socket),
            greeted: Cell::new(false),
            next_id: Cell::new(1),
            asked: RefCell::default(),
            failure: RefCell::default(),
        };
        link.send(FromWorker::Hello(Hello::of_this_process()));
        link
    }

    /// Says something. If that cannot be done, [`Self::check`] tells; the end of the monitor shows where it is read from.
    pub fn send(&self, message: FromWorker) {
        self.note(self.channel.send(message));
    }

    /// Sends what the monitor did not take at once.
    pub fn flush(&self) {
        self.note(self.channel.flush());
    }

    fn note(&self, sent: Result<(), ChannelError>) {
        match sent {
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(error) => drop(self.failure.borrow_mut().get_or_insert(error)),
        }
    }

    /// Whether everything that was said has gone or can still go.
    ///
    /// # Errors
    /// Why something cannot.
    pub fn check(&self) -> Result<(), ChannelError> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Asks the monitor. The answer comes through [`Self::answered`].
    pub fn ask(&self, request: MonitorRequest) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.asked.borrow_mut().insert(id, sender);
        self.send(FromWorker::Ask { id, request });
        receiver
    }

    /// Hands an answer to whoever asked. Whoever does not wait any more needs none.
    pub fn answered(&self, id: u64, answer: Answer) {
        if let Some(sender) = self.asked.borrow_mut().remove(&id) {
            drop(sender.send(answer));
        }
    }

    /// Waits for an answer where there is no main loop yet, and returns it with whatever else the monitor said
    /// meanwhile; none if `alarm` can be read before, or if the monitor gives up, which has said why.
    ///
    /// # Errors
    /// The monitor is gone or cannot be understood.
    pub fn wait_for(
        &self,
        mut answer: oneshot::Receiver<Answer>,
        alarm: impl AsFd,
    ) -> Result<Option<(Answer, Vec<ToWorker>)>, ChannelError> {
        let mut others = Vec::new();
        loop {
            while let Some(message) = self.buffered()? {
                match message {
                    ToWorker::Answer { id, result } => self.answered(id, result),
                    ToWorker::Abort => return Ok(None),
                    other => others.push(other),
                }
            }
            match answer.try_recv() {
                Ok(answer) => return Ok(Some((answer, others))),
                Err(TryRecvError::Closed) => return Err(ChannelError::Closed),
                Err(TryRecvError::Empty) => {}
            }
            self.check()?;
            let mut fds = [
                PollFd::new(&self.channel, self.interest()),
                PollFd::new(&alarm, PollFlags::IN),
            ];
            match poll(&mut fds, self.patience().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(ChannelError::Io(errno.into())),
            }
            if fds[1].revents().contains(PollFlags::IN) {
                return Ok(None);
            }
            self.flush();
            self.fill()?;
        }
    }

    /// The next message, waiting for it.
    ///
    /// # Errors
    /// The monitor is gone or cannot be understood.
    pub fn receive(&self) -> Result<ToWorker, ChannelError> {
        loop {
            self.check()?;
            let message = self.channel.receive()?;
            if let Some(message) = self.greeted(message)? {
                return Ok(message);
            }
        }
    }

    /// Reads once, as far as there is something to read.
    ///
    /// # Errors
    /// The monitor is gone.
    pub fn fill(&self) -> Result<(), ChannelError> {
        self.channel.fill()
    }

    /// Waits for a future that asks the monitor, where there is no main loop yet. Returns what came of it, with whatever else the
    /// monitor said meanwhile; none if the worker was told to end before, or if the monitor gives up, which has said why.
    ///
    /// # Errors
    /// The monitor is gone or cannot be understood.
    pub fn wait_on<T>(
        &self,
        future: impl Future<Output = T>,
        main: &EventLoop,
        told_to_end: &AtomicBool,
    ) -> Result<Option<(T, Vec<ToWorker>)>, ChannelError> {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Turn(main.handle().clone())));
        let mut others = Vec::new();
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(Some((value, others)));
            }
            if told_to_end.load(Ordering::Acquire) {
                return Ok(None);
            }
            let mut was_answered = false;
            while let Some(message) = self.buffered()? {
                match message {
                    ToWorker::Answer { id, result } => {
                        self.answered(id, result);
                        was_answered = true;
                    }
                    ToWorker::Abort => return Ok(None),
                    other => others.push(other),
                }
            }
            if was_answered {
                continue;
            }
            self.check()?;
            let handle = main.handle();
            let mut fds = [
                PollFd::new(&self.channel, self.interest()),
                PollFd::new(handle, PollFlags::IN),
            ];
            match poll(&mut fds, self.patience().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(ChannelError::Io(errno.into())),
            }
            if fds[1].revents().contains(PollFlags::IN) {
                main.turn(Some(Duration::ZERO)).map_err(ChannelError::Io)?;
            }
            self.flush();
            self.fill()?;
        }
    }

    /// A message that was read already.
    ///
    /// # Errors
    /// The monitor cannot be understood.
    pub fn buffered(&self) -> Result<Option<ToWorker>, ChannelError> {
        while let Some(message) = self.channel.buffered()? {
            if let Some(message) = self.greeted(message)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Checks that the monitor has introduced itself; its greeting itself is for nobody else.
    fn greeted(&self, message: ToWorker) -> Result<Option<ToWorker>, ChannelError> {
        match message {
            ToWorker::Hello(hello) => {
                hello.check().map_err(FrameError::from)?;
                self.greeted.set(true);
                Ok(None)
            }
            message if self.greeted.get() => Ok(Some(message)),
            _ => Err(FrameError::from(Malformed::NoHello).into()),
        }
    }

    /// What to wait for at [`Self::as_fd`].
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        self.channel.interest()
    }

    /// How long to wait for it at most.
    #[must_use]
    pub fn patience(&self) -> Option<Timespec> {
        self.channel.patience()
    }

    /// Says that nothing follows.
    pub fn finish(&self) {
        self.channel.finish();
    }

    /// Sends what waits and waits until the monitor has closed its end, for `limit` at most.
    pub fn wait_for_end(&self, limit: Duration) {
        self.channel.wait_for_end(limit);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Peer = Channel<FromWorker, ToWorker>;

    fn linked() -> (Link, Peer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(ours), Peer::new(theirs))
    }

    fn hello() -> ToWorker {
        ToWorker::Hello(Hello::of_this_process())
    }

    #[test]
    fn an_answer_is_told_by_its_id_and_the_rest_is_kept() {
        let (link, peer) = linked();
        let first = link.ask(MonitorRequest::OpenChardev("a".into()));
        let second = link.ask(MonitorRequest::OpenChardev("b".into()));
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        peer.send(hello()).unwrap();
        for (id, result) in [(2, Err(Error::generic("no b"))), (99, Ok(null())), (1, Ok(null()))] {
            peer.send(ToWorker::Start(vec![id.to_string()])).unwrap();
            peer.send(ToWorker::Answer { id, result }).unwrap();
        }
        let (silent, mut loud) = UnixStream::pair().unwrap();
        let (answer, others) = link.wait_for(first, &silent).unwrap().unwrap();
        assert!(answer.is_ok());
        assert_eq!(others.len(), 3);
        let (answer, others) = link.wait_for(second, &silent).unwrap().unwrap();
        assert_eq!(answer.unwrap_err().desc, "no b");
        assert!(others.is_empty());
        let third = link.ask(MonitorRequest::OpenChardev("c".into()));
        std::io::Write::write_all(&mut loud, b"x").unwrap();
        assert!(link.wait_for(third, &silent).unwrap().is_none(), "the alarm rang");
        let fourth = link.ask(MonitorRequest::OpenChardev("d".into()));
        peer.send(ToWorker::Abort).unwrap();
        drop(peer);
        let (silent, _loud) = UnixStream::pair().unwrap();
        assert!(link.wait_for(fourth, &silent).unwrap().is_none(), "the monitor gave up");
    }

    #[test]
    fn a_monitor_introduces_itself_first_and_speaks_this_version() {
        let (link, peer) = linked();
        peer.send(ToWorker::Abort).unwrap();
        assert_eq!(link.receive().unwrap_err().to_string(), "it did not introduce itself");
        let (link, peer) = linked();
        let version = 7;
        peer.send(ToWorker::Hello(Hello {
            version,
            ..Hello::of_this_process()
        }))
        .unwrap();
        assert!(link.receive().unwrap_err().to_string().contains("version 7"));
    }

    #[test]
    fn the_end_of_a_monitor_shows_after_its_last_words() {
        let (link, peer) = linked();
        peer.send(hello()).unwrap();
        peer.send(ToWorker::Abort).unwrap();
        drop(peer);
        link.send(FromWorker::Ready);
        assert!(matches!(link.receive(), Ok(ToWorker::Abort)));
        assert!(matches!(link.receive(), Err(ChannelError::Closed)));
    }
}
