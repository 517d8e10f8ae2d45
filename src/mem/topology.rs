//! Changes of the trees: one after the other, each seen by readers as a whole.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use super::{
    AddressSpace, FlatView, ListenerError, Region,
    region::{Child, Kind, Node},
};

/// Why something cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The region does not lie within the one it is to be mapped in, or that is no container.
    #[error("{region} at {addr:#x} does not fit into {parent}")]
    OutOfRange {
        /// What is to be mapped.
        region: String,
        /// Where.
        addr: u64,
        /// In what.
        parent: String,
    },
    /// A listener refuses it.
    #[error(transparent)]
    Refused(#[from] ListenerError),
}

/// The trees of a machine and the address spaces over them.
#[derive(Debug, Default)]
pub struct Topology {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    spaces: Vec<Weak<AddressSpace>>,
    next_id: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("spaces", &self.spaces.len())
            .finish_non_exhaustive()
    }
}

/// A region in its place, until this is dropped. Within [`Topology::change`] there is [`Edit::unmap`] for it.
#[derive(Debug)]
#[must_use = "the region shows only for as long as this lives"]
pub struct Mapping {
    topology: Arc<Topology>,
    parent: Weak<Node>,
    id: u64,
    /// Whether the change that made it is done. One that failed has been undone, and there is nothing to take out.
    is_made: Arc<AtomicBool>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.id == TAKEN_OUT || !self.is_made.load(Ordering::Relaxed) {
            return;
        }
        // A container that is gone shows nothing.
        let Some(parent) = self.parent.upgrade() else { return };
        let result = self.topology.change(|edit| {
            edit.remove(&parent, self.id);
            Ok(())
        });
        if let Err(error) = result {
            tracing::error!(parent = parent.name, %error, "a region that went still shows");
        }
    }
}

/// The id of a mapping that is none any more.
const TAKEN_OUT: u64 = 0;

impl Topology {
    /// No trees yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Shows `region` at `addr` in `parent`. Of regions that overlap the one with the highest priority shows, of equal
    /// ones the latest.
    ///
    /// # Errors
    /// It does not fit, or a listener refuses it.
    pub fn map(
        self: &Arc<Self>,
        parent: &Region,
        addr: u64,
        region: &Region,
        priority: i32,
    ) -> Result<Mapping, MapError> {
        self.change(|edit| edit.map(parent, addr, region, priority))
    }

