//! The thread behind an `iothread` object.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A thread that serves devices. It ends when the value goes.
#[derive(Debug)]
pub(super) struct IoThread {
    thread_id: i32,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// Starts the thread; with a name, it carries that one.
    ///
    /// # Errors
    /// The system has no room for a thread or a descriptor.
    pub(super) fn start(name: Option<String>) -> io::Result<Self> {
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let (sender, receiver) = mpsc::channel();
        let waits_for = Arc::clone(&end);
        let mut builder = std::thread::Builder::new();
        if let Some(name) = name {
            builder = builder.name(name);
        }
        let thread = builder.spawn(move || {
            // Whoever starts the thread waits for this.
            let _ = sender.send(nix::unistd::gettid().as_raw());
            // A read that fails ends the thread as well: nobody could wake it any more.
            let _ = waits_for.read();
        })?;
        let thread_id = receiver
            .recv()
            .map_err(|_| io::Error::other("the thread ended at once"))?;
        Ok(Self {
            thread_id,
            end,
            thread: Some(thread),
        })
    }

    /// The kernel's id of the thread.
    #[must_use]
    pub(super) fn thread_id(&self) -> i32 {
        self.thread_id
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            // The thread does nothing that can panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_one_of_this_process_and_ends() {
        let thread = IoThread::start(Some("IO test".into())).unwrap();
        let comm = format!("/proc/self/task/{}/comm", thread.thread_id());
        assert_eq!(std::fs::read_to_string(&comm).unwrap(), "IO test\n");
        drop(thread);
        // Who joins is woken a moment before the kernel forgets the thread.
        let is_there = || std::fs::read_to_string(&comm).is_ok_and(|name| name == "IO test\n");
        let patience = std::time::Instant::now();
        while is_there() {
            assert!(patience.elapsed().as_secs() < 60, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
