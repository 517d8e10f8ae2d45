//! Event loops: threads that wait for descriptors, times and work that is handed off, and do nothing else.
//!
//! A loop is a runtime of tokio with one thread. What runs there are futures; a vCPU thread only wakes them.

mod watch;

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use nix::sys::signal::SigSet;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub use watch::{Counter, FileWatch, watch_file};

/// A thread that runs futures. It ends, and what runs on it, when the value goes.
pub struct EventLoop {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A future on a loop. It ends at its next wait when the value goes.
#[derive(Debug)]
#[must_use = "the future ends when this is dropped"]
pub struct Task(AbortHandle);

impl EventLoop {
    /// Starts the thread; with a name, it carries that one.
    ///
    /// # Errors
    /// The system has no room for a thread or a descriptor.
    pub fn start(name: Option<&str>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let mut builder = std::thread::Builder::new();
        if let Some(name) = name {
            builder = builder.name(name.to_owned());
        }
        let thread = builder.spawn(move || {
            if let Err(error) = SigSet::all().thread_set_mask() {
                tracing::warn!(%error, "signals stay unblocked on an event loop");
            }
            // An error says that the other end is gone, which means the same.
            let _ = runtime.block_on(ended);
            // Nobody waits for what was handed off and hangs.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Runs a future on the thread.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.handle.spawn(future).abort_handle())
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        drop(self.end.take());
        let Some(thread) = self.thread.take() else { return };
        // The last owner may be what runs on the thread: it ends by itself then.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("an event loop ended in a panic");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_future_wakes_by_a_descriptor_until_it_is_dropped() {
        let on = EventLoop::start(Some("test loop")).unwrap();
        let event = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let (sender, receiver) = mpsc::channel();
        let watched = Arc::clone(&event);
        let task = on.spawn(async move {
            let watched = Counter::watch(&watched).unwrap();
            while let Ok(count) = watched.take().await {
                sender.send(count).unwrap();
            }
        });
        event.write(3).unwrap();
        assert_eq!(receiver.recv_timeout(LONG), Ok(3));
        event.write(1).unwrap();
        assert_eq!(receiver.recv_timeout(LONG), Ok(1));
        drop(task);
        assert_eq!(
            receiver.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected),
            "the future is gone"
        );
    }

    #[test]
    fn a_loop_ends_with_what_waits_forever_on_it() {
        let on = EventLoop::start(None).unwrap();
        let task = on.spawn(std::future::pending());
        drop(on);
        drop(task);
    }
}
