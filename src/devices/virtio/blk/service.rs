//! Serving the queues of a disk: requests run beside each other on the device's loop.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::config::{BlkConfig, SECTOR, SERIAL};
use super::request::{Request, Status, Wants};
use crate::block::{Backend, BlockError, Operation, Outcome, WriteFlags, ZeroFlags};
use crate::devices::drain::{self, InFlight};
use crate::devices::pace::Pace;
use crate::devices::virtio::{Link, Virtqueue};
use crate::io::{Group, Handle};

/// What the queues of a disk have in common.
pub(super) struct Shared {
    pub(super) backend: Arc<Backend>,
    pub(super) config: BlkConfig,
    pub(super) in_flight: InFlight,
    held: Mutex<Held>,
    /// Where its requests run.
    on: Handle,
    /// How fast it may fail.
    pace: Pace,
}

/// Requests that failed and stopped the guest, by their queues.
#[derive(Default)]
struct Held {
    /// Until the guest goes on.
    waiting: Vec<(u16, Request)>,
    /// The guest goes on.
    again: Vec<(u16, Request)>,
}

/// A request that was carried out: what kind it counts as, and its bytes.
type Counted = (Operation, u64);

/// Why a request was not carried out.
enum Refusal {
    /// There is no such request.
    Unsupported,
    /// It is for a place that there is none of.
    Invalid(Operation),
    /// The disk is not to be written to.
    ReadOnly,
    /// What the node said.
    Node(Operation, BlockError),
}

impl Shared {
    pub(super) fn new(backend: Arc<Backend>, config: BlkConfig, on: Handle) -> Self {
        Self {
            backend,
            config,
            in_flight: InFlight::default(),
            held: Mutex::default(),
            on,
            pace: Pace::default(),
        }
    }

    /// The guest goes on: what failed is tried again, when the queues are looked at next.
    pub(super) fn retry(&self) {
        let mut held = self.held();
        let waiting = std::mem::take(&mut held.waiting);
        held.again.extend(waiting);
    }

    /// The ring of this queue is gone, and what was asked for in it.
    pub(super) fn forget(&self, queue: u16) {
        let mut held = self.held();
        held.waiting.retain(|(of, _)| *of != queue);
        held.again.retain(|(of, _)| *of != queue);
    }

    fn take_again(&self, queue: u16) -> Option<Request> {
        let mut held = self.held();
        let index = held.again.iter().position(|(of, _)| *of == queue)?;
        Some(held.again.remove(index).1)
    }

