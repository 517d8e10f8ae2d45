//! Small guests for tests: a few instructions in a PVH ELF file.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use super::Vm;
use crate::{
    devices::{Notice, Notifier},
    machine::config::{KernelConfig, MachineConfig, MemoryConfig, SmpConfig},
};

/// Where the guests' code is loaded and starts, in 32-bit protected mode with flat segments.
pub(crate) const CODE: u64 = 0x10_0000;

/// Says on standard error that a test was skipped, and why, when this host cannot run guests.
pub(crate) fn skip_without_kvm(test: &str) -> bool {
    match crate::accel::x86_64::open("kvm") {
        Ok(_) => false,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            true
        }
    }
}

/// A guest's kernel file, removed on drop.
pub(crate) struct KernelFile(PathBuf);

impl KernelFile {
    pub(crate) fn new(code: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("remuda-guest-{}-{number}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(&pvh_elf(code)).unwrap();
        Self(path)
    }

    /// One vCPU, 64 MiB and this kernel.
    pub(crate) fn config(&self) -> MachineConfig {
        MachineConfig {
            kernel: Some(KernelConfig {
                kernel: self.0.clone(),
                initrd: None,
                append: "console=ttyS0".into(),
            }),
            ..config()
        }
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One vCPU and 64 MiB, no devices beyond the machine's own.
pub(crate) fn config() -> MachineConfig {
    MachineConfig {
        machine_type: Some("q35".into()),
        smp: SmpConfig {
            cpus: 1,
            max_cpus: 1,
            drawers: 1,
            books: 1,
            sockets: 1,
            dies: 1,
            clusters: 1,
            modules: 1,
            cores: 1,
            threads: 1,
        },
        memory: MemoryConfig {
            size: 64 << 20,
            ..MemoryConfig::default()
        },
        no_defaults: true,
        ..MachineConfig::default()
    }
}

/// A notifier and where its notices come out.
pub(crate) fn notices() -> (Notifier, Receiver<Notice>) {
    let (sender, receiver) = channel();
    let notifier: Notifier = Arc::new(move |notice| {
        let _ = sender.send(notice);
    });
    (notifier, receiver)
}

/// Runs a guest until it sends a notice, then pauses it.
pub(crate) fn run_until_notice(vm: &Vm, notices: &Receiver<Notice>) -> Notice {
    vm.start().unwrap();
    let notice = notices.recv_timeout(Duration::from_secs(180));
    vm.pause().unwrap();
    let registers = vm.dump_registers(0).unwrap();
    notice.unwrap_or_else(|error| panic!("{error}; the guest is at\n{registers}"))
}

/// An ELF file with one segment and the note that names a PVH entry point.
fn pvh_elf(code: &[u8]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM_HEADER: u64 = 56;
    let note_at = HEADER + 2 * PROGRAM_HEADER;
    let mut note: Vec<u8> = [4_u32, 4, 18].iter().flat_map(|word| word.to_le_bytes()).collect();
    note.extend(b"Xen\0");
    note.extend(u32::try_from(CODE).unwrap().to_le_bytes());
    let code_at = note_at + note.len() as u64;

    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    for half in [2_u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    for word in [CODE, HEADER, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, at: u64, addr: u64, len: u64| {
        elf.extend(kind.to_le_bytes());
        elf.extend(7_u32.to_le_bytes());
        for word in [at, addr, addr, len, len, 4] {
            elf.extend(word.to_le_bytes());
        }
    };
    segment(1, code_at, CODE, code.len() as u64);
    segment(4, note_at, 0, note.len() as u64);
    elf.extend(note);
    elf.extend(code);
    // The image is looked at for a Linux header as well.
    elf.resize(elf.len().max(0x400), 0);
    elf
}
