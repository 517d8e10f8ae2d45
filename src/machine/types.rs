//! The machine types: names that libvirt stores for ever, and what a client may know before it starts one.

use crate::{
    qapi::QmpError,
    qom::{Default, PropertyInfo, PropertyKind, TypeInfo},
    target::Target,
};

/// A machine type.
#[derive(Clone, Copy, Debug)]
pub struct MachineType {
    /// Its name.
    pub name: &'static str,
    /// Another name that means this type.
    pub alias: Option<&'static str>,
    /// What it is.
    pub description: &'static str,
    /// Which emulator has it; none for both.
    pub target: Option<Target>,
    /// Whether it is taken when the command line names none.
    pub is_default: bool,
    /// vCPUs it may have.
    pub cpu_max: u32,
    /// QOM type of its CPUs when `-cpu` names none.
    pub default_cpu_type: Option<&'static str>,
    /// Id that a client gives the memory backend it makes for the machine.
    pub default_ram_id: Option<&'static str>,
    /// Whether `-numa node,mem=` is allowed.
    pub numa_mem_supported: bool,
    /// Whether it has ACPI.
    pub acpi: bool,
    /// Whether it will go away.
    pub deprecated: bool,
    /// Its QOM type.
    pub qom_type: &'static TypeInfo,
}

/// What a machine type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineKind {
    /// No machine: nothing but the monitor.
    None,
    /// A PC with PCI Express.
    Q35,
    /// A z/Architecture machine with channel devices.
    S390Ccw,
}

impl MachineType {
    /// Major and minor number of the release that it is of; none of one that has no releases.
    #[must_use]
    pub fn release(&self) -> Option<(u16, u16)> {
        super::compat::release(self.name)
    }

    /// What the type is made of.
    #[must_use]
    pub fn kind(&self) -> MachineKind {
        match self.target {
            None => MachineKind::None,
            Some(Target::X86_64) => MachineKind::Q35,
            Some(Target::S390x) => MachineKind::S390Ccw,
        }
    }
}

/// The machine types of an emulator, newest first.
pub fn machine_types(target: Target) -> impl Iterator<Item = &'static MachineType> {
    MACHINE_TYPES
        .iter()
        .filter(move |machine| machine.target.is_none_or(|of| of == target))
}

/// The machine type with this name or alias.
#[must_use]
pub fn find(target: Target, name: &str) -> Option<&'static MachineType> {
    machine_types(target).find(|machine| machine.name == name || machine.alias == Some(name))
}

/// There is no such machine type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineTypeError {
    /// None has this name.
    #[error("unsupported machine type: \"{0}\"\nUse -machine help to list supported machines")]
    Unknown(String),
    /// None is named, and none is the default.
    #[error("No machine specified, and there is no default\nUse -machine help to list supported machines")]
    NoDefault,
}

impl QmpError for MachineTypeError {}

/// The machine type of a command line: the one it names, or the default.
///
/// # Errors
/// There is none of that name, or none is named and there is no default.
pub fn of(target: Target, name: Option<&str>) -> Result<&'static MachineType, MachineTypeError> {
    match name {
        Some(name) => find(target, name).ok_or_else(|| MachineTypeError::Unknown(name.to_owned())),
        None => default_machine(target).ok_or(MachineTypeError::NoDefault),
    }
}

/// The machine type taken when the command line names none.
#[must_use]
pub fn default_machine(target: Target) -> Option<&'static MachineType> {
    machine_types(target).find(|machine| machine.is_default)
}

/// The QOM types of machines, parents included.
pub fn qom_types(target: Target) -> impl Iterator<Item = &'static TypeInfo> {
    let parents = match target {
        Target::X86_64 => [Some(&MACHINE), Some(&X86_MACHINE), Some(&PC_MACHINE)],
        Target::S390x => [Some(&MACHINE), Some(&S390_MACHINE), None],
    };
    parents
        .into_iter()
        .flatten()
        .chain(machine_types(target).map(|machine| machine.qom_type))
}

const Q35_DESCRIPTION: &str = "Standard PC (Q35 + ICH9, 2009)";

macro_rules! q35 {
    ($version:literal, cpus: $cpus:literal, alias: $alias:expr, deprecated: $deprecated:literal) => {
        MachineType {
            name: concat!("pc-q35-", $version),
            alias: $alias,
            description: Q35_DESCRIPTION,
            target: Some(Target::X86_64),
            is_default: false,
            cpu_max: $cpus,
            default_cpu_type: Some("qemu64-x86_64-cpu"),
            default_ram_id: Some("pc.ram"),
            numa_mem_supported: false,
            acpi: true,
            deprecated: $deprecated,
            qom_type: &leaf(concat!("pc-q35-", $version, "-machine"), "generic-pc-machine"),
        }
    };
}

