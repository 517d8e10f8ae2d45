//! The loop itself.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::timer::Time;
use super::watch::Ready;

/// The key of the wake-up descriptor.
const WAKE: u64 = u64::MAX;
/// The key of the descriptor that tells of timers.
const ALARM: u64 = u64::MAX - 1;
/// Events taken at once.
const EVENTS: usize = 16;

/// A loop, and its thread if it has one of its own. Ends when dropped: what was to be done by then is done, and what was
/// waited for is not waited for any more.
pub struct EventLoop(Handle);

/// A way to ask a loop for something, from any thread. Clones are of the same loop.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// What a loop's thread and those who ask it have in common.
pub(super) struct Shared {
    pub(super) epoll: Epoll,
    wake: EventFd,
    alarm: TimerFd,
    state: Mutex<State>,
    thread: Mutex<Thread>,
}

#[derive(Default)]
struct State {
    last_key: u64,
    entries: BTreeMap<u64, Entry>,
    jobs: VecDeque<Job>,
    /// What the alarm is set to.
    alarm: Option<Instant>,
    ending: bool,
}

struct Entry {
    work: Work,
    callback: Arc<Mutex<Callback>>,
}

/// What is waited for.
pub(super) enum Work {
    /// A descriptor.
    Watch,
    /// A point in time, if there is a deadline.
    Timer { time: Time, deadline: Option<u64> },
}

type Job = Box<dyn FnOnce() + Send>;
type Callback = Box<dyn FnMut(Ready) + Send>;

/// Who runs a loop.
enum Thread {
    /// Whoever calls [`EventLoop::turn`].
    Callers,
    /// A thread of its own, from when there is something to wait for.
    Own {
        name: Option<String>,
        running: Option<JoinHandle<()>>,
    },
}

impl EventLoop {
    /// A loop with a thread of its own, which is started when there is first something to wait for.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(name: Option<String>) -> io::Result<Self> {
        Self::with(Thread::Own { name, running: None })
    }

    /// A loop with a thread that runs already. Returns the kernel's id of the thread as well.
    ///
    /// # Errors
    /// The system has no room for a thread or a descriptor.
    pub fn start(name: Option<String>) -> io::Result<(Self, i32)> {
        let started = Self::new(name)?;
        let thread_id = started.0.call(|| nix::unistd::gettid().as_raw())?;
        Ok((started, thread_id))
    }

    /// A loop that whoever has it turns.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn of_caller() -> io::Result<Self> {
        Self::with(Thread::Callers)
    }

    fn with(thread: Thread) -> io::Result<Self> {
        let shared = Shared {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            alarm: TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
            )?,
            state: Mutex::default(),
            thread: Mutex::new(thread),
        };
        let input = EpollFlags::EPOLLIN;
        shared.epoll.add(&shared.wake, EpollEvent::new(input, WAKE))?;
        shared.epoll.add(shared.alarm.as_fd(), EpollEvent::new(input, ALARM))?;
        Ok(Self(Handle(Arc::new(shared))))
    }

    /// For whoever has something to ask.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0
    }

    /// Waits until something happens, or for as long as `limit` says, and does what is to be done.
    ///
    /// # Errors
    /// What the system said.
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.0.turn(limit)
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let shared = &self.0.0;
        lock(&shared.state).ending = true;
        shared.wake();
        // The thread may be asking whether it is there: it is joined with nothing locked.
        let thread = match &mut *lock(&shared.thread) {
            Thread::Own { running, .. } => running.take(),
            Thread::Callers => None,
        };
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a loop's thread panicked");
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Handle {
    /// Makes the loop turn.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Does something on the loop's thread, soon.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.0.run_thread()?;
        lock(&self.0.state).jobs.push_back(Box::new(job));
        self.wake();
        Ok(())
    }

    /// Does something on the loop's thread, and waits for what comes of it. Not for that thread itself.
    ///
    /// # Errors
    /// There can be no further thread, or the loop is at its end.
    pub fn call<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
        let (sender, receiver) = mpsc::channel();
        self.run(move || {
            // The receiver waits below.
            let _ = sender.send(job());
        })?;
        receiver.recv().map_err(|_| io::Error::other("the loop is at its end"))
    }
}

/// Readable while there is something for the loop to do.
impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.epoll.0.as_fd()
    }
}

impl Shared {
    fn wake(&self) {
        // The only error is that the counter is full, and then the loop wakes anyway.
        let _ = self.wake.write(1);
    }

    /// Enters something to wait for, and returns its key.
    pub(super) fn enter(&self, work: Work, callback: Callback) -> u64 {
        let mut state = lock(&self.state);
        state.last_key += 1;
        let key = state.last_key;
        let callback = Arc::new(Mutex::new(callback));
        state.entries.insert(key, Entry { work, callback });
        key
    }

