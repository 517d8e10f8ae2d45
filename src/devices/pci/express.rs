//! The PCI Express capability (PCI Express Base 5.0, 7.5.3).

use super::ConfigSpace;

/// Id of the capability.
const ID: u8 = 0x10;
/// Bytes of the capability, version 2, without its two header bytes.
const BODY: usize = 0x3a;

/// What kind of function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortType {
    /// A port of the root complex.
    RootPort = 4,
}

/// A slot behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Number that people see.
    pub(super) number: u16,
    /// Whether devices may come and go.
    pub(super) hotplug: bool,
    /// Whether the port in front of it offers tags of eight bits.
    pub(super) extended_tag: bool,
}

/// The link of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Speed: 1 for 2.5 GT/s, doubled with each step up to 6 for 64 GT/s.
    pub speed: u8,
    /// Lanes.
    pub width: u8,
}

impl Default for Link {
    /// 16 GT/s and 32 lanes.
    fn default() -> Self {
        Self { speed: 4, width: 32 }
    }
}

impl Link {
    /// Reads the names that properties give them, such as `2_5` and `16`.
    #[must_use]
    pub fn from_names(speed: &str, width: &str) -> Option<Self> {
        let speed = LINK_SPEEDS.iter().position(|name| *name == speed)?;
        let speed = u8::try_from(speed).ok()? + 1;
        let width = LINK_WIDTHS.iter().find(|name| **name == width)?.parse().ok()?;
        Some(Self { speed, width })
    }

    /// Speed and width as link capabilities and link status hold them.
    fn bits(self) -> u16 {
        u16::from(self.speed) | u16::from(self.width) << 4
    }

    /// Link capabilities. A port that is wider than one lane or faster than 2.5 GT/s says when its bandwidth changes.
    fn capabilities(self) -> u32 {
        let notifies = self.width > 1 || self.speed > 1;
        let always = LINK_POWER_STATES | LINK_ACTIVE_REPORTING;
        u32::from(self.bits()) | always | if notifies { LINK_BANDWIDTH_NOTIFICATION } else { 0 }
    }

    /// Link capabilities 2: a bit for each speed from 2.5 GT/s up. Only ports beyond 5 GT/s have it.
    fn supported_speeds(self) -> u32 {
        match self.speed {
            0..=2 => 0,
            speed => (1 << (speed + 1)) - 2,
        }
    }

    /// Link control 2: the speed to aim at.
    fn target_speed(self) -> u16 {
        if self.speed > 1 { self.speed.into() } else { 0 }
    }
}

/// Names of speeds, slowest first.
pub(super) const LINK_SPEEDS: &[&str] = &["2_5", "5", "8", "16", "32", "64"];
/// Names of widths.
pub(super) const LINK_WIDTHS: &[&str] = &["1", "2", "4", "8", "12", "16", "32"];

/// The capability in a configuration space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Express {
    at: usize,
    link: Link,
}

// Offsets in the capability.
const DEVICE_CONTROL: usize = 0x08;
const DEVICE_STATUS: usize = 0x0a;
const LINK_STATUS: usize = 0x12;
const SLOT_CONTROL: usize = 0x18;
const SLOT_STATUS: usize = 0x1a;
const ROOT_CONTROL: usize = 0x1c;
const DEVICE_CAPABILITIES_2: usize = 0x24;
const DEVICE_CONTROL_2: usize = 0x28;
const LINK_CONTROL_2: usize = 0x30;

/// Link capabilities: the link says when it is up.
const LINK_ACTIVE_REPORTING: u32 = 1 << 20;
/// Link capabilities: the power state L0s.
const LINK_POWER_STATES: u32 = 1 << 10;
/// Link capabilities: changes of the bandwidth can interrupt.
const LINK_BANDWIDTH_NOTIFICATION: u32 = 1 << 21;
/// Link status: speed and width.
const LINK_BITS: u16 = 0x03ff;
/// Link status: one lane of 2.5 GT/s, which is what endpoints have.
const ENDPOINT_LINK: u16 = 0x0011;
/// Device capabilities 2: forwards alternative routing-IDs, and prefixes from end to end, three at most.
const FORWARDING: u32 = 0x0030_0020;
/// Link status: the link is up.
const LINK_ACTIVE: u16 = 1 << 13;

/// Slot capabilities: attention button, power controller, attention and power indicators, hot plug, also by surprise,
/// electromechanical interlock.
const SLOT_HOTPLUG: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 17;
/// Slot control: power is off, indicators are off.
const SLOT_INDICATORS_OFF: u16 = 3 << 6 | 3 << 8;
const SLOT_POWER_OFF: u16 = 1 << 10;
/// Slot status: something is in the slot.
const SLOT_PRESENT: u16 = 1 << 6;

