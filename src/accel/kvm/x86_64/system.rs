//! `/dev/kvm`: what the host's KVM can do.

use std::{io, sync::Arc};

use kvm_ioctls::{Cap, Kvm, VmFd};

use super::vm::{self, Vm};
use crate::accel::{
    AccelError,
    kvm::KvmError,
    x86_64::{AccelVm, Accelerator, VmSpec},
};
use crate::cpu::x86::Host;

/// The version of the interface that every kernel since 2.6.22 speaks.
const API_VERSION: i32 = 12;

/// What no guest can do without.
const REQUIRED: [(Cap, &str); 9] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
];

/// The host's KVM, opened.
#[derive(Debug)]
pub struct System {
    pub(super) kvm: Kvm,
    /// A VM made ahead, of which nothing is known yet.
    pub(super) ready: Option<VmFd>,
}

impl System {
    /// Opens `/dev/kvm` and checks that it can run guests at all.
    ///
    /// # Errors
    /// When it cannot be opened, speaks another version, or lacks a capability every guest needs.
    pub fn open() -> Result<Self, KvmError> {
        let kvm = Kvm::new().map_err(|error| KvmError::Access(io::Error::from(error)))?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(KvmError::Version(version));
        }
        if let Some((_, name)) = REQUIRED.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(KvmError::MissingCapability(name));
        }
        Ok(Self { kvm, ready: None })
    }

    /// The handle for everything else one may ask of `/dev/kvm`.
    #[must_use]
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// vCPUs one VM may have.
    #[must_use]
    pub fn max_vcpus(&self) -> usize {
        self.kvm.get_max_vcpus()
    }
}

impl Accelerator for System {
    fn name(&self) -> &'static str {
        super::NAME
    }

    fn host(&self) -> Result<Host, AccelError> {
        Ok(Self::host(self)?)
    }

    fn recommended_vcpus(&self) -> usize {
        self.kvm.get_nr_vcpus()
    }

    fn make_ready(&mut self) -> Result<(), AccelError> {
        if self.ready.is_none() {
            self.ready = Some(vm::create(&self.kvm)?);
        }
        Ok(())
    }

    fn create(self: Box<Self>, spec: &VmSpec) -> Result<Arc<dyn AccelVm>, AccelError> {
        Ok(Arc::new(Vm::new(*self, spec)?))
    }
}
