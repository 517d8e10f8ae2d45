//! A PC guest: what the worker starts, stops and asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::mman::{MlockAllFlags, mlockall};
use serde_json::{Map, Value};

use super::{
    board::Board,
    boot::{Boot, FirmwareTables},
    cpu,
    devices::{self, Devices, Surroundings},
    error::PcError,
    firmware_config,
    layout::{SCRATCH, Split},
    lines,
    options::Options,
    pci::FunctionView,
    ram::{Ram, RamRequest},
    resources::Resources,
    rtc::BootOrder,
    saved::CopiedTables,
    shadow::Shadows,
    split::SplitChips,
    tables::Facts,
    vcpus::Vcpus,
};
use crate::{
    accel::{
        StatValue,
        controllers::InterruptControllers,
        debug::{DebugRegisters, DebugSetup},
        x86_64::{self, AccelVm, Accelerator, VmSpec, X86Exits},
    },
    cpu::x86::{IrqChip, Processor},
    devices::{Notifier, ResetKind, SharedDevice, fw_cfg::FwCfg, pci::Shadow, pm::Pm, ports},
    io::{EventLoop, GuestClock},
    irq::{Inputs, Lines, Router},
    machine::{
        chardevs::Chardevs,
        config::{MachineConfig, SmpConfig},
        guest::{GuestObject, RemovedDevice},
        info::{EmptySlotInfo, MemdevInfo, MemoryRegionInfo, NodeInfo, RomInfo, VcpuInfo},
        numa::Numa,
        topology,
        types::{self, MachineKind},
    },
    mem::{Access, Mapping, show_trees},
    qapi::Error,
    report,
    target::Target,
};

/// A guest. Made paused; all its threads exist from the start.
///
/// No method may be called on a vCPU thread (that is, from a notice): they wait for vCPUs.
pub struct Vm {
    // Dropped first: vCPU threads use everything below.
    pub(super) vcpus: Vcpus,
    pub(super) processor: Arc<Processor>,
    pub(super) devices: Devices,
    boot: Mutex<Boot>,
    pub(super) fw_cfg: Arc<Mutex<FwCfg>>,
    pub(super) copied_tables: CopiedTables,
    tables: FirmwareTables,
    ram: Ram,
    pub(super) accel: Arc<dyn AccelVm>,
    nodes: Vec<NodeInfo>,
    pub(super) roms: Vec<RomInfo>,
    /// Firmware starts from nothing that it was not told of.
    strict_boot: bool,
    checks_floppies: bool,
    pub(super) kvmclock: Mutex<KvmClock>,
    pub(super) time: Arc<GuestClock>,
    /// The loop of devices; it goes after them.
    _io: EventLoop,
    _lines: Lines,
    _router: Arc<Router>,
    // RAM, ROM and the registers of devices that are there for good.
    _mappings: Vec<Mapping>,
    // Devices hold it weakly.
    pub(super) board: Arc<Board>,
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.devices.release_vcpus();
    }
}

/// Whether the paravirtual clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KvmClock {
    /// It has not been stopped since the vCPUs started.
    Running,
    /// It stands at this many nanoseconds.
    Stopped(u64),
    /// The guest has never run.
    Fresh,
}

