//! The two directions of a link as buffers, and the end of a process that polls.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::field::Field;
use super::frame::{Codec, FrameError, MAX_FDS};
use super::socket;

/// How often, at most, a send is tried again for which the system has no memory at the moment.
pub const MAX_ATTEMPTS: u32 = 200;
/// How long to wait before that.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(10);

/// Why the link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process is gone.
    #[error("the other end is closed")]
    Closed,
    /// The system refuses to carry bytes.
    #[error("{}", crate::report::reason(.0))]
    Io(io::Error),
    /// Descriptors came for which this process has no room.
    #[error("this process has no room for the descriptors of a message")]
    LostFds,
    /// What came is no message, or what is to go cannot be one.
    #[error("{0}")]
    Frame(#[from] FrameError),
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Messages on their way out.
#[derive(Debug)]
pub struct Outgoing<T> {
    bytes: BytesMut,
    codec: Codec<T>,
    attempts: u32,
}

/// How a send went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing is left.
    All,
    /// The other end has to read first.
    Some,
    /// The system has no memory for it at the moment; worth another try after [`ATTEMPT_DELAY`].
    Later,
}

/// Messages on their way in.
#[derive(Debug)]
pub struct Incoming<T> {
    bytes: BytesMut,
    codec: Codec<T>,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            codec: Codec::default(),
            attempts: 0,
        }
    }
}

impl<T: Field> Outgoing<T> {
    /// Puts a message behind those that wait.
    ///
    /// # Errors
    /// It cannot be a frame; what waits is as it was.
    pub fn push(&mut self, message: T) -> Result<(), FrameError> {
        self.codec.encode(message, &mut self.bytes)
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends what the other end takes at once.
    ///
    /// # Errors
    /// The other end is closed, or the system refused for too long.
    pub fn send(&mut self, to: impl AsFd) -> Result<Sent, ChannelError> {
        while !self.bytes.is_empty() {
            // Of more descriptors than one call carries, the rest goes with later bytes of the same frame; a frame has
            // no more than that, so that its own come in time.
            let count = self.codec.fds.len().min(MAX_FDS);
            let fds: Vec<BorrowedFd<'_>> = self.codec.fds.iter().take(count).map(AsFd::as_fd).collect();
            let bytes = if self.codec.fds.len() > count {
                &self.bytes[..1]
            } else {
                &self.bytes
            };
            match socket::send(&to, bytes, &fds) {
                Ok(sent) => {
                    self.bytes.advance(sent);
                    self.codec.fds.drain(..count);
                    self.attempts = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Sent::Some),
                Err(error) if is_shortage(&error) && self.attempts < MAX_ATTEMPTS => {
                    self.attempts += 1;
                    return Ok(Sent::Later);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Sent::All)
    }
}

/// Whether an error of a send may pass: no memory for the message, or too many descriptors under way.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::NOBUFS, Errno::NOMEM, Errno::TOOMANYREFS];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

impl<T> Default for Incoming<T> {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            codec: Codec::default(),
        }
    }
}

impl<T: Field> Incoming<T> {
    /// Reads once, as far as there is something to read.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; the other end is closed; or the system refused.
    pub fn receive(&mut self, from: impl AsFd) -> io::Result<Result<(), ChannelError>> {
        let mut bytes = [0; 16384];
        let received = socket::receive(from, &mut bytes, &mut self.codec.fds)?;
        Ok(match received {
            socket::Received { lost_fds: true, .. } => Err(ChannelError::LostFds),
            socket::Received { bytes: 0, .. } => Err(ChannelError::Closed),
            socket::Received { bytes: count, .. } => {
                self.bytes.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        })
    }

    /// The next message that was read whole.
    ///
    /// # Errors
    /// What was read is no message.
    pub fn next_message(&mut self) -> Result<Option<T>, FrameError> {
        self.codec.decode(&mut self.bytes)
    }
}

/// One end of a link, for a process without an async runtime. Sending never waits: what the other end does not take at
/// once is kept, and [`Channel::flush`] tries again.
#[derive(Debug)]
pub struct Channel<In, Out> {
    socket: UnixStream,
    incoming: RefCell<Incoming<In>>,
    outgoing: RefCell<Outgoing<Out>>,
    retry_at: Cell<Option<Instant>>,
}

impl<In: Field, Out: Field> Channel<In, Out> {
    /// The end of a connected stream socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            retry_at: Cell::new(None),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The link is of no use any more.
    pub fn send(&self, message: Out) -> Result<(), ChannelError> {
        self.outgoing.borrow_mut().push(message)?;
        self.flush()
    }

