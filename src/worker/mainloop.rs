//! The worker's main thread: waits for the monitor, for notices of devices and vCPUs, and for tasks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::devices::Notice;
use crate::io::EventLoop;
use crate::ipc::channel::ChannelError;
use crate::ipc::message::ToWorker;
use crate::qapi::qmp::ShutdownCause;

use super::executor::Executor;
use super::gdb::Debugger;
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
    /// The loop of the main thread: it is woken for tasks that can go on, for notices and for signals.
    pub main: EventLoop,
    /// The tasks of commands that wait.
    pub executor: Rc<Executor>,
    /// Notices, in the order they were given.
    pub notices: Receiver<Notice>,
    /// Set when a signal asked for the end.
    pub told_to_end: Arc<AtomicBool>,
    /// The stub that gdb talks to, if there is one.
    pub(super) debugger: Rc<RefCell<Option<Debugger>>>,
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
        let Woken {
            monitor_speaks,
            loop_turns,
            debugger_ready,
        } = self.wait()?;
        if loop_turns {
            self.main.turn(Some(Duration::ZERO)).map_err(ChannelError::Io)?;
        }
        self.executor.run_woken();
        if self.told_to_end.swap(false, Ordering::AcqRel) {
            handler.terminate(ShutdownCause::HostSignal);
        }
        let mut notices = self.notices.try_iter().take(NOTICES_AT_ONCE);
        if notices.by_ref().map(|notice| handler.notice(notice)).count() == NOTICES_AT_ONCE {
            // There may be more, for which the loop was woken already.
            self.main.handle().wake();
        }
        self.link.flush();
        if monitor_speaks {
            self.link.fill()?;
            while let Some(message) = self.link.buffered()? {
                handler.message(message).map_err(Broken::Nonsense)?;
            }
        }
        self.serve_debugger(debugger_ready);
        Ok(())
    }

    /// After everything else, so that gdb is told where the guest stands then.
    fn serve_debugger(&self, is_ready: bool) {
        let mut debugger = self.debugger.borrow_mut();
        if is_ready && debugger.as_mut().is_some_and(|debugger| !debugger.serve()) {
            *debugger = None;
        }
        if let Some(debugger) = debugger.as_mut() {
            debugger.look();
        }
    }

    /// Waits for any source.
    fn wait(&self) -> Result<Woken, ChannelError> {
        let debugger = self.debugger.borrow();
        let link = PollFd::new(&*self.link, self.link.interest());
        let main = PollFd::new(self.main.handle(), PollFlags::IN);
        let patience = self.link.patience();
        let is_ready = |fd: &PollFd<'_>| fd.revents().intersects(READY);
        let wait = |fds: &mut [PollFd<'_>]| match poll(fds, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(ChannelError::Io(errno.into())),
        };
        let Some(debugger) = &*debugger else {
            let mut fds = [link, main];
            wait(&mut fds)?;
            return Ok(Woken {
                monitor_speaks: is_ready(&fds[0]),
                loop_turns: is_ready(&fds[1]),
                debugger_ready: false,
            });
        };
        let mut fds = [link, main, PollFd::new(debugger, debugger.interest())];
        wait(&mut fds)?;
        Ok(Woken {
            monitor_speaks: is_ready(&fds[0]),
            loop_turns: is_ready(&fds[1]),
            debugger_ready: is_ready(&fds[2]) || fds[2].revents().contains(PollFlags::OUT),
        })
    }
}

/// There is something to read, be it the end.
const READY: PollFlags = PollFlags::IN.union(PollFlags::HUP).union(PollFlags::ERR);

/// What the main loop was woken for, each in its own right.
struct Woken {
    monitor_speaks: bool,
    loop_turns: bool,
    debugger_ready: bool,
}
