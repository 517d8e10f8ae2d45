//! qcow2: images that grow as they are written to, with backing files, snapshots and bitmaps.
//!
//! ```text
//! header - L1 table - L2 tables - guest clusters       what the guest sees
//!        - refcount table - refcount blocks            which clusters of the file are in use, and how often
//!        - table of snapshots, each with an L1 table; directory of bitmaps
//! ```
//!
//! `header`, `entry`, `refcount`, `snapshot` and `compress` are the format as values. [`Qcow2`] is an image that is open:
//! `tables` is what of it is in memory, `read`, `write` and `zero` are the guest's requests, `alloc` finds room, and `flush`
//! says in which order all that reaches the file. Requests take three locks, in this order: the guest clusters whose mapping
//! they change (`locks`), the right to load and write tables (`image::Meta`), and for a moment the tables in memory.
//!
//! Facts about the format are from its public specification.

mod alloc;
pub mod bitmap;
mod cache;
mod check;
pub mod compress;
mod create;
mod details;
mod driver;
mod entry;
mod error;
mod flush;
mod geometry;
pub mod header;
mod image;
mod locks;
mod map;
mod open;
mod read;
mod refcount;
mod resize;
pub mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod write;
mod zero;

use cache::Cache;
pub use check::Report;
pub use compress::Compression;
pub use create::{CreateOptions, create};
pub use details::Qcow2Details;
pub use driver::use_of_storage;
pub use error::ImageError;
pub use geometry::Geometry;
pub use header::Header;
pub use image::Qcow2;
pub use open::{OpenOptions, is_qcow2, read_header};
pub use snapshot::Snapshot;
