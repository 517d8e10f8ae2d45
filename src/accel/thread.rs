//! A thread for each vCPU: a loop of states, each a function that returns the next.
//!
//! ```text
//!             resume                      exit
//!   Paused ------------> Running    any ------> Exited
//!          <------------
//!     pause, or the vCPU parks itself
//! ```
//!
//! Requests go through a mailbox under a mutex. A running vCPU learns of them by a kick: `immediate_exit` in its
//! `struct kvm_run`, then a signal. The mailbox is only looked at after KVM_RUN returned EINTR, when the kernel has
//! completed the I/O of the exit before, so a paused vCPU's registers are always consistent.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    os::unix::thread::JoinHandleExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        pthread::{Pthread, pthread_kill, pthread_self},
        signal::SigSet,
    },
    unistd::gettid,
};

use super::run_page::{KICK_SIGNAL, install_kick_handler};

/// Makes a vCPU leave the guest. Any thread may hold it as long as it likes.
pub trait Kick: Send + Sync {
    /// Makes the running or the next [`Processor::run`] return [`Step::Interrupted`] at once, until [`Kick::clear`]. A
    /// vCPU that already runs guest code needs a signal on top, which its [`VcpuThread`] sends.
    fn interrupt(&self);
    /// Lets the vCPU enter the guest again.
    fn clear(&self);
}

/// One vCPU, as an accelerator runs it.
pub trait Processor: Send {
    /// Runs guest code until something has to be decided, and answers the exit.
    fn run(&mut self) -> Step;
    /// Completes I/O that the last exit left half-done, without running guest code.
    fn settle(&mut self);
    /// What makes it leave the guest.
    fn kick(&self) -> Arc<dyn Kick>;
}

impl<P: Processor + ?Sized> Processor for Box<P> {
    fn run(&mut self) -> Step {
        (**self).run()
    }

    fn settle(&mut self) {
        (**self).settle();
    }

    fn kick(&self) -> Arc<dyn Kick> {
        (**self).kick()
    }
}

/// What a vCPU does after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Runs on.
    Continue,
    /// Looks at its mailbox, then runs on.
    Interrupted,
    /// Pauses by itself, until it is resumed.
    Park,
}

/// The vCPU's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vCPU thread has ended")]
pub struct Gone;

/// What a vCPU does once the exit in hand is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AfterExit {
    #[default]
    RunOn,
    Wait(Duration),
    Park,
}

thread_local! {
    static AFTER_EXIT: Cell<AfterExit> = const { Cell::new(AfterExit::RunOn) };
}

/// Called on a vCPU thread while it handles an exit: the vCPU parks itself before it runs another guest instruction.
///
/// On any other thread it has no effect.
pub fn stop_current_vcpu() {
    AFTER_EXIT.set(AfterExit::Park);
}

/// Called on a vCPU thread while it handles an exit: the vCPU stays out of the guest for that long, or until somebody
/// wants something of it. What is to park it keeps doing so.
///
/// On any other thread it has no effect.
pub fn delay_current_vcpu(delay: Duration) {
    if AFTER_EXIT.get() != AfterExit::Park {
        AFTER_EXIT.set(AfterExit::Wait(delay));
    }
}

/// A handle on a vCPU thread. Dropping it ends the thread.
///
/// None of its methods may be called on a vCPU thread or with a device locked: they wait for the vCPU, which may be
/// waiting for that lock.
pub struct VcpuThread<P> {
    shared: Arc<Shared<P>>,
    thread_id: i32,
    join: Option<JoinHandle<()>>,
}

