//! The QMP wire: error classes, generated types and dispatch, and the sans-I/O session.

mod error;

pub use error::{Error, ErrorClass};
