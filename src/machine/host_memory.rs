//! What the host is told about guest memory: placement, merging, locking in.
#![expect(unsafe_code, reason = "madvise and mbind on mappings that vm-memory owns")]

use std::{io, os::raw::c_int, thread};

use crate::mem::RamMapping;
use crate::qom::objects::NumaPolicy;
use nix::libc;

/// Largest number of a host NUMA node plus one.
const MAX_NODES: u32 = 128;
/// `MADV_POPULATE_WRITE` (linux/mman.h).
const MADV_POPULATE_WRITE: c_int = 23;
/// `MPOL_MF_STRICT` and `MPOL_MF_MOVE` (linux/mempolicy.h).
const MPOL_MF_STRICT_MOVE: u32 = 3;

/// Sets where the pages of a region lie. Before any of them is touched.
pub(crate) fn bind(region: &RamMapping, policy: NumaPolicy, nodes: &[u16]) -> io::Result<()> {
    let mut mask = [0_u64; MAX_NODES as usize / 64];
    for node in nodes {
        let word = mask.get_mut(usize::from(node / 64));
        *word.ok_or(nix::errno::Errno::EINVAL)? |= 1 << (node % 64);
    }
    let mode: c_int = match policy {
        NumaPolicy::Default => 0,
        NumaPolicy::Preferred => 1,
        NumaPolicy::Bind => 2,
        NumaPolicy::Interleave => 3,
    };
    // SAFETY: mbind reads `MAX_NODES` bits of the mask and changes no memory contents.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            region.as_ptr(),
            region.size(),
            mode,
            mask.as_ptr(),
            // The kernel takes one off.
            libc::c_ulong::from(MAX_NODES + 1),
            MPOL_MF_STRICT_MOVE,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Hints that change no contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Equal pages may be shared.
    Merge,
    /// Left out of core dumps.
    NoDump,
    /// Huge pages where possible.
    Huge,
    /// Not inherited over fork.
    NoFork,
}

/// Gives the kernel a hint; one it does not know is no error.
pub(crate) fn advise(region: &RamMapping, advice: Advice) {
    let advice = match advice {
        Advice::Merge => libc::MADV_MERGEABLE,
        Advice::NoDump => libc::MADV_DONTDUMP,
        Advice::Huge => libc::MADV_HUGEPAGE,
        Advice::NoFork => libc::MADV_DONTFORK,
    };
    if let Err(error) = madvise(region, 0, region.size(), advice) {
        tracing::debug!(advice, %error, "madvise");
    }
}

/// Touches every page for writing with `threads` threads, so that the guest never waits for memory, and never finds
/// out too late that there is none.
pub(crate) fn populate(region: &RamMapping, threads: u64) -> io::Result<()> {
    const STEP: usize = 2 << 20;
    // More threads than bytes are as good as one for each step.
    let threads = usize::try_from(threads).unwrap_or(usize::MAX).max(1);
    let chunk = region.size().div_ceil(threads).next_multiple_of(STEP);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..region.size())
            .step_by(chunk)
            .map(|start| {
                let len = chunk.min(region.size() - start);
                scope.spawn(move || populate_chunk(region, start, len))
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let joined = worker.join();
            joined.map_err(|_| io::Error::other("a thread panicked"))?
        })
    })
}

fn populate_chunk(region: &RamMapping, start: usize, len: usize) -> io::Result<()> {
    loop {
        match madvise(region, start, len, MADV_POPULATE_WRITE) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn madvise(region: &RamMapping, start: usize, len: usize, advice: c_int) -> io::Result<()> {
    if start.checked_add(len).is_none_or(|end| end > region.size()) {
        return Err(nix::errno::Errno::EINVAL.into());
    }
    // SAFETY: the range lies within the region's mapping, and none of the advices used here changes its contents.
    let result = unsafe { libc::madvise(region.as_ptr().add(start).cast(), len, advice) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