impl<P: Processor + 'static> VcpuThread<P> {
    /// Starts a thread that owns `processor`, paused. `name` becomes the thread's name.
    ///
    /// # Errors
    /// When the host refuses a thread or the kick signal's handler.
    pub fn spawn(name: Option<String>, processor: P) -> io::Result<Self> {
        install_kick_handler()?;
        let shared = Arc::new(Shared {
            mailbox: Mutex::new(Mailbox {
                wanted: Wanted::Pause,
                running: false,
                jobs: VecDeque::new(),
            }),
            changed: Condvar::new(),
            kick: processor.kick(),
            thread: OnceLock::new(),
        });
        let mut builder = Builder::new();
        if let Some(name) = name {
            builder = builder.name(name);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut body = Body {
            shared: Arc::clone(&shared),
            processor,
        };
        let join = builder.spawn(move || {
            let ready = accept_kicks_only().map(|()| gettid().as_raw());
            let go_on = ready.is_ok();
            if sender.send(ready).is_ok() && go_on {
                body.main();
            }
        })?;
        let thread_id = receiver.recv().map_err(io::Error::other)??;
        // Set once, before anybody else knows of the thread.
        let _ = shared.thread.set(join.as_pthread_t());
        Ok(Self {
            shared,
            thread_id,
            join: Some(join),
        })
    }

    /// The kernel's id of the thread.
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Lets the vCPU run.
    pub fn resume(&self) {
        self.shared.lock().wanted = Wanted::Run;
        self.shared.changed.notify_all();
    }

    /// Asks the vCPU to pause; [`VcpuThread::wait_paused`] waits for it. Two steps, so that many vCPUs stop at once.
    pub fn request_pause(&self) {
        let mut mailbox = self.shared.lock();
        mailbox.wanted = Wanted::Pause;
        self.shared.kick(&mailbox);
        // It may be waiting outside of the guest.
        self.shared.changed.notify_all();
    }

    /// Returns once the vCPU is out of the guest and its thread sleeps.
    pub fn wait_paused(&self) {
        let mut mailbox = self.shared.lock();
        while mailbox.running && mailbox.wanted == Wanted::Pause {
            mailbox = self.shared.wait(mailbox);
        }
    }

    /// Runs `job` on the vCPU's thread between two exits, whether the vCPU is paused or running.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn call<R: Send + 'static>(&self, job: impl FnOnce(&mut P) -> R + Send + 'static) -> Result<R, Gone> {
        let (sender, receiver) = mpsc::sync_channel(1);
        {
            let mut mailbox = self.shared.lock();
            mailbox.jobs.push_back(Box::new(move |processor| {
                // A caller that no longer waits needs no answer.
                let _ = sender.send(job(processor));
            }));
            self.shared.kick(&mailbox);
        }
        self.shared.changed.notify_all();
        receiver.recv().map_err(|_| Gone)
    }

    /// A function that makes the vCPU come out of the guest, if it is in there, and run on. Any thread may call it at
    /// any time.
    pub fn kicker(&self) -> impl Fn() + Send + Sync + use<P> {
        let shared = Arc::clone(&self.shared);
        move || {
            // What a vCPU does itself it sees before it runs on.
            if shared.thread.get() != Some(&pthread_self()) {
                shared.kick(&shared.lock());
            }
        }
    }
}

impl<P> Drop for VcpuThread<P> {
    fn drop(&mut self) {
        self.shared.lock().wanted = Wanted::Exit;
        self.shared.changed.notify_all();
        self.shared.kick.interrupt();
        if let Some(join) = self.join.take() {
            let _ = pthread_kill(join.as_pthread_t(), KICK_SIGNAL);
            if join.join().is_err() {
                tracing::error!(thread_id = self.thread_id, "a vCPU thread panicked");
            }
            self.shared.lock().running = false;
        }
    }
}

struct Shared<P> {
    mailbox: Mutex<Mailbox<P>>,
    changed: Condvar,
    kick: Arc<dyn Kick>,
    thread: OnceLock<Pthread>,
}

struct Mailbox<P> {
    wanted: Wanted,
    running: bool,
    jobs: VecDeque<Job<P>>,
}

type Job<P> = Box<dyn FnOnce(&mut P) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Run,
    Pause,
    Exit,
}

