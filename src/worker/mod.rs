//! The guest process: run state, request loop and vCPU threads.

pub mod channel;
pub mod core;
pub mod executor;
pub mod frame;
pub mod mainloop;
pub mod message;
mod commands;
pub mod pidfile;
pub mod process;
mod run;
pub mod runstate;

pub use run::run;