macro_rules! s390_ccw {
    ($version:literal, alias: $alias:expr, deprecated: $deprecated:literal) => {
        MachineType {
            name: concat!("s390-ccw-virtio-", $version),
            alias: $alias,
            description: concat!("Virtual s390x machine (version ", $version, ")"),
            target: Some(Target::S390x),
            is_default: $alias.is_some(),
            cpu_max: 248,
            default_cpu_type: Some("qemu-s390x-cpu"),
            default_ram_id: Some("s390.ram"),
            numa_mem_supported: false,
            acpi: false,
            deprecated: $deprecated,
            qom_type: &leaf(concat!("s390-ccw-virtio-", $version, "-machine"), "s390-ccw-machine"),
        }
    };
}

const NO_ALIAS: Option<&str> = None;

/// Versions older than three years count as deprecated, as in QEMU 10.2.
static MACHINE_TYPES: [MachineType; 21] = [
    q35!("10.2", cpus: 4096, alias: Some("q35"), deprecated: false),
    q35!("10.1", cpus: 4096, alias: None, deprecated: false),
    q35!("10.0", cpus: 4096, alias: None, deprecated: false),
    q35!("9.2", cpus: 4096, alias: None, deprecated: false),
    q35!("9.1", cpus: 4096, alias: None, deprecated: false),
    q35!("9.0", cpus: 4096, alias: None, deprecated: false),
    q35!("8.2", cpus: 1024, alias: None, deprecated: false),
    q35!("8.1", cpus: 1024, alias: None, deprecated: false),
    q35!("8.0", cpus: 288, alias: None, deprecated: false),
    q35!("7.2", cpus: 288, alias: None, deprecated: true),
    s390_ccw!("10.2", alias: Some("s390-ccw-virtio"), deprecated: false),
    s390_ccw!("10.1", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("10.0", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("9.2", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("9.1", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("9.0", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("8.2", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("8.1", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("8.0", alias: NO_ALIAS, deprecated: false),
    s390_ccw!("7.2", alias: NO_ALIAS, deprecated: true),
    MachineType {
        name: "none",
        alias: None,
        description: "empty machine",
        target: None,
        is_default: false,
        cpu_max: 1,
        default_cpu_type: None,
        default_ram_id: None,
        numa_mem_supported: false,
        acpi: false,
        deprecated: false,
        qom_type: &leaf("none-machine", "machine"),
    },
];

/// The type all machines inherit from.
static MACHINE: TypeInfo = TypeInfo {
    properties: &[
        PropertyInfo::new(
            "dump-guest-core",
            PropertyKind::Bool,
            Default::Bool(true),
            "Include guest memory in a core dump",
        ),
        PropertyInfo::new(
            "mem-merge",
            PropertyKind::Bool,
            Default::Bool(true),
            "Enable/disable memory merge support",
        ),
        PropertyInfo::new(
            "memory-backend",
            PropertyKind::Link("memory-backend"),
            Default::None,
            "Set RAM backend",
        ),
        PropertyInfo::new(
            "graphics",
            PropertyKind::Bool,
            Default::Bool(true),
            "Set on/off to enable/disable graphics emulation",
        ),
        PropertyInfo::new(
            "usb",
            PropertyKind::Bool,
            Default::Bool(false),
            "Set on/off to enable/disable usb",
        ),
        PropertyInfo::new(
            "suppress-vmdesc",
            PropertyKind::Bool,
            Default::Bool(false),
            "Set on to disable self-describing migration",
        ),
        PropertyInfo::new(
            "boot",
            PropertyKind::Other("BootConfiguration"),
            Default::None,
            "Boot configuration",
        ),
        PropertyInfo::new(
            "memory",
            PropertyKind::Other("MemorySizeConfiguration"),
            Default::None,
            "Memory size configuration",
        ),
        PropertyInfo::new(
            "smp",
            PropertyKind::Other("SMPConfiguration"),
            Default::None,
            "CPU topology",
        ),
        PropertyInfo::new("firmware", PropertyKind::String, Default::None, "Firmware image"),
        PropertyInfo::new("kernel", PropertyKind::String, Default::None, "Linux kernel image file"),
        PropertyInfo::new(
            "initrd",
            PropertyKind::String,
            Default::None,
            "Linux initial ramdisk file",
        ),
        PropertyInfo::new(
            "append",
            PropertyKind::String,
            Default::None,
            "Linux kernel command line",
        ),
    ],
    ..parent("machine", Some("object"))
};

/// The type all x86 machines inherit from.
static X86_MACHINE: TypeInfo = TypeInfo {
    properties: &[
        PropertyInfo::new(
            "kernel-irqchip",
            PropertyKind::Enum("on|off|split", &["on", "off", "split"]),
            Default::Str("on"),
            "Configure KVM in-kernel irqchip",
        ),
        PropertyInfo::new("acpi", PropertyKind::OnOffAuto, Default::Str("auto"), "Enable ACPI"),
        PropertyInfo::new("smm", PropertyKind::OnOffAuto, Default::Str("auto"), "Enable SMM"),
        PropertyInfo::new("pit", PropertyKind::OnOffAuto, Default::Str("auto"), "Enable i8254 PIT"),
        PropertyInfo::new("pic", PropertyKind::OnOffAuto, Default::Str("auto"), "Enable i8259 PIC"),
        PropertyInfo::new(
            "x-oem-id",
            PropertyKind::String,
            Default::Str(OEM_ID),
            "OEM ID in ACPI table headers, up to 6 bytes",
        ),
        PropertyInfo::new(
            "x-oem-table-id",
            PropertyKind::String,
            Default::Str(OEM_TABLE_ID),
            "OEM table ID in ACPI table headers, up to 8 bytes",
        ),
    ],
    ..parent("x86-machine", Some("machine"))
};

/// The manufacturer's ids in ACPI table headers that guests have always seen. Some tie a licence to them.
const OEM_ID: &str = "BOCHS ";
const OEM_TABLE_ID: &str = "BXPC    ";
/// How large firmware may be.
pub(super) const MAX_FIRMWARE: u64 = 8 << 20;

/// The type all PCs inherit from.
static PC_MACHINE: TypeInfo = TypeInfo {
    properties: &[
        PropertyInfo::new(
            "hpet",
            PropertyKind::Bool,
            Default::Bool(false),
            "Enable/disable high precision event timer emulation",
        ),
        PropertyInfo::new(
            "vmport",
            PropertyKind::OnOffAuto,
            Default::Str("auto"),
            "Enable vmport (pc & q35)",
        ),
        PropertyInfo::new(
            "smbus",
            PropertyKind::Bool,
            Default::Bool(false),
            "Enable/disable system management bus",
        ),
        PropertyInfo::new(
            "sata",
            PropertyKind::Bool,
            Default::Bool(false),
            "Enable/disable the machine's own SATA controller",
        ),
        PropertyInfo::new(
            "i8042",
            PropertyKind::Bool,
            Default::Bool(true),
            "Enable/disable the keyboard controller",
        ),
        PropertyInfo::new(
            "max-ram-below-4g",
            PropertyKind::Size,
            Default::Uint(1 << 32),
            "Maximum ram below the 4G boundary (32bit boundary)",
        ),
        PropertyInfo::new(
            "max-fw-size",
            PropertyKind::Size,
            Default::Uint(MAX_FIRMWARE),
            "Maximum combined firmware size",
        ),
        PropertyInfo::new(
            "default-bus-bypass-iommu",
            PropertyKind::Bool,
            Default::Bool(false),
            "Devices on the default bus bypass the IOMMU, of which there is none",
        ),
        PropertyInfo::new(
            "fd-bootchk",
            PropertyKind::Bool,
            Default::Bool(true),
            "Firmware looks for a signature on floppies",
        ),
        PropertyInfo::new(
            "hmat",
            PropertyKind::Bool,
            Default::Bool(false),
            "Set on/off to enable/disable ACPI Heterogeneous Memory Attribute Table (HMAT)",
        ),
        PropertyInfo::new(
            "nvdimm",
            PropertyKind::Bool,
            Default::Bool(false),
            "Set on/off to enable/disable NVDIMM instantiation",
        ),
        PropertyInfo::new(
            "cxl",
            PropertyKind::Bool,
            Default::Bool(false),
            "Set on/off to enable/disable CXL instantiation",
        ),
        PropertyInfo::new(
            "smbios-entry-point-type",
            PropertyKind::Enum("SmbiosEntryPointType", &["32", "64", "auto"]),
            Default::Str("auto"),
            "SMBIOS Entry Point type [32, 64]",
        ),
    ],
    ..parent("generic-pc-machine", Some("x86-machine"))
};

/// The type all channel-device machines inherit from.
static S390_MACHINE: TypeInfo = parent("s390-ccw-machine", Some("machine"));

const fn parent(name: &'static str, parent: Option<&'static str>) -> TypeInfo {
    TypeInfo {
        name,
        parent,
        is_abstract: true,
        interfaces: &[],
        bus: None,
        user_creatable: false,
        hotpluggable: false,
        description: "",
        properties: &[],
    }
}

const fn leaf(name: &'static str, of: &'static str) -> TypeInfo {
    TypeInfo {
        is_abstract: false,
        ..parent(name, Some(of))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn aliases_mean_the_newest() {
        assert_eq!(find(Target::X86_64, "q35").unwrap().name, "pc-q35-10.2");
        assert_eq!(
            find(Target::S390x, "s390-ccw-virtio").unwrap().name,
            "s390-ccw-virtio-10.2"
        );
        assert!(find(Target::S390x, "q35").is_none());
        assert_eq!(find(Target::S390x, "none").unwrap().kind(), MachineKind::None);
    }

    #[test]
    fn only_s390x_has_a_default() {
        assert!(default_machine(Target::X86_64).is_none());
        assert_eq!(default_machine(Target::S390x).unwrap().name, "s390-ccw-virtio-10.2");
    }

    #[test]
    fn qom_types_are_unique_and_have_their_parents() {
        for (target, known) in [
            (Target::X86_64, "pc-q35-7.2-machine"),
            (Target::S390x, "s390-ccw-virtio-7.2-machine"),
        ] {
            let names: HashSet<_> = qom_types(target).map(|info| info.name).collect();
            assert_eq!(names.len(), qom_types(target).count());
            assert!(names.contains(known));
            for info in qom_types(target) {
                let parent = info.parent.unwrap();
                assert!(parent == "object" || names.contains(parent), "{parent}");
            }
        }
    }
}