    fn hold(&self, queue: u16, request: Request) {
        self.held().waiting.push((queue, request));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what a driver wants.
    async fn carry_out(&self, wants: &Wants) -> Result<Option<Counted>, Refusal> {
        let node = self.backend.node();
        let fua = !self.backend.is_writeback();
        match wants {
            Wants::Read { sector, into } => {
                let len = into.len() as u64;
                let offset = self.place(*sector, len, Operation::Read)?;
                let read = node.read(offset, into.clone()).await;
                read.map_err(|error| Refusal::Node(Operation::Read, error))?;
                Ok(Some((Operation::Read, len)))
            }
            Wants::Write { sector, from } => {
                self.check_writable()?;
                let len = from.len() as u64;
                let offset = self.place(*sector, len, Operation::Write)?;
                let written = node.write(offset, from.clone(), WriteFlags { fua }).await;
                written.map_err(|error| Refusal::Node(Operation::Write, error))?;
                Ok(Some((Operation::Write, len)))
            }
            Wants::Flush => {
                let flushed = node.flush().await;
                flushed.map_err(|error| Refusal::Node(Operation::Flush, error))?;
                Ok(Some((Operation::Flush, 0)))
            }
            Wants::Identify { into } => {
                let mut serial = [0; SERIAL];
                let len = self.config.serial.len().min(SERIAL);
                serial[..len].copy_from_slice(&self.config.serial[..len]);
                into.copy_from(&serial);
                Ok(None)
            }
            Wants::Discard { sector, count } if self.config.discard => {
                self.check_writable()?;
                let offset = self.range(*sector, *count, self.config.max_discard, Operation::Unmap)?;
                let bytes = u64::from(*count) * SECTOR;
                let discarded = node.discard(offset, bytes).await;
                discarded.map_err(|error| Refusal::Node(Operation::Unmap, error))?;
                Ok(Some((Operation::Unmap, bytes)))
            }
            Wants::Zeroes { sector, count, unmap } if self.config.write_zeroes => {
                self.check_writable()?;
                let offset = self.range(*sector, *count, self.config.max_zeroes, Operation::Write)?;
                let (bytes, flags) = (u64::from(*count) * SECTOR, ZeroFlags { may_unmap: *unmap, fua });
                let written = node.write_zeroes(offset, bytes, flags).await;
                written.map_err(|error| Refusal::Node(Operation::Write, error))?;
                Ok(Some((Operation::Write, bytes)))
            }
            Wants::Discard { .. } | Wants::Zeroes { .. } | Wants::Unknown => Err(Refusal::Unsupported),
        }
    }

    fn check_writable(&self) -> Result<(), Refusal> {
        match self.backend.is_writable() {
            true => Ok(()),
            false => Err(Refusal::ReadOnly),
        }
    }

    /// Where in the node a request of `len` bytes is for, which must be whole blocks of the disk.
    fn place(&self, sector: u64, len: u64, operation: Operation) -> Result<u64, Refusal> {
        let block = u64::from(self.config.logical_block);
        let end = sector.checked_mul(SECTOR).and_then(|offset| offset.checked_add(len));
        let capacity = self.backend.node().length().next_multiple_of(SECTOR);
        let fits = end.is_some_and(|end| end <= capacity);
        match fits && len % block == 0 && sector % (block / SECTOR) == 0 {
            true => Ok(sector * SECTOR),
            false => Err(Refusal::Invalid(operation)),
        }
    }

    fn range(&self, sector: u64, count: u32, most: u32, operation: Operation) -> Result<u64, Refusal> {
        match count <= most {
            true => self.place(sector, u64::from(count) * SECTOR, operation),
            false => Err(Refusal::Invalid(operation)),
        }
    }

    /// A failure that clients are told of costs them more than it costs the guest.
    async fn slow_down(&self) {
        let wait = self.pace.event(Instant::now());
        if !wait.is_zero() {
            self.on.sleep(wait).await;
        }
    }

    /// Carries out a request, and says what came of it; none if it is held until the guest goes on.
    async fn answer(&self, wants: &Wants) -> Option<Status> {
        let (began, stats) = (Instant::now(), &self.backend.stats);
        match self.carry_out(wants).await {
            Ok(None) => Some(Status::Ok),
            Ok(Some((operation, bytes))) => {
                stats.done(operation, bytes, began);
                Some(Status::Ok)
            }
            Err(Refusal::Unsupported) => Some(Status::Unsupported),
            Err(Refusal::ReadOnly) => Some(Status::Failed),
            Err(Refusal::Invalid(operation)) => {
                stats.invalid(operation);
                Some(Status::Failed)
            }
            Err(Refusal::Node(operation, error)) => match self.backend.fail(operation, &error) {
                Outcome::Stop => None,
                Outcome::Report => {
                    self.slow_down().await;
                    stats.failed(operation, began);
                    Some(Status::Failed)
                }
                Outcome::Ignore => {
                    self.slow_down().await;
                    stats.done(operation, 0, began);
                    Some(Status::Ok)
                }
            },
        }
    }
}

/// Carries out what the driver asks for in a queue, for as long as there is the device.
pub(super) async fn serve(shared: &Arc<Shared>, link: &Arc<Link>, queue: &Arc<Virtqueue>) -> io::Result<()> {
    let rung = shared.on.counter(queue.doorbell().event())?;
    let mut requests = Group::default();
    let mut next_ring = pin!(rung.take());
    loop {
        while let Some((request, under_way)) = next(shared, link, queue) {
            requests.push(run(Arc::clone(shared), Arc::clone(queue), request, under_way));
        }
        tokio::select! {
            taken = &mut next_ring => {
                taken?;
                next_ring.set(rung.take());
            }
            () = requests.next() => {}
        }
    }
}

/// The next request of a queue, those first that are to be tried again. It counts as under way before it is taken, so that
/// whoever waits for the last of them misses none.
fn next(shared: &Shared, link: &Link, queue: &Virtqueue) -> Option<(Request, drain::Request)> {
    loop {
        let under_way = shared.in_flight.begin();
        if link.is_live() {
            if let Some(request) = shared.take_again(queue.index()) {
                return Some((request, under_way));
            }
        }
        match Request::parse(queue.pop()?, &link.ram()) {
            Ok(request) => return Some((request, under_way)),
            Err(broken) => link.fail(broken),
        }
    }
}

async fn run(shared: Arc<Shared>, queue: Arc<Virtqueue>, request: Request, under_way: drain::Request) {
    match shared.answer(&request.wants).await {
        Some(status) => queue.finish_at(request.taken, request.status_at, vec![status as u8]),
        None => shared.hold(queue.index(), request),
    }
    drop(under_way);
}