    /// Sends what waits, as far as the other end takes it.
    ///
    /// # Errors
    /// The link is of no use any more.
    pub fn flush(&self) -> Result<(), ChannelError> {
        let sent = self.outgoing.borrow_mut().send(&self.socket)?;
        self.retry_at
            .set((sent == Sent::Later).then(|| Instant::now() + ATTEMPT_DELAY));
        Ok(())
    }

    /// What to wait for at the socket: input, and room for what waits.
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        match self.outgoing.borrow().is_empty() || self.retry_at.get().is_some() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        }
    }

    /// How long to wait for it at most.
    #[must_use]
    pub fn patience(&self) -> Option<Timespec> {
        let left = self.retry_at.get()?.saturating_duration_since(Instant::now());
        Timespec::try_from(left).ok()
    }

    /// Reads once, as far as there is something to read.
    ///
    /// # Errors
    /// The other end is closed, or the system refused.
    pub fn fill(&self) -> Result<(), ChannelError> {
        match self.incoming.borrow_mut().receive(&self.socket) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A message that was read already.
    ///
    /// # Errors
    /// What was read is no message.
    pub fn buffered(&self) -> Result<Option<In>, ChannelError> {
        Ok(self.incoming.borrow_mut().next_message()?)
    }

    /// The next message, waiting for it.
    ///
    /// # Errors
    /// The link is of no use any more.
    pub fn receive(&self) -> Result<In, ChannelError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.wait(None)?;
            match self.flush() {
                // What the other end said before it closed is still there to be read.
                Ok(()) | Err(ChannelError::Closed) => {}
                Err(error) => return Err(error),
            }
            self.fill()?;
        }
    }

    /// Says that nothing follows, if everything has gone; the other end sees its end of file after the last message.
    pub fn finish(&self) {
        if self.outgoing.borrow().is_empty() {
            // The other end may have closed already, which is as good.
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Sends what waits and waits until the other end is closed, for `limit` at most. What comes is not looked at. Tells
    /// whether the other end is closed.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.flush().is_err() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            match self.wait(Some(left)).and_then(|()| self.fill()) {
                Ok(()) => {}
                Err(_) => return true,
            }
        }
    }

    fn wait(&self, limit: Option<Duration>) -> Result<(), ChannelError> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let timeout = self.patience().or(limit);
        match poll(&mut [PollFd::new(&self.socket, self.interest())], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(ChannelError::Io(errno.into())),
        }
    }
}

impl<In, Out> AsFd for Channel<In, Out> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    type Texts = Channel<String, String>;

    fn pair() -> (Texts, Texts) {
        let (here, there) = UnixStream::pair().unwrap();
        (Channel::new(here), Channel::new(there))
    }

    #[test]
    fn a_peer_that_does_not_read_keeps_nobody_waiting() {
        let (here, there) = pair();
        for _ in 0..100 {
            here.send("x".repeat(10_000)).unwrap();
        }
        assert!(here.interest().contains(PollFlags::OUT));
        for _ in 0..100 {
            assert_eq!(there.receive().unwrap().len(), 10_000);
            here.flush().unwrap();
        }
        assert!(!here.interest().contains(PollFlags::OUT));
    }

    #[test]
    fn more_descriptors_than_one_call_carries_arrive_with_their_messages() {
        let (here, there) = UnixStream::pair().unwrap();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut outgoing = Outgoing::<OwnedFd>::default();
        for _ in 0..MAX_FDS + 50 {
            outgoing.push(null()).unwrap();
        }
        assert_eq!(outgoing.send(&here).unwrap(), Sent::All);
        let receiver = Channel::<OwnedFd, String>::new(there);
        for _ in 0..MAX_FDS + 50 {
            receiver.receive().unwrap();
        }
    }

    #[test]
    fn a_closed_end_is_told_after_what_it_said() {
        let (here, there) = pair();
        here.send("last words".into()).unwrap();
        drop(here);
        assert_eq!(there.receive().unwrap(), "last words");
        assert!(matches!(there.receive(), Err(ChannelError::Closed)));
        assert!(matches!(there.send("hello?".into()), Err(ChannelError::Closed)));
        assert!(there.wait_for_end(Duration::from_secs(5)));
    }

    #[test]
    fn the_end_is_waited_for_no_longer_than_asked() {
        let (here, _there) = pair();
        assert!(!here.wait_for_end(Duration::ZERO));
    }
}
