//! PCI hot plug by ACPI: registers by which the guest learns which slots devices came into, and which are to be let go (QEMU's
//! docs/specs/acpi_pci_hotplug.rst). They show one bus at a time; bit n stands for slot n.

use super::{Pm, state::SlotsState};
use crate::devices::Notice;

/// Slots that devices came into; reading clears it.
const UP: u16 = 0x00;
/// Slots whose devices are to be let go.
const DOWN: u16 = 0x04;
/// Writing a bit lets the device in that slot go.
const EJECT: u16 = 0x08;
/// Slots whose devices can be let go.
const REMOVABLE: u16 = 0x0c;
/// The bus.
const SELECT: u16 = 0x10;
/// The number that firmware tells operating systems for a device: none has one here.
const INDEX: u16 = 0x14;

/// General-purpose event: something changed in a slot.
const EVENT: u8 = 1 << 1;

/// A slot of a bus, as the registers number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotplugSlot {
    /// The bus.
    pub bus: u32,
    /// The slot.
    pub slot: u8,
}

impl HotplugSlot {
    fn bit(self) -> u32 {
        1_u32.checked_shl(self.slot.into()).unwrap_or_default()
    }
}

impl Pm {
    /// The first port of these registers.
    pub const HOTPLUG_PORT: u16 = 0xcc0;
    /// How many ports.
    pub const HOTPLUG_LEN: u16 = 0x18;
    /// What their offsets count from.
    pub const HOTPLUG_BIAS: u16 = 0x200;

    /// Tells the guest that a device came into a slot.
    pub fn slot_filled(&mut self, slot: HotplugSlot) {
        self.change_slot(slot, |slots, bit| slots.up |= bit);
    }

    /// Asks the guest to let go of the device in a slot.
    pub fn removal_wanted(&mut self, slot: HotplugSlot) {
        self.change_slot(slot, |slots, bit| slots.down |= bit);
    }

    /// The slots whose devices the guest has let go of since this was last asked.
    pub fn take_ejected(&mut self) -> Vec<HotplugSlot> {
        std::mem::take(&mut self.ejected)
    }

    fn change_slot(&mut self, slot: HotplugSlot, change: impl FnOnce(&mut SlotsState, u32)) {
        if let Some(slots) = self.slots(slot.bus) {
            change(slots, slot.bit());
            self.gpe[0] |= EVENT;
            self.update_sci();
        }
    }

    fn slots(&mut self, bus: u32) -> Option<&mut SlotsState> {
        let state = self.kept.pci.get_or_insert_default();
        state.slots.get_mut(usize::try_from(bus).ok()?)
    }

    /// A guest's read of 32 bits at an offset in these registers.
    pub(super) fn read_hotplug(&mut self, offset: u16) -> u32 {
        let Some(state) = &mut self.kept.pci else {
            return if offset == REMOVABLE { u32::MAX } else { 0 };
        };
        let select = state.select;
        let slots = usize::try_from(select).ok().and_then(|bus| state.slots.get_mut(bus));
        match (offset, slots) {
            (UP, Some(slots)) => std::mem::take(&mut slots.up),
            (DOWN, Some(slots)) => slots.down,
            (REMOVABLE, Some(_)) => u32::MAX,
            (SELECT, _) => select,
            (INDEX, _) => state.acpi_index,
            _ => 0,
        }
    }

    /// A guest's write of 32 bits.
    pub(super) fn write_hotplug(&mut self, offset: u16, value: u32) {
        match offset {
            EJECT => self.eject(value),
            // Without the bus that firmware chose, there is nothing to see.
            SELECT => self.kept.pci.get_or_insert_default().select = value,
            _ => {}
        }
    }

    fn eject(&mut self, bits: u32) {
        let bus = self.kept.pci.as_ref().map_or(0, |state| state.select);
        let Some(slots) = self.slots(bus) else { return };
        slots.up &= !bits;
        slots.down &= !bits;
        let slots = (0..32).filter(|slot| bits >> slot & 1 != 0);
        self.ejected.extend(slots.map(|slot| HotplugSlot { bus, slot }));
        if bits != 0 {
            (self.notifier)(Notice::SlotReleased);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::devices::pm::PmConfig;
    use crate::devices::testing::CountingLine;
    use crate::devices::{Clock, Device, PioDevice};

    struct Still;

    impl Clock for Still {
        fn nanoseconds(&self) -> u64 {
            0
        }
    }

    fn read(pm: &mut Pm, register: u16) -> u32 {
        let mut data = [0; 4];
        pm.pio_read(Pm::HOTPLUG_BIAS + register, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(pm: &mut Pm, register: u16, value: u32) {
        pm.pio_write(Pm::HOTPLUG_BIAS + register, &value.to_le_bytes());
    }

    #[test]
    fn the_guest_hears_looks_and_lets_go() {
        let line = Arc::new(CountingLine::default());
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        let config = PmConfig::default();
        let notifier: crate::devices::Notifier = Arc::new(move |notice| sink.lock().unwrap().push(notice));
        let mut pm = Pm::new(config, Arc::clone(&line) as _, notifier, Arc::new(Still));
        assert_eq!((read(&mut pm, UP), read(&mut pm, REMOVABLE)), (0, u32::MAX));
        // The event interrupts once the guest has enabled it.
        pm.pio_write(0x28, &[EVENT]);
        let slot = HotplugSlot { bus: 1, slot: 0 };
        pm.slot_filled(slot);
        assert!(line.is_high());
        pm.pio_write(0x20, &[EVENT]);
        assert!(!line.is_high());
        assert_eq!(read(&mut pm, UP), 0, "another bus");
        write(&mut pm, SELECT, 1);
        assert_eq!((read(&mut pm, UP), read(&mut pm, UP)), (1, 0), "reading clears");
        pm.removal_wanted(slot);
        assert_eq!((read(&mut pm, DOWN), read(&mut pm, DOWN)), (1, 1));
        write(&mut pm, EJECT, 1);
        assert_eq!(read(&mut pm, DOWN), 0);
        assert_eq!(*notices.lock().unwrap(), [Notice::SlotReleased]);
        assert_eq!((pm.take_ejected(), pm.take_ejected()), (vec![slot], vec![]));
        for wrong in [256, u32::MAX] {
            write(&mut pm, SELECT, wrong);
            write(&mut pm, EJECT, 1);
            assert_eq!((read(&mut pm, UP), read(&mut pm, SELECT)), (0, wrong));
            pm.slot_filled(HotplugSlot { bus: wrong, slot: 3 });
        }
        assert_eq!(pm.take_ejected(), []);
        pm.reset();
        assert_eq!(read(&mut pm, SELECT), 0);
    }
}
