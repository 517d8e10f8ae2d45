//! The QMP wire: error classes, generated types and dispatch, and the sans-I/O session.
//!
//! `build.rs` compiles `schema/*.json` into [`qmp`] (what a guest's monitor speaks) and [`remuda`] (what the pool
//! server's control socket speaks). [`visit`] is the little runtime under both, [`session`] the protocol around them.

pub mod base64;
pub mod command;
#[cfg(test)]
mod compiler;
mod error;
pub mod json;
pub mod qmp;
pub mod remuda;
pub mod session;
pub mod text;
pub mod throttle;
pub mod visit;

pub use error::{Error, ErrorClass, QmpError};
