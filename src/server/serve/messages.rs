//! What the workers print, each line with the name of its guest.

use std::os::fd::OwnedFd;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::report;

/// The longest line that stays in one piece, in bytes.
const LONGEST: u64 = 4096;

/// A pipe for a worker to print to. What comes out of it is passed on until the worker has closed its end.
///
/// # Errors
/// There are no more descriptors.
pub(super) fn pipe_for(guest: &str) -> std::io::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let reader = Receiver::from_owned_fd(reader)?;
    tokio::task::spawn_local(pass_on(guest.to_owned(), reader));
    Ok(writer)
}

async fn pass_on(guest: String, reader: Receiver) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader).take(LONGEST).read_until(b'\n', &mut line).await {
        let text = labelled(&guest, &line);
        line.clear();
        // Whoever reads the server's messages slowly holds up this worker's, and nothing else. A print that panicked is lost.
        let _ = tokio::task::spawn_blocking(move || report::plain(&text)).await;
    }
}

/// A worker's line, its own program name replaced by the guest's.
fn labelled(guest: &str, line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    let text = text.strip_prefix("remuda: ").unwrap_or(text);
    format!("remuda: guest '{guest}': {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_the_guest() {
        for (line, text) in [
            (&b"remuda: warning: odd\n"[..], "remuda: guest 'a': warning: odd"),
            (b"thread 'main' panicked", "remuda: guest 'a': thread 'main' panicked"),
            (b"\xff\n", "remuda: guest 'a': \u{fffd}"),
        ] {
            assert_eq!(labelled("a", line), text);
        }
    }
}
