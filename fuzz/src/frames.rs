//! What one process may find on its socket to the other: the input is the stream, in both directions of the link.

use std::io::Write;
use std::os::unix::net::UnixStream;

use remuda::ipc::channel::Incoming;
use remuda::ipc::message::{FromWorker, ToWorker};

/// How much fits into a socket without a reader.
const MOST: usize = 16 * 1024;

/// One stream.
pub(crate) fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MOST)];
    let Ok((mut peer, socket)) = UnixStream::pair() else {
        return;
    };
    if peer.write_all(bytes).is_err() {
        return;
    }
    drop(peer);
    let (Ok(first), Ok(second)) = (socket.try_clone(), UnixStream::pair()) else {
        return;
    };
    let (mut other, copy) = second;
    if other.write_all(bytes).is_err() {
        return;
    }
    drop(other);
    let mut from_worker = Incoming::<FromWorker>::default();
    while matches!(from_worker.receive(&first), Ok(Ok(()))) && drain(|| from_worker.next_message().map(|m| m.is_some()))
    {
    }
    let mut to_worker = Incoming::<ToWorker>::default();
    while matches!(to_worker.receive(&copy), Ok(Ok(()))) && drain(|| to_worker.next_message().map(|m| m.is_some())) {}
}

/// Takes all messages that are whole; whether there may be more.
fn drain<E>(mut next: impl FnMut() -> Result<bool, E>) -> bool {
    loop {
        match next() {
            Ok(true) => {}
            Ok(false) => return true,
            Err(_) => return false,
        }
    }
}
