//! Threads that wait for disks.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot;

use super::BlockError;
use nix::errno::Errno;

/// Most threads, as QEMU has by default.
const MAX_THREADS: usize = 64;
/// How long a thread waits for something to do before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Threads that do what takes as long as a disk likes. They come as they are needed, and go when they are not.
#[derive(Default)]
pub struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// A pool without threads yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Does `work` on one of the threads. It is done even when nobody waits for it any more.
    ///
    /// # Errors
    /// What `work` returned; there can be no thread at all, or `work` panicked.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, BlockError> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            // Whoever waited may be gone.
            let _ = sender.send(work());
        }));
        match receiver.await {
            Ok(result) => result.map_err(BlockError::Io),
            Err(_) => Err(BlockError::Io(Errno::EAGAIN)),
        }
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            return self.work.notify_one();
        }
        if state.threads == MAX_THREADS {
            return;
        }
        let pool = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || pool.serve());
        match started {
            Ok(_) => state.threads += 1,
            // One of the others will do it.
            Err(_) if state.threads != 0 => {}
            Err(error) => {
                tracing::error!(%error, "no thread for disks");
                // Who waits for it hears of it by the end of its channel.
                state.jobs.clear();
            }
        }
    }

    fn serve(&self) {
        if let Err(error) = SigSet::all().thread_set_mask() {
            tracing::warn!(%error, "signals stay unblocked on a thread for disks");
        }
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a request to a disk panicked");
                }
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, PATIENCE);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::block::testing::block_on;

    #[test]
    fn jobs_run_beside_each_other_and_a_panic_is_one_jobs_end() {
        let pool = Pool::new();
        let both = Arc::new(Barrier::new(2));
        let meet = || {
            let both = Arc::clone(&both);
            let pool = Arc::clone(&pool);
            async move { pool.run(move || Ok(both.wait().is_leader())).await.unwrap() }
        };
        let leaders = block_on(async { tokio::join!(meet(), meet()) });
        assert_ne!(leaders.0, leaders.1, "one waits for the other");
        let failed = block_on(pool.run(|| Err::<(), _>(Errno::ENOSPC)));
        assert_eq!(failed, Err(BlockError::Io(Errno::ENOSPC)));
        let panicked = block_on(pool.run::<()>(|| panic!("on purpose")));
        assert_eq!(panicked, Err(BlockError::Io(Errno::EAGAIN)));
        assert_eq!(block_on(pool.run(|| Ok(7))), Ok(7));
        assert!(pool.lock().threads <= 3);
    }
}
