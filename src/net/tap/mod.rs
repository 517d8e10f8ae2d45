//! Tap interfaces of the host (Linux, `Documentation/networking/tuntap.rst`).

mod ioctl;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::{Frame, HEADER_LEN, NetError};
use crate::io::{Handle, Readable};

/// What makes interfaces.
const DEVICE: &str = "/dev/net/tun";

/// A queue of an interface.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    /// Frames have a header in front.
    has_header: bool,
}

/// What the host's kernel leaves to others, or does for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostOffloads {
    /// UDP datagrams that are cut as IP fragments.
    pub ufo: bool,
    /// UDP datagrams that are cut into smaller ones.
    pub uso: bool,
}

/// What a guest takes as it comes: frames whose checksum is not filled in, and such as are longer than the network allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums that are not filled in.
    pub csum: bool,
    /// TCP over IPv4.
    pub tso4: bool,
    /// TCP over IPv6.
    pub tso6: bool,
    /// TCP with congestion marks.
    pub ecn: bool,
    /// UDP, cut as IP fragments.
    pub ufo: bool,
    /// UDP over IPv4, cut into smaller datagrams.
    pub uso4: bool,
    /// UDP over IPv6, cut into smaller datagrams.
    pub uso6: bool,
}

impl Offloads {
    fn bits(self) -> u32 {
        if !self.csum {
            return 0;
        }
        [
            (true, ioctl::CSUM),
            (self.tso4, ioctl::TSO4),
            (self.tso6, ioctl::TSO6),
            (self.ecn && (self.tso4 || self.tso6), ioctl::TSO_ECN),
            (self.ufo, ioctl::UFO),
            (self.uso4, ioctl::USO4),
            (self.uso6, ioctl::USO6),
        ]
        .into_iter()
        .fold(0, |all, (on, bit)| if on { all | bit } else { all })
    }
}

/// How an interface is opened by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    /// Its name; one that the host chooses if it is empty.
    pub(super) name: &'a str,
    pub(super) several_queues: bool,
    /// Whether frames shall have a header; if the host can, unless somebody asks for it.
    pub(super) header: Option<bool>,
}

impl Tap {
    /// Takes over a descriptor that is open already.
    pub(super) fn of(fd: OwnedFd, header: Option<bool>) -> Result<Self, NetError> {
        let failed = |error: io::Error| NetError::host("Unable to query TUNGETIFF on FD", error);
        let has_header = ioctl::flags(fd.as_fd()).map_err(failed)? & ioctl::IFF_VNET_HDR != 0;
        if header == Some(true) && !has_header {
            return Err(NetError::NoHeader("1"));
        }
        Self::ready(fd, has_header)
    }