impl Vm {
    /// Makes a guest, ready to be started.
    ///
    /// # Errors
    /// Names the option, object, file or host resource that does not work.
    pub fn new(config: &MachineConfig, mut resources: Resources, notifier: &Notifier) -> Result<Self, Error> {
        let machine = find_machine(config)?;
        let registry = devices::registry(machine);
        devices::check_globals(&registry, config)?;
        let options = Options::new(machine, config, &registry)?;
        let smp = checked_smp(config.smp, machine.cpu_max, machine.name)?;
        let numa = Numa::from_entries(&config.numa, &config.objects, &smp)?;
        numa.warnings.iter().for_each(report::warning);
        let accel = open_vm(config, &options, smp, resources.accelerator.take())?;
        let split = Split::of(config.memory.size, options.max_low_ram);
        let mut processor = cpu::realize(&*accel, config, &numa, split)?;
        accel.prepare(&processor.vm())?;
        if config.mem_lock {
            lock_memory()?;
        }
        let ram = Ram::new(&RamRequest {
            size: config.memory.size,
            max_low: options.max_low_ram,
            backend: options.memory_backend.as_deref(),
            numa: &numa,
            registry: &registry,
            objects: &config.objects,
            defaults: options.backends,
        })?;
        let board = Arc::new(Board::new(notifier)?);
        Arc::clone(&accel).follow(&board.map.memory, &board.map.ports)?;
        let mut mappings = ram.plug_into(&board.map)?;
        let nodes = numa.nodes.keys().map(|node| NodeInfo {
            node: *node,
            size: ram.size_of_node(*node),
        });
        let nodes = nodes.collect();
        let boot = Boot::open(config, options.max_firmware)?;
        if let Boot::Firmware(firmware) = &boot {
            mappings.extend(firmware.plug_into(&board.map)?);
        }
        let shadow = if boot.is_direct() { Shadow::Ram } else { Shadow::Rom };
        let shadows = Arc::new(Shadows::new(&board.map, &ram, shadow)?);
        accel.create_interrupt_controllers()?;
        let router = Router::new(Arc::clone(&accel).interrupts());
        let time = Arc::new(GuestClock::default());
        let io = EventLoop::new(config.debug_threads.then(|| "IO devices".to_owned()));
        let io = io.map_err(PcError::EventLoop)?;
        let chips = match options.irqchip {
            IrqChip::Kernel => {
                router.set_pins(lines::routes()).map_err(PcError::Routes)?;
                None
            }
            IrqChip::Split => {
                let (chips, registers) = SplitChips::install(&router, &board)?;
                mappings.extend(registers);
                Some(chips)
            }
        };
        let inputs: Arc<dyn Inputs> = match &chips {
            Some(chips) => Arc::clone(chips) as _,
            None => Arc::clone(&router) as _,
        };
        let lines = Lines::new(lines::LINES, &inputs);
        let surroundings = Surroundings {
            config,
            options: &options,
            registry: &registry,
            board: &board,
            shadows: &shadows,
            lines: &lines,
            router: &router,
            clock: &time,
            io: io.handle(),
            chips: chips.as_ref(),
            split: ram.split,
            cpus: smp.cpus,
            direct_boot: boot.is_direct(),
        };
        let mut devices = Devices::new(&surroundings, resources)?;
        let handler: Arc<dyn X86Exits> = Arc::clone(&board) as _;
        let vcpus = Vcpus::new(
            &*accel,
            smp,
            &mut processor,
            &numa,
            &board.map.memory,
            &handler,
            config.debug_threads,
        )?;
        if let (Some(chips), Some(kick)) = (&chips, vcpus.boot_kicker()) {
            chips.connect(kick);
        }
        let facts = Facts {
            machine,
            config,
            options: &options,
            smp,
            numa: &numa,
            ram: &ram,
            processor_id: processor.cpu().processor_id(),
            pci: &devices.pci.view(),
            devices: devices.acpi(),
            slots: options.acpi_hotplug.then(|| devices.pci.slot_ports()),
        };
        let tables = match &boot {
            Boot::Direct(_) => facts.for_kernel()?,
            Boot::Firmware(_) => FirmwareTables::default(),
        };
        let (fw_cfg, given) = firmware_config::device(&facts, &boot, &board.map.memory)?;
        let roms = boot.rom().into_iter().chain(given).collect();
        let shared = Arc::clone(&fw_cfg) as SharedDevice;
        let region = ports("fwcfg", FwCfg::LEN, Access::ANY, &shared, 0);
        mappings.push(board.map.map_ports(FwCfg::PORT, &region)?);
        devices.add_firmware_configuration(shared)?;
        let vm = Self {
            vcpus,
            processor: Arc::new(processor),
            devices,
            boot: Mutex::new(boot),
            fw_cfg,
            copied_tables: CopiedTables::default(),
            tables,
            ram,
            accel,
            nodes,
            roms,
            strict_boot: config.boot.strict,
            checks_floppies: options.checks_floppies,
            kvmclock: Mutex::new(KvmClock::Fresh),
            time,
            _io: io,
            _lines: lines,
            _router: router,
            _mappings: mappings,
            board,
        };
        vm.reset()?;
        Ok(vm)
    }

