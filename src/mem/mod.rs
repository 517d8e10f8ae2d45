//! Guest memory and ports: who answers which address, and the RAM behind it.
//!
//! A [`Topology`] holds trees of [`Region`]s: RAM, ROM, flash, registers of devices, doorbells, and aliases that show a
//! part of another region. Regions may overlap; the one with the higher priority shows. From the tree under an
//! [`AddressSpace`]'s root comes its [`FlatView`], the sorted list of what shows where. Readers take the view as it is
//! at that moment without a lock; who changes the tree makes a new one. A region shows for as long as its [`Mapping`]
//! lives.
//!
//! An accelerator that wants to know is a [`Listener`]: it is told what went and what came, once for each change. RAM is
//! in [`RamBlock`]s; any number of users may watch which pages are written ([`DirtyLog`]).
//!
//! ```text
//! lock of a device -> lock of the topology -> locks of listeners
//! ```
//!
//! Devices are called with neither of the latter two held, so they may map and unmap while they answer the guest.

mod access;
mod aligned;
mod block;
mod dirty;
mod doorbell;
mod guest_ram;
mod listener;
mod region;
mod render;
mod space;
mod topology;
mod tree;
mod view;

pub use access::{Access, IoHandler, Sizes};
pub use block::{BlockExists, RamBlock, RamBlocks, RamMapping};
pub use dirty::{DirtyBitmap, DirtyLog, PAGE_SIZE, Watchers};
pub use doorbell::Doorbell;
pub use guest_ram::{GuestRam, RamRange};
pub use listener::{Change, Listener, ListenerError};
pub use region::Region;
pub use space::{AddressSpace, NotMemory};
pub use topology::{Edit, MapError, Mapping, Topology};
pub use tree::show_trees;
pub use view::{FlatRange, FlatView, PlacedDoorbell};

#[cfg(test)]
mod tests;
