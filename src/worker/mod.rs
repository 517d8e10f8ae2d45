//! The guest process: run state, request loop and vCPU threads.

pub mod channel;
mod commands;
pub mod core;
pub mod executor;
pub mod frame;
mod iothread;
pub mod mainloop;
pub mod message;
mod objects;
pub mod pidfile;
pub mod process;
mod run;
pub mod runstate;
pub mod sandbox;
mod tree;

pub use run::run;