impl Express {
    /// Adds the capability of a port with a slot.
    pub(super) fn add_port(config: &mut ConfigSpace, kind: PortType, port: u8, slot: Slot, link: Link) -> Self {
        let mut body = [0_u8; BODY];
        let mut put = |at: usize, bytes: &[u8]| body[at - 2..at - 2 + bytes.len()].copy_from_slice(bytes);
        // Version 2, port type, slot implemented.
        put(2, &(2 | (kind as u16) << 4 | 1 << 8).to_le_bytes());
        // Role-based error reporting, and tags of eight bits.
        let tag = if slot.extended_tag { 1 << 5 } else { 0 };
        put(4, &(1_u32 << 15 | tag).to_le_bytes());
        put(0x0c, &(link.capabilities() | u32::from(port) << 24).to_le_bytes());
        put(LINK_STATUS, &ENDPOINT_LINK.to_le_bytes());
        let features = if slot.hotplug { SLOT_HOTPLUG } else { 0 };
        put(0x14, &(features | u32::from(slot.number) << 19).to_le_bytes());
        let power = if slot.hotplug { SLOT_POWER_OFF } else { 0 };
        put(SLOT_CONTROL, &(SLOT_INDICATORS_OFF | power).to_le_bytes());
        put(DEVICE_CAPABILITIES_2, &FORWARDING.to_le_bytes());
        put(0x2c, &link.supported_speeds().to_le_bytes());
        put(LINK_CONTROL_2, &link.target_speed().to_le_bytes());
        let express = Self {
            at: config.add_capability(ID, &body),
            link,
        };
        express.open_registers(config);
        express
    }

    /// Says whether something is in the slot, as it is when the machine starts.
    pub(super) fn set_present(self, config: &mut ConfigSpace, present: bool) {
        let status = self.slot_status(config) & !SLOT_PRESENT;
        self.set_slot_status(config, status | if present { SLOT_PRESENT } else { 0 });
        self.set_link(config, present);
        // A slot that holds a device from the start has power, and its power indicator is on.
        if present {
            let control = self.slot_control(config) & !SLOT_POWER_OFF & !(3 << 8) | 1 << 8;
            self.set_slot_control(config, control);
        }
    }

    /// Says whether the slot has power, as it is when the machine starts: it has where there is something in it. That, and
    /// nothing else, shows of a device which ACPI tells of.
    pub(super) fn set_powered(self, config: &mut ConfigSpace, powered: bool) {
        let status = self.slot_status(config) & !SLOT_PRESENT;
        self.set_slot_status(config, status);
        self.set_link(config, false);
        let control = self.slot_control(config) & !SLOT_POWER_OFF;
        self.set_slot_control(config, control | if powered { 0 } else { SLOT_POWER_OFF });
    }

    /// What speed and width the link has come to, as the guest finds it when it looks: that of the device behind it, or all
    /// that it is capable of where there is none.
    pub(super) fn train(self, config: &mut ConfigSpace, occupied: bool) {
        let bits = if occupied { ENDPOINT_LINK } else { self.link.bits() };
        let status = config.u16(self.at + LINK_STATUS) & !LINK_BITS;
        config.set(self.at + LINK_STATUS, &(status | bits).to_le_bytes());
    }

    /// Whether an access of `len` bytes at `at` reaches the status of the link.
    pub(super) fn is_link_status(self, at: u16, len: usize) -> bool {
        let at = usize::from(at);
        at < self.at + LINK_STATUS + 2 && self.at + LINK_STATUS < at + len
    }

    /// Brings the link up or down.
    pub(super) fn set_link(self, config: &mut ConfigSpace, up: bool) {
        let link = config.u16(self.at + LINK_STATUS) & !LINK_ACTIVE;
        let link = link | if up { LINK_ACTIVE } else { 0 };
        config.set(self.at + LINK_STATUS, &link.to_le_bytes());
    }

    pub(super) fn slot_control(self, config: &ConfigSpace) -> u16 {
        config.u16(self.at + SLOT_CONTROL)
    }

    pub(super) fn set_slot_control(self, config: &mut ConfigSpace, control: u16) {
        config.set(self.at + SLOT_CONTROL, &control.to_le_bytes());
    }

    pub(super) fn slot_status(self, config: &ConfigSpace) -> u16 {
        config.u16(self.at + SLOT_STATUS)
    }

    pub(super) fn set_slot_status(self, config: &mut ConfigSpace, status: u16) {
        config.set(self.at + SLOT_STATUS, &status.to_le_bytes());
    }

    /// Whether an access of `len` bytes at `at` reaches slot control.
    pub(super) fn is_slot_control(self, at: u16, len: usize) -> bool {
        let at = usize::from(at);
        at < self.at + SLOT_CONTROL + 2 && self.at + SLOT_CONTROL < at + len
    }

    /// What the guest may change, and what it clears by writing ones.
    fn open_registers(self, config: &mut ConfigSpace) {
        let writable: [(usize, u16); 4] = [
            (DEVICE_CONTROL, 0x000f),
            (SLOT_CONTROL, 0x0ff9),
            (ROOT_CONTROL, 0x0007),
            (DEVICE_CONTROL_2, 0x8020),
        ];
        for (register, mask) in writable {
            config.allow_write(self.at + register, &mask.to_le_bytes());
        }
        let clearable: [(usize, u16); 2] = [(DEVICE_STATUS, 0x000f), (SLOT_STATUS, 0x0019)];
        // Links come up and go down, and so do devices in slots.
        for register in [LINK_STATUS, SLOT_STATUS] {
            config.vary(self.at + register..self.at + register + 2);
        }
        for (register, mask) in clearable {
            config.allow_clear(self.at + register, &mask.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_by_name() {
        let link = Link::from_names("16", "32").unwrap();
        assert_eq!(link, Link::default());
        assert_eq!((link.capabilities(), link.bits()), (0x30_0604, 0x204));
        assert_eq!((link.supported_speeds(), link.target_speed()), (0x1e, 4));
        let slow = Link::from_names("2_5", "1").unwrap();
        assert_eq!((slow.capabilities(), slow.supported_speeds()), (0x10_0411, 0));
        assert_eq!(Link::from_names("64", "12").unwrap().supported_speeds(), 0x7e);
        assert_eq!(Link::from_names("3", "1"), None);
    }
}