    /// Opens a queue of an interface, which is made if there is none of that name. Returns the name as well.
    pub(super) fn open(wanted: &Wanted<'_>) -> Result<(Self, String), NetError> {
        let mut options = OpenOptions::new();
        let opened: io::Result<File> = options
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_CLOEXEC)
            .open(DEVICE);
        let file = opened.map_err(|error| NetError::host(format!("could not open {DEVICE}"), error))?;
        let features = ioctl::features(file.as_fd()).unwrap_or_default();
        let can = features & u32::from(ioctl::IFF_VNET_HDR) != 0;
        if wanted.header == Some(true) && !can {
            return Err(NetError::NoHeader("1"));
        }
        let has_header = can && wanted.header != Some(false);
        let mut flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI;
        if has_header {
            flags |= ioctl::IFF_VNET_HDR;
        }
        if wanted.several_queues {
            flags |= ioctl::IFF_MULTI_QUEUE;
        }
        let name = ioctl::attach(file.as_fd(), wanted.name, flags).map_err(|error| {
            let name = if wanted.name.is_empty() { "tap%d" } else { wanted.name };
            NetError::host(format!("could not configure {DEVICE} ({name})"), error)
        })?;
        Ok((Self::ready(file.into(), has_header)?, name))
    }

    fn ready(file: OwnedFd, has_header: bool) -> Result<Self, NetError> {
        let failed = |error: io::Error| NetError::host("could not set up the tap interface", error);
        rustix::io::ioctl_fionbio(&file, true).map_err(|error| failed(error.into()))?;
        if has_header {
            ioctl::set_header_len(file.as_fd(), HEADER_LEN).map_err(failed)?;
        }
        let tap = Self { file, has_header };
        tap.set_offloads(Offloads::default());
        Ok(tap)
    }

    /// Whether frames leave checksums and segmentation to others.
    pub(super) fn has_header(&self) -> bool {
        self.has_header
    }

    /// Bytes that may wait to be sent.
    pub(super) fn set_send_buffer(&self, bytes: i32) -> Result<(), NetError> {
        ioctl::set_send_buffer(self.file.as_fd(), bytes)
            .map_err(|error| NetError::host("TUNSETSNDBUF ioctl failed", error))
    }

    /// What the host can do beside checksums and TCP.
    pub(super) fn host_offloads(&self) -> HostOffloads {
        let can = |bits: u32| ioctl::set_offloads(self.file.as_fd(), bits).is_ok();
        let offloads = HostOffloads {
            ufo: can(ioctl::CSUM | ioctl::UFO),
            uso: can(ioctl::CSUM | ioctl::USO4 | ioctl::USO6),
        };
        self.set_offloads(Offloads::default());
        offloads
    }

    /// Says what the guest takes as it comes.
    pub fn set_offloads(&self, offloads: Offloads) {
        if !self.has_header {
            return;
        }
        let mut bits = offloads.bits();
        let mut set = ioctl::set_offloads(self.file.as_fd(), bits);
        if set.is_err() {
            // An older kernel knows none of these.
            bits &= !(ioctl::UFO | ioctl::USO4 | ioctl::USO6);
            set = ioctl::set_offloads(self.file.as_fd(), bits);
        }
        if let Err(error) = set {
            tracing::warn!(%error, bits, "TUNSETOFFLOAD");
        }
    }

    /// Takes part in the traffic of an interface with several queues, or not.
    pub fn set_active(&self, active: bool) {
        if let Err(error) = ioctl::set_queue(self.file.as_fd(), active) {
            tracing::debug!(%error, active, "TUNSETQUEUE");
        }
    }

    pub(super) fn receiver(&self, on: &Handle) -> io::Result<TapReceiver> {
        let file = Arc::new(self.file.try_clone()?);
        Ok(TapReceiver {
            ready: on.readable(Arc::clone(&file) as _)?,
            file,
            offset: if self.has_header { 0 } else { HEADER_LEN },
        })
    }

    pub(super) fn transmitter(&self, on: &Handle) -> io::Result<TapTransmitter> {
        let file = Arc::new(self.file.try_clone()?);
        Ok(TapTransmitter {
            ready: on.readable(Arc::clone(&file) as _)?,
            file,
            offset: if self.has_header { 0 } else { HEADER_LEN },
        })
    }
}

/// Where frames come in from an interface.
pub struct TapReceiver {
    file: Arc<OwnedFd>,
    ready: Readable,
    /// Where in a frame begins what the interface gives.
    offset: usize,
}

impl TapReceiver {
    pub(super) async fn receive(&mut self, frame: &mut Frame) -> io::Result<()> {
        loop {
            match rustix::io::read(self.file.as_fd(), &mut frame.begin()[self.offset..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    frame.end(self.offset + len);
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.ready.wait().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where frames go to an interface.
pub struct TapTransmitter {
    file: Arc<OwnedFd>,
    ready: Readable,
    offset: usize,
}

impl TapTransmitter {
    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let data = frame.get(self.offset..).unwrap_or_default();
        loop {
            match rustix::io::write(self.file.as_fd(), data) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.ready.wait_writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl std::fmt::Debug for TapReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapReceiver").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TapTransmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapTransmitter").finish_non_exhaustive()
    }
}
