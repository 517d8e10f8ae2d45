//! What differs between the releases of a machine type: properties that guests and saved states depend on.
//!
//! A value holds for the machines of its release and of all before it, in place of the default. Where several rows name one
//! property, that of the oldest release wins, and so comes last. `-global` and `-device` override them all.

use super::types::MachineType;
use crate::qom::GlobalValue;

/// A value that older machines have.
#[derive(Clone, Copy, Debug)]
struct Compat {
    /// The type, or one that it inherits from.
    type_name: &'static str,
    property: &'static str,
    value: &'static str,
    /// The newest release that has it.
    until: Release,
}

/// A release: major and minor number.
type Release = (u16, u16);

const fn row(type_name: &'static str, property: &'static str, value: &'static str, until: Release) -> Compat {
    Compat {
        type_name,
        property,
        value,
        until,
    }
}

/// From the newest release to the oldest.
static COMPAT: &[Compat] = &[
    row("pci-device", "x-pcie-ext-tag", "false", (9, 1)),
    row("generic-pc-machine", "smbios-entry-point-type", "64", (8, 2)),
    row("pcie-root-port", "x-pci-express-writeable-slt-bug", "true", (8, 1)),
    row("virtio-net-pci-base", "guest_uso4", "false", (8, 1)),
    row("virtio-net-pci-base", "guest_uso6", "false", (8, 1)),
    row("virtio-net-pci-base", "host_uso", "false", (8, 1)),
    row("generic-pc-machine", "smbios-entry-point-type", "32", (8, 0)),
    row("pcie-root-port", "x-pcie-err-unc-mask", "false", (7, 2)),
    row("ICH9-LPC", "noreboot", "true", (7, 2)),
];

/// The rows that hold for a machine type.
pub fn of(machine: &MachineType) -> impl Iterator<Item = GlobalValue<'static>> + use<> {
    let release = release(machine.name);
    let rows = COMPAT
        .iter()
        .filter(move |row| release.is_some_and(|release| release <= row.until));
    rows.map(|row| (row.type_name, row.property, row.value))
}

/// The release at the end of a machine type's name; none of one that has no releases.
pub(super) fn release(name: &str) -> Option<Release> {
    let (_, version) = name.rsplit_once('-')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::machine::{registry, types};
    use crate::target::Target;

    fn value(machine: &str, of_type: Option<&str>, property: &str, globals: &[GlobalValue<'_>]) -> serde_json::Value {
        let machine = types::find(Target::X86_64, machine).unwrap();
        let mut registry = registry(Target::X86_64, true);
        registry.set_compat(of(machine));
        let of_type = of_type.unwrap_or(machine.qom_type.name);
        let values = registry.values(of_type, &Map::new(), globals.iter().copied()).unwrap();
        assert_eq!(values.is_given(property), !globals.is_empty());
        values.get(property).unwrap().clone()
    }

    #[test]
    fn rows_are_about_what_there_is_and_in_order() {
        let registry = registry(Target::X86_64, true);
        for row in COMPAT {
            let property = registry.property(row.type_name, row.property);
            assert!(property.is_some_and(|property| property.settable), "{row:?}");
        }
        assert!(COMPAT.is_sorted_by(|newer, older| newer.until >= older.until));
        for machine in types::machine_types(Target::X86_64) {
            assert_eq!(
                release(machine.name).is_some(),
                machine.name != "none",
                "{}",
                machine.name
            );
        }
    }

    #[test]
    fn the_oldest_release_that_still_has_it_wins() {
        for (machine, expected) in [
            ("pc-q35-7.2", "32"),
            ("pc-q35-8.0", "32"),
            ("pc-q35-8.1", "64"),
            ("pc-q35-8.2", "64"),
            ("pc-q35-9.0", "auto"),
            ("pc-q35-10.2", "auto"),
        ] {
            let found = value(machine, None, "smbios-entry-point-type", &[]);
            assert_eq!(found, expected, "{machine}");
        }
    }

    #[test]
    fn globals_override_what_older_machines_have() {
        assert_eq!(value("pc-q35-7.2", Some("ICH9-LPC"), "noreboot", &[]), true);
        assert_eq!(value("pc-q35-8.0", Some("ICH9-LPC"), "noreboot", &[]), false);
        let global = ("ICH9-LPC", "noreboot", "off");
        assert_eq!(
            value("pc-q35-7.2", Some("ICH9-LPC"), "noreboot", &[global]),
            json!(false)
        );
    }
}
