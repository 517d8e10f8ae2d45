//! Any number of futures in one.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Member<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures that run beside each other. Only those are polled that can go on.
pub struct Group<T> {
    members: BTreeMap<u64, (Member<T>, Waker)>,
    last: u64,
    ready: Arc<Mutex<Ready>>,
}

/// Who can go on, and who is to be told of that.
#[derive(Default)]
struct Ready {
    members: VecDeque<u64>,
    waker: Option<Waker>,
}

struct MemberWaker {
    number: u64,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.members.push_back(self.number);
        let waker = ready.waker.take();
        drop(ready);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            last: 0,
            ready: Arc::default(),
        }
    }
}

impl<T> Group<T> {
    /// Adds a future. It begins with the next look at [`Group::next`].
    pub fn push(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.last += 1;
        let waker = Waker::from(Arc::new(MemberWaker {
            number: self.last,
            ready: Arc::clone(&self.ready),
        }));
        self.members.insert(self.last, (Box::pin(future), waker.clone()));
        waker.wake();
    }

    /// What the next of them gives that is done; waits for ever while there are none.
    pub async fn next(&mut self) -> T {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<T> {
        loop {
            let number = {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                let number = ready.members.pop_front();
                if number.is_none() {
                    ready.waker = Some(context.waker().clone());
                }
                number
            };
            let Some(number) = number else { return Poll::Pending };
            // One that is done may have been woken once more.
            let Some((future, waker)) = self.members.get_mut(&number) else {
                continue;
            };
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                self.members.remove(&number);
                return Poll::Ready(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::io::block_on;

    #[test]
    fn members_are_done_in_the_order_in_which_they_can_be() {
        let mut group = Group::default();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<u32>()).unzip();
        for receiver in receivers {
            group.push(async { receiver.await.unwrap() });
        }
        group.push(async { 9 });
        assert_eq!(block_on(group.next()), 9);
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        for index in [2, 0, 1] {
            let sender = senders[index].take().unwrap();
            let thread = std::thread::spawn(move || sender.send(index as u32).unwrap());
            assert_eq!(block_on(group.next()), index as u32);
            thread.join().unwrap();
        }
        assert!(group.members.is_empty());
    }
}