    /// Makes several changes at once: readers see all of them or none, listeners are told once. When `job` or a listener
    /// fails, everything is as it was. No change may be made within a change.
    ///
    /// # Errors
    /// That of `job`, or a listener's.
    pub fn change<R>(self: &Arc<Self>, job: impl FnOnce(&mut Edit<'_>) -> Result<R, MapError>) -> Result<R, MapError> {
        let mut garbage = Garbage::default();
        let mut state = self.lock();
        let mut edit = Edit {
            topology: self,
            state: &mut state,
            undo: Vec::new(),
            is_made: Arc::default(),
        };
        let result = job(&mut edit);
        let (undo, is_made) = (edit.undo, edit.is_made);
        let result = result.and_then(|value| {
            refresh_all(&mut state, &mut garbage)?;
            Ok(value)
        });
        let result = match result {
            Ok(value) => {
                garbage.undo = undo;
                is_made.store(true, Ordering::Relaxed);
                Ok(value)
            }
            Err(error) => {
                undo.into_iter().rev().for_each(Undo::perform);
                if let Err(error) = refresh_all(&mut state, &mut garbage) {
                    tracing::error!(%error, "a failed change was not taken back");
                }
                Err(error)
            }
        };
        drop(state);
        // What went may own mappings of its own, so it goes without the lock.
        drop(garbage);
        result
    }

    /// Takes everything out of all trees, without a word to the listeners: the machine ends. Until then its devices may
    /// hold the address spaces that lead to them.
    pub fn dismantle(&self) {
        let mut garbage = Vec::new();
        let state = self.lock();
        let spaces: Vec<_> = state.spaces.iter().filter_map(Weak::upgrade).collect();
        for space in &spaces {
            garbage.push(space.clear());
            let mut roots = vec![space.root().clone()];
            while let Some(root) = roots.pop() {
                let children = root.0.children().map(|mut children| std::mem::take(&mut *children));
                roots.extend(children.into_iter().flatten().map(|child| child.region));
            }
        }
        drop(state);
    }

    pub(super) fn add_space(&self, space: &Arc<AddressSpace>, first: impl FnOnce(&AddressSpace)) {
        let mut state = self.lock();
        first(space);
        state.spaces.push(Arc::downgrade(space));
    }

    pub(super) fn locked<R>(&self, job: impl FnOnce() -> R) -> R {
        let _state = self.lock();
        job()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change left behind.
#[derive(Default)]
struct Garbage {
    views: Vec<Arc<FlatView>>,
    spaces: Vec<Arc<AddressSpace>>,
    undo: Vec<Undo>,
}

fn refresh_all(state: &mut State, garbage: &mut Garbage) -> Result<(), ListenerError> {
    state.spaces.retain(|space| space.strong_count() != 0);
    for space in &state.spaces {
        let Some(space) = space.upgrade() else { continue };
        let refreshed = space.refresh();
        // Whoever dropped it meanwhile left us the last reference.
        garbage.spaces.push(space);
        garbage.views.push(refreshed?);
    }
    Ok(())
}

/// How to take a step of a change back.
enum Undo {
    Insert(Arc<Node>, Child),
    Remove(Arc<Node>, u64),
    ShowRom(Region, bool),
}

impl Undo {
    fn perform(self) {
        match self {
            Self::Insert(parent, child) => insert(&parent, child),
            Self::Remove(parent, id) => {
                let removed = take(&parent, id);
                debug_assert!(removed.is_some());
            }
            Self::ShowRom(region, shows) => {
                set_shows_rom(&region, shows);
            }
        }
    }
}

/// A change that is being made.
pub struct Edit<'a> {
    topology: &'a Arc<Topology>,
    state: &'a mut State,
    undo: Vec<Undo>,
    is_made: Arc<AtomicBool>,
}

impl Edit<'_> {
    /// Like [`Topology::map`].
    ///
    /// # Errors
    /// It does not fit.
    pub fn map(&mut self, parent: &Region, addr: u64, region: &Region, priority: i32) -> Result<Mapping, MapError> {
        let last = addr.checked_add(region.0.last);
        let fits = last.is_some_and(|last| last <= parent.0.last);
        if !fits || !matches!(parent.0.kind, Kind::Container(_)) {
            return Err(MapError::OutOfRange {
                region: region.name().to_owned(),
                addr,
                parent: parent.name().to_owned(),
            });
        }
        self.state.next_id += 1;
        let id = self.state.next_id;
        let child = Child {
            id,
            addr,
            priority,
            region: region.clone(),
        };
        insert(&parent.0, child);
        self.undo.push(Undo::Remove(Arc::clone(&parent.0), id));
        Ok(Mapping {
            topology: Arc::clone(self.topology),
            parent: Arc::downgrade(&parent.0),
            id,
            is_made: Arc::clone(&self.is_made),
        })
    }

    /// Takes a region out of its place. If the change fails, it is there again and stays.
    pub fn unmap(&mut self, mut mapping: Mapping) {
        let id = std::mem::replace(&mut mapping.id, TAKEN_OUT);
        if let Some(parent) = mapping.parent.upgrade() {
            self.remove(&parent, id);
        }
    }

    /// Says whether a flash region reads as its block, or is all its handler's.
    pub fn show_rom(&mut self, flash: &Region, shows: bool) {
        if let Some(before) = set_shows_rom(flash, shows) {
            self.undo.push(Undo::ShowRom(flash.clone(), before));
        }
    }

    fn remove(&mut self, parent: &Arc<Node>, id: u64) {
        if let Some(child) = take(parent, id) {
            self.undo.push(Undo::Insert(Arc::clone(parent), child));
        }
    }
}

fn insert(parent: &Node, child: Child) {
    if let Some(mut children) = parent.children() {
        let at = children.partition_point(|other| (other.priority, other.id) > (child.priority, child.id));
        children.insert(at, child);
    }
}

fn take(parent: &Node, id: u64) -> Option<Child> {
    let mut children = parent.children()?;
    let at = children.iter().position(|child| child.id == id)?;
    Some(children.remove(at))
}

fn set_shows_rom(region: &Region, shows: bool) -> Option<bool> {
    match &region.0.kind {
        Kind::Flash { shows_rom, .. } => Some(shows_rom.swap(shows, Ordering::Relaxed)),
        _ => None,
    }
}
