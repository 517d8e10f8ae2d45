//! The line between a back end and a guest's device in another process.
//!
//! It is a pair of sockets that keep packets apart, so that what is no character stays in its place among them: a packet is
//! one byte that says what it is, and the characters if it is data.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, recv, sendmsg, setsockopt, socketpair, sockopt,
};

/// The most characters one packet carries.
pub const PACKET_DATA: usize = 4095;

/// What the kernel keeps of the packets one end has not read, in bytes: enough to keep both ends busy.
const BUFFER: usize = 16 << 10;

const DATA: u8 = b'D';
const OPENED: u8 = b'O';
const CLOSED: u8 = b'C';
const BREAK: u8 = b'B';

/// What one packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Characters.
    Data(Vec<u8>),
    /// Somebody is at the other end now: a port tells its guest that the host is connected.
    Opened,
    /// Whoever was there went away.
    Closed,
    /// A break condition.
    Break,
}

/// Makes a line; neither end ever blocks.
///
/// # Errors
/// There are no more descriptors.
pub fn line() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let ends: (OwnedFd, OwnedFd) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    setsockopt(&ends.0, sockopt::SndBuf, &BUFFER)?;
    setsockopt(&ends.1, sockopt::SndBuf, &BUFFER)?;
    Ok(ends)
}

/// Sends the first of `bytes`, as many as a packet carries; says how many those are.
///
/// # Errors
/// `WouldBlock` while the other end does not read, another kind if it is gone.
pub fn send_data(line: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let part = &bytes[..bytes.len().min(PACKET_DATA)];
    send(line, DATA, part)?;
    Ok(part.len())
}

/// Sends a packet. The data of one must not be longer than [`PACKET_DATA`].
///
/// # Errors
/// As [`send_data`].
pub fn send_packet(line: &impl AsFd, packet: &Packet) -> io::Result<()> {
    match packet {
        Packet::Data(bytes) => send(line, DATA, bytes),
        Packet::Opened => send(line, OPENED, &[]),
        Packet::Closed => send(line, CLOSED, &[]),
        Packet::Break => send(line, BREAK, &[]),
    }
}

/// The next packet; none once the other end is closed.
///
/// # Errors
/// `WouldBlock` while there is none; `InvalidData` for what is no packet.
pub fn receive_packet(line: &impl AsFd) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; 1 + PACKET_DATA];
    let count = match recv(line.as_fd().as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
        Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
        result => result?,
    };
    bytes.truncate(count);
    let packet = match bytes.first() {
        Some(&DATA) => {
            bytes.remove(0);
            Packet::Data(bytes)
        }
        Some(&OPENED) => Packet::Opened,
        Some(&CLOSED) => Packet::Closed,
        Some(&BREAK) => Packet::Break,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok(Some(packet))
}

fn send(line: &impl AsFd, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let kind = [kind];
    let parts = [IoSlice::new(&kind), IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<SockaddrStorage>(line.as_fd().as_raw_fd(), &parts, &[], flags, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_as_they_were_sent() {
        let (one, other) = line().unwrap();
        let long = vec![b'x'; PACKET_DATA + 1];
        assert_eq!(send_data(&one, &long).unwrap(), PACKET_DATA);
        for packet in [
            Packet::Break,
            Packet::Opened,
            Packet::Closed,
            Packet::Data(b"y".to_vec()),
        ] {
            send_packet(&one, &packet).unwrap();
        }
        assert_eq!(
            receive_packet(&other).unwrap(),
            Some(Packet::Data(vec![b'x'; PACKET_DATA]))
        );
        for packet in [
            Packet::Break,
            Packet::Opened,
            Packet::Closed,
            Packet::Data(b"y".to_vec()),
        ] {
            assert_eq!(receive_packet(&other).unwrap(), Some(packet));
        }
        let nothing = receive_packet(&other).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(receive_packet(&other).unwrap(), None);
    }

    #[test]
    fn who_does_not_read_is_waited_for_and_loses_nothing() {
        let (one, other) = line().unwrap();
        let mut sent = 0u32;
        while send_data(&one, &sent.to_le_bytes()).is_ok() {
            sent += 1;
        }
        for number in 0..sent {
            assert_eq!(
                receive_packet(&other).unwrap(),
                Some(Packet::Data(number.to_le_bytes().to_vec()))
            );
        }
        send_data(&one, b"again").unwrap();
    }
}
