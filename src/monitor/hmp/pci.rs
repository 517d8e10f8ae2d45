//! `info pci`.

use serde_json::Value;

use super::info::{items, number, text};

/// Every device of every bus, bridges followed by what is behind them.
pub(super) fn show(reply: &Value) -> String {
    let mut shown = String::new();
    for bus in items(reply) {
        show_devices(bus.get("devices"), &mut shown);
    }
    shown
}

fn show_devices(devices: Option<&Value>, shown: &mut String) {
    for device in devices.map(items).unwrap_or_default() {
        show_device(device, shown);
        if let Some(bridge) = device.get("pci_bridge") {
            show_devices(bridge.get("devices"), shown);
        }
    }
}

fn show_device(device: &Value, shown: &mut String) {
    let [bus, slot, function] = ["bus", "slot", "function"].map(|name| number(device, name));
    *shown += &format!("  Bus {bus:2}, device {slot:3}, function {function}:\n    ");
    let class = device.get("class_info").unwrap_or(&Value::Null);
    match text(class, "desc") {
        "" => *shown += &format!("Class {:04}", number(class, "class")),
        description => *shown += description,
    }
    let id = device.get("id").unwrap_or(&Value::Null);
    *shown += &format!(
        ": PCI device {:04x}:{:04x}\n",
        number(id, "vendor"),
        number(id, "device")
    );
    if id.get("subsystem").is_some() {
        let (vendor, subsystem) = (number(id, "subsystem-vendor"), number(id, "subsystem"));
        *shown += &format!("      PCI subsystem {vendor:04x}:{subsystem:04x}\n");
    }
    if device.get("irq").is_some() {
        let pin = u8::try_from(number(device, "irq_pin"))
            .ok()
            .filter(|pin| (1..=4).contains(pin));
        let pin = char::from(pin.map_or(b'?', |pin| b'A' + pin - 1));
        *shown += &format!("      IRQ {}, pin {pin}\n", number(device, "irq"));
    }
    if let Some(bus) = device.get("pci_bridge").and_then(|bridge| bridge.get("bus")) {
        show_bridge(bus, shown);
    }
    for region in device.get("regions").map(items).unwrap_or_default() {
        show_region(region, shown);
    }
    *shown += &format!("      id \"{}\"\n", text(device, "qdev_id"));
}

fn show_bridge(bus: &Value, shown: &mut String) {
    *shown += &format!("      BUS {}.\n", number(bus, "number"));
    *shown += &format!("      secondary bus {}.\n", number(bus, "secondary"));
    *shown += &format!("      subordinate bus {}.\n", number(bus, "subordinate"));
    for (name, title, digits) in [
        ("io_range", "IO range", 4),
        ("memory_range", "memory range", 8),
        ("prefetchable_range", "prefetchable memory range", 8),
    ] {
        let range = bus.get(name).unwrap_or(&Value::Null);
        let (base, limit) = (number(range, "base"), number(range, "limit"));
        *shown += &format!(
            "      {title} [{base:#0width$x}, {limit:#0width$x}]\n",
            width = digits + 2
        );
    }
}

fn show_region(region: &Value, shown: &mut String) {
    let (address, size) = (number(region, "address"), number(region, "size"));
    let last = address.wrapping_add(size).wrapping_sub(1);
    *shown += &format!("      BAR{}: ", number(region, "bar"));
    if text(region, "type") == "io" {
        *shown += &format!("I/O at {address:#06x} [{last:#06x}].\n");
        return;
    }
    let flag = |name| region.get(name) == Some(&Value::Bool(true));
    let bits = if flag("mem_type_64") { 64 } else { 32 };
    let prefetch = if flag("prefetch") { " prefetchable" } else { "" };
    *shown += &format!("{bits} bit{prefetch} memory at {address:#010x} [{last:#010x}].\n");
}
