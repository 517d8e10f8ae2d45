//! Work that takes as long as a file system likes, away from the threads that serve others.

use tokio::sync::oneshot;

use crate::qapi::Error;
use crate::report::reason;

/// Runs `work` on a thread of its own; the caller's thread goes on meanwhile.
///
/// # Errors
/// There can be no further thread, or it panicked.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("blocking".into());
    let started = thread.spawn(move || {
        // Whoever waited may be ending.
        let _ = sender.send(work());
    });
    started.map_err(|error| Error::generic(format!("cannot start a thread: {}", reason(&error))))?;
    receiver
        .await
        .map_err(|_| Error::generic("the thread of a command has panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_command_only() {
        assert_eq!(run_blocking(|| 7).await.unwrap(), 7);
        let error = run_blocking::<()>(|| panic!("on purpose")).await.unwrap_err();
        assert_eq!(error.desc, "the thread of a command has panicked");
    }
}
