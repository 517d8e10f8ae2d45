//! Guests that run on this machine's KVM.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use super::{Resources, Vm};
use crate::chardev::line::{self, Packet};
use crate::devices::Notice;
use crate::irq::{Msi, MsiSource};
use crate::machine::chardevs::Chardevs;
use crate::machine::config::MachineConfig;
use crate::machine::guest::Guest;
use crate::machine::pc::testing::{CODE, KernelFile, config, notices, run_until_notice, skip_without_kvm};
use crate::mem::{Access, DirtyLog, Doorbell, IoHandler, Region};

/// The machine with its interrupt controllers in the kernel (`on`) or outside it (`split`).
fn with_irqchip(mut config: MachineConfig, value: &str) -> MachineConfig {
    config.machine_props.push(("kernel-irqchip".into(), value.into()));
    config
}

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
    for irqchip in ["on", "split"] {
        prints_and_powers_off(irqchip);
    }
}

/// One character device, and its back end's end of the line.
fn with_chardev(id: &str) -> (Resources, OwnedFd) {
    let (ours, peer) = line::line().unwrap();
    let mut chardevs = Chardevs::default();
    chardevs.add(id, Ok(ours));
    let resources = Resources {
        chardevs,
        ..Resources::default()
    };
    (resources, peer)
}

/// What comes on a line until it holds `end`, or nothing comes for a minute.
fn text_until(peer: &OwnedFd, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut fds = [PollFd::new(peer.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(60_000u16)) != Ok(1) {
            break;
        }
        match line::receive_packet(peer).unwrap() {
            Some(Packet::Data(bytes)) => text.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("not data: {other:?}"),
        }
    }
    text
}

fn prints_and_powers_off(irqchip: &str) {
    let kernel = KernelFile::new(&print_and_power_off(b"hello from the guest\n"));
    let mut config = with_irqchip(kernel.config(), irqchip);
    config.serials = vec!["charserial0".into()];
    let (resources, peer) = with_chardev("charserial0");
    let (notifier, notices) = notices();
    let vm = Vm::new(&config, resources, &notifier).unwrap();
    assert_eq!(run_until_notice(&vm, &notices), Notice::ShutdownRequest);
    assert_eq!(text_until(&peer, "\n"), "hello from the guest\n");
    let objects = vm.objects();
    let serial = objects.iter().find(|shown| shown.object.type_name() == "isa-serial");
    // After a vCPU and the devices that QEMU has before it.
    assert_eq!(serial.unwrap().path, "/machine/unattached/device[10]");
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
    for irqchip in ["on", "split"] {
        firmware_finds_the_chipset(irqchip);
    }
}

fn firmware_finds_the_chipset(irqchip: &str) {
    let mut config = with_irqchip(config(), irqchip);
    let console = json!({"driver": "isa-debugcon", "chardev": "log", "iobase": 0x402});
    config.devices = vec![console.as_object().unwrap().clone()];
    for number in 1..=2 {
        let port = json!({"driver": "pcie-root-port", "id": format!("pci.{number}"), "bus": "pcie.0", "addr": "2",
            "port": 0x10, "chassis": number, "multifunction": number == 1});
        let mut port = port.as_object().unwrap().clone();
        port["addr"] = json!(format!("2.{}", number - 1));
        config.devices.push(port);
    }
    let (resources, peer) = with_chardev("log");
    let (notifier, _notices) = notices();
    let vm = Vm::new(&config, resources, &notifier).unwrap();
    vm.start().unwrap();
    let log = text_until(&peer, "No bootable device");
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
fn configuration_space_can_be_moved_through_itself() {
    const NAME: &str = "configuration_space_can_be_moved_through_itself";
    if skip_without_kvm(NAME) {
        return;
    }
    let mut code = Vec::new();
    // mov dword [0xb0000060], 0xe0000001; mov eax, [0xe0000000]; mov edx, 0x501; out dx, al
    code.extend([0xc7, 0x05, 0x60, 0, 0, 0xb0, 0x01, 0, 0, 0xe0]);
    code.extend([0xa1, 0, 0, 0, 0xe0, 0xba, 0x01, 0x05, 0, 0, 0xee, 0xf4, 0xeb, 0xfd]);
    let kernel = KernelFile::new(&code);
    let mut config = kernel.config();
    config.devices = vec![json!({"driver": "isa-debug-exit"}).as_object().unwrap().clone()];
    let (notifier, notices) = notices();
    let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
    // The low byte of the vendor, as isa-debug-exit reports it.
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(0x86_u8 << 1 | 1));
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

/// `isa-debug-exit` as the only device, and this code before a write of 5 to it.
fn then_exit(code: &[u8]) -> (KernelFile, MachineConfig) {
    // mov edx, 0x501; mov al, 5; out dx, al; hlt; jmp $-1
    let exit = [0xba, 0x01, 0x05, 0, 0, 0xb0, 5, 0xee, 0xf4, 0xeb, 0xfd];
    let kernel = KernelFile::new(&[code, &exit].concat());
    let mut config = kernel.config();
    config.devices = vec![json!({"driver": "isa-debug-exit"}).as_object().unwrap().clone()];
    (kernel, config)
}

/// `mov dword [addr], value`
fn store(addr: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &addr.to_le_bytes(), &value.to_le_bytes()].concat()
}

