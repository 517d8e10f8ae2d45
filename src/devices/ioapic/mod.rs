//! `ioapic`: the I/O APIC outside the kernel (Intel 82093AA datasheet; the EOI register of version 0x20 is that of the
//! ICH9 datasheet, section 13.5).
//!
//! Interrupts leave as messages to local APICs. Those tell when the handler of a level-triggered one has ended, which
//! comes in at [`IoApic::end_of_interrupt`].

use std::sync::Arc;

use super::{Device, MmioDevice, built_in};
use crate::accel::controllers::IoApicInfo;
use crate::irq::Msi;
use crate::qom::TypeInfo;
use crate::vmstate::pc::IoApicState;
use crate::vmstate::{StateError, Stateful, Visitor, section};

/// The chip outside the kernel.
pub static IOAPIC: TypeInfo = built_in("ioapic", "sys-bus-device", "I/O APIC", &[]);
/// KVM's.
pub static KVM_IOAPIC: TypeInfo = built_in("kvm-ioapic", "sys-bus-device", "KVM's I/O APIC", &[]);

/// Number of inputs.
pub const PINS: u8 = 24;

/// Offsets of the memory-mapped registers.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const END: u64 = 0x40;

/// Registers behind the window.
const ID: u8 = 0x00;
const VERSION_REGISTER: u8 = 0x01;
const ARBITRATION: u8 = 0x02;
const TABLE: u8 = 0x10;
/// Version 0x20, and the number of the last input.
const VERSION_VALUE: u32 = 0x20 | (PINS as u32 - 1) << 16;
const ID_MASK: u32 = 0x0f00_0000;

/// A redirection entry: the vector; how it is delivered; destination is logical; waiting for the end of the interrupt;
/// level-triggered; masked.
const VECTOR: u64 = 0xff;
const DELIVERY: u64 = 7 << 8;
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR cannot be written.
const READ_ONLY: u64 = 1 << 12 | REMOTE_IRR;
/// "External" interrupts are the PIC's, which has its own way to the processor.
const EXTERNAL: u64 = 7 << 8;
/// Vectors below this are exceptions.
const FIRST_VECTOR: u64 = 0x10;

/// Where the local APICs are.
pub trait LocalApics: Send + Sync {
    /// Delivers a message (Intel SDM volume 3, section 11.11). Never blocks.
    fn deliver(&self, message: Msi);
    /// Says for which messages, by input, the end of the interrupt is to be told. Called when they change.
    fn watch(&self, messages: &[(u8, Msi)]);
    /// The interrupt of a level-triggered input has been handled. Whoever drives the input may do so anew.
    fn handled(&self, pin: u8);
}

/// The I/O APIC.
pub struct IoApic {
    apics: Arc<dyn LocalApics>,
    state: State,
}

#[derive(Clone, Debug)]
struct State {
    select: u8,
    id: u32,
    /// Levels of the inputs; bit n is input n.
    lines: u32,
    /// Edges that have not been delivered.
    edges: u32,
    table: [u64; PINS as usize],
}

impl State {
    const RESET: Self = Self {
        select: 0,
        id: 0,
        lines: 0,
        edges: 0,
        table: [MASKED; PINS as usize],
    };
}

impl IoApic {
    /// Bytes of its registers.
    pub const LEN: u64 = 0x1000;

    /// An I/O APIC with all inputs masked.
    #[must_use]
    pub fn new(apics: Arc<dyn LocalApics>) -> Self {
        Self {
            apics,
            state: State::RESET,
        }
    }

    /// Its registers as they are now.
    #[must_use]
    pub fn info(&self) -> IoApicInfo {
        IoApicInfo {
            version: 0x20,
            id: u8::try_from(self.state.id >> 24).unwrap_or_default(),
            select: self.state.select,
            irr: self.state.lines | self.state.edges,
            table: self.state.table.to_vec(),
        }
    }

    /// Drives an input. Inputs from [`PINS`] on do not exist.
    pub fn set_line(&mut self, pin: u8, level: bool) {
        let Some(entry) = self.state.table.get(usize::from(pin)).copied() else {
            return;
        };
        let bit = 1 << pin;
        let rises = level && self.state.lines & bit == 0;
        self.state.lines = if level {
            self.state.lines | bit
        } else {
            self.state.lines & !bit
        };
        // An edge on a masked input is lost (datasheet, section 3.2.4).
        if entry & (LEVEL | MASKED) == 0 && rises {
            self.state.edges |= bit;
        }
        self.service(pin);
    }

