//! Descriptors that a future waits for.
#![expect(
    unsafe_code,
    reason = "vmm-sys-util's event descriptors lend themselves as numbers only"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use super::event_loop::Handle;
use super::task::{Signal, came, ring};
use super::watch::{Ready, Watch};

/// A descriptor that a future reads from, or writes to.
pub struct Readable {
    watch: Watch,
    signal: Arc<Mutex<Signal>>,
}

/// A descriptor that counts.
pub struct Counter {
    event: Arc<EventFd>,
    readable: Readable,
}

struct Shown(Arc<EventFd>);

impl Handle {
    /// Watches a descriptor for a future.
    ///
    /// # Errors
    /// The descriptor cannot be waited for: it is a file's, and can be read at any time (`PermissionDenied`). Or there can be
    /// no further thread.
    pub fn readable(&self, source: Arc<dyn AsFd + Send + Sync>) -> io::Result<Readable> {
        let signal: Arc<Mutex<Signal>> = Arc::default();
        let rung = Arc::clone(&signal);
        let watch = self.watch(source, Ready::EPOLLONESHOT, move |_| ring(&rung))?;
        Ok(Readable { watch, signal })
    }

    /// Watches a descriptor that counts.
    ///
    /// # Errors
    /// As those of [`Handle::readable`].
    pub fn counter(&self, event: &Arc<EventFd>) -> io::Result<Counter> {
        Ok(Counter {
            event: Arc::clone(event),
            readable: self.readable(Arc::new(Shown(Arc::clone(event))))?,
        })
    }
}

impl Readable {
    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// What the system said.
    pub async fn wait(&self) -> io::Result<()> {
        self.wait_for(Ready::EPOLLIN).await
    }

    /// Waits until something can be written, or the end. Nobody may wait for something to read at the same value meanwhile.
    ///
    /// # Errors
    /// What the system said.
    pub async fn wait_writable(&self) -> io::Result<()> {
        self.wait_for(Ready::EPOLLOUT).await
    }

    async fn wait_for(&self, interest: Ready) -> io::Result<()> {
        self.watch.wait_once(interest)?;
        came(&self.signal).await;
        Ok(())
    }
}

impl Counter {
    /// Waits until something was written, and sets the count to zero. What it was is returned.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn take(&self) -> io::Result<u64> {
        loop {
            match self.event.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable.wait().await?,
                read => return read,
            }
        }
    }
}

impl AsFd for Shown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: an `EventFd` is open from its creation to its drop, and what is borrowed here borrows its owner.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