#[test]
fn what_the_guest_writes_is_known_to_all_who_watch() {
    if skip_without_kvm("what_the_guest_writes_is_known_to_all_who_watch") {
        return;
    }
    let (_kernel, config) = then_exit(&store(0x20_0000, 7));
    let (notifier, notices) = notices();
    let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
    let map = &vm.board().map;
    let ram = map
        .blocks
        .list()
        .into_iter()
        .find(|block| block.id() == "pc.ram")
        .unwrap();
    let logs = [(); 2].map(|()| DirtyLog::new(&map.memory, &ram).unwrap());
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
    for log in &logs {
        let pages = log.take().unwrap();
        assert!(pages.contains(&0x200), "{pages:x?}");
        assert!(!log.take().unwrap().contains(&0x200));
    }
    drop(logs);
    vm.reset().unwrap();
    // Nobody watches: the guest runs as before.
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
}

#[test]
fn a_doorbell_rings_without_its_device() {
    if skip_without_kvm("a_doorbell_rings_without_its_device") {
        return;
    }
    // mov dword [0xd0000000], 3; mov edx, 0x1000; mov ax, 9; out dx, ax
    let code = [
        &store(0xd000_0000, 3)[..],
        &[0xba, 0, 0x10, 0, 0, 0x66, 0xb8, 9, 0, 0x66, 0xef],
    ]
    .concat();
    let (_kernel, config) = then_exit(&code);
    let (notifier, notices) = notices();
    let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
    let map = &vm.board().map;
    let bells = [
        Doorbell::new().unwrap(),
        Doorbell::matching(9, 2).unwrap(),
        Doorbell::matching(8, 2).unwrap(),
    ];
    let region = |index: usize| Region::doorbell("bell", bells[index].clone());
    let mappings = [
        map.topology.map(&map.pci, 0xd000_0000, &region(0), 0).unwrap(),
        map.topology.map(&map.io, 0x1000, &region(1), 0).unwrap(),
        map.topology.map(&map.io, 0x1000, &region(2), 0).unwrap(),
    ];
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
    let rings = || bells.each_ref().map(|bell| bell.event().read().unwrap_or(0));
    assert_eq!(rings(), [1, 1, 0]);
    drop(mappings);
    vm.reset().unwrap();
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
    assert_eq!(rings(), [0, 0, 0]);
}

/// Counts writes; reads as 1.
#[derive(Default)]
struct Count(std::sync::atomic::AtomicU32);

impl IoHandler for Count {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(1);
    }
    fn write(&self, _: u64, _: &[u8]) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn registers_lie_over_ram_until_they_are_taken_away() {
    if skip_without_kvm("registers_lie_over_ram_until_they_are_taken_away") {
        return;
    }
    let (_kernel, config) = then_exit(&[store(0x20_0000, 7), store(0x20_1000, 8)].concat());
    let (notifier, notices) = notices();
    let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
    let map = &vm.board().map;
    let count = Arc::new(Count::default());
    let region = Region::io("over", 0x1000, Access::ANY, Arc::clone(&count) as _);
    let seen = || {
        let mut words = [0; 2];
        for (word, addr) in words.iter_mut().zip([0x20_0000, 0x20_1000]) {
            let mut bytes = [0; 4];
            if vm.read_physical(addr, &mut bytes).is_ok() {
                *word = u32::from_le_bytes(bytes);
            }
        }
        words
    };
    for expected in [1, 2] {
        let mapping = map.topology.map(&map.system, 0x20_0000, &region, 1).unwrap();
        assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), expected);
        assert_eq!(seen(), [0, 8], "no memory shows there");
        drop(mapping);
        vm.reset().unwrap();
    }
    assert_eq!(seen(), [0, 8]);
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
    assert_eq!(seen(), [7, 8]);
}

