//! The guest process: run state, request loop and vCPU threads.

mod blocking;
pub mod channel;
mod commands;
pub mod core;
pub mod executor;
pub mod frame;
pub mod inspect;
mod iothread;
pub mod link;
pub mod mainloop;
mod objects;
pub mod process;
mod run;
pub mod runstate;
pub mod sandbox;
mod tree;

pub use run::run;
