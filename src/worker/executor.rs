//! A tiny executor: the worker answers commands with futures but has no async runtime.
//!
//! Nearly every command is done at its first poll. One that waits for a thread keeps its waker, and the waker makes
//! the worker's main loop turn.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::io::Handle;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs futures on the thread that owns it.
pub struct Executor {
    main: Handle,
    tasks: RefCell<Vec<(Arc<TaskWaker>, Task)>>,
}

struct TaskWaker {
    woken: AtomicBool,
    main: Handle,
}

impl Executor {
    /// An executor without tasks. `main` turns when one can go on.
    #[must_use]
    pub fn new(main: Handle) -> Self {
        Self {
            main,
            tasks: RefCell::default(),
        }
    }

    /// Polls `task` once and keeps it if it has to wait.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let waker = Arc::new(TaskWaker {
            woken: AtomicBool::new(false),
            main: self.main.clone(),
        });
        let mut task: Task = Box::pin(task);
        if poll(&waker, &mut task).is_pending() {
            self.tasks.borrow_mut().push((waker, task));
        }
    }

    /// Polls every task that was woken. Called after the loop turned.
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

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.main.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::sync::Mutex;

    use crate::io::EventLoop;

    #[test]
    fn a_waiting_task_goes_on_after_its_waker_rings() {
        let turned = EventLoop::of_caller().unwrap();
        let executor = Executor::new(turned.handle().clone());
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
        turned.turn(None).unwrap();
        executor.run_woken();
        assert_eq!(*done.borrow(), [1, 0]);
    }
}
