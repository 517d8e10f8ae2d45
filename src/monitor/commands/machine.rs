//! Machine types in the schema's terms.

use crate::machine::types::{MachineType, machine_types};
use crate::qapi::qmp::MachineInfo;
use crate::target::Target;

/// The type whose properties every machine of a target has.
pub(super) fn base_type(target: Target) -> &'static str {
    match target {
        Target::X86_64 => "generic-pc-machine",
        Target::S390x => "s390-ccw-machine",
    }
}

/// The machine types as `query-machines` shows them. `kvm` tells whether guests would run on KVM.
pub(super) fn machines(target: Target, kvm: bool) -> Vec<MachineInfo> {
    machine_types(target)
        .map(|machine| info(target, machine, kvm))
        .collect()
}

fn info(target: Target, machine: &MachineType, kvm: bool) -> MachineInfo {
    let default_cpu_type = match machine.default_cpu_type {
        Some(_) if kvm && target == Target::S390x => Some("host-s390x-cpu"),
        other => other,
    };
    MachineInfo {
        name: machine.name.to_owned(),
        alias: machine.alias.map(str::to_owned),
        is_default: machine.is_default.then_some(true),
        cpu_max: i64::from(machine.cpu_max),
        // All vCPUs are there from the start.
        hotpluggable_cpus: false,
        numa_mem_supported: machine.numa_mem_supported,
        deprecated: machine.deprecated,
        default_cpu_type: default_cpu_type.map(str::to_owned),
        default_ram_id: machine.default_ram_id.map(str::to_owned),
        acpi: machine.acpi,
    }
}

/// The text form of a UUID.
pub(super) fn uuid_text(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_in_five_groups() {
        let uuid = [
            0x33, 0x33, 0x33, 0x33, 0x44, 0x44, 0x43, 0x33, 0x83, 0x33, 1, 2, 3, 4, 5, 0xff,
        ];
        assert_eq!(uuid_text(uuid), "33333333-4444-4333-8333-0102030405ff");
    }

    #[test]
    fn libvirt_finds_its_default_machines() {
        let named = |target, name: &str| {
            let all = machines(target, false);
            all.into_iter()
                .find(|machine| machine.name == name || machine.alias.as_deref() == Some(name))
        };
        assert_eq!(named(Target::X86_64, "q35").unwrap().name, "pc-q35-10.2");
        assert_eq!(named(Target::S390x, "s390-ccw-virtio").unwrap().is_default, Some(true));
        assert_eq!(
            named(Target::X86_64, "pc-q35-7.2").unwrap().default_ram_id.as_deref(),
            Some("pc.ram")
        );
    }
}
