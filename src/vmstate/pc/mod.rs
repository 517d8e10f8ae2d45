//! Sections of a PC that an accelerator may hold as well as a device model: interrupt controllers, timer, clocks.
//!
//! These are QEMU's registers as plain values. Whoever holds a chip turns its own form into this one and back.

mod clock;
mod global;
mod i8254;
mod i8259;
mod ioapic;
#[cfg(test)]
mod tests;

pub use clock::{KvmClockState, TimerState};
pub use global::{AcpiBuildState, GlobalState, PciBusState};
pub use i8254::{PitChannelState, PitState};
pub use i8259::PicState;
pub use ioapic::{IOAPIC_PINS, IoApicState};
