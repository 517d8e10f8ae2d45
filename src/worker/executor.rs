//! A tiny executor: the worker answers commands with futures but has no async runtime.
//!
//! Nearly every command is done at its first poll. One that waits for a thread keeps its waker, and the waker makes
//! the worker's main loop readable through an event descriptor.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use nix::sys::eventfd::{EfdFlags, EventFd};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs futures on the thread that owns it.
pub struct Executor {
    alarm: Arc<Alarm>,
    tasks: RefCell<Vec<(Arc<TaskWaker>, Task)>>,
}

/// An event descriptor that any thread may ring to get the main loop's attention.
#[derive(Debug)]
pub struct Alarm {
    event: EventFd,
}

struct TaskWaker {
    woken: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Executor {
    /// An executor without tasks.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            alarm: Arc::new(Alarm { event }),
            tasks: RefCell::default(),
        })
    }

    /// What rings when a task can go on.
    #[must_use]
    pub fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// Polls `task` once and keeps it if it has to wait.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let waker = Arc::new(TaskWaker {
            woken: AtomicBool::new(false),
            alarm: Arc::clone(&self.alarm),
        });
        let mut task: Task = Box::pin(task);
        if poll(&waker, &mut task).is_pending() {
            self.tasks.borrow_mut().push((waker, task));
        }
    }

    /// Polls every task that was woken. Called after the alarm rang.
    pub fn run_woken(&self) {
        // Tasks may spawn tasks, so the list is not borrowed while they run.
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.retain_mut(|(waker, task)| !waker.woken.swap(false, Ordering::AcqRel) || poll(waker, task).is_pending());
        self.tasks.borrow_mut().append(&mut tasks);
    }
}

fn poll(waker: &Arc<TaskWaker>, task: &mut Task) -> Poll<()> {
    let waker = Waker::from(Arc::clone(waker));
    task.as_mut().poll(&mut Context::from_waker(&waker))
}

impl Alarm {
    /// Makes the descriptor readable.
    pub fn ring(&self) {
        // A counter at its limit is readable already.
        let _ = self.event.write(1);
    }

    /// Makes the descriptor unreadable until the next ring.
    pub fn silence(&self) {
        let _ = self.event.read();
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.alarm.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::sync::Mutex;

    #[test]
    fn a_waiting_task_goes_on_after_its_waker_rings() {
        let executor = Executor::new().unwrap();
        let done = Rc::new(RefCell::new(Vec::new()));
        let gate: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        for number in 0..2 {
            let (done, gate) = (Rc::clone(&done), Arc::clone(&gate));
            executor.spawn(async move {
                if number == 0 {
                    std::future::poll_fn(|cx| {
                        let mut gate = gate.lock().unwrap();
                        gate.1 = Some(cx.waker().clone());
                        if gate.0 { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
                done.borrow_mut().push(number);
            });
        }
        assert_eq!(*done.borrow(), [1]);
        executor.run_woken();
        assert_eq!(*done.borrow(), [1], "nothing was woken");
        let waker = {
            let mut gate = gate.lock().unwrap();
            gate.0 = true;
            gate.1.take()
        };
        std::thread::spawn(move || waker.unwrap().wake()).join().unwrap();
        executor.alarm().silence();
        executor.run_woken();
        assert_eq!(*done.borrow(), [1, 0]);
    }
}