impl<P> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, Mailbox<P>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, Mailbox<P>>) -> MutexGuard<'a, Mailbox<P>> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts the vCPU, if it runs. Its thread cannot end while the mailbox is locked and says so.
    fn kick(&self, mailbox: &Mailbox<P>) {
        if !mailbox.running {
            return;
        }
        self.kick.interrupt();
        if let Some(thread) = self.thread.get() {
            // Fails for a thread that has ended, which needs no kick.
            let _ = pthread_kill(*thread, KICK_SIGNAL);
        }
    }
}

enum State {
    Paused,
    Running,
    Exited,
}

/// What lives on the thread.
struct Body<P> {
    shared: Arc<Shared<P>>,
    processor: P,
}

impl<P: Processor> Body<P> {
    fn main(&mut self) {
        let mut state = State::Paused;
        loop {
            state = match state {
                State::Paused => self.paused(),
                State::Running => self.running(),
                State::Exited => break,
            };
        }
        let mut mailbox = self.shared.lock();
        mailbox.running = false;
        mailbox.jobs.clear();
        self.shared.changed.notify_all();
    }

    fn paused(&mut self) -> State {
        let mut mailbox = self.shared.lock();
        mailbox.running = false;
        self.shared.changed.notify_all();
        loop {
            if mailbox.wanted == Wanted::Exit {
                return State::Exited;
            }
            if let Some(job) = mailbox.jobs.pop_front() {
                drop(mailbox);
                job(&mut self.processor);
                mailbox = self.shared.lock();
                continue;
            }
            if mailbox.wanted == Wanted::Run {
                mailbox.running = true;
                return State::Running;
            }
            mailbox = self.shared.wait(mailbox);
        }
    }

    fn running(&mut self) -> State {
        loop {
            let step = self.processor.run();
            let after = AFTER_EXIT.replace(AfterExit::RunOn);
            if after == AfterExit::Park || step == Step::Park {
                return self.park();
            }
            if let AfterExit::Wait(delay) = after {
                self.stay_out(delay);
            }
            if step == Step::Continue {
                continue;
            }
            self.shared.kick.clear();
            if let Some(state) = self.serve() {
                return state;
            }
        }
    }

