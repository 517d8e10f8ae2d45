//! Waiting for descriptors.
#![expect(
    unsafe_code,
    reason = "that a descriptor stays the same one is beyond the type system"
)]

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use vmm_sys_util::eventfd::EventFd;

/// A descriptor that counts, watched by the loop that made this.
pub struct Counter(AsyncFd<Arc<EventFd>>);

impl Counter {
    /// Watches `event` on the loop that this is called on.
    ///
    /// # Errors
    /// The system does not watch it.
    pub fn watch(event: &Arc<EventFd>) -> io::Result<Self> {
        // SAFETY: an `EventFd` names the same open file from its creation to its drop; the `Arc`, which nobody takes out
        // again, keeps it alive and gives out shared references only.
        let registered = unsafe { AsyncFd::register_with_interest(Arc::clone(event), Interest::READABLE) };
        registered.map(Self).map_err(|error| error.into_parts().1)
    }

    /// Waits until something was written, and sets the count to zero. What it was is returned.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn take(&self) -> io::Result<u64> {
        self.0.async_io(Interest::READABLE, |event| event.read()).await
    }
}

/// A file that is watched for something to read, or one that needs no watching: the system says it always has something.
pub enum FileWatch {
    /// Watched.
    Watched(AsyncFd<File>),
    /// Always ready.
    Ready(File),
}

/// Watches a file on the loop that this is called on.
///
/// # Errors
/// The system does not watch it.
pub fn watch_file(file: File) -> io::Result<FileWatch> {
    // SAFETY: a `File` names the same open file from its creation to its drop, and it moves into the `AsyncFd`, which hands
    // out shared references only as long as nobody asks for `get_mut`, which nobody does.
    match unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) } {
        Ok(watched) => Ok(FileWatch::Watched(watched)),
        Err(error) => {
            let (file, error) = error.into_parts();
            match error.kind() {
                // What epoll says of files that never wait.
                io::ErrorKind::PermissionDenied => Ok(FileWatch::Ready(file)),
                _ => Err(error),
            }
        }
    }
}
