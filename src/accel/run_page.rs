//! The page a vCPU shares with the kernel, and the signal that makes a vCPU leave the guest.
#![expect(
    unsafe_code,
    reason = "maps `struct kvm_run` a second time and installs a signal handler"
)]

#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::{
    ffi::c_int,
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::{
        mman::{MapFlags, ProtFlags, mmap, munmap},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
};

use super::Kick;

/// The signal that interrupts KVM_RUN.
pub(super) const KICK_SIGNAL: Signal = Signal::SIGUSR1;

/// Offset of `immediate_exit` in `struct kvm_run` (linux/kvm.h).
const IMMEDIATE_EXIT: usize = 1;
/// Offset of the union of exit descriptions in `struct kvm_run`.
#[cfg(target_arch = "x86_64")]
const EXIT_UNION: usize = 32;
/// The part of `struct kvm_run` that this module reads.
const MIN_SIZE: usize = 4096;

/// A second mapping of a vCPU's `struct kvm_run`, which any thread may hold as long as it likes.
///
/// It exists because the flag `immediate_exit` is set by one thread while another one, which owns the vCPU, is in
/// KVM_RUN.
#[derive(Debug)]
pub(super) struct RunPage {
    base: NonNull<u8>,
    size: NonZeroUsize,
}

// SAFETY: the mapping is valid until drop, and is only accessed through atomics.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps `size` bytes (KVM_GET_VCPU_MMAP_SIZE) of the vCPU behind `fd`.
    ///
    /// # Errors
    /// What mmap says; EINVAL when `size` is smaller than a page.
    pub(super) fn map(fd: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(size)
            .filter(|size| size.get() >= MIN_SIZE)
            .ok_or(Errno::EINVAL)?;
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe {
            mmap(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                fd,
                0,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            size,
        })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: in bounds (MIN_SIZE); the kernel and all threads access this byte as a whole.
        unsafe { self.base.add(IMMEDIATE_EXIT).cast::<AtomicU8>().as_ref() }
    }
}

/// What x86_64's exits tell beyond what kvm-ioctls hands on.
#[cfg(target_arch = "x86_64")]
impl RunPage {
    /// After KVM_EXIT_IO: bytes in one access, where `rep` instructions report several at once.
    #[must_use]
    pub(super) fn pio_size(&self) -> u8 {
        // SAFETY: in bounds (MIN_SIZE), and atomics of one byte are always aligned.
        unsafe { self.base.add(EXIT_UNION + 1).cast::<AtomicU8>().as_ref() }.load(Ordering::Relaxed)
    }

    /// After KVM_EXIT_INTERNAL_ERROR: the sub-error and the data that came with it.
    #[must_use]
    pub(super) fn internal_error(&self) -> (u32, Vec<u64>) {
        let count = self.word32(EXIT_UNION + 4).min(16);
        let data = (0..count as usize)
            .map(|i| self.word64(EXIT_UNION + 8 + 8 * i))
            .collect();
        (self.word32(EXIT_UNION), data)
    }

    fn word32(&self, offset: usize) -> u32 {
        debug_assert!(offset % 4 == 0 && offset + 4 <= MIN_SIZE);
        // SAFETY: in bounds and aligned, as every caller's constant shows; the base is page-aligned.
        unsafe { self.base.add(offset).cast::<AtomicU32>().as_ref() }.load(Ordering::Relaxed)
    }

    fn word64(&self, offset: usize) -> u64 {
        debug_assert!(offset % 8 == 0 && offset + 8 <= MIN_SIZE);
        // SAFETY: in bounds and aligned, as every caller's constant shows; the base is page-aligned.
        unsafe { self.base.add(offset).cast::<AtomicU64>().as_ref() }.load(Ordering::Relaxed)
    }
}

impl Kick for RunPage {
    fn interrupt(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this size; nobody holds a reference into it any more.
        let result = unsafe { munmap(self.base.cast(), self.size.get()) };
        debug_assert!(result.is_ok());
    }
}

/// Installs the handler of [`KICK_SIGNAL`] for the process; further calls do nothing.
///
/// # Errors
/// What sigaction says.
pub(super) fn install_kick_handler() -> io::Result<()> {
    static RESULT: OnceLock<Result<(), Errno>> = OnceLock::new();
    extern "C" fn interrupt(_: c_int) {}
    let install = || {
        let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing; without SA_RESTART its only effect is EINTR.
        unsafe { sigaction(KICK_SIGNAL, &action) }.map(|_| ())
    };
    RESULT.get_or_init(install).map_err(io::Error::from)
}
