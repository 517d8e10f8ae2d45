//! The guest process: run state, request loop and vCPU threads.

pub mod channel;
pub mod executor;
pub mod frame;
pub mod mainloop;
pub mod message;
pub mod pidfile;
pub mod process;
pub mod runstate;
