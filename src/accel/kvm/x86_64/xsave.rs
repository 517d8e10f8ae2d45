//! The state of a vCPU that XSAVE knows: x87, SSE, AVX, AVX-512, protection keys, AMX.
#![expect(unsafe_code, reason = "only the kernel knows how large the state is")]

use std::io;

use kvm_bindings::{Xsave, kvm_xsave};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

/// A vCPU's state in the standard format (Intel SDM volume 1, 13.4), with room for all that the process may give to guests.
#[derive(Clone, Debug)]
pub(super) struct XsaveState(Xsave);

impl XsaveState {
    /// Reads the state of a vCPU that has its CPUID (KVM_GET_XSAVE2; KVM_GET_XSAVE on kernels before 5.17).
    pub(super) fn read(kvm: &Kvm, fd: &VcpuFd) -> io::Result<Self> {
        let size = usize::try_from(kvm.check_extension_int(Cap::Xsave2)).unwrap_or_default();
        let extra = size.saturating_sub(size_of::<kvm_xsave>()).div_ceil(size_of::<u32>());
        let mut state = Xsave::new(extra).map_err(|error| io::Error::other(format!("{error:?}")))?;
        if size == 0 {
            let region = fd.get_xsave()?.region;
            // SAFETY: the length of the structure stays what it is.
            unsafe { state.as_mut_fam_struct() }.xsave.region = region;
        } else {
            // SAFETY: the kernel writes at most as many bytes as it told, and there are as many. What a process's guests may
            // have is settled before its first vCPU (`Vm::prepare`), so the number does not grow.
            unsafe { fd.get_xsave2(&mut state) }?;
        }
        Ok(Self(state))
    }

    /// Gives a vCPU this state (KVM_SET_XSAVE).
    pub(super) fn write(&self, fd: &VcpuFd) -> io::Result<()> {
        // SAFETY: the kernel reads as many bytes as it wrote for a vCPU of this process, and there are as many.
        unsafe { fd.set_xsave2(&self.0) }.map_err(io::Error::from)
    }
}

/// Bytes of the area that every kernel knows; what is beyond follows.
const FIXED: usize = size_of::<kvm_xsave>();
const WORD: usize = size_of::<u32>();

/// The area as bytes. What lies beyond its end reads as zeroes and is not written.
impl XsaveState {
    /// The `N` bytes from `at` on.
    pub(super) fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let area = self.0.as_fam_struct_ref();
        let mut bytes = [0; N];
        for (byte, at) in bytes.iter_mut().zip(at..) {
            let word = match at.checked_sub(FIXED) {
                None => area.xsave.region.get(at / WORD),
                Some(beyond) => self.0.as_slice().get(beyond / WORD),
            };
            *byte = word.copied().unwrap_or_default().to_le_bytes()[at % WORD];
        }
        bytes
    }

    /// Sets the bytes from `at` on.
    pub(super) fn set_bytes(&mut self, at: usize, bytes: &[u8]) {
        for (byte, at) in bytes.iter().zip(at..) {
            let word = if at < FIXED {
                self.words_mut().get_mut(at / WORD)
            } else {
                self.0.as_mut_slice().get_mut((at - FIXED) / WORD)
            };
            if let Some(word) = word {
                let mut bytes = word.to_le_bytes();
                bytes[at % WORD] = *byte;
                *word = u32::from_le_bytes(bytes);
            }
        }
    }

    /// The first 4096 bytes, as words.
    fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: the length of the structure stays what it is.
        &mut unsafe { self.0.as_mut_fam_struct() }.xsave.region
    }
}
