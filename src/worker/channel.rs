//! The worker's end of the socket pair to its monitor: blocking, with descriptors.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::frame::{Frame, FrameError, FrameReader, MAX_FDS};
use super::process::adopt_fd;

/// Why the channel is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process is gone.
    #[error("the other end is closed")]
    Closed,
    /// The system refused to read or write.
    #[error("{}", .0.desc())]
    Io(#[from] Errno),
    /// What came is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A frame announced more descriptors than came.
    #[error("a message lacks its descriptors")]
    MissingFds,
}

/// A frame with its descriptors.
#[derive(Debug)]
pub struct Received {
    /// The frame.
    pub frame: Frame,
    /// Its descriptors, in the order they were sent.
    pub fds: Vec<OwnedFd>,
}

/// A blocking channel of frames.
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
    reader: FrameReader,
    fds: VecDeque<OwnedFd>,
}

impl Channel {
    /// A channel over a connected stream socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            reader: FrameReader::default(),
            fds: VecDeque::new(),
        }
    }

    /// Sends a frame whole, waiting while the other end does not read.
    ///
    /// # Errors
    /// The other end is closed.
    pub fn send(&self, frame: &Frame) -> Result<(), ChannelError> {
        self.send_along(frame, &[])
    }

    /// Sends a frame whole with its descriptors, waiting while the other end does not read.
    ///
    /// # Errors
    /// The other end is closed.
    pub fn send_along(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut sent = 0;
        while sent < bytes.len() {
            // The descriptors ride on the first byte.
            let along = if sent == 0 { numbers.as_slice() } else { &[] };
            match send_with_fds(self.socket.as_raw_fd(), &bytes[sent..], along) {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits until the other end is closed; what it still says is not read.
    pub fn wait_for_end(&self) {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        // A second is far more than a monitor takes to write out its buffers.
        let _ = poll(&mut fds, PollTimeout::from(1000u16));
    }

    /// The next frame, waiting for it.
    ///
    /// # Errors
    /// The other end is closed, or sent what is no frame.
    pub fn receive(&mut self) -> Result<Received, ChannelError> {
        loop {
            if let Some(received) = self.buffered()? {
                return Ok(received);
            }
            self.fill()?;
        }
    }

    /// Reads once, which waits if there is nothing to read.
    ///
    /// # Errors
    /// The other end is closed.
    pub fn fill(&mut self) -> Result<(), ChannelError> {
        let mut bytes = [0; 16384];
        match receive_with_fds(self.socket.as_raw_fd(), &mut bytes, &mut self.fds) {
            Ok(0) | Err(Errno::ECONNRESET) => Err(ChannelError::Closed),
            Ok(count) => {
                self.reader.feed(&bytes[..count]);
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A frame that was read already.
    ///
    /// # Errors
    /// What was read is no frame.
    pub fn buffered(&mut self) -> Result<Option<Received>, ChannelError> {
        let Some(frame) = self.reader.next_frame()? else {
            return Ok(None);
        };
        let count = usize::from(frame.fds);
        if self.fds.len() < count {
            return Err(ChannelError::MissingFds);
        }
        Ok(Some(Received {
            fds: self.fds.drain(..count).collect(),
            frame,
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends some of `bytes`, with descriptors on the first of them. Returns how many bytes went.
///
/// # Errors
/// What the system said.
pub fn send_with_fds(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<UnixAddr>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
}

/// Receives into `bytes`, and descriptors behind those of `fds`. Returns how many bytes came, zero at the end.
///
/// # Errors
/// What the system said.
pub fn receive_with_fds(socket: RawFd, bytes: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> nix::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = recvmsg::<UnixAddr>(socket, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                fds.push_back(adopt_fd(number)?);
            }
        }
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_arrive_with_their_frame() {
        let (here, there) = UnixStream::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut bytes = Vec::new();
        Frame {
            kind: 1,
            fds: 0,
            id: 1,
            body: b"first".to_vec(),
        }
        .write(&mut bytes);
        Frame {
            kind: 2,
            fds: 1,
            id: 2,
            body: b"second".to_vec(),
        }
        .write(&mut bytes);
        assert_eq!(
            send_with_fds(here.as_raw_fd(), &bytes, &[writer.as_raw_fd()]).unwrap(),
            bytes.len()
        );
        drop(writer);
        let mut channel = Channel::new(there);
        let first = channel.receive().unwrap();
        assert_eq!((first.frame.body.as_slice(), first.fds.len()), (&b"first"[..], 0));
        let mut second = channel.receive().unwrap();
        assert_eq!((second.frame.body.as_slice(), second.fds.len()), (&b"second"[..], 1));
        let mut end = std::fs::File::from(second.fds.remove(0));
        end.write_all(b"through").unwrap();
        drop(end);
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_closed_end_and_missing_descriptors_are_told() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(there);
        Channel::new(here)
            .send(&Frame {
                kind: 1,
                fds: 1,
                id: 0,
                body: Vec::new(),
            })
            .unwrap();
        assert!(matches!(channel.receive(), Err(ChannelError::MissingFds)));
        assert!(matches!(channel.receive(), Err(ChannelError::Closed)));
    }
}
