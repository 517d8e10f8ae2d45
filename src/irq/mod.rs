//! Interrupts: how they get from devices to processors.
//!
//! A device drives an [`IrqLine`], or fires the [`MsiVector`]s that its driver has programmed. One [`Router`] for each
//! machine owns the table that says where both lead. The accelerator is a [`Controller`]: it takes levels, messages and
//! the table, and listens on descriptors, so that whoever has a vector's descriptor interrupts the guest without us.
//!
//! ```text
//! lock of a device -> lock of a vector or line -> lock of the router -> the accelerator
//! ```

mod line;
mod msi;
mod route;
mod router;
#[cfg(test)]
mod tests;
mod vector;

pub use line::{Inputs, IrqLine, Lines, NoSuchLine, Resample};
pub use msi::{Msi, MsiSource, MsiVector};
pub use route::{Chip, Controller, Route, RouteTo};
pub use router::Router;
