//! A q35 guest: what the worker starts, stops and asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::mman::{MlockAllFlags, mlockall};
use vm_memory::{Bytes, GuestAddress};

use super::{
    board::Board,
    boot::{Boot, FirmwareTables},
    clock::GuestClock,
    devices::{self, Devices, Surroundings},
    firmware_config,
    lines::Lines,
    options::Options,
    pci::FunctionView,
    ram::{Ram, RamRequest},
    resources::Resources,
    tables::Facts,
    vcpus::Vcpus,
};
use crate::{
    accel::{
        ExitHandler, StatValue,
        kvm::{KvmError, x86_64 as kvm},
    },
    devices::{Notifier, fw_cfg::FwCfg, pm::WakeReason},
    machine::{
        config::{MachineConfig, SmpConfig},
        info::{DeviceInfo, MemdevInfo, MemoryRegionInfo, VcpuInfo},
        numa::Numa,
        types::{self, MachineKind},
    },
    qapi::Error,
    target::Target,
};

/// A guest. Made paused; all its threads exist from the start.
///
/// No method may be called on a vCPU thread (that is, from a notice): they wait for vCPUs.
pub struct Vm {
    // Dropped first: vCPU threads use everything below.
    vcpus: Vcpus,
    devices: Devices,
    boot: Mutex<Boot>,
    tables: FirmwareTables,
    ram: Ram,
    kvm: Arc<kvm::Vm>,
    kvmclock: Mutex<KvmClock>,
    time: Arc<GuestClock>,
    // Devices hold it weakly.
    _board: Arc<Board>,
}

