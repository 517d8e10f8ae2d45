//! Character devices: where the bytes of serial ports, channels and monitors go.
//!
//! Every character device lives in the monitor process. A back end carries bytes between the outside and a port; a
//! front end is either a monitor in the same process, which gets a [`FrontEnd`], or a guest's device in a worker, which
//! gets one end of a socket pair. Either may be slow without loss: each side waits for the other.
//!
//! [`ChardevRegistry`] holds a guest's character devices by id, [`FdTable`] the descriptors that came from outside.

mod address;
mod error;
mod fdset;
mod guest;
mod host_file;
mod image;
pub mod line;
mod log;
mod mux;
mod options;
mod options_cli;
mod options_qmp;
pub mod passage;
mod port;
mod pty;
mod raw_fd;
mod registry;
mod ringbuf;
mod running;
mod socket;
mod stream;
mod telnet;
#[cfg(test)]
mod tests;
mod udp;
mod wire;

pub use address::SocketFile;
pub use error::{ChardevError, FdError, OpenError, OptionError};
pub use fdset::{AddedFd, FdSetInfo, FdTable};
pub use guest::{ChardevEvent, ChardevEventKind};
pub use image::ImageMode;
pub use options::{
    BackendOptions, ChardevOptions, FdAddress, InetAddress, LogOptions, SocketAddress, SocketOptions, UnixAddress,
};
pub use port::{Chunk, FrontEnd, FrontEvent, FrontReader, FrontWriter};
pub(crate) use raw_fd::watch;
pub use registry::{Added, ChardevInfo, ChardevRegistry, DataFormat};
pub use socket::connection;
