//! The guest process: run state, request loop and vCPU threads.

pub mod commands;
pub mod core;
mod discard;
pub mod executor;
mod gdb;
pub mod inspect;
pub mod link;
pub mod mainloop;
pub mod migration;
mod networks;
mod objects;
mod opener;
mod run;
pub mod runstate;
pub mod sandbox;
mod tree;

pub use run::run;
