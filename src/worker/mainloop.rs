//! The worker's main thread: waits for the monitor, for notices of devices and vCPUs, and for tasks.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::devices::Notice;
use crate::ipc::channel::ChannelError;
use crate::ipc::message::ToWorker;
use crate::qapi::qmp::ShutdownCause;

use super::executor::Executor;
use super::link::Link;

/// How many notices are served before the monitor is heard again: a guest that makes them as fast as it can keeps
/// nobody from stopping it.
const NOTICES_AT_ONCE: usize = 64;

/// What the main loop hands to the guest.
pub trait Handler {
    /// A message of the monitor came.
    ///
    /// # Errors
    /// The message means nothing; the worker ends.
    fn message(&mut self, message: ToWorker) -> Result<(), String>;
    /// A device or vCPU has something to say.
    fn notice(&mut self, notice: Notice);
    /// The worker was told to end the guest.
    fn terminate(&mut self, cause: ShutdownCause);
    /// The exit status, once the guest is to end.
    fn exit_status(&self) -> Option<u8>;
}

/// The sources the main loop waits for.
pub struct Sources {
    /// The link to the monitor.
    pub link: Rc<Link>,
    /// The tasks of commands that wait; its alarm rings for notices and signals too.
    pub executor: Rc<Executor>,
    /// Notices, in the order they were given.
    pub notices: Receiver<Notice>,
    /// Set when a signal asked for the end.
    pub told_to_end: Arc<AtomicBool>,
}

/// Why the main loop cannot go on without an exit status of the guest.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The monitor closed its end.
    #[error("the monitor process is gone")]
    NoMonitor,
    /// It sent what means nothing.
    #[error("the monitor process cannot be understood: {0}")]
    Nonsense(String),
    /// What there is to say cannot be said.
    #[error("the monitor process cannot be reached: {0}")]
    Unreachable(ChannelError),
}

impl From<ChannelError> for Broken {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::NoMonitor,
            ChannelError::Frame(error) => Self::Nonsense(error.to_string()),
            error => Self::Unreachable(error),
        }
    }
}

impl Sources {
    /// Runs until the handler has an exit status, which is returned.
    ///
    /// # Errors
    /// There is no monitor that could be served.
    pub fn run(&self, handler: &mut impl Handler) -> Result<u8, Broken> {
        loop {
            if let Some(status) = handler.exit_status() {
                return Ok(status);
            }
            self.link.check()?;
            self.step(handler)?;
        }
    }

    fn step(&self, handler: &mut impl Handler) -> Result<(), Broken> {
        let monitor_speaks = self.wait()?;
        self.executor.alarm().silence();
        self.executor.run_woken();
        if self.told_to_end.swap(false, Ordering::AcqRel) {
            handler.terminate(ShutdownCause::HostSignal);
        }
        let mut notices = self.notices.try_iter().take(NOTICES_AT_ONCE);
        if notices.by_ref().map(|notice| handler.notice(notice)).count() == NOTICES_AT_ONCE {
            // There may be more, for which the alarm has rung already.
            self.executor.alarm().ring();
        }
        self.link.flush();
        if monitor_speaks {
            self.link.fill()?;
            while let Some(message) = self.link.buffered()? {
                handler.message(message).map_err(Broken::Nonsense)?;
            }
        }
        Ok(())
    }

    /// Waits for any source; tells whether the monitor can be read.
    fn wait(&self) -> Result<bool, ChannelError> {
        let mut fds = [
            PollFd::new(&*self.link, self.link.interest()),
            PollFd::new(&**self.executor.alarm(), PollFlags::IN),
        ];
        match poll(&mut fds, self.link.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ChannelError::Io(errno.into())),
        }
        Ok(fds[0]
            .revents()
            .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
    }
}
