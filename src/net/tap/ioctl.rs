//! The calls of `linux/if_tun.h`.
#![expect(unsafe_code, reason = "ioctl takes pointers")]

use std::ffi::{c_int, c_short, c_uint};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{IFNAMSIZ, ioctl};

/// Frames of Ethernet.
pub(super) const IFF_TAP: u16 = 0x0002;
/// With nothing in front but what the other flags ask for.
pub(super) const IFF_NO_PI: u16 = 0x1000;
/// With a virtio header in front.
pub(super) const IFF_VNET_HDR: u16 = 0x4000;
/// The interface has several queues.
pub(super) const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
const IFF_DETACH_QUEUE: u16 = 0x0400;

/// What `TUNSETOFFLOAD` takes.
pub(super) const CSUM: u32 = 0x01;
pub(super) const TSO4: u32 = 0x02;
pub(super) const TSO6: u32 = 0x04;
pub(super) const TSO_ECN: u32 = 0x08;
pub(super) const UFO: u32 = 0x10;
pub(super) const USO4: u32 = 0x20;
pub(super) const USO6: u32 = 0x40;

const TUNSETIFF: u64 = 0x4004_54ca;
const TUNGETFEATURES: u64 = 0x8004_54cf;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNGETIFF: u64 = 0x8004_54d2;
const TUNSETSNDBUF: u64 = 0x4004_54d4;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNSETQUEUE: u64 = 0x4004_54d9;

/// `struct ifreq` as these calls use it: its size is that of the kernel's on every 64-bit host.
#[repr(C)]
struct Request {
    name: [u8; IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}

impl Request {
    fn new(name: &str, flags: u16) -> io::Result<Self> {
        let mut request = Self {
            name: [0; IFNAMSIZ],
            flags: c_short::from_ne_bytes(flags.to_ne_bytes()),
            rest: [0; 22],
        };
        // The last byte stays zero.
        match request.name[..IFNAMSIZ - 1].get_mut(..name.len()) {
            Some(place) => place.copy_from_slice(name.as_bytes()),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(request)
    }
}

/// Connects a descriptor of the device to the interface of this name, with these flags. Returns the name.
pub(super) fn attach(fd: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<String> {
    let mut request = Request::new(name, flags)?;
    // SAFETY: the kernel reads and writes one `ifreq`, which `request` is as large as.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
    let end = request.name.iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ);
    Ok(String::from_utf8_lossy(&request.name[..end]).into_owned())
}

/// The flags of the interface that a descriptor belongs to.
pub(super) fn flags(fd: BorrowedFd<'_>) -> io::Result<u16> {
    let mut request = Request::new("", 0)?;
    // SAFETY: the kernel writes one `ifreq`.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNGETIFF as _, &raw mut request) })?;
    Ok(u16::from_ne_bytes(request.flags.to_ne_bytes()))
}

/// The flags that interfaces may have on this host.
pub(super) fn features(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut features: c_uint = 0;
    // SAFETY: the kernel writes one unsigned number.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNGETFEATURES as _, &raw mut features) })?;
    Ok(features)
}

/// Says what whoever reads takes as it comes.
pub(super) fn set_offloads(fd: BorrowedFd<'_>, bits: u32) -> io::Result<()> {
    // SAFETY: the call takes a number.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNSETOFFLOAD as _, nix::libc::c_ulong::from(bits)) })
}

/// Bytes of the header in front of frames.
pub(super) fn set_header_len(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = c_int::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the kernel reads one number.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const len) })
}

/// Bytes that may wait to be sent.
pub(super) fn set_send_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one number.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNSETSNDBUF as _, &raw const bytes) })
}

/// Whether a queue takes part in its interface's traffic.
pub(super) fn set_queue(fd: BorrowedFd<'_>, active: bool) -> io::Result<()> {
    let flag = if active { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE };
    let request = Request::new("", flag)?;
    // SAFETY: the kernel reads one `ifreq`.
    check(unsafe { ioctl(fd.as_raw_fd(), TUNSETQUEUE as _, &raw const request) })
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
