//! Futures on a loop.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::event_loop::Handle;
use super::timer::Time;

/// A future on a loop. It is dropped, on the loop, when the value goes.
#[must_use = "the future ends when this is dropped"]
pub struct Task(Arc<Running>);

struct Running {
    on: Handle,
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// The loop knows that it is to be polled.
    woken: AtomicBool,
    ended: AtomicBool,
}

impl Handle {
    /// Runs a future on the loop's thread.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> io::Result<Task> {
        let running = Arc::new(Running {
            on: self.clone(),
            future: Mutex::new(Some(Box::pin(future))),
            woken: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        running.schedule()?;
        Ok(Task(running))
    }

    /// Waits for a while.
    pub async fn sleep(&self, wait: Duration) {
        let state: Arc<Mutex<Signal>> = Arc::default();
        let signal = Arc::clone(&state);
        let timer = self.timer(Time::Host, move || ring(&signal));
        timer.arm_in(wait);
        came(&state).await;
    }
}

impl Running {
    fn schedule(self: &Arc<Self>) -> io::Result<()> {
        if self.woken.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let running = Arc::clone(self);
        self.on.run(move || running.poll())
    }

    fn poll(self: &Arc<Self>) {
        self.woken.store(false, Ordering::Release);
        let mut future = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::Acquire) {
            *future = None;
            return;
        }
        let waker = Waker::from(Arc::clone(self));
        let polled = future
            .as_mut()
            .map(|future| future.as_mut().poll(&mut Context::from_waker(&waker)));
        if polled.is_some_and(|polled| polled.is_ready()) {
            *future = None;
        }
    }
}

impl Wake for Running {
    fn wake(self: Arc<Self>) {
        if let Err(error) = self.schedule() {
            tracing::error!(%error, "what waits on a loop waits for ever");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        Arc::clone(&self.0).wake();
    }
}

/// Something that a future waits for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    came: bool,
    waker: Option<Waker>,
}

/// It has come.
pub(super) fn ring(signal: &Mutex<Signal>) {
    let mut state = signal.lock().unwrap_or_else(PoisonError::into_inner);
    state.came = true;
    let waker = state.waker.take();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

/// Waits until it has come, and forgets that it has.
pub(super) async fn came(signal: &Mutex<Signal>) {
    std::future::poll_fn(|context| {
        let mut state = signal.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.came) {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}
