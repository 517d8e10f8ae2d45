//! Regions: the nodes of the tree.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Access, Doorbell, IoHandler, RamBlock};

/// Something that can be shown at an address. Cheap to clone; clones are the same region.
#[derive(Clone, Debug)]
pub struct Region(pub(super) Arc<Node>);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The last offset: a region may span the whole of an address space.
    pub(super) last: u64,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// What is mapped in it, the one that shows first.
    Container(Mutex<Vec<Child>>),
    Memory {
        block: Arc<RamBlock>,
        read_only: bool,
    },
    /// Reads come from the block while `shows_rom`; everything else goes to the handler.
    Flash {
        block: Arc<RamBlock>,
        io: Io,
        shows_rom: AtomicBool,
    },
    Io(Io),
    Alias {
        target: Region,
        offset: u64,
        read_only: bool,
    },
    Doorbell(Doorbell),
}

pub(super) struct Io {
    pub(super) access: Access,
    pub(super) handler: Arc<dyn IoHandler>,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) id: u64,
    pub(super) addr: u64,
    pub(super) priority: i32,
    pub(super) region: Region,
}

impl Region {
    /// `last + 1` bytes in which other regions can be mapped. Where none is, it hides nothing.
    #[must_use]
    pub fn container(name: impl Into<String>, last: u64) -> Self {
        Self::new(name.into(), last, Kind::Container(Mutex::default()))
    }

    /// All of a block, as RAM.
    #[must_use]
    pub fn ram(block: &Arc<RamBlock>) -> Self {
        Self::memory(block, false)
    }

    /// All of a block, as ROM: writes are lost.
    #[must_use]
    pub fn rom(block: &Arc<RamBlock>) -> Self {
        Self::memory(block, true)
    }

    /// All of a block, as flash memory: it reads as the block until [`super::Edit::show_rom`] says otherwise, and
    /// `handler` takes all writes.
    #[must_use]
    pub fn flash(block: &Arc<RamBlock>, access: Access, handler: Arc<dyn IoHandler>) -> Self {
        let kind = Kind::Flash {
            block: Arc::clone(block),
            io: Io { access, handler },
            shows_rom: AtomicBool::new(true),
        };
        Self::new(block.id().to_owned(), block.len() as u64 - 1, kind)
    }

    /// `len` bytes (not 0) of registers that `handler` answers for.
    #[must_use]
    pub fn io(name: impl Into<String>, len: u64, access: Access, handler: Arc<dyn IoHandler>) -> Self {
        Self::new(name.into(), len.saturating_sub(1), Kind::Io(Io { access, handler }))
    }

    /// `len` bytes (not 0) of `target` from `offset` on.
    #[must_use]
    pub fn alias(name: impl Into<String>, target: &Self, offset: u64, len: u64) -> Self {
        Self::aliased(name.into(), target, offset, len, false)
    }

    /// Like [`Region::alias`], but RAM in it is ROM.
    #[must_use]
    pub fn read_only_alias(name: impl Into<String>, target: &Self, offset: u64, len: u64) -> Self {
        Self::aliased(name.into(), target, offset, len, true)
    }

    /// A doorbell, to be mapped over the register that it stands for.
    #[must_use]
    pub fn doorbell(name: impl Into<String>, doorbell: Doorbell) -> Self {
        Self::new(name.into(), doorbell.size() - 1, Kind::Doorbell(doorbell))
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes; of a region that spans all 64 bits, one too few.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> u64 {
        self.0.last.saturating_add(1)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn memory(block: &Arc<RamBlock>, read_only: bool) -> Self {
        let kind = Kind::Memory {
            block: Arc::clone(block),
            read_only,
        };
        Self::new(block.id().to_owned(), block.len() as u64 - 1, kind)
    }

    fn aliased(name: String, target: &Self, offset: u64, len: u64, read_only: bool) -> Self {
        let kind = Kind::Alias {
            target: target.clone(),
            offset,
            read_only,
        };
        Self::new(name, len.saturating_sub(1), kind)
    }

    fn new(name: String, last: u64, kind: Kind) -> Self {
        Self(Arc::new(Node { name, last, kind }))
    }
}

impl Node {
    /// What is mapped in it; none in a region that is no container.
    pub(super) fn children(&self) -> Option<MutexGuard<'_, Vec<Child>>> {
        match &self.kind {
            Kind::Container(children) => Some(children.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => None,
        }
    }

    /// The block whose bytes can be read directly, and whether they can be written so as well.
    pub(super) fn memory(&self) -> Option<(&Arc<RamBlock>, bool)> {
        match &self.kind {
            Kind::Memory { block, read_only } => Some((block, !read_only)),
            Kind::Flash { block, shows_rom, .. } if shows_rom.load(Ordering::Relaxed) => Some((block, false)),
            _ => None,
        }
    }

    /// Who answers what cannot be read or written directly.
    pub(super) fn io(&self) -> Option<&Io> {
        match &self.kind {
            Kind::Io(io) | Kind::Flash { io, .. } => Some(io),
            _ => None,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container(_) => "container",
            Self::Memory { read_only: false, .. } => "ram",
            Self::Memory { read_only: true, .. } => "rom",
            Self::Flash { .. } => "romd",
            Self::Io(_) => "i/o",
            Self::Alias { .. } => "alias",
            Self::Doorbell(_) => "doorbell",
        })
    }
}
