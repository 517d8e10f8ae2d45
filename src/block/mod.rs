//! Disks of a guest: nodes that read and write images, and what they are made of.
//!
//! ```text
//! device -- Node "format": raw, qcow2, ...      a BlockDriver over children
//!             |
//!           Node "storage": file, host_device    a BlockDriver over the host
//! ```
//!
//! A [`Node`] has a name and a [`BlockDriver`]. It checks what is asked of it, counts the requests that are under way, and
//! makes requests of any offset and length into such as its driver takes. Data lie in [`IoBuffer`]s, which keep the memory they
//! are in alive: what is under way may be dropped at any time, and the kernel still never writes into memory of somebody
//! else.
//!
//! Requests are futures. They run on whichever `io::` loop asks; what would keep that loop waiting goes to the [`Pool`].

mod backend;
mod buffer;
mod driver;
mod error;
mod file;
mod graph;
#[cfg(test)]
pub(crate) mod memory;
mod node;
mod null;
mod permissions;
mod pool;
pub mod qcow2;
mod raw;
#[cfg(test)]
pub(crate) mod testing;

pub use backend::{Backend, ErrorPolicy, Failure, IoStatus, Operation, Outcome, Policy, Stats};
pub use buffer::IoBuffer;
pub use driver::{BlockDriver, BlockFuture, Discards, Extent, ImageDetails, Limits, WriteFlags, ZeroFlags};
pub use error::BlockError;
pub use file::{FileConfig, FileDriver};
pub use graph::{AttachError, Attachment, Graph, OpenMode, Opener};
pub use node::{DetectZeroes, Node, NodeConfig};
pub use null::NullDriver;
pub use permissions::{Permissions, Use};
pub use pool::Pool;
pub use raw::RawDriver;

#[cfg(test)]
mod tests;
