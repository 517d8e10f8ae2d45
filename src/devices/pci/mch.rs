//! The q35 memory controller hub: the host bridge at 0:0.0 (Intel 3 Series Express Chipset datasheet, chapter 5).

use std::ops::Range;

use super::{ConfigSpace, PciFunction, PciState};
use crate::{
    devices::{Device, built_in},
    qom::{PropertyInfo, PropertyKind, TypeInfo},
    vmstate::{Fields, Layout, StateError, Stateful, Visitor, VmState, section},
};

/// Base of memory-mapped configuration space.
const PCIEXBAR: usize = 0x60;
/// Where it is after power-on.
const PCIEXBAR_DEFAULT: u64 = 0xb000_0000;
/// Programmable attribute maps: what shows below 1 MiB.
const PAM: usize = 0x90;
/// All of them, once firmware has copied itself: RAM.
const PAM_ALL_RAM: [u8; 7] = [0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33];
/// Registers that belong to the chipset; unused ones keep what is written.
const CHIPSET: usize = 0x40;

/// A segment below 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its address.
    pub start: u64,
    /// Its bytes.
    pub len: u64,
}

/// What shows in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shadow {
    /// ROM, for reads and for writes.
    Rom,
    /// RAM that cannot be written to.
    ReadOnlyRam,
    /// RAM.
    Ram,
}

impl Shadow {
    /// By its two bits: reads come from RAM, writes go there. RAM that could only be written to can be read as well, as in
    /// QEMU.
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Rom,
            1 => Self::ReadOnlyRam,
            _ => Self::Ram,
        }
    }
}

/// The segments, in the order of their registers: the last one of 64 KiB, then those below it from the first one up.
pub const SEGMENTS: [Segment; 13] = {
    let mut all = [Segment {
        start: 0xf_0000,
        len: 0x1_0000,
    }; 13];
    let mut next = 1;
    while next < all.len() {
        all[next] = Segment {
            start: 0xc_0000 + (next as u64 - 1) * 0x4000,
            len: 0x4000,
        };
        next += 1;
    }
    all
};

/// The QOM type of the bridge between processors and PCI, of which this is the function that guests see.
pub static HOST: TypeInfo = built_in(
    "q35-pcihost",
    "sys-bus-device",
    "PCI Express host bridge",
    &[
        PropertyInfo::read_only("MCFG", PropertyKind::Uint64, "Where configuration space is in memory"),
        PropertyInfo::read_only("mcfg_size", PropertyKind::Uint64, "How much of it there is, in bytes"),
    ],
);

/// The QOM type.
pub static MCH: TypeInfo = TypeInfo {
    name: "mch",
    parent: Some("pci-device"),
    is_abstract: false,
    interfaces: &["conventional-pci-device"],
    bus: Some("PCI"),
    user_creatable: false,
    hotpluggable: false,
    description: "Host bridge",
    properties: &[],
};

/// The host bridge.
pub struct Mch {
    config: ConfigSpace,
    mapped_at_reset: bool,
}

impl Mch {
    /// `mapped_at_reset`: memory-mapped configuration space and RAM below 1 MiB are there from the start, as if firmware had
    /// run.
    #[must_use]
    pub fn new(mapped_at_reset: bool) -> Self {
        let mut config = ConfigSpace::new(0x8086, 0x29c0, [6, 0, 0], 0).with_subsystem(0x1af4, 0x1100);
        config.set(PCIEXBAR, &PCIEXBAR_DEFAULT.to_le_bytes());
        config.allow_write(CHIPSET, &[0xff; 0x100 - CHIPSET]);
        let mut mch = Self {
            config: config.sealed(),
            mapped_at_reset,
        };
        mch.reset();
        mch
    }

    /// What shows in each of [`SEGMENTS`].
    #[must_use]
    pub fn shadows(&self) -> [Shadow; SEGMENTS.len()] {
        // Two bits for each, from bit 4 of the first register on, in every nibble.
        std::array::from_fn(|index| {
            let nibble = index + 1;
            Shadow::from_bits(self.config.u8(PAM + nibble / 2) >> (4 * (nibble % 2)))
        })
    }

