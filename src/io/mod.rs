//! One kind of loop for every thread that waits.
//!
//! An [`EventLoop`] waits for descriptors and for points in time, and calls back on its thread, or goes on with a
//! future. Any thread may ask it to, through a [`Handle`]. A callback never waits for anything: what may take long goes to
//! [`run_blocking`].
//!
//! tokio's runtime would do but for one thing: its timers count whole milliseconds, and a guest's clocks tick faster.

mod block_on;
mod blocking;
mod clock;
mod event_loop;
mod group;
mod readable;
mod task;
#[cfg(test)]
mod tests;
mod timer;
mod watch;

pub(crate) use block_on::block_on;
pub(crate) use blocking::run_blocking;
pub use clock::{Clock, GuestClock};
pub use event_loop::{EventLoop, Handle};
pub use group::Group;
pub use readable::{Counter, Readable};
pub use task::Task;
pub use timer::{Time, Timer};
pub use watch::{Ready, Watch};
