//! Descriptors that a loop waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::epoll::EpollEvent;
/// What to wait for at a descriptor, and what came. Its end and its errors come unasked.
pub use nix::sys::epoll::EpollFlags as Ready;

use super::event_loop::{Handle, Shared, Work};

/// A descriptor that is waited for, until the value goes. A call that is under way then is finished.
pub struct Watch {
    shared: Arc<Shared>,
    source: Arc<dyn AsFd + Send + Sync>,
    key: u64,
    interest: Ready,
}

impl Handle {
    /// Waits for `interest` at `source`, and calls `on_ready` with what came, as often as it is so.
    ///
    /// # Errors
    /// The descriptor cannot be waited for (it is a file's), or there can be no further thread.
    pub fn watch(
        &self,
        source: Arc<dyn AsFd + Send + Sync>,
        interest: Ready,
        on_ready: impl FnMut(Ready) + Send + 'static,
    ) -> io::Result<Watch> {
        let shared = Arc::clone(&self.0);
        let key = shared.enter(Work::Watch, Box::new(on_ready));
        let watch = Watch {
            shared,
            source,
            key,
            interest,
        };
        let event = EpollEvent::new(interest, key);
        watch.shared.epoll.add(&watch.source, event)?;
        watch.shared.run_thread()?;
        Ok(watch)
    }
}

impl Watch {
    /// Waits for something else from now on; for nothing but the end and errors, if `interest` is empty.
    ///
    /// # Errors
    /// What the system said.
    pub fn set_interest(&mut self, interest: Ready) -> io::Result<()> {
        if interest != self.interest {
            let mut event = EpollEvent::new(interest, self.key);
            self.shared.epoll.modify(&self.source, &mut event)?;
            self.interest = interest;
        }
        Ok(())
    }
}

impl Watch {
    /// Waits for `interest` to come once.
    pub(super) fn wait_once(&self, interest: Ready) -> io::Result<()> {
        let mut event = EpollEvent::new(interest | Ready::EPOLLONESHOT, self.key);
        Ok(self.shared.epoll.modify(&self.source, &mut event)?)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It is not there if adding it failed.
        let _ = self.shared.epoll.delete(&self.source);
        self.shared.forget(self.key);
    }
}