    /// The callback goes outside the lock: what it holds may have more to forget.
    pub(super) fn forget(&self, key: u64) {
        let entry = lock(&self.state).entries.remove(&key);
        drop(entry);
    }

    pub(super) fn deadline(&self, key: u64) -> Option<u64> {
        match lock(&self.state).entries.get(&key)?.work {
            Work::Timer { deadline, .. } => deadline,
            Work::Watch => None,
        }
    }

    pub(super) fn set_deadline(self: &Arc<Self>, key: u64, wanted: Option<u64>) {
        let mut state = lock(&self.state);
        let Some(Entry {
            work: Work::Timer { deadline, .. },
            ..
        }) = state.entries.get_mut(&key)
        else {
            return;
        };
        *deadline = wanted;
        // An alarm for nothing does no harm, and is cheaper than to set it again.
        if wanted.is_some() {
            self.set_alarm(&mut state);
            drop(state);
            if let Err(error) = self.run_thread() {
                tracing::error!(%error, "no thread for a timer, which does not expire");
            }
        }
    }

    /// A clock runs again.
    pub(super) fn look_at_timers(&self) {
        self.set_alarm(&mut lock(&self.state));
    }

    /// Sets the alarm for the first deadline, unless it comes no later already.
    fn set_alarm(&self, state: &mut State) {
        let left = state.entries.values().filter_map(|entry| match &entry.work {
            Work::Timer { time, deadline } => time.left((*deadline)?),
            Work::Watch => None,
        });
        let Some(left) = left.min() else { return };
        let at = Instant::now() + left;
        if state.alarm.is_some_and(|alarm| alarm <= at) {
            return;
        }
        // Zero would stop it.
        let left = TimeSpec::from_duration(left.max(Duration::from_nanos(1)));
        match self.alarm.set(Expiration::OneShot(left), TimerSetTimeFlags::empty()) {
            Ok(()) => state.alarm = Some(at),
            Err(error) => tracing::error!(%error, "timerfd_settime"),
        }
    }

    /// Starts the thread, if there is to be one and it is not there.
    pub(super) fn run_thread(self: &Arc<Self>) -> io::Result<()> {
        let Thread::Own { name, running } = &mut *lock(&self.thread) else {
            return Ok(());
        };
        if running.is_some() || lock(&self.state).ending {
            return Ok(());
        }
        let mut builder = Builder::new();
        if let Some(name) = name {
            builder = builder.name(name.clone());
        }
        let served = Arc::clone(self);
        *running = Some(builder.spawn(move || served.serve())?);
        Ok(())
    }

    fn serve(&self) {
        if let Err(error) = SigSet::all().thread_set_mask() {
            tracing::warn!(%error, "signals stay unblocked on a loop's thread");
        }
        while !lock(&self.state).ending {
            if let Err(error) = self.turn(None) {
                return tracing::error!(%error, "a loop ends, and what it waited for never comes");
            }
        }
        // What was asked for before the end.
        self.do_jobs();
    }

    fn turn(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, limit.map_or(EpollTimeout::NONE, timeout)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            match event.data() {
                WAKE => {
                    let _ = self.wake.read();
                    self.do_jobs();
                }
                ALARM => self.expire(),
                key => self.call(key, event.events()),
            }
        }
        Ok(())
    }

    fn do_jobs(&self) {
        // Jobs that ask for more wake the loop again.
        let jobs = std::mem::take(&mut lock(&self.state).jobs);
        jobs.into_iter().for_each(|job| job());
    }

    /// Calls for every timer whose time has come.
    fn expire(&self) {
        // It may have been read and set anew already.
        let _ = self.alarm.wait();
        let mut state = lock(&self.state);
        state.alarm = None;
        let mut due = Vec::new();
        for (key, entry) in &mut state.entries {
            let Work::Timer { time, deadline } = &mut entry.work else {
                continue;
            };
            if deadline.is_some_and(|at| time.left(at).is_some_and(|left| left.is_zero())) {
                *deadline = None;
                due.push(*key);
            }
        }
        drop(state);
        due.into_iter().for_each(|key| self.call(key, Ready::empty()));
        self.set_alarm(&mut lock(&self.state));
    }

    fn call(&self, key: u64, ready: Ready) {
        let callback = lock(&self.state)
            .entries
            .get(&key)
            .map(|entry| Arc::clone(&entry.callback));
        if let Some(callback) = callback {
            lock(&callback)(ready);
        }
    }
}

/// At least as long as `left`, in whole milliseconds.
fn timeout(left: Duration) -> EpollTimeout {
    let millis = left.as_micros().div_ceil(1000);
    EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
