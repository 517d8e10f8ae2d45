//! remuda: a libvirt-compatible QMP server backed by a pool of VMM worker processes.
//!
//! The rooms of the library and which may use which are described in `ARCHITECTURE.md`.

pub mod accel;
pub mod block;
pub mod calendar;
pub mod chardev;
pub mod cmdline;
pub mod cpu;
pub mod devices;
pub mod host;
pub mod io;
pub mod ipc;
pub mod irq;
pub mod logging;
pub mod machine;
pub mod mem;
pub mod migration;
pub mod monitor;
pub mod net;
pub mod qapi;
pub mod qom;
pub mod report;
pub mod server;
pub mod target;
pub mod vmstate;
pub mod worker;