/// Whether the paravirtual clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KvmClock {
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
    pub fn new(config: &MachineConfig, resources: Resources, notifier: &Notifier) -> Result<Self, Error> {
        let machine = find_machine(config)?;
        let options = Options::new(machine, config)?;
        let smp = checked_smp(config.smp, machine.cpu_max, machine.name)?;
        let numa = Numa::from_entries(&config.numa, &smp)?;
        let kvm = Arc::new(open_kvm(config, &options, smp)?);
        let registry = devices::registry();
        if config.mem_lock {
            lock_memory()?;
        }
        let ram = Ram::new(&RamRequest {
            size: config.memory.size,
            backend: options.memory_backend.as_deref(),
            numa: &numa,
            registry: &registry,
            objects: &config.objects,
            defaults: options.backends,
        })?;
        ram.plug_into(&kvm)?;
        let boot = Boot::open(config)?;
        if let Boot::Firmware(firmware) = &boot {
            firmware.plug_into(&kvm)?;
        }
        let board = Arc::new(Board::new(notifier));
        let time = Arc::new(GuestClock::default());
        let surroundings = Surroundings {
            config,
            options: &options,
            registry: &registry,
            board: &board,
            lines: &Lines::new(&kvm),
            clock: &time,
            split: ram.split,
            cpus: smp.cpus,
            direct_boot: boot.is_direct(),
        };
        let mut devices = Devices::new(&surroundings, resources)?;
        let handler: Arc<dyn ExitHandler> = Arc::clone(&board) as _;
        let vcpus = Vcpus::new(&kvm, smp, &numa, &ram, &handler, config.debug_threads)?;
        let facts = Facts {
            machine,
            config,
            options: &options,
            smp,
            numa: &numa,
            ram: &ram,
            processor_id: vcpus.processor_id()?,
            serials: devices.serials.clone(),
            pvpanic: devices.pvpanic,
        };
        let tables = match &boot {
            Boot::Direct(_) => facts.for_kernel()?,
            Boot::Firmware(_) => FirmwareTables::default(),
        };
        let fw_cfg = firmware_config::device(&facts, &boot)?;
        board
            .space
            .map_ports(FwCfg::PORT, FwCfg::LEN, &fw_cfg, 0)
            .map_err(|error| Error::generic(error.to_string()))?;
        devices.add(fw_cfg);
        let vm = Self {
            vcpus,
            devices,
            boot: Mutex::new(boot),
            tables,
            ram,
            kvm,
            kvmclock: Mutex::new(KvmClock::Fresh),
            time,
            _board: board,
        };
        vm.reset()?;
        Ok(vm)
    }

    /// Lets the guest run, with its clock where it was when it was paused.
    ///
    /// # Errors
    /// When KVM refuses to set the clock.
    pub fn start(&self) -> Result<(), Error> {
        let mut clock = lock(&self.kvmclock);
        if let KvmClock::Stopped(at) = *clock {
            self.kvm
                .set_clock(at)
                .map_err(|error| Error::generic(format!("KVM_SET_CLOCK failed: {error}")))?;
            self.vcpus.mark_clock_paused()?;
        }
        *clock = KvmClock::Running;
        self.time.start();
        self.vcpus.resume();
        Ok(())
    }

    /// Returns once all vCPUs are out of the guest and its clock stands still.
    ///
    /// # Errors
    /// When KVM does not tell the clock.
    pub fn pause(&self) -> Result<(), Error> {
        self.vcpus.pause();
        self.time.stop();
        let mut clock = lock(&self.kvmclock);
        if *clock == KvmClock::Running {
            let now = self
                .kvm
                .clock()
                .map_err(|error| Error::generic(format!("KVM_GET_CLOCK failed: {error}")))?;
            *clock = KvmClock::Stopped(now);
        }
        Ok(())
    }

    /// Returns the machine to the state after power-on. Only while paused.
    ///
    /// # Errors
    /// When a kernel image can no longer be read, or KVM refuses a register.
    pub fn reset(&self) -> Result<(), Error> {
        self.devices.reset();
        let boot_state = lock(&self.boot).load(&self.ram, &self.tables)?;
        self.vcpus.reset(boot_state)
    }

    /// Presses the power button.
    pub fn powerdown(&self) {
        lock(&self.devices.pm).press_power_button();
    }

    /// Wakes the guest from ACPI S3: a reset that keeps memory. Only while paused.
    ///
    /// # Errors
    /// When KVM refuses a register.
    pub fn wakeup(&self) -> Result<(), Error> {
        self.devices.reset();
        lock(&self.devices.rtc).note_wakeup();
        lock(&self.devices.pm).wake(WakeReason::Other);
        let boot_state = lock(&self.boot).waking_state(&self.ram, &self.tables)?;
        self.vcpus.reset(boot_state)
    }

    /// Injects a non-maskable interrupt into every vCPU.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn inject_nmi(&self) -> Result<(), Error> {
        self.vcpus.inject_nmi()
    }

    /// The vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> Vec<VcpuInfo> {
        self.vcpus.infos()
    }

    /// The devices that `-device` made.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.devices.infos.clone()
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

    /// Bytes of guest memory from a physical address on.
    ///
    /// # Errors
    /// When there is no RAM.
    pub fn read_physical(&self, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        self.ram
            .memory
            .read_slice(data, GuestAddress(addr))
            .map_err(|_| Error::generic(format!("Invalid addr 0x{addr:016x}/size {} specified", data.len())))
    }

    /// Bytes of guest memory from a linear address on, as the vCPU with this index sees it now.
    ///
    /// # Errors
    /// When there is no such vCPU, the address is not mapped, or there is no RAM behind it.
    pub fn read_virtual(&self, index: u32, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        const PAGE: u64 = 4096;
        let invalid = || Error::generic(format!("Invalid addr 0x{addr:016x}/size {} specified", data.len()));
        let mut done = 0;
        let mut next = addr;
        let total = data.len();
        let end = u64::try_from(total)
            .ok()
            .and_then(|len| addr.checked_add(len))
            .ok_or_else(invalid)?;
        while next < end {
            let len = (PAGE - next % PAGE).min(end - next);
            let linear = next;
            let physical = self.vcpus.call(index, move |vcpu| vcpu.translate(linear))?;
            let physical =
                physical.ok_or_else(|| Error::generic(format!("Invalid addr 0x{addr:016x}/size {total} specified")))?;
            let count = usize::try_from(len).unwrap_or_default();
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
        self.kvm
            .stats()
            .map_err(|error| Error::generic(format!("KVM stats: {error}")))
    }

    /// The statistics of every vCPU.
    ///
    /// # Errors
    /// When the kernel offers none.
    pub fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        self.vcpus.stats()
    }

    /// The registers of the vCPU with this index, as text.
    ///
    /// # Errors
    /// When there is no such vCPU.
    pub fn dump_registers(&self, index: u32) -> Result<String, Error> {
        self.vcpus.call(index, |vcpu| vcpu.dump())
    }
}

