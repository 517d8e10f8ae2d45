//! An address space: what a processor, or a device that reads memory, sees.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use vm_memory::{Bytes, GuestAddress};

use super::{Change, FlatView, GuestRam, Listener, ListenerError, Region, Topology, render::render};

/// There is neither RAM nor ROM at part of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory at guest address {addr:#x}, {len} bytes")]
pub struct NotMemory {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: usize,
}

/// An address space. Reads and writes take no lock but that of the device they reach.
pub struct AddressSpace {
    topology: Arc<Topology>,
    root: Region,
    unassigned: u8,
    view: ArcSwap<FlatView>,
    listeners: Mutex<Vec<Arc<dyn Listener>>>,
}

impl AddressSpace {
    /// What is under `root`. Where nobody answers, every byte reads as `unassigned`.
    #[must_use]
    pub fn new(topology: &Arc<Topology>, root: &Region, unassigned: u8) -> Arc<Self> {
        let space = Arc::new(Self {
            topology: Arc::clone(topology),
            root: root.clone(),
            unassigned,
            view: ArcSwap::default(),
            listeners: Mutex::default(),
        });
        topology.add_space(&space, |space| space.view.store(Arc::new(render(&space.root))));
        space
    }

    /// Adds a listener and tells it what is there.
    ///
    /// # Errors
    /// The listener refuses what is there; it is not added then.
    pub fn listen(&self, listener: Arc<dyn Listener>) -> Result<(), ListenerError> {
        self.topology.locked(|| {
            let (nothing, view) = (FlatView::default(), self.view.load_full());
            listener.changed(&change(&nothing, &view))?;
            self.lock_listeners().push(listener);
            Ok(())
        })
    }

    /// What shows now. To be dropped soon: it keeps what was taken out alive.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<FlatView>> {
        self.view.load()
    }

    /// The RAM there is now.
    #[must_use]
    pub fn ram(&self) -> Arc<GuestRam> {
        Arc::clone(self.view.load().ram())
    }

    /// A guest's read.
    pub fn read(&self, addr: u64, data: &mut [u8]) {
        self.view.load().read(addr, data, self.unassigned);
    }

    /// A guest's write.
    pub fn write(&self, addr: u64, data: &[u8]) {
        self.view.load().write(addr, data);
    }

    /// Reads RAM and ROM, but no device.
    ///
    /// # Errors
    /// There is something else, or nothing, at part of the range.
    pub fn read_memory(&self, addr: u64, data: &mut [u8]) -> Result<(), NotMemory> {
        let fail = NotMemory { addr, len: data.len() };
        let view = self.view.load();
        let (mut at, mut data) = (addr, data);
        while !data.is_empty() {
            let range = view.find(at).ok_or(fail)?;
            let (block, offset, _) = range.memory().ok_or(fail)?;
            let left = usize::try_from(range.last() - at)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            let (part, rest) = data.split_at_mut(left.min(data.len()));
            block.read(offset + (at - range.start()), part).map_err(|_| fail)?;
            at = match at.checked_add(part.len() as u64) {
                Some(next) => next,
                None if rest.is_empty() => break,
                None => return Err(fail),
            };
            data = rest;
        }
        Ok(())
    }

    /// Writes RAM, but nothing else.
    ///
    /// # Errors
    /// There is something else, or nothing, at part of the range; what lies before that has been written.
    pub fn write_memory(&self, addr: u64, data: &[u8]) -> Result<(), NotMemory> {
        let written = self.view.load().ram().write_slice(data, GuestAddress(addr));
        written.map_err(|_| NotMemory { addr, len: data.len() })
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(super) fn root(&self) -> &Region {
        &self.root
    }

    /// Shows nothing any more. Returns what has shown.
    pub(super) fn clear(&self) -> (Arc<FlatView>, Vec<Arc<dyn Listener>>) {
        (
            self.view.swap(Arc::default()),
            std::mem::take(&mut *self.lock_listeners()),
        )
    }

    /// Calls `job` with the topology locked.
    pub(super) fn with_listeners<R>(&self, job: impl FnOnce(&[Arc<dyn Listener>]) -> R) -> R {
        self.topology.locked(|| job(&self.lock_listeners()))
    }

    /// Makes the view anew and tells the listeners. Returns the view before, to be dropped without the lock. The
    /// topology is locked.
    pub(super) fn refresh(&self) -> Result<Arc<FlatView>, ListenerError> {
        let after = Arc::new(render(&self.root));
        // Stored first: an exit that the accelerator makes meanwhile finds what is to be.
        let before = self.view.swap(Arc::clone(&after));
        let listeners = self.lock_listeners();
        for (index, listener) in listeners.iter().enumerate() {
            let change = change(&before, &after);
            if change.is_empty() {
                break;
            }
            let Err(error) = listener.changed(&change) else {
                continue;
            };
            let back = change.reversed();
            for told in listeners[..=index].iter().rev() {
                if let Err(error) = told.changed(&back) {
                    tracing::error!(%error, "a change of the address space could not be taken back");
                }
            }
            self.view.store(before);
            return Err(error);
        }
        Ok(before)
    }

    fn lock_listeners(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change<'a>(before: &'a FlatView, after: &'a FlatView) -> Change<'a> {
    let without = |list: &'a FlatView, other: &FlatView| {
        let is_kept = |range: &&super::FlatRange| other.find(range.start()).is_some_and(|there| there.is_same(range));
        list.ranges().iter().filter(|range| !is_kept(range)).collect()
    };
    let bells_without = |list: &'a FlatView, other: &FlatView| {
        let is_kept = |placed: &&super::PlacedDoorbell| other.doorbells().iter().any(|there| there.is_same(placed));
        list.doorbells().iter().filter(|placed| !is_kept(placed)).collect()
    };
    Change {
        removed: without(before, after),
        added: without(after, before),
        removed_doorbells: bells_without(before, after),
        added_doorbells: bells_without(after, before),
    }
}