    /// Lets the guest run, with its clock where it was when it was paused.
    ///
    /// # Errors
    /// When KVM refuses to set the clock, or guest memory cannot be written.
    pub fn start(&self) -> Result<(), Error> {
        let mut clock = lock(&self.kvmclock);
        if let KvmClock::Stopped(at) = *clock {
            self.accel.clock().set(at).map_err(PcError::SetClock)?;
            self.vcpus.mark_clock_paused()?;
        }
        *clock = KvmClock::Running;
        self.time.start();
        self.devices.resume();
        self.vcpus.resume();
        Ok(())
    }

    /// Returns once all vCPUs are out of the guest and its clock stands still.
    ///
    /// # Errors
    /// When KVM does not tell the clock.
    pub fn pause(&self) -> Result<(), Error> {
        self.devices.release_vcpus();
        self.vcpus.pause();
        self.time.stop();
        self.devices.pause();
        let mut clock = lock(&self.kvmclock);
        if *clock == KvmClock::Running {
            let now = self.accel.clock().get().map_err(PcError::GetClock)?;
            *clock = KvmClock::Stopped(now.clock);
        }
        Ok(())
    }

    /// Returns the machine to the state after power-on. Only while paused.
    ///
    /// # Errors
    /// When a kernel image can no longer be read, or KVM refuses a register.
    pub fn reset(&self) -> Result<(), Error> {
        self.devices.reset(ResetKind::Cold);
        let boot_order = firmware_config::boot_order(self.devices.boot_paths(), self.strict_boot);
        lock(&self.fw_cfg).replace_file(firmware_config::BOOT_ORDER, boot_order);
        let boot_state = lock(&self.boot).load(&self.board.map.memory.ram(), self.ram.split, &self.tables)?;
        Ok(self.vcpus.reset(boot_state)?)
    }