    /// Where configuration space is mapped; none while it is not.
    #[must_use]
    pub fn mmconfig(&self) -> Option<Range<u64>> {
        let low = self.config.u32(PCIEXBAR);
        let buses: u64 = match low >> 1 & 3 {
            0 => 256,
            1 => 128,
            2 => 64,
            _ => return None,
        };
        // Addresses have 36 bits.
        let base = u64::from(self.config.u8(PCIEXBAR + 4) & 0x0f) << 32 | u64::from(low & 0xfc00_0000);
        let size = buses << 20;
        let base = base & !(size - 1);
        (low & 1 != 0).then(|| base..base + size)
    }
}

/// Section `mch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MchState {
    /// Configuration space.
    pub pci: PciState,
}

impl VmState for MchState {
    fn layout(&self) -> Layout {
        Layout::new("mch", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("parent_obj", &mut self.pci)?;
        fields.unused("unused", 1)
    }
}

impl Stateful<MchState> for Mch {
    fn state(&self) -> MchState {
        MchState {
            pci: PciState::conventional(&self.config, [false; 4]),
        }
    }

    fn set_state(&mut self, state: MchState) -> Result<(), StateError> {
        self.config.restore(&state.pci.config)
    }
}

impl Device for Mch {
    fn type_name(&self) -> &'static str {
        MCH.name
    }

    fn reset(&mut self) {
        self.config.reset();
        if self.mapped_at_reset {
            self.config.set(PCIEXBAR, &(PCIEXBAR_DEFAULT | 1).to_le_bytes());
            self.config.set(PAM, &PAM_ALL_RAM);
        }
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<MchState>(self))
    }
}

impl PciFunction for Mch {
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
    use crate::devices::testing::{move_state, saved};
    use crate::vmstate::load_whole;
    use crate::vmstate::recorded::{check_round_trips, sections};

    #[test]
    fn configuration_space_appears_where_firmware_puts_it() {
        let mut mch = Mch::new(false);
        assert_eq!(mch.mmconfig(), None);
        mch.config_mut().write(0x60, &0xe000_0001_u32.to_le_bytes());
        assert_eq!(mch.mmconfig(), Some(0xe000_0000..0xf000_0000));
        mch.reset();
        assert_eq!(mch.mmconfig(), None);
        assert_eq!(Mch::new(true).mmconfig(), Some(0xb000_0000..0xc000_0000));
    }

    #[test]
    fn each_segment_shows_what_its_two_bits_say() {
        let mut mch = Mch::new(false);
        assert_eq!(mch.shadows(), [Shadow::Rom; 13]);
        assert_eq!(Mch::new(true).shadows(), [Shadow::Ram; 13]);
        let registers = SEGMENTS.map(|segment| match segment.start {
            0xf_0000 => (0x90, 4),
            start => {
                let index = u16::try_from((start - 0xc_0000) / 0x4000).unwrap();
                (0x91 + index / 2, 4 * (index % 2))
            }
        });
        for (index, (register, shift)) in registers.into_iter().enumerate() {
            for (bits, shadow) in [
                (1, Shadow::ReadOnlyRam),
                (2, Shadow::Ram),
                (3, Shadow::Ram),
                (0, Shadow::Rom),
            ] {
                mch.config_mut().write(register, &[bits << shift]);
                let mut wanted = [Shadow::Rom; 13];
                wanted[index] = shadow;
                assert_eq!(mch.shadows(), wanted, "register {register:#x}, {bits} << {shift}");
            }
        }
        let covered: u64 = SEGMENTS.iter().map(|segment| segment.len).sum();
        assert_eq!(covered, 0x4_0000);
    }

    #[test]
    fn its_section_is_qemus() {
        check_round_trips("mch", |_| Mch::new(false).state());
        let [section] = sections("q35-10.2-bare", "mch").try_into().unwrap();
        assert_eq!(saved(&mut Mch::new(false))[0].1, section.bytes());
        let mut one = Mch::new(false);
        one.config_mut().write(0x60, &0xe000_0001_u32.to_le_bytes());
        move_state(&mut one, &mut Mch::new(false));
        for section in sections("q35-10.2-linux-devices", "mch") {
            let mut state = one.state();
            load_whole(&mut state, section.version, &section.bytes()).unwrap();
            one.set_state(state).unwrap();
        }
        assert_eq!(one.mmconfig(), Some(0xb000_0000..0xc000_0000));
        let mut other = one.state();
        other.pci.config[2] = 0x18;
        let error = one.set_state(other).unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration byte 0x2: 24 where this machine has 192"
        );
    }
}