/// Keeps this process's memory, the guest's included, from being swapped out.
fn lock_memory() -> Result<(), Error> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|error| Error::generic(format!("locking memory failed: {}", error.desc())))
}

fn find_machine(config: &MachineConfig) -> Result<&'static types::MachineType, Error> {
    let name = config.machine_type.as_deref();
    let name = name.ok_or_else(|| Error::generic("No machine specified, and there is no default"))?;
    let machine = types::find(Target::X86_64, name).filter(|machine| machine.kind() == MachineKind::Q35);
    machine.ok_or_else(|| Error::generic(format!("unsupported machine type: \"{name}\"")))
}

fn checked_smp(smp: SmpConfig, limit: u32, machine: &str) -> Result<SmpConfig, Error> {
    if smp.max_cpus > limit {
        return Err(Error::generic(format!(
            "Invalid SMP CPUs {}. The max CPUs supported by machine '{machine}' is {limit}",
            smp.max_cpus
        )));
    }
    Ok(smp)
}

/// Tries the accelerators in order.
fn open_kvm(config: &MachineConfig, options: &Options, smp: SmpConfig) -> Result<kvm::Vm, Error> {
    let mut names: Vec<&str> = config.accels.iter().map(|accel| accel.name.as_str()).collect();
    if names.is_empty() {
        names.push("kvm");
    }
    let mut failures = Vec::new();
    for name in names {
        if name != "kvm" {
            failures.push(format!("invalid accelerator {name}"));
            continue;
        }
        let vm_options = kvm::VmOptions {
            irqchip: options.irqchip,
            lost_ticks: options.lost_ticks,
            max_vcpus: smp.max_cpus,
            keep_idle: config.cpu_pm,
        };
        match kvm::System::open().and_then(|system| kvm::Vm::new(system, vm_options)) {
            Ok(vm) => return Ok(vm),
            Err(error @ KvmError::TooManyVcpus { .. }) => failures.push(error.to_string()),
            Err(error) => failures.push(format!("{error}\nfailed to initialize kvm: {}", error.os_text())),
        }
    }
    Err(Error::generic(failures.join("\n")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::net::UnixStream;

    use serde_json::json;

    use super::*;
    use crate::devices::Notice;
    use crate::machine::guest::Guest;
    use crate::machine::q35::testing::{CODE, KernelFile, config, notices, run_until_notice, skip_without_kvm};

    /// `mov eax, [ebx]; mov [0x200000], eax; lidt [zeroes]; ud2`: a triple fault.
    const COPY_MAGIC_AND_FAULT: [u8; 16] = [
        0x8b, 0x03, 0xa3, 0x00, 0x00, 0x20, 0x00, 0x0f, 0x01, 0x1d, 0x00, 0x00, 0x30, 0x00, 0x0f, 0x0b,
    ];

    #[test]
    fn a_pvh_guest_runs_and_its_triple_fault_asks_for_a_reset() {
        if skip_without_kvm("a_pvh_guest_runs_and_its_triple_fault_asks_for_a_reset") {
            return;
        }
        let kernel = KernelFile::new(&COPY_MAGIC_AND_FAULT);
        let (notifier, notices) = notices();
        let vm = Vm::new(&kernel.config(), Resources::default(), &notifier).unwrap();
        for _ in 0..3 {
            assert_eq!(run_until_notice(&vm, &notices), Notice::ResetRequest);
            let mut magic = [0; 4];
            vm.read_physical(0x20_0000, &mut magic).unwrap();
            assert_eq!(u32::from_le_bytes(magic), 0x336e_c578);
            vm.read_virtual(0, 0x20_0000, &mut magic).unwrap();
            assert_eq!(u32::from_le_bytes(magic), 0x336e_c578);
            vm.reset().unwrap();
        }
    }

    /// Writes `text` to the first serial port, then switches the machine off through ACPI.
    fn print_and_power_off(text: &[u8]) -> Vec<u8> {
        let text_at = u32::try_from(CODE).unwrap() + 35;
        let mut code = [&[0xbe][..], &text_at.to_le_bytes()].concat();
        // mov edx, 0x3f8; mov ecx, len; rep outsb
        code.extend([0xba, 0xf8, 0x03, 0, 0, 0xb9]);
        code.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        code.extend([0xf3, 0x6e]);
        // mov edx, 0x604; mov eax, 0x2000; out dx, ax; hlt; jmp $-1
        code.extend([
            0xba, 0x04, 0x06, 0, 0, 0xb8, 0x00, 0x20, 0, 0, 0x66, 0xef, 0xf4, 0xeb, 0xfd,
        ]);
        code.resize(35, 0x90);
        code.extend(text);
        code
    }

    #[test]
    fn a_guest_prints_on_its_serial_port_and_powers_off() {
        if skip_without_kvm("a_guest_prints_on_its_serial_port_and_powers_off") {
            return;
        }
        let kernel = KernelFile::new(&print_and_power_off(b"hello from the guest\n"));
        let mut config = kernel.config();
        config.serials = vec!["charserial0".into()];
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let resources = Resources {
            chardevs: [("charserial0".to_owned(), ours)].into(),
        };
        let (notifier, notices) = notices();
        let vm = Vm::new(&config, resources, &notifier).unwrap();
        assert_eq!(run_until_notice(&vm, &notices), Notice::ShutdownRequest);
        let mut text = [0; 21];
        peer.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello from the guest\n");
        assert_eq!(vm.devices()[0].qom_type, "isa-serial");
        let info = Guest::pci(&vm);
        let slots: Vec<_> = info[0]
            .devices
            .iter()
            .map(|device| (device.slot, device.id.device))
            .collect();
        assert_eq!(slots, [(0, 0x29c0), (31, 0x2918)]);
    }

    #[test]
    fn firmware_runs_and_finds_the_chipset() {
        const NAME: &str = "firmware_runs_and_finds_the_chipset";
        if skip_without_kvm(NAME) {
            return;
        }
        if !std::path::Path::new("/usr/share/seabios/bios-256k.bin").exists() {
            eprintln!("SKIPPED {NAME}: SeaBIOS is not installed");
            return;
        }
        let mut config = config();
        let console = json!({"driver": "isa-debugcon", "chardev": "log", "iobase": 0x402});
        config.devices = vec![console.as_object().unwrap().clone()];
        for number in 1..=2 {
            let port = json!({"driver": "pcie-root-port", "id": format!("pci.{number}"), "bus": "pcie.0", "addr": "2",
                "port": 0x10, "chassis": number, "multifunction": number == 1});
            let mut port = port.as_object().unwrap().clone();
            port["addr"] = json!(format!("2.{}", number - 1));
            config.devices.push(port);
        }
        let (ours, peer) = UnixStream::pair().unwrap();
        let resources = Resources {
            chardevs: [("log".to_owned(), ours)].into(),
        };
        let (notifier, _notices) = notices();
        let vm = Vm::new(&config, resources, &notifier).unwrap();
        vm.start().unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut log = String::new();
        for line in BufReader::new(peer).lines() {
            let Ok(line) = line else { break };
            log.push_str(&line);
            log.push('\n');
            if line.contains("No bootable device") {
                break;
            }
        }
        vm.pause().unwrap();
        assert!(
            log.contains("No bootable device"),
            "{log}\n{}",
            vm.dump_registers(0).unwrap()
        );
    }

    #[test]
    fn ports_reset_the_machine_and_the_button_wakes_a_waiting_guest() {
        const NAME: &str = "ports_reset_the_machine_and_the_button_wakes_a_waiting_guest";
        if skip_without_kvm(NAME) {
            return;
        }
        // mov edx, 0xcf9; mov al, 6; out dx, al
        let by_reset_register = [0xba, 0xf9, 0x0c, 0, 0, 0xb0, 6, 0xee];
        // mov al, 1; out 0x92, al
        let by_port_92 = [0xb0, 1, 0xe6, 0x92];
        // mov al, 0xfe; out 0x64, al
        let by_keyboard = [0xb0, 0xfe, 0xe6, 0x64];
        // mov edx, 0x600; in ax, dx; test ah, 1; jz -7; mov edx, 0x501; mov al, 5; out dx, al
        let by_button = [
            0xba, 0x00, 0x06, 0, 0, 0x66, 0xed, 0xf6, 0xc4, 1, 0x74, 0xf9, 0xba, 0x01, 0x05, 0, 0, 0xb0, 5, 0xee,
        ];
        let cases: [(&[u8], Notice); 4] = [
            (&by_reset_register, Notice::ResetRequest),
            (&by_port_92, Notice::ResetRequest),
            (&by_keyboard, Notice::ResetRequest),
            (&by_button, Notice::DebugExit(11)),
        ];
        for (code, expected) in cases {
            let kernel = KernelFile::new(&[code, &[0xf4, 0xeb, 0xfd]].concat());
            let mut config = kernel.config();
            config.devices = vec![json!({"driver": "isa-debug-exit"}).as_object().unwrap().clone()];
            let (notifier, notices) = notices();
            let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
            vm.powerdown();
            assert_eq!(run_until_notice(&vm, &notices), expected);
        }
    }

    #[test]
    fn pause_and_start_work_while_the_guest_spins() {
        if skip_without_kvm("pause_and_start_work_while_the_guest_spins") {
            return;
        }
        // inc dword [0x200000]; jmp $-8
        let kernel = KernelFile::new(&[0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8]);
        let mut config = kernel.config();
        config.smp.cpus = 2;
        config.smp.max_cpus = 2;
        config.smp.cores = 2;
        config.debug_threads = true;
        let (notifier, _notices) = notices();
        let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
        let count = || {
            let mut bytes = [0; 4];
            vm.read_physical(0x20_0000, &mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        };
        for _ in 0..5 {
            let before = count();
            vm.start().unwrap();
            while count() == before {
                std::thread::yield_now();
            }
            vm.pause().unwrap();
            let paused = count();
            std::thread::sleep(std::time::Duration::from_millis(2));
            assert_eq!(count(), paused);
        }
        let threads = vm.vcpus();
        assert_ne!(threads[0].thread_id, threads[1].thread_id);
        let comm = std::fs::read_to_string(format!("/proc/self/task/{}/comm", threads[1].thread_id)).unwrap();
        assert_eq!(comm, "CPU 1/KVM\n");
        assert!(vm.dump_registers(0).unwrap().contains("Code="));
        let stats = vm.vcpu_stats().unwrap();
        assert!(stats[0].iter().any(|value| value.stat.name == "exits"), "{stats:?}");
        assert!(!vm.vm_stats().unwrap().is_empty());
    }
}
