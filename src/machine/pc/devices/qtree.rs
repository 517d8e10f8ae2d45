//! The devices as people read them (`info qtree`): bus by bus, with the values that their properties have now.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::Devices;
use super::fixture::Fixture;
use super::instance::Instance;
use crate::devices::pci::{BarKind, ConfigSpace};
use crate::machine::pc::pci::Place;
use crate::machine::pc::pci_info::class_name;
use crate::machine::pci::{BusId, Devfn};
use crate::qom::{Object, PropertyInfo, PropertyKind};

/// A device on a bus.
struct Node<'a> {
    type_name: &'a str,
    id: &'a str,
    object: &'a Arc<dyn Object>,
    place: Option<Place>,
    /// The bus behind it, and its type.
    behind: Option<(&'a str, &'a str)>,
}

impl Devices {
    /// All buses from the one of what is on no bus on, in QEMU's form.
    pub(crate) fn tree_text(&self) -> String {
        let mut text = String::new();
        self.show_bus(&mut text, &self.instances(), 0, ("main-system-bus", "System"));
        text
    }

    /// A bus, and what is on it: what came last comes first.
    fn show_bus(&self, text: &mut String, instances: &[Instance], indent: usize, (name, kind): (&str, &str)) {
        line(text, indent, &format!("bus: {name}"));
        line(text, indent + 2, &format!("type {kind}"));
        let fixtures = self.fixtures.iter().filter(|fixture| fixture.bus == name);
        let plugged = instances.iter().filter(|instance| instance.bus == name);
        let nodes: Vec<Node<'_>> = fixtures.map(of_fixture).chain(plugged.map(of_instance)).collect();
        for node in nodes.iter().rev() {
            line(
                text,
                indent + 2,
                &format!("dev: {}, id \"{}\"", node.type_name, node.id),
            );
            self.show_properties(text, indent + 4, node);
            if let Some((bus, config)) = node.place.and_then(|place| self.pci.config_of(place)) {
                let addr = node.place.map_or(Devfn::new(0, 0), |(_, addr)| addr);
                show_function(text, indent + 4, (bus, addr), &config);
            }
            if let Some(behind) = node.behind {
                self.show_bus(text, instances, indent + 4, behind);
            }
        }
    }

    /// What was or could be set, beginning with what makes the type different from others.
    fn show_properties(&self, text: &mut String, indent: usize, node: &Node<'_>) {
        let registry = &self.wiring.registry;
        let mut shown: Vec<&str> = Vec::new();
        for property in registry.lineage(node.type_name).flat_map(|link| link.properties.iter()) {
            if !property.settable || shown.contains(&property.name) {
                continue;
            }
            shown.push(property.name);
            if let Ok(value) = node.object.get(property.name) {
                let value = value_text(property, &value);
                line(text, indent, &format!("{} = {value}", property.name));
            }
        }
    }
}

fn of_fixture(fixture: &Fixture) -> Node<'_> {
    Node {
        type_name: fixture.object.type_name(),
        id: "",
        object: &fixture.object,
        place: fixture.addr.map(|addr| (BusId::ROOT, addr)),
        behind: match fixture.object.type_name() {
            "q35-pcihost" => Some(("pcie.0", "PCIE")),
            "ICH9-LPC" => Some(("isa.0", "ISA")),
            _ => None,
        },
    }
}

fn of_instance(instance: &Instance) -> Node<'_> {
    Node {
        type_name: instance.class.info.name,
        id: instance.id.as_deref().unwrap_or_default(),
        object: &instance.object,
        place: instance.place,
        behind: instance.bus_behind.as_ref().map(|own| (own.name.as_str(), own.kind)),
    }
}

fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{:indent$}{content}", "");
}

/// What `info qtree` tells of a PCI function beside its properties.
fn show_function(text: &mut String, indent: usize, (bus, addr): (u8, Devfn), config: &ConfigSpace) {
    let class = config.u16(0x0a);
    let class = class_name(class).map_or_else(|| format!("Class {class:04x}"), |name| format!("class {name}"));
    // A bridge has other registers there.
    let subsystem = match config.u8(0x0e) & 0x7f {
        0 => (config.u16(0x2c), config.u16(0x2e)),
        _ => (0, 0),
    };
    let (vendor, device) = (config.u16(0), config.u16(2));
    line(
        text,
        indent,
        &format!(
            "{class}, addr {bus:02x}:{addr}, pci id {vendor:04x}:{device:04x} (sub {:04x}:{:04x})",
            subsystem.0, subsystem.1
        ),
    );
    for (bar, kind, size) in config.bars() {
        let kind = if kind == BarKind::Io { "i/o" } else { "mem" };
        let start = config.bar_range(bar).map_or(u64::MAX, |range| range.start);
        let last = start.wrapping_add(size - 1);
        line(text, indent, &format!("bar {bar}: {kind} at 0x{start:x} [0x{last:x}]"));
    }
}

fn value_text(property: &PropertyInfo, value: &Value) -> String {
    match (property.kind, value) {
        (PropertyKind::PciAddr, Value::Number(number)) => {
            let byte = number.as_u64().and_then(|number| u8::try_from(number).ok());
            byte.map_or_else(|| number.to_string(), |byte| Devfn::from_byte(byte).to_string())
        }
        (PropertyKind::Size | PropertyKind::ByteSize, Value::Number(number)) => {
            let bytes = number.as_u64().unwrap_or_default();
            format!("{bytes} ({})", human_size(bytes))
        }
        (_, Value::Number(number)) => match number.as_i64() {
            Some(number) => format!("{number} (0x{number:x})"),
            None => format!("{number} (0x{:x})", number.as_u64().unwrap_or_default()),
        },
        (_, other) => other.to_string(),
    }
}

/// A size to three digits.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // From 1000 of one unit on it is a part of the next.
    let mut unit = 0;
    let mut number = bytes as f64;
    while number >= 1000.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    let digits = match number {
        number if number >= 100.0 => 0,
        number if number >= 10.0 => 1,
        number if number >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::qom::Default;

    #[test]
    fn values_as_people_read_them() {
        let text = |kind, value: &Value| value_text(&PropertyInfo::new("x", kind, Default::None, ""), value);
        for (kind, value, expected) in [
            (PropertyKind::Uint8, json!(3), "3 (0x3)"),
            (
                PropertyKind::Uint64,
                json!(u64::MAX),
                "18446744073709551615 (0xffffffffffffffff)",
            ),
            (PropertyKind::Int32, json!(-1), "-1 (0xffffffffffffffff)"),
            (PropertyKind::PciAddr, json!(0xf9), "1f.1"),
            (PropertyKind::Size, json!(u64::MAX), "18446744073709551615 (16 EiB)"),
            (PropertyKind::Size, json!(128 << 20), "134217728 (128 MiB)"),
            (PropertyKind::Size, json!(0), "0 (0 B)"),
            (PropertyKind::Size, json!(1536), "1536 (1.5 KiB)"),
            (PropertyKind::Size, json!(1023), "1023 (0.999 KiB)"),
            (PropertyKind::Bool, json!(true), "true"),
            (PropertyKind::Str, json!(""), "\"\""),
        ] {
            assert_eq!(text(kind, &value), expected);
        }
    }
}
