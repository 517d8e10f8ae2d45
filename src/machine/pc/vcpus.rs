//! The vCPUs of a machine, each on its thread.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    accel::{
        AccelError, StatValue, VcpuThread,
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
    qapi::Error,
};

/// A vCPU of whatever accelerator.
type Vcpu = Box<dyn X86Processor>;

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
    ) -> Result<Self, Error> {
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
        let threads: Result<_, _> = (0..smp.cpus).map(create).collect();
        Ok(Self {
            threads: threads.map_err(|error| Error::generic(error.to_string()))?,
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
    pub(crate) fn reset(&self, boot: BootState) -> Result<(), Error> {
        self.on_each(move |vcpu| vcpu.reset(boot))
    }

    /// The registers of all vCPUs.
    pub(crate) fn states(&self) -> Result<Vec<VcpuState>, Error> {
        let state = |thread: &VcpuThread<Vcpu>| {
            let saved = thread.call(|vcpu| vcpu.save());
            let saved = saved.map_err(|error| Error::generic(error.to_string()))?;
            saved.map_err(|error| Error::generic(error.to_string()))
        };
        self.threads.iter().map(state).collect()
    }

    /// Gives the vCPUs these registers.
    pub(crate) fn set_states(&self, states: Vec<VcpuState>) -> Result<(), Error> {
        for (thread, state) in self.threads.iter().zip(states) {
            let loaded = thread.call(move |vcpu| vcpu.load(&state));
            let loaded = loaded.map_err(|error| Error::generic(error.to_string()))?;
            loaded.map_err(|error| Error::generic(error.to_string()))?;
        }
        Ok(())
    }

    /// Tells every vCPU's watchdogs that time stood still.
    pub(crate) fn mark_clock_paused(&self) -> Result<(), Error> {
        self.on_each(|vcpu| {
            vcpu.mark_clock_paused();
            Ok(())
        })
    }

    /// Injects a non-maskable interrupt into every vCPU.
    pub(crate) fn inject_nmi(&self) -> Result<(), Error> {
        self.on_each(|vcpu| vcpu.inject_nmi())
    }

    /// The statistics of every vCPU.
    pub(crate) fn stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        let stats = |thread: &VcpuThread<Vcpu>| thread.call(|vcpu| vcpu.stats()).map_err(io::Error::other)?;
        self.threads
            .iter()
            .map(stats)
            .collect::<io::Result<_>>()
            .map_err(|error| Error::generic(error.to_string()))
    }

    /// Runs `job` on the thread of the vCPU with this index.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        index: u32,
        job: impl FnOnce(&mut Vcpu) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let thread = usize::try_from(index).ok().and_then(|index| self.threads.get(index));
        let thread = thread.ok_or_else(|| Error::generic("Invalid CPU index"))?;
        thread.call(job).map_err(|error| Error::generic(error.to_string()))
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

    fn on_each(&self, job: impl Fn(&mut Vcpu) -> io::Result<()> + Clone + Send + 'static) -> Result<(), Error> {
        for thread in &self.threads {
            let job = job.clone();
            let result = thread.call(move |vcpu| job(vcpu)).map_err(io::Error::other);
            result
                .and_then(|inner| inner)
                .map_err(|error| Error::generic(error.to_string()))?;
        }
        Ok(())
    }
}

/// Where a vCPU is in the tree of objects. On QEMU the first one makes a device for interrupts, which takes number 1.
fn qom_path(index: u32) -> String {
    let number = if index == 0 { 0 } else { index.saturating_add(1) };
    format!("/machine/unattached/device[{number}]")
}
