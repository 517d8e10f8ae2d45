//! The ICH9's LPC bridge at 0:1f.0 (Intel I/O Controller Hub 9 datasheet, chapter 13).

mod state;

use serde_json::{Value, json};

pub use state::{ChipConfig, LpcState, SmiFeatures};

use super::{ConfigSpace, PciFunction, PciState};
use crate::{
    devices::Device,
    qom::{Default, PropertyInfo, PropertyKind, TypeInfo},
    vmstate::{StateError, Visitor},
};

/// Base of the power management ports.
const PM_BASE: usize = 0x40;
/// Offset of the general-purpose events from there.
const GPE0: u16 = 0x20;
/// Switches them on.
const ACPI_CONTROL: usize = 0x44;
const ACPI_ENABLE: u8 = 1 << 7;
/// Routes of PIRQA to D, and E to H.
const PIRQ: [usize; 2] = [0x60, 0x68];
/// A route that leads nowhere.
const PIRQ_OFF: u8 = 0x80;
/// Which ports at usual places belong to devices behind the bridge: bit 0 the first serial port, bit 1 the second.
const DECODED: usize = 0x82;
/// Registers that belong to the chipset; unused ones keep what is written.
const CHIPSET: usize = 0x40;

/// The QOM type.
pub static LPC: TypeInfo = TypeInfo {
    name: "ICH9-LPC",
    parent: Some("pci-device"),
    is_abstract: false,
    interfaces: &["conventional-pci-device"],
    bus: Some("PCI"),
    user_creatable: false,
    hotpluggable: false,
    description: "ICH9 LPC bridge",
    properties: &[
        PropertyInfo::new(
            "acpi-pci-hotplug-with-bridge-support",
            PropertyKind::Bool,
            Default::Bool(true),
            "Devices come into the slots of ports by ACPI",
        ),
        PropertyInfo::new(
            "disable_s3",
            PropertyKind::Uint8,
            Default::Uint(0),
            "Leave out sleep state S3",
        ),
        PropertyInfo::new(
            "disable_s4",
            PropertyKind::Uint8,
            Default::Uint(0),
            "Leave out sleep state S4",
        ),
        PropertyInfo::read_only("pm_io_base", PropertyKind::Uint32, "First power management port"),
        PropertyInfo::read_only("gpe0_blk", PropertyKind::Uint32, "First port of general-purpose events"),
        // There is no TCO timer, so nothing reboots either way; libvirt says what it wants on every command line.
        PropertyInfo::new(
            "noreboot",
            PropertyKind::Bool,
            Default::Bool(false),
            "The strap that keeps the TCO timer from rebooting",
        ),
    ],
};

/// The bridge.
pub struct Lpc {
    config: ConfigSpace,
    pm_base_at_reset: Option<u16>,
    /// What [`DECODED`] is after a reset.
    decoded: u8,
    /// What came in a saved state, if it is not as after a reset.
    kept: Option<(ChipConfig, SmiFeatures)>,
}

/// What the bridge itself has of the section `ICH9LPC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LpcPart {
    /// Configuration space.
    pub pci: PciState,
    /// Root complex registers.
    pub chip_config: ChipConfig,
    /// Features of system management interrupts.
    pub smi: SmiFeatures,
}

impl Lpc {
    /// `pm_base_at_reset`: power management ports are mapped there from the start, as if firmware had run.
    #[must_use]
    pub fn new(pm_base_at_reset: Option<u16>) -> Self {
        let mut config = ConfigSpace::new(0x8086, 0x2918, [6, 1, 0], 2)
            .with_subsystem(0x1af4, 0x1100)
            .with_multifunction(true);
        config.allow_write(CHIPSET, &[0xff; 0x100 - CHIPSET]);
        config.set(PM_BASE, &[1]);
        config.allow_write(PM_BASE, &[0x87, 0xff, 0, 0]);
        for at in PIRQ {
            config.set(at, &[PIRQ_OFF; 4]);
        }
        let mut lpc = Self {
            config: config.sealed(),
            pm_base_at_reset,
            decoded: 0,
            kept: None,
        };
        lpc.reset();
        lpc
    }

    /// Says which of the serial ports at 0x3f8 and 0x2f8 there are.
    pub fn set_serial_ports(&mut self, first: bool, second: bool) {
        self.decoded = u8::from(first) | u8::from(second) << 1;
        self.config.set(DECODED, &[self.decoded]);
    }

    /// Its part of the saved state.
    #[must_use]
    pub fn part(&self) -> LpcPart {
        let (chip_config, smi) = self.kept.clone().unwrap_or_default();
        LpcPart {
            pci: PciState::conventional(&self.config, [false; 4]),
            chip_config,
            smi,
        }
    }

    /// Takes its part of a saved state.
    ///
    /// # Errors
    /// It is that of another function.
    pub fn set_part(&mut self, part: LpcPart) -> Result<(), StateError> {
        self.config.restore(&part.pci.config)?;
        let kept = (part.chip_config, part.smi);
        self.kept = (kept != <(ChipConfig, SmiFeatures)>::default()).then_some(kept);
        Ok(())
    }

    /// The first power management port; none while they are not mapped.
    #[must_use]
    pub fn pm_base(&self) -> Option<u16> {
        let base = self.config.u16(PM_BASE) & 0xff80;
        let enabled = self.config.u8(ACPI_CONTROL) & ACPI_ENABLE != 0;
        (enabled && base != 0).then_some(base)
    }
}

impl Device for Lpc {
    fn type_name(&self) -> &'static str {
        LPC.name
    }

    fn reset(&mut self) {
        self.config.reset();
        self.kept = None;
        self.config.set(DECODED, &[self.decoded]);
        if let Some(base) = self.pm_base_at_reset {
            self.config.set(PM_BASE, &(base | 1).to_le_bytes());
            self.config.set(ACPI_CONTROL, &[ACPI_ENABLE]);
        }
    }

    // Its section holds what other devices remember as well: the machine puts it together.
    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn property(&self, name: &str) -> Option<Value> {
        let base = self.pm_base().unwrap_or_default();
        match name {
            "pm_io_base" => Some(json!(base)),
            "gpe0_blk" => Some(json!(base + GPE0)),
            _ => None,
        }
    }
}

impl PciFunction for Lpc {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_maps_the_power_management_ports() {
        let mut lpc = Lpc::new(None);
        assert_eq!(lpc.pm_base(), None);
        lpc.config_mut().write(0x40, &0x0601_u32.to_le_bytes());
        lpc.config_mut().write(0x44, &[0x80]);
        assert_eq!(lpc.pm_base(), Some(0x600));
        assert_eq!(Lpc::new(Some(0x600)).pm_base(), Some(0x600));
    }
}
