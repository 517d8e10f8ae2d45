//! A device's end of the graph: the node it uses, what it counts, and what becomes of errors.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{BlockError, Graph, Node};

/// What is done about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The guest is told.
    Report,
    /// It counts as done.
    Ignore,
    /// The guest is stopped, and the request made again when it goes on.
    Stop,
    /// As [`Policy::Stop`] if the host has no room, else as [`Policy::Report`].
    StopIfFull,
}

/// What is done about reads and writes that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorPolicy {
    /// Reads.
    pub read: Policy,
    /// All others.
    pub write: Policy,
}

/// What a request was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Discard.
    Unmap,
    /// Flush.
    Flush,
}

/// What came of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest is to be told.
    Report,
    /// It counts as done.
    Ignore,
    /// The guest is about to be stopped; the request waits for it to go on.
    Stop,
}

/// A request that failed, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Path of the device in the tree of objects.
    pub path: String,
    /// The node.
    pub node: String,
    /// What was to be done.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub error: BlockError,
}

/// How a device's requests fare since the guest last went on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoStatus {
    /// Well.
    #[default]
    Ok,
    /// One failed, and stopped the guest.
    Failed,
    /// One failed as the host has no room, and stopped the guest.
    NoSpace,
}

/// What a device has asked for, of one kind.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes of requests that were done.
    pub bytes: AtomicU64,
    /// Requests that were done.
    pub operations: AtomicU64,
    /// Nanoseconds that requests took.
    pub nanoseconds: AtomicU64,
    /// Requests that failed.
    pub failed: AtomicU64,
    /// Requests that no disk does.
    pub invalid: AtomicU64,
}

/// What a device has asked for.
#[derive(Debug, Default)]
pub struct Stats {
    /// Reads.
    pub read: Counts,
    /// Writes, of zeroes as well.
    pub write: Counts,
    /// Discards.
    pub unmap: Counts,
    /// Flushes.
    pub flush: Counts,
    /// When the last request ended.
    last: Mutex<Option<Instant>>,
}

impl Stats {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, operation: Operation) -> &Counts {
        match operation {
            Operation::Read => &self.read,
            Operation::Write => &self.write,
            Operation::Unmap => &self.unmap,
            Operation::Flush => &self.flush,
        }
    }

    /// A request was done that began at this time.
    pub fn done(&self, operation: Operation, bytes: u64, began: Instant) {
        let counts = self.of(operation);
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        counts.operations.fetch_add(1, Ordering::Relaxed);
        self.took(counts, began);
    }

    /// A request failed that began at this time.
    pub fn failed(&self, operation: Operation, began: Instant) {
        let counts = self.of(operation);
        counts.failed.fetch_add(1, Ordering::Relaxed);
        self.took(counts, began);
    }

    /// A request was of a kind, or for a place, that there is none of.
    pub fn invalid(&self, operation: Operation) {
        self.of(operation).invalid.fetch_add(1, Ordering::Relaxed);
        *self.last() = Some(Instant::now());
    }

    /// How long ago the last request ended.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        self.last().map(|last| last.elapsed())
    }

    fn took(&self, counts: &Counts, began: Instant) {
        let now = Instant::now();
        let took = u64::try_from(now.duration_since(began).as_nanos()).unwrap_or(u64::MAX);
        counts.nanoseconds.fetch_add(took, Ordering::Relaxed);
        *self.last() = Some(now);
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// A device's use of a node.
pub struct Backend {
    node: Arc<Node>,
    path: String,
    writable: bool,
    policy: ErrorPolicy,
    graph: Graph,
    /// Lets the machine look for failures.
    notify: Hook,
    writeback: AtomicBool,
    status: Mutex<IoStatus>,
    resized: Mutex<Option<Hook>>,
    is_detached: AtomicBool,
    /// What went through it.
    pub stats: Stats,
}

/// What a backend is made from.
pub(super) struct BackendConfig {
    pub(super) path: String,
    pub(super) writable: bool,
    pub(super) policy: ErrorPolicy,
    pub(super) writeback: bool,
    pub(super) notify: Hook,
}

impl Backend {
    pub(super) fn new(node: &Arc<Node>, graph: &Graph, config: BackendConfig) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::clone(node),
            path: config.path,
            writable: config.writable,
            policy: config.policy,
            graph: graph.clone(),
            notify: config.notify,
            writeback: AtomicBool::new(config.writeback),
            status: Mutex::default(),
            resized: Mutex::default(),
            is_detached: AtomicBool::new(false),
            stats: Stats::default(),
        })
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Path of the device in the tree of objects.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the device may write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether a write is done before it has reached the disk.
    #[must_use]
    pub fn is_writeback(&self) -> bool {
        self.writeback.load(Ordering::Acquire)
    }

    /// Says whether writes are done before they have reached the disk.
    pub fn set_writeback(&self, on: bool) {
        self.writeback.store(on, Ordering::Release);
    }

    /// How requests fare.
    #[must_use]
    pub fn status(&self) -> IoStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest goes on.
    pub fn reset_status(&self) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = IoStatus::Ok;
    }

    /// A request failed. Says what the device does about it; the machine is told.
    pub fn fail(&self, operation: Operation, error: &BlockError) -> Outcome {
        let policy = match operation {
            Operation::Read => self.policy.read,
            _ => self.policy.write,
        };
        let outcome = match policy {
            Policy::Ignore => Outcome::Ignore,
            Policy::Stop => Outcome::Stop,
            Policy::StopIfFull if error.is_no_space() => Outcome::Stop,
            Policy::Report | Policy::StopIfFull => Outcome::Report,
        };
        if outcome == Outcome::Stop {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            // The first is the one that counts.
            if *status == IoStatus::Ok {
                *status = if error.is_no_space() {
                    IoStatus::NoSpace
                } else {
                    IoStatus::Failed
                };
            }
        }
        self.graph.failed(Failure {
            path: self.path.clone(),
            node: self.node.name().to_owned(),
            operation,
            outcome,
            error: error.clone(),
        });
        (self.notify)();
        outcome
    }

    /// Says what is to be called when the node has another length.
    pub fn on_resize(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.resized.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// The node has another length.
    pub(super) fn resized(&self) {
        let hook = self.resized.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// The device is no more: others may use the node as they like.
    pub fn detach(&self) {
        *self.resized.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Another device may be at the same path by now.
        if !self.is_detached.swap(true, Ordering::AcqRel) {
            self.graph.detach(self);
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("path", &self.path)
            .field("node", &self.node.name())
            .finish_non_exhaustive()
    }
}
