//! The sections against those that QEMU wrote.

use super::*;
use crate::vmstate::recorded::{check_renamed_round_trips, check_round_trips, sections};
use crate::vmstate::{VmState, load_whole, save};

#[test]
fn recorded_sections_are_read_and_written_alike() {
    check_round_trips("i8259", |_| PicState::default());
    check_round_trips("ioapic", |_| IoApicState::default());
    check_round_trips("i8254", |_| PitState::default());
    check_round_trips("timer", |_| TimerState::default());
    check_round_trips("kvmclock", |_| KvmClockState::default());
    check_round_trips("acpi_build", |_| AcpiBuildState::default());
    check_renamed_round_trips("globalstate", GlobalState::default);
    // Lines lead from the root bus only.
    check_round_trips("PCIBUS", |section| PciBusState {
        irq_count: vec![0; if section.instance == 0 { 8 } else { 0 }],
    });
}

/// What QEMU's section of a paused guest that never ran reads as.
fn at_reset<T: VmState + Default>(name: &str) -> T {
    let mut state = T::default();
    for section in sections("q35-10.2-bare", name) {
        load_whole(&mut state, section.version, &section.bytes()).unwrap();
    }
    state
}

#[test]
fn the_io_apic_starts_as_it_does_in_qemu() {
    assert_eq!(at_reset::<IoApicState>("ioapic"), IoApicState::default());
}

#[test]
fn values_that_a_chip_cannot_have_are_refused() {
    let error = |state: &mut dyn VmState, at: usize, value: u8| {
        let mut bytes = save(state).unwrap().bytes;
        bytes[at] = value;
        let version = state.layout().version;
        load_whole(state, version, &bytes).unwrap_err().to_string()
    };
    assert_eq!(
        error(&mut PicState::default(), 4, 8),
        "i8259: priority_add: 0x8 is out of range"
    );
    assert_eq!(
        error(&mut PicState::default(), 9, 4),
        "i8259: init_state: 0x4 is out of range"
    );
    let pit = |at, value| error(&mut PitState::default(), at, value);
    // The channels begin after the flag, each with its count of four bytes, and take 32 bytes.
    assert_eq!(pit(4, 0x80), "i8254: channels[0]: count: 0x80000000 is out of range");
    assert_eq!(pit(4 + 32 + 13, 6), "i8254: channels[1]: mode: 0x6 is out of range");
    assert_eq!(
        pit(4 + 64 + 9, 5),
        "i8254: channels[2]: read_state: 0x5 is out of range"
    );
}

#[test]
fn an_io_apic_of_version_1_has_no_requests() {
    let mut bytes = save(&mut IoApicState::default()).unwrap().bytes;
    bytes.drain(2..14);
    let mut state = IoApicState {
        irr: 7,
        ..IoApicState::default()
    };
    load_whole(&mut state, 1, &bytes).unwrap();
    assert_eq!(state, IoApicState::default());
}
