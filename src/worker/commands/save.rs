//! `memsave` and `pmemsave`: guest memory in a file.
//!
//! The file may be slow, or a pipe that nobody reads: one thread has it from its opening to its end. The memory is read
//! on the main thread, piece by piece as the file takes them, and others have their turn between the pieces.

use std::fs::File;
use std::io::{self, Write};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::io::run_blocking;
use crate::qapi::Error;
use crate::report::reason;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Where a file failed.
enum Failure {
    Open(io::Error),
    Write(io::Error),
}

/// Writes `size` bytes of guest memory into a new file, as `read` finds them from `start` on.
///
/// # Errors
/// The file cannot be made or written, or the memory not be read. Of two, it is what came first by the bytes of the file.
pub(super) async fn save(
    filename: &str,
    start: u64,
    size: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = filename.to_owned();
    // As in QEMU, -1 is taken for a size; it is more than there is anywhere.
    if i64::try_from(size).is_err() {
        return Err(Error::generic("Parameter 'size' expects a non-negative value"));
    }
    // One piece is read while another is written.
    let (pieces, coming) = channel(1);
    let written = run_blocking(move || write(&path, coming));
    let (written, read) = tokio::join!(written, read_pieces(start, size, read, pieces));
    match written? {
        Err(Failure::Open(error)) => Err(Error::generic(format!(
            "Could not open '{filename}': {}",
            reason(&error)
        ))),
        Err(Failure::Write(error)) => Err(Error::generic(format!(
            "writing memory to '{filename}' failed: {}",
            reason(&error)
        ))),
        Ok(()) => read,
    }
}

fn write(path: &str, mut pieces: Receiver<Vec<u8>>) -> Result<(), Failure> {
    let mut file = File::create(path).map_err(Failure::Open)?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece).map_err(Failure::Write)?;
    }
    Ok(())
}

async fn read_pieces(
    start: u64,
    size: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<(), Error>,
    to: Sender<Vec<u8>>,
) -> Result<(), Error> {
    let invalid = || Error::generic(format!("Invalid addr 0x{start:016x}/size {size} specified"));
    let mut done = 0;
    while done < size {
        // Whoever has the file is done with it, and says why.
        let Ok(room) = to.reserve().await else {
            return Ok(());
        };
        let count = usize::try_from(size - done).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; count];
        read(start.checked_add(done).ok_or_else(invalid)?, &mut piece)?;
        room.send(piece);
        done += count as u64;
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Each byte is the number of the megabyte that it lies in.
    fn numbered(addr: u64, data: &mut [u8]) -> Result<(), Error> {
        data.fill((addr >> 20) as u8);
        Ok(())
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("remuda-save-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn every_byte_arrives_in_its_place() {
        let path = scratch("memory");
        let name = path.to_str().unwrap();
        for size in [0, 1, PIECE as u64, 3 * PIECE as u64 + 5] {
            save(name, 2 << 20, size, numbered).await.unwrap();
            let saved = std::fs::read(&path).unwrap();
            assert_eq!(saved.len() as u64, size);
            assert!(
                saved
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| usize::from(*byte) == 2 + at / PIECE)
            );
        }
    }

    #[tokio::test]
    async fn what_fails_first_is_told() {
        let error = save("/nonexistent/x", 0, 9, numbered).await.unwrap_err();
        assert_eq!(error.desc, "Could not open '/nonexistent/x': No such file or directory");
        let unread = |_: u64, _: &mut [u8]| Err(Error::generic("no memory"));
        let error = save("/nonexistent/x", 0, 9, unread).await.unwrap_err();
        assert!(error.desc.starts_with("Could not open"), "{error:?}");
        let error = save("/dev/null", 0, 9, unread).await.unwrap_err();
        assert_eq!(error.desc, "no memory");
        let error = save("/dev/full", 0, 5 << 20, numbered).await.unwrap_err();
        assert_eq!(
            error.desc,
            "writing memory to '/dev/full' failed: No space left on device"
        );
        let error = save("/dev/null", u64::MAX, 5 << 20, numbered).await.unwrap_err();
        assert_eq!(error.desc, "Invalid addr 0xffffffffffffffff/size 5242880 specified");
    }

    #[tokio::test]
    async fn memory_is_read_no_faster_than_it_is_written() {
        let path = scratch("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pieces = Cell::new(0);
        let count = |_: u64, _: &mut [u8]| {
            pieces.set(pieces.get() + 1);
            Ok(())
        };
        {
            let name = path.to_str().unwrap();
            let mut saving = Box::pin(save(name, 0, 1 << 40, count));
            for _ in 0..10 {
                let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(saving.as_mut().poll(cx).is_pending()));
                assert!(waits.await, "nobody reads the pipe");
            }
        }
        assert_eq!(pieces.get(), 1);
        // The thread finds its work given up, and ends.
        assert_eq!(std::fs::read(&path).unwrap().len(), PIECE);
        std::fs::remove_file(&path).unwrap();
    }
}