/// Goes to sleep for ever, but for a non-maskable interrupt, which writes 6 to `isa-debug-exit`.
fn exit_at_nmi() -> Vec<u8> {
    let code = u32::try_from(CODE).unwrap();
    // Gate 2 of the table at code + 64, whose pointer is at code + 56, leads to code + 32.
    let handler = code + 32;
    let [low, middle, ..] = handler.to_le_bytes();
    let [.., third, high] = handler.to_le_bytes();
    // mov esp, 0x300000; lidt [code + 56]; mov dword [0x200000], 1; hlt; jmp $-1
    let mut bytes = vec![0xbc, 0, 0, 0x30, 0, 0x0f, 0x01, 0x1d];
    bytes.extend((code + 56).to_le_bytes());
    bytes.extend(store(0x20_0000, 1));
    bytes.extend([0xf4, 0xeb, 0xfd]);
    bytes.resize(32, 0x90);
    // mov edx, 0x501; mov al, 6; out dx, al; hlt; jmp $-1
    bytes.extend([0xba, 0x01, 0x05, 0, 0, 0xb0, 6, 0xee, 0xf4, 0xeb, 0xfd]);
    bytes.resize(56, 0);
    bytes.extend(23_u16.to_le_bytes());
    bytes.extend((code + 64).to_le_bytes());
    bytes.resize(64 + 2 * 8, 0);
    bytes.extend([low, middle, 0x10, 0, 0, 0x8e, third, high]);
    bytes
}

#[test]
fn a_vector_interrupts_the_guest_by_its_descriptor() {
    if skip_without_kvm("a_vector_interrupts_the_guest_by_its_descriptor") {
        return;
    }
    for irqchip in ["on", "split"] {
        let kernel = KernelFile::new(&exit_at_nmi());
        let mut config = with_irqchip(kernel.config(), irqchip);
        config.devices = vec![json!({"driver": "isa-debug-exit"}).as_object().unwrap().clone()];
        let (notifier, notices) = notices();
        let vm = Vm::new(&config, Resources::default(), &notifier).unwrap();
        let vector = vm.router().vector();
        let event = vector.event().unwrap();
        // A non-maskable interrupt to the boot vCPU.
        let nmi = Msi {
            address: 0xfee0_0000,
            data: 4 << 8,
        };
        event.write(1).unwrap();
        assert!(vector.is_pending(), "masked");
        vm.start().unwrap();
        let mut ready = [0];
        while ready == [0] {
            vm.read_physical(0x20_0000, &mut ready).unwrap();
        }
        vector.program(Some(nmi));
        let notice = notices.recv_timeout(std::time::Duration::from_secs(180));
        vm.pause().unwrap();
        assert_eq!(notice, Ok(Notice::DebugExit(13)), "irqchip={irqchip}");
    }
}

#[test]
fn whoever_drives_a_line_learns_that_it_was_handled() {
    if skip_without_kvm("whoever_drives_a_line_learns_that_it_was_handled") {
        return;
    }
    let (notifier, _notices) = notices();
    for irqchip in ["on", "split"] {
        let kernel = KernelFile::new(&[0xf4, 0xeb, 0xfd]);
        let vm = Vm::new(&with_irqchip(kernel.config(), irqchip), Resources::default(), &notifier).unwrap();
        let line = vm.lines().driver(10).unwrap();
        let resamples = [(); 2].map(|()| line.resample().unwrap().unwrap());
        for resample in &resamples {
            assert!(resample.event().read().is_err());
        }
    }
}

#[test]
fn a_guest_runs_on_an_accelerator_that_was_opened_ahead() {
    if skip_without_kvm("a_guest_runs_on_an_accelerator_that_was_opened_ahead") {
        return;
    }
    let mut accelerator = crate::accel::x86_64::open("kvm").unwrap();
    accelerator.make_ready().unwrap();
    accelerator.make_ready().unwrap();
    let (_kernel, config) = then_exit(&store(0x20_0000, 7));
    let (notifier, notices) = notices();
    let resources = Resources {
        accelerator: Some(accelerator),
        ..Resources::default()
    };
    let vm = Vm::new(&config, resources, &notifier).unwrap();
    assert_eq!(run_until_notice(&vm, &notices), Notice::DebugExit(11));
}
