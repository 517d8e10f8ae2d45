//! Bytes with descriptors on a stream socket. None of this waits, whatever the socket's flags say.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::frame::MAX_FDS;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; zero at the end of the stream.
    pub bytes: usize,
    /// Whether descriptors came for which this process had no room. They are closed.
    pub lost_fds: bool,
}

/// Sends some of `bytes`, with `fds` on the first of them; no more than [`MAX_FDS`]. Returns how many bytes went.
///
/// # Errors
/// What the system said; `WouldBlock` where the other end does not read.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("more descriptors than one message carries"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Receives into `bytes`, and descriptors behind those of `fds`; they are closed on exec.
///
/// # Errors
/// What the system said; `WouldBlock` where there is nothing.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds: &mut impl Extend<OwnedFd>) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok(Received {
        bytes: message.bytes,
        lost_fds: message.flags.contains(ReturnFlags::CTRUNC),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_open() {
        let (here, there) = UnixStream::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let many = vec![writer.as_fd(); MAX_FDS];
        assert_eq!(send(&here, b"x", &many).unwrap(), 1);
        drop(many);
        drop(writer);
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        let received = receive(&there, &mut bytes, &mut fds).unwrap();
        assert_eq!((received.bytes, received.lost_fds, fds.len()), (1, false, MAX_FDS));
        fds.truncate(1);
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn neither_way_waits() {
        let (here, there) = UnixStream::pair().unwrap();
        let full = loop {
            if let Err(error) = send(&here, &[0; 4096], &[]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let nothing = receive(&here, &mut [0; 8], &mut Vec::new()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(there);
        assert_eq!(send(&here, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