    /// How the guest starts.
    pub(super) fn boot(&self) -> MutexGuard<'_, Boot> {
        lock(&self.boot)
    }

    /// Presses the power button.
    pub fn powerdown(&self) {
        lock(&self.devices.pm).with(Pm::press_power_button);
    }

    /// Wakes the guest from ACPI S3: a reset that keeps memory. Only while paused.
    ///
    /// # Errors
    /// When KVM refuses a register.
    pub fn wakeup(&self) -> Result<(), Error> {
        self.devices.reset(ResetKind::Wakeup);
        let boot_state = lock(&self.boot).waking_state(&self.board.map.memory.ram(), self.ram.split, &self.tables)?;
        Ok(self.vcpus.reset(boot_state)?)
    }

    /// Injects a non-maskable interrupt into every vCPU.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn inject_nmi(&self) -> Result<(), Error> {
        Ok(self.vcpus.inject_nmi()?)
    }

    /// The vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> Vec<VcpuInfo> {
        self.vcpus.infos()
    }

    /// The places for vCPUs that are not there yet.
    #[must_use]
    pub fn empty_slots(&self) -> Vec<EmptySlotInfo> {
        self.vcpus.empty_slots()
    }

    /// What the vCPUs are.
    pub(crate) fn processor(&self) -> &Arc<Processor> {
        &self.processor
    }

    /// The board, for tests that change its map.
    #[cfg(test)]
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// The owner of the interrupt routes, for tests that interrupt the guest.
    #[cfg(test)]
    pub(super) fn router(&self) -> &Arc<Router> {
        &self._router
    }

    /// The interrupt lines, for tests that drive them.
    #[cfg(test)]
    pub(super) fn lines(&self) -> &Lines {
        &self._lines
    }

    /// Devices and their properties, bus by bus, for people.
    #[must_use]
    pub fn device_tree(&self) -> String {
        self.devices.tree_text()
    }

    /// Devices and buses, as they live.
    #[must_use]
    pub fn objects(&self) -> Vec<GuestObject> {
        self.devices.objects()
    }

    /// Plugs in a device.
    ///
    /// # Errors
    /// Names what is missing, wrong or taken.
    pub fn plug(&self, entry: &Map<String, Value>, chardevs: Chardevs) -> Result<Vec<GuestObject>, Error> {
        Ok(self.devices.plug(entry, chardevs)?)
    }

    /// Asks for a device to be let go.
    ///
    /// # Errors
    /// Its bus lets none go, or the guest has been asked already.
    pub fn unplug(&self, path: &str) -> Result<Vec<RemovedDevice>, Error> {
        Ok(self.devices.unplug(path)?)
    }

    /// Takes out the devices that the guest has let go of.
    #[must_use]
    pub fn take_released(&self) -> Vec<RemovedDevice> {
        self.devices.take_released()
    }

    /// Takes out the devices that the guest has been asked for.
    #[must_use]
    pub fn finish_unplugs(&self) -> Vec<RemovedDevice> {
        self.devices.finish_unplugs()
    }

    /// The PCI functions, bus by bus.
    #[must_use]
    pub(crate) fn pci(&self) -> Vec<FunctionView> {
        self.devices.pci.view()
    }

    /// RAM, by guest address.
    #[must_use]
    pub fn memory_regions(&self) -> Vec<MemoryRegionInfo> {
        self.ram.regions()
    }

    /// Memory backends in use.
    #[must_use]
    pub fn memdevs(&self) -> Vec<MemdevInfo> {
        self.ram.memdevs()
    }

    /// Bytes of RAM and ROM from a physical address on; zeros where there is neither.
    ///
    /// # Errors
    /// When memory that the kernel has promised cannot be read.
    pub fn read_physical(&self, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        data.fill(0);
        let last = addr
            .saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX))
            .saturating_sub(1);
        let view = self.board.map.memory.view();
        for range in view.ranges() {
            let (from, to) = (addr.max(range.start()), last.min(range.last()));
            let Some((block, offset, _)) = range.memory().filter(|_| from <= to && !data.is_empty()) else {
                continue;
            };
            let place = |at: u64| usize::try_from(at - addr).unwrap_or(usize::MAX);
            block
                .read(offset + (from - range.start()), &mut data[place(from)..=place(to)])
                .map_err(|error| PcError::Memory { at: from, error })?;
        }
        Ok(())
    }

    /// Bytes of guest memory from a linear address on, as the vCPU with this index sees it now.
    ///
    /// # Errors
    /// When there is no such vCPU, the address is not mapped, or there is no RAM behind it.
    pub fn read_virtual(&self, index: u32, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        const PAGE: u64 = 4096;
        let size = data.len();
        let invalid = || PcError::Unmapped { addr, size };
        let mut done = 0;
        let mut next = addr;
        let end = addr.checked_add(size as u64).ok_or_else(invalid)?;
        while next < end {
            let len = (PAGE - next % PAGE).min(end - next);
            let linear = next;
            let physical = self.vcpus.call(index, move |vcpu| vcpu.translate(linear))?;
            let physical = physical.ok_or_else(invalid)?;
            // A page at the most.
            let count = len as usize;
            self.read_physical(physical, &mut data[done..done + count])?;
            done += count;
            next += len;
        }
        Ok(())
    }

    /// The statistics of the whole guest.
    ///
    /// # Errors
    /// When the kernel offers none.
    pub fn vm_stats(&self) -> Result<Vec<StatValue>, Error> {
        Ok(self.accel.stats().map_err(PcError::Stats)?)
    }

    /// The statistics of every vCPU.
    ///
    /// # Errors
    /// When the kernel offers none.
    pub fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        Ok(self.vcpus.stats()?)
    }

    /// The registers of the vCPU with this index that expressions may name.
    ///
    /// # Errors
    /// When there is no such vCPU.
    pub fn register_values(&self, index: u32) -> Result<Vec<(&'static str, u64)>, Error> {
        Ok(self.vcpus.call(index, |vcpu| vcpu.register_values())?)
    }

    /// The physical address behind a linear one, with the page tables that the vCPU with this index uses now.
    ///
    /// # Errors
    /// When there is no such vCPU.
    pub fn translate(&self, index: u32, linear: u64) -> Result<Option<u64>, Error> {
        Ok(self.vcpus.call(index, move |vcpu| vcpu.translate(linear))?)
    }

    /// Who answers at which address of memory and ports, for people.
    #[must_use]
    pub fn memory_tree(&self) -> String {
        let map = &self.board.map;
        show_trees(&[("I/O", &map.ports), ("memory", &map.memory)])
    }

    /// The NUMA nodes, by number.
    #[must_use]
    pub fn numa_nodes(&self) -> Vec<NodeInfo> {
        self.nodes.clone()
    }

    /// The registers of the local APIC of the vCPU with this index: register n is at offset 16 * n.
    ///
    /// # Errors
    /// When there is no such vCPU, or KVM refuses.
    pub fn local_apic(&self, index: u32) -> Result<Vec<u32>, Error> {
        let registers = self.vcpus.call(index, |vcpu| vcpu.local_apic())?;
        Ok(registers.map_err(PcError::GetLapic)?)
    }

    /// The interrupt controllers, in the kernel or outside.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn interrupt_controllers(&self) -> Result<InterruptControllers, Error> {
        if let Some(chips) = self.board.chips.get() {
            return Ok(chips.info());
        }
        let controllers = self.accel.interrupt_controllers();
        Ok(controllers.map_err(PcError::GetIrqchip)?)
    }

    /// Tells firmware in which order to look for what to boot, from the next boot on.
    ///
    /// # Errors
    /// Names the letter that stands for no device of a PC.
    pub fn set_boot_order(&self, order: &str) -> Result<(), Error> {
        let order = BootOrder::new(order, self.checks_floppies)?;
        lock(&self.devices.rtc).set_boot_order(order);
        Ok(())
    }

    /// The registers of the vCPU with this index, for a debugger.
    ///
    /// # Errors
    /// When there is no such vCPU, or KVM refuses.
    pub fn debug_registers(&self, index: u32) -> Result<DebugRegisters, Error> {
        let registers = self.vcpus.call(index, |vcpu| vcpu.debug_registers())?;
        Ok(registers.map_err(PcError::Registers)?)
    }

    /// Changes the registers of the vCPU with this index, for a debugger.
    ///
    /// # Errors
    /// When there is no such vCPU, or KVM refuses.
    pub fn set_debug_registers(&self, index: u32, registers: DebugRegisters) -> Result<(), Error> {
        let set = self
            .vcpus
            .call(index, move |vcpu| vcpu.set_debug_registers(&registers))?;
        Ok(set.map_err(PcError::Registers)?)
    }

    /// What the vCPU with this index stops for from now on.
    ///
    /// # Errors
    /// When there is no such vCPU, or KVM refuses.
    pub fn set_debug(&self, index: u32, setup: DebugSetup) -> Result<(), Error> {
        self.vcpus.hold(index, setup.held);
        let set = self.vcpus.call(index, move |vcpu| vcpu.set_debug(setup))?;
        Ok(set.map_err(PcError::SetDebug)?)
    }

    /// Writes RAM and ROM.
    ///
    /// # Errors
    /// When there is neither at part of the range; what lies before has been written.
    pub fn write_physical(&self, addr: u64, data: &[u8]) -> Result<(), Error> {
        let view = self.board.map.memory.view();
        let (mut at, mut data) = (addr, data);
        while !data.is_empty() {
            let nothing = || PcError::NoMemory(at);
            let range = view.find(at).ok_or_else(nothing)?;
            let (block, offset, _) = range.memory().ok_or_else(nothing)?;
            let left = usize::try_from(range.last() - at)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            let (part, rest) = data.split_at(left.min(data.len()));
            block
                .write(offset + (at - range.start()), part)
                .map_err(|error| PcError::Memory { at, error })?;
            at = at.wrapping_add(u64::try_from(part.len()).unwrap_or_default());
            data = rest;
        }
        Ok(())
    }

    /// Whether a range of physical addresses is RAM or ROM throughout.
    #[must_use]
    pub fn is_backed(&self, addr: u64, len: u64) -> bool {
        let Some(end) = addr.checked_add(len) else { return false };
        let view = self.board.map.memory.view();
        let mut at = addr;
        while at < end {
            let range = view.find(at).filter(|range| range.memory().is_some());
            match range.map(|range| range.last().checked_add(1)) {
                Some(Some(next)) => at = next,
                Some(None) => return true,
                None => return false,
            }
        }
        true
    }

    /// The block behind a physical address, and where this process has its memory.
    #[must_use]
    pub fn host_address(&self, addr: u64) -> Option<(String, u64)> {
        let view = self.board.map.memory.view();
        let range = view.find(addr)?;
        let (block, offset, _) = range.memory()?;
        let host = block.mapping().as_ptr() as u64 + offset + (addr - range.start());
        Some((block.id().to_owned(), host))
    }

    /// Reads a port, apart from those in the kernel.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        self.board.map.ports.read(port.into(), data);
    }

    /// Writes to a port, apart from those in the kernel.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        self.board.map.ports.write(port.into(), data);
    }

    /// The registers of the vCPU with this index, as text.
    ///
    /// # Errors
    /// When there is no such vCPU.
    pub fn dump_registers(&self, index: u32) -> Result<String, Error> {
        Ok(self.vcpus.call(index, |vcpu| vcpu.dump())?)
    }
}