    /// Waits as a running vCPU: whoever kicks it finds that it comes out of the guest at once, which it is already.
    fn stay_out(&self, delay: Duration) {
        let until = Instant::now() + delay;
        let mut mailbox = self.shared.lock();
        while mailbox.wanted == Wanted::Run && mailbox.jobs.is_empty() {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                return;
            };
            let waited = self.shared.changed.wait_timeout(mailbox, left);
            mailbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Serves the mailbox of a running vCPU.
    fn serve(&mut self) -> Option<State> {
        let mut mailbox = self.shared.lock();
        while let Some(job) = mailbox.jobs.pop_front() {
            drop(mailbox);
            job(&mut self.processor);
            mailbox = self.shared.lock();
        }
        match mailbox.wanted {
            Wanted::Run => None,
            Wanted::Pause => Some(State::Paused),
            Wanted::Exit => Some(State::Exited),
        }
    }

    fn park(&mut self) -> State {
        self.shared.kick.interrupt();
        self.processor.settle();
        self.shared.kick.clear();
        AFTER_EXIT.set(AfterExit::RunOn);
        let mut mailbox = self.shared.lock();
        if mailbox.wanted == Wanted::Run {
            mailbox.wanted = Wanted::Pause;
        }
        State::Paused
    }
}

/// Leaves every signal but the kick to the process's other threads.
fn accept_kicks_only() -> io::Result<()> {
    let mut blocked = SigSet::all();
    blocked.remove(KICK_SIGNAL);
    blocked.thread_set_mask()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Counts its runs; "interrupted" after each, as if kicked all the time, and parks at `limit`.
    struct Counter {
        runs: u64,
        settled: u64,
        limit: u64,
    }

    impl Processor for Counter {
        fn run(&mut self) -> Step {
            self.runs += 1;
            std::thread::sleep(Duration::from_millis(1));
            if self.runs == self.limit {
                Step::Park
            } else {
                Step::Interrupted
            }
        }

        fn settle(&mut self) {
            self.settled += 1;
        }

        fn kick(&self) -> Arc<dyn Kick> {
            Arc::new(Interrupted)
        }
    }

    /// The counter is interrupted anyhow.
    struct Interrupted;

    impl Kick for Interrupted {
        fn interrupt(&self) {}
        fn clear(&self) {}
    }

    fn spawn(limit: u64) -> VcpuThread<Counter> {
        let counter = Counter {
            runs: 0,
            settled: 0,
            limit,
        };
        VcpuThread::spawn(Some("CPU 0/TEST".into()), counter).unwrap()
    }

    #[test]
    fn starts_paused_and_has_a_thread_of_that_name() {
        let vcpu = spawn(u64::MAX);
        vcpu.wait_paused();
        assert_eq!(vcpu.call(|counter| counter.runs), Ok(0));
        let comm = std::fs::read_to_string(format!("/proc/self/task/{}/comm", vcpu.thread_id())).unwrap();
        assert_eq!(comm, "CPU 0/TEST\n");
    }

    #[test]
    fn stands_still_between_pause_and_resume() {
        let vcpu = spawn(u64::MAX);
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == Ok(0) {}
        vcpu.request_pause();
        vcpu.wait_paused();
        let seen = vcpu.call(|counter| counter.runs);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(vcpu.call(|counter| counter.runs), seen);
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == seen {}
    }

    #[test]
    fn a_parked_vcpu_settles_and_waits() {
        let vcpu = spawn(3);
        vcpu.resume();
        while vcpu.call(|counter| counter.settled) == Ok(0) {}
        vcpu.wait_paused();
        assert_eq!(vcpu.call(|counter| (counter.runs, counter.settled)), Ok((3, 1)));
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == Ok(3) {}
    }

    #[test]
    fn a_kick_is_harmless_at_any_time() {
        let vcpu = spawn(u64::MAX);
        let kick = vcpu.kicker();
        kick();
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == Ok(0) {}
        kick();
        let runs = vcpu.call(|counter| counter.runs);
        while vcpu.call(|counter| counter.runs) == runs {}
        drop(vcpu);
        kick();
    }

    #[test]
    fn stop_current_parks_after_the_exit_in_hand() {
        let vcpu = spawn(u64::MAX);
        vcpu.resume();
        // Only a vCPU that runs has an exit in hand.
        while vcpu.call(|counter| counter.runs) == Ok(0) {}
        vcpu.call(|_| stop_current_vcpu()).unwrap();
        vcpu.wait_paused_by_itself();
        assert_eq!(vcpu.call(|counter| counter.settled), Ok(1));
    }

    #[test]
    fn a_delayed_vcpu_stands_still_but_hears_everything() {
        let vcpu = spawn(u64::MAX);
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == Ok(0) {}
        vcpu.call(|_| delay_current_vcpu(Duration::from_secs(3600))).unwrap();
        // Jobs are done, though each may let the vCPU go on.
        vcpu.call(|_| delay_current_vcpu(Duration::from_secs(3600))).unwrap();
        vcpu.request_pause();
        vcpu.wait_paused();
        let seen = vcpu.call(|counter| counter.runs);
        vcpu.resume();
        while vcpu.call(|counter| counter.runs) == seen {}
        vcpu.call(|_| delay_current_vcpu(Duration::from_secs(3600))).unwrap();
        drop(vcpu);
    }

    impl VcpuThread<Counter> {
        fn wait_paused_by_itself(&self) {
            let mut mailbox = self.shared.lock();
            while mailbox.running {
                mailbox = self.shared.wait(mailbox);
            }
        }
    }
}
