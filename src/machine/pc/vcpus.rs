//! The vCPUs of a machine, each on its thread.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    accel::{
        AccelError, Gone, StatValue, VcpuThread,
        x86_64::{AccelVm, BootState, VcpuSpec, X86Exits, X86Processor},
    },
    cpu::x86::{Processor, vmstate::VcpuState},
    machine::{
        config::SmpConfig,
        info::{EmptySlotInfo, VcpuInfo},
        numa::Numa,
        topology,
    },
    mem::AddressSpace,
    qapi::QmpError,
};

/// A vCPU of whatever accelerator.
type Vcpu = Box<dyn X86Processor>;

/// Something that cannot be asked or done of a vCPU.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VcpuError {
    /// There is none of this index.
    #[error("Invalid CPU index")]
    NoVcpu,
    /// It runs no more.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The accelerator refuses.
    #[error(transparent)]
    Accel(#[from] AccelError),
    /// The accelerator's kernel refuses.
    #[error("{0}")]
    Kernel(#[from] io::Error),
}

impl QmpError for VcpuError {}

/// The machine's vCPUs, in the order of their indices.
pub(crate) struct Vcpus {
    threads: Vec<VcpuThread<Vcpu>>,
    smp: SmpConfig,
    /// The NUMA nodes of all vCPUs there may ever be.
    nodes: Vec<Option<u16>>,
    /// The indices of those that a debugger holds back.
    held: Mutex<BTreeSet<u32>>,
}

impl Vcpus {
    /// Makes all vCPUs that are there from the start, paused.
    pub(crate) fn new(
        vm: &dyn AccelVm,
        smp: SmpConfig,
        processor: &mut Processor,
        numa: &Numa,
        memory: &Arc<AddressSpace>,
        handler: &Arc<dyn X86Exits>,
        debug_threads: bool,
    ) -> Result<Self, VcpuError> {
        let create = |index| -> Result<VcpuThread<Vcpu>, AccelError> {
            let apic_id = processor.topology().apic_id(index);
            let mut vcpu = vm.vcpu(VcpuSpec {
                index,
                apic_id,
                exits: Arc::clone(handler),
                memory: Arc::clone(memory),
            })?;
            if index == 0 {
                processor.learn_tsc_rate(vcpu.tsc_rate());
            }
            vcpu.configure(&processor.vcpu(index))?;
            let name = debug_threads.then(|| format!("CPU {index}/KVM"));
            VcpuThread::spawn(name, vcpu).map_err(AccelError::Thread)
        };
        let threads: Result<_, AccelError> = (0..smp.cpus).map(create).collect();
        Ok(Self {
            threads: threads?,
            smp,
            nodes: (0..smp.max_cpus).map(|index| numa.node_of_cpu(index)).collect(),
            held: Mutex::default(),
        })
    }

    /// Lets all vCPUs run, but for those that are held back.
    pub(crate) fn resume(&self) {
        let held = self.lock_held();
        let threads = self.threads.iter().zip(0..);
        let free = threads.filter(|(_, index)| !held.contains(index));
        free.for_each(|(thread, _)| thread.resume());
    }

    /// Says whether [`Self::resume`] is to leave a vCPU where it is.
    pub(crate) fn hold(&self, index: u32, held: bool) {
        let mut all = self.lock_held();
        match held {
            true => all.insert(index),
            false => all.remove(&index),
        };
    }

    fn lock_held(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once all vCPUs are out of the guest.
    pub(crate) fn pause(&self) {
        self.threads.iter().for_each(VcpuThread::request_pause);
        self.threads.iter().for_each(VcpuThread::wait_paused);
    }

    /// Returns all vCPUs to the state after power-on.
    pub(crate) fn reset(&self, boot: BootState) -> Result<(), VcpuError> {
        self.on_each(move |vcpu| vcpu.reset(boot))
    }

    /// The registers of all vCPUs.
    pub(crate) fn states(&self) -> Result<Vec<VcpuState>, VcpuError> {
        let state = |thread: &VcpuThread<Vcpu>| Ok(thread.call(|vcpu| vcpu.save())??);
        self.threads.iter().map(state).collect()
    }

    /// Gives the vCPUs these registers.
    pub(crate) fn set_states(&self, states: Vec<VcpuState>) -> Result<(), VcpuError> {
        for (thread, state) in self.threads.iter().zip(states) {
            thread.call(move |vcpu| vcpu.load(&state))??;
        }
        Ok(())
    }

    /// Tells every vCPU's watchdogs that time stood still.
    pub(crate) fn mark_clock_paused(&self) -> Result<(), VcpuError> {
        self.on_each(|vcpu| {
            vcpu.mark_clock_paused();
            Ok(())
        })
    }

    /// Injects a non-maskable interrupt into every vCPU.
    pub(crate) fn inject_nmi(&self) -> Result<(), VcpuError> {
        self.on_each(|vcpu| vcpu.inject_nmi())
    }

    /// The statistics of every vCPU.
    pub(crate) fn stats(&self) -> Result<Vec<Vec<StatValue>>, VcpuError> {
        let stats = |thread: &VcpuThread<Vcpu>| Ok(thread.call(|vcpu| vcpu.stats())??);
        self.threads.iter().map(stats).collect()
    }

    /// Runs `job` on the thread of the vCPU with this index.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        index: u32,
        job: impl FnOnce(&mut Vcpu) -> R + Send + 'static,
    ) -> Result<R, VcpuError> {
        let thread = usize::try_from(index).ok().and_then(|index| self.threads.get(index));
        let thread = thread.ok_or(VcpuError::NoVcpu)?;
        Ok(thread.call(job)?)
    }

    /// A function that makes the boot vCPU look for interrupts of the PICs.
    pub(crate) fn boot_kicker(&self) -> Option<impl Fn() + Send + Sync + use<>> {
        self.threads.first().map(VcpuThread::kicker)
    }

    /// The vCPUs as QMP shows them.
    pub(crate) fn infos(&self) -> Vec<VcpuInfo> {
        let threads = self.threads.iter().zip(&self.nodes).zip(0..);
        threads
            .map(|((thread, node), index)| VcpuInfo {
                index,
                thread_id: thread.thread_id(),
                ids: topology::ids(index, &self.smp),
                node: *node,
                qom_path: qom_path(index),
            })
            .collect()
    }

    /// The places for vCPUs that are not there yet.
    pub(crate) fn empty_slots(&self) -> Vec<EmptySlotInfo> {
        let nodes = (0..).zip(&self.nodes).skip(self.threads.len());
        nodes
            .map(|(index, node)| EmptySlotInfo {
                index,
                ids: topology::ids(index, &self.smp),
                node: *node,
            })
            .collect()
    }

    fn on_each(&self, job: impl Fn(&mut Vcpu) -> io::Result<()> + Clone + Send + 'static) -> Result<(), VcpuError> {
        for thread in &self.threads {
            let job = job.clone();
            thread.call(move |vcpu| job(vcpu))??;
        }
        Ok(())
    }
}

/// Where a vCPU is in the tree of objects. On QEMU the first one makes a device for interrupts, which takes number 1.
fn qom_path(index: u32) -> String {
    let number = if index == 0 { 0 } else { index.saturating_add(1) };
    format!("/machine/unattached/device[{number}]")
}