/// Keeps this process's memory, the guest's included, from being swapped out.
fn lock_memory() -> Result<(), PcError> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(PcError::LockMemory)
}

fn find_machine(config: &MachineConfig) -> Result<&'static types::MachineType, PcError> {
    let name = config.machine_type.as_deref();
    let name = name.ok_or(PcError::NoMachine)?;
    let machine = types::find(Target::X86_64, name).filter(|machine| machine.kind() == MachineKind::Q35);
    machine.ok_or_else(|| PcError::UnknownMachine(name.to_owned()))
}

fn checked_smp(smp: SmpConfig, limit: u32, machine: &'static str) -> Result<SmpConfig, PcError> {
    if smp.max_cpus > limit {
        return Err(PcError::TooManyVcpus {
            count: smp.max_cpus,
            machine,
            limit,
        });
    }
    Ok(smp)
}

/// Makes a VM of the first accelerator that can be used. `opened` is one that was opened ahead.
fn open_vm(
    config: &MachineConfig,
    options: &Options,
    smp: SmpConfig,
    mut opened: Option<Box<dyn Accelerator>>,
) -> Result<Arc<dyn AccelVm>, PcError> {
    let mut names: Vec<&str> = config.accels.iter().map(|accel| accel.name.as_str()).collect();
    if names.is_empty() {
        names.push("kvm");
    }
    let spec = VmSpec {
        irqchip: options.irqchip,
        lost_ticks: options.lost_ticks,
        max_vcpus: smp.max_cpus,
        max_apic_id: topology::apic_id(smp.max_cpus.saturating_sub(1), &smp),
        keep_idle: config.cpu_pm,
        shadow_memory: options.shadow_memory,
        scratch: SCRATCH,
    };
    let mut failures = Vec::new();
    for name in names {
        let ready = opened.take_if(|accelerator| accelerator.name() == name);
        let made = ready.map_or_else(|| x86_64::open(name), Ok).and_then(|accelerator| {
            warn_of_many(&*accelerator, smp);
            accelerator.create(&spec)
        });
        match made {
            Ok(vm) => {
                if !failures.is_empty() {
                    failures.iter().for_each(report::error);
                    report::error("falling back to KVM");
                }
                return Ok(vm);
            }
            Err(error) => failures.push(error.startup_text()),
        }
    }
    Err(PcError::NoAccelerator(failures))
}

/// Says when there are, or may be, more vCPUs than KVM recommends for this host.
fn warn_of_many(accelerator: &dyn Accelerator, smp: SmpConfig) {
    let recommended = accelerator.recommended_vcpus();
    for (kind, count) in [("SMP", smp.cpus), ("hotpluggable", smp.max_cpus)] {
        if usize::try_from(count).is_ok_and(|count| count > recommended) {
            report::warning(format!(
                "Number of {kind} cpus requested ({count}) exceeds the recommended cpus supported by KVM ({recommended})"
            ));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
