//! A guest as far as its CPUs go: a VM with a CPU model, and its vCPUs on their threads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::apply::{Applied, apply, apply_without_model};
use super::control::ControlError;
use super::host::{host, prepare};
use super::system::{System, VmFd};
use crate::accel::kvm::KvmError;
use crate::accel::run_page::RunPage;
use crate::accel::s390x::S390Guest;
use crate::accel::{Kick, Processor, Step, VcpuThread};
use crate::cpu::s390x::{self, Compat, Cpus, Host, Inconsistency, Model};

/// What a guest's CPUs are to be.
#[derive(Clone, Copy, Debug)]
pub struct GuestConfig<'a> {
    /// The rules of the machine version.
    pub compat: Compat,
    /// The text of `-cpu`; without it the default model.
    pub cpu: Option<&'a str>,
    /// How many there are from the start.
    pub vcpus: u32,
    /// `-only-migratable`.
    pub only_migratable: bool,
    /// Whether threads are named after their vCPU.
    pub debug_threads: bool,
}

/// Why a guest cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// KVM cannot be used.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The kernel did not take the CPU model.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// There is no such model, or the host cannot run it.
    #[error(transparent)]
    Model(#[from] s390x::Error),
    /// The host refused a thread or its memory.
    #[error("cannot start the thread of vCPU {id}")]
    Thread {
        /// The vCPU.
        id: u32,
        /// What the host said.
        source: io::Error,
    },
    /// The guest cannot be started.
    #[error(
        "s390-ccw-virtio: a guest with CPU model '{model}' cannot run: the machine has no SCLP and no channel subsystem"
    )]
    NotRunnable {
        /// The guest's model.
        model: &'static str,
    },
}

/// A VM with its CPU model set and its vCPUs made. They stand still.
pub struct Guest {
    vcpus: Vec<VcpuThread<Vcpu>>,
    host: Host,
    model: Option<Model>,
    applied: Option<Applied>,
    inconsistencies: Vec<Inconsistency>,
    vm: VmFd,
}

impl Guest {
    /// Makes the VM, chooses and sets its CPU model, and makes its vCPUs.
    ///
    /// # Errors
    /// What is wrong with the model, the host or the kernel.
    pub fn create(config: GuestConfig<'_>) -> Result<Self, GuestError> {
        let system = System::open()?;
        let vm = system.create_vm()?;
        let host = host(prepare(&vm)?.as_ref())?;
        let mut guest = Self {
            vcpus: Vec::new(),
            host,
            model: None,
            applied: None,
            inconsistencies: Vec::new(),
            vm,
        };
        guest.set_model(config)?;
        guest.create_vcpus(&system, config)?;
        Ok(guest)
    }

    /// What the host offers.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn set_model(&mut self, config: GuestConfig<'_>) -> Result<(), GuestError> {
        let Some(offered) = self.host.model else {
            // Only the host's own CPUs can be had, as they are.
            if !matches!(config.cpu, None | Some("host" | "max")) {
                return Err(s390x::Error::HostUnknown.into());
            }
            return Ok(apply_without_model(&self.vm)?);
        };
        let cpus = Cpus::new(config.compat, Some(&self.host));
        let model = cpus.parse(config.cpu)?;
        self.inconsistencies = cpus.check_creation(&model, config.only_migratable)?;
        let applied = apply(&self.vm, &model.processor_props(&offered.identity))?;
        if applied.is_clamped() {
            tracing::warn!(
                asked = format_args!("{:#05x}", applied.ibc_asked),
                got = format_args!("{:#05x}", applied.ibc),
                "the host cannot be held to the instruction level of the CPU model"
            );
        }
        self.model = Some(model);
        self.applied = Some(applied);
        Ok(())
    }

    fn create_vcpus(&mut self, system: &System, config: GuestConfig<'_>) -> Result<(), GuestError> {
        let limit = self.vm.max_vcpus()?;
        if config.vcpus as usize > limit {
            let requested = config.vcpus;
            return Err(KvmError::TooManyVcpus { requested, limit }.into());
        }
        let bytes = system.run_page_size()?;
        for id in 0..config.vcpus {
            let fd = self.vm.create_vcpu(id)?;
            let thread = |source| GuestError::Thread { id, source };
            let page = RunPage::map(fd.as_fd(), bytes).map_err(thread)?;
            let name = config.debug_threads.then(|| format!("CPU {id}/KVM"));
            self.vcpus
                .push(VcpuThread::spawn(name, Vcpu::new(fd, page)).map_err(thread)?);
        }
        Ok(())
    }
}

impl S390Guest for Guest {
    fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }

    fn applied(&self) -> Option<Applied> {
        self.applied
    }

    fn inconsistencies(&self) -> &[Inconsistency] {
        &self.inconsistencies
    }

    fn thread_ids(&self) -> Vec<i32> {
        self.vcpus.iter().map(VcpuThread::thread_id).collect()
    }

    /// Not possible: a guest finds neither memory size nor devices without SCLP and channels.
    fn start(&self) -> Result<(), GuestError> {
        let model = self.model.map_or("host", |model| model.name());
        Err(GuestError::NotRunnable { model })
    }
}

/// A vCPU on its thread. It parks instead of running, see [`S390Guest::start`].
struct Vcpu {
    _fd: OwnedFd,
    page: Arc<RunPage>,
}

impl Vcpu {
    fn new(fd: OwnedFd, page: RunPage) -> Self {
        Self {
            _fd: fd,
            page: Arc::new(page),
        }
    }
}

impl Processor for Vcpu {
    fn run(&mut self) -> Step {
        Step::Park
    }

    fn settle(&mut self) {}

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.page) as _
    }
}

/// What accelerator `kvm` offers to CPU models on this host. Makes a VM for the question and drops it.
///
/// # Errors
/// If KVM cannot be used, or describes a machine that is like none that is known.
pub fn probe() -> Result<Host, GuestError> {
    let vm = System::open()?.create_vm()?;
    Ok(host(prepare(&vm)?.as_ref())?)
}
