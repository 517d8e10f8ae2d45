//! What a process asks of its operating system: other processes, inherited descriptors, a terminal to leave, an end in
//! time.

pub mod daemon;
pub mod guard;
pub mod inherited;
pub mod outside;
pub mod pidfile;
pub mod process;