    /// A local APIC saw the end of the interrupt `vector`.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for pin in 0..PINS {
            let entry = &mut self.state.table[usize::from(pin)];
            if *entry & VECTOR == u64::from(vector) && *entry & (LEVEL | REMOTE_IRR) == LEVEL | REMOTE_IRR {
                *entry &= !REMOTE_IRR;
                self.apics.handled(pin);
                self.service(pin);
            }
        }
    }

    /// Sends the interrupt of `pin`, if there is one to send.
    fn service(&mut self, pin: u8) {
        let bit = 1 << pin;
        let entry = &mut self.state.table[usize::from(pin)];
        if *entry & MASKED != 0 {
            return;
        }
        let is_level = *entry & LEVEL != 0;
        if is_level {
            if self.state.lines & bit == 0 || *entry & REMOTE_IRR != 0 {
                return;
            }
        } else if self.state.edges & bit == 0 {
            return;
        }
        self.state.edges &= !bit;
        let entry = *entry;
        if entry & DELIVERY == EXTERNAL {
            return;
        }
        if is_level {
            self.state.table[usize::from(pin)] |= REMOTE_IRR;
        }
        self.apics.deliver(message(entry));
    }

    /// Level-triggered inputs; bit n is input n.
    fn level_triggered(&self) -> u32 {
        let pins = self.state.table.iter().enumerate();
        pins.fold(0, |mask, (pin, entry)| mask | u32::from(entry & LEVEL != 0) << pin)
    }

    /// Level-triggered inputs with a vector, masked ones too: an interrupt that is being handled ends after its mask.
    fn watched(&self) -> Vec<(u8, Msi)> {
        let entries = (0..PINS).zip(self.state.table);
        entries
            .filter(|(_, entry)| entry & LEVEL != 0 && entry & VECTOR >= FIRST_VECTOR && entry & DELIVERY != EXTERNAL)
            .map(|(pin, entry)| (pin, message(entry)))
            .collect()
    }

    fn read_register(&self) -> u32 {
        match self.state.select {
            ID | ARBITRATION => self.state.id,
            VERSION_REGISTER => VERSION_VALUE,
            register => {
                let Some((pin, high)) = table_place(register) else {
                    return 0;
                };
                let [low_half, high_half] = halves(self.state.table[pin]);
                if high { high_half } else { low_half }
            }
        }
    }

    fn write_register(&mut self, value: u32) {
        if self.state.select == ID {
            self.state.id = value & ID_MASK;
            return;
        }
        let Some((pin, high)) = table_place(self.state.select) else {
            return;
        };
        let before = self.watched();
        let entry = &mut self.state.table[pin];
        if high {
            *entry = *entry & 0xffff_ffff | u64::from(value) << 32;
        } else {
            let kept = *entry & (0xffff_ffff << 32 | READ_ONLY);
            *entry = kept | u64::from(value) & 0x1_ffff & !READ_ONLY;
            if *entry & LEVEL == 0 {
                *entry &= !REMOTE_IRR;
            }
        }
        let after = self.watched();
        if before != after {
            self.apics.watch(&after);
        }
        if let Ok(pin) = u8::try_from(pin) {
            self.service(pin);
        }
    }
}

/// Which entry a register is of, and whether it is the high half.
fn table_place(register: u8) -> Option<(usize, bool)> {
    let index = register.checked_sub(TABLE).filter(|index| *index < 2 * PINS)?;
    Some((usize::from(index >> 1), index & 1 != 0))
}

fn halves(entry: u64) -> [u32; 2] {
    [entry & 0xffff_ffff, entry >> 32].map(|half| u32::try_from(half).unwrap_or_default())
}

/// The message of a redirection entry.
fn message(entry: u64) -> Msi {
    // Bits 56 to 63 are the destination, 49 to 55 its extension.
    let destination = entry >> 56 << 12 | (entry >> 49 & 0x7f) << 5;
    let logical = if entry & LOGICAL != 0 { 1 << 2 } else { 0 };
    let [data, _] = halves(entry & (VECTOR | DELIVERY | LEVEL));
    // A level is told as asserted; edges are so by nature.
    let asserted = if entry & LEVEL != 0 { 1 << 14 } else { 0 };
    Msi {
        address: 0xfee0_0000 | destination | logical,
        data: data | asserted,
    }
}

impl MmioDevice for IoApic {
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let value = match offset {
            SELECT => u32::from(self.state.select),
            WINDOW => self.read_register(),
            _ => 0,
        };
        for (place, byte) in data.iter_mut().zip(value.to_le_bytes()) {
            *place = byte;
        }
    }

    fn mmio_write(&mut self, offset: u64, data: &[u8]) {
        let Some(first) = data.first().copied() else { return };
        match (offset, <[u8; 4]>::try_from(data)) {
            (SELECT, _) => self.state.select = first,
            (END, _) => self.end_of_interrupt(first),
            (WINDOW, Ok(word)) => self.write_register(u32::from_le_bytes(word)),
            _ => {}
        }
    }
}

impl Stateful<IoApicState> for IoApic {
    fn state(&self) -> IoApicState {
        let State {
            select,
            id,
            lines,
            edges,
            table,
        } = self.state;
        IoApicState {
            // The id has four bits, the highest but four.
            id: (id >> 24) as u8,
            ioregsel: select,
            irr: edges & !self.level_triggered() | lines & self.level_triggered(),
            ioredtbl: table,
        }
    }

    /// Inputs keep the levels that devices drive by now, so this section is to be read after those of the devices.
    fn set_state(&mut self, state: IoApicState) -> Result<(), StateError> {
        let id = u32::from(state.id) << 24;
        if id & !ID_MASK != 0 {
            return Err(StateError::out_of_range("id", state.id));
        }
        self.state.select = state.ioregsel;
        self.state.id = id;
        self.state.table = state.ioredtbl;
        let level = self.level_triggered();
        self.state.edges = state.irr & !level;
        self.state.lines = self.state.lines & !level | state.irr & level;
        self.apics.watch(&self.watched());
        Ok(())
    }
}

impl Device for IoApic {
    fn type_name(&self) -> &'static str {
        IOAPIC.name
    }

    fn reset(&mut self) {
        self.state = State {
            lines: self.state.lines,
            ..State::RESET
        };
        self.apics.watch(&[]);
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<IoApicState>(self))
    }

    fn as_mmio(&mut self) -> Option<&mut dyn MmioDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
