//! The sections against those that QEMU wrote.

use super::*;
use crate::devices::testing::{move_state, saved};
use crate::vmstate::recorded::{check_renamed_round_trips, sections};
use crate::vmstate::{load_whole, save};

/// What QEMU wrote is read and written alike, QEMU's state after a reset is the one that this starts with, and it survives.
#[track_caller]
fn check<S: AbsentState + 'static>(name: &str, instance: usize) {
    let mut device = Absent::<S>::default();
    let recorded = &sections("q35-10.2-bare", name)[instance];
    assert_eq!(saved(&mut device)[0].1, recorded.bytes(), "{name}");
    let used = sections("q35-10.2-linux-devices", name).swap_remove(instance);
    let mut state = S::at_reset();
    load_whole(&mut state, used.version, &used.bytes()).unwrap();
    if state.obstacle().is_none() {
        device.set_state(state).unwrap();
        assert_eq!(saved(&mut device)[0].1, used.bytes(), "{name}");
    }
    move_state(&mut device, &mut Absent::<S>::default());
    device.reset();
    assert_eq!(saved(&mut device)[0].1, recorded.bytes(), "{name}");
}

#[test]
fn what_is_not_here_is_kept_as_qemu_wrote_it() {
    check::<DmaState<0>>("dma", 0);
    check::<DmaState<1>>("dma", 1);
    check::<HpetState>("hpet", 0);
    check::<VmMouseState>("vmmouse", 0);
    check::<VapicState>("kvm-tpr-opt", 0);
    check::<AhciState>("ich9_ahci", 0);
    check::<I2cBusState>("i2c_bus", 0);
    check::<SmbusState>("ich9_smb", 0);
}

#[test]
fn recorded_sections_are_read_and_written_alike() {
    check_renamed_round_trips("hpet", HpetState::at_reset);
    check_renamed_round_trips("vmmouse", VmMouseState::at_reset);
    check_renamed_round_trips("kvm-tpr-opt", VapicState::at_reset);
    check_renamed_round_trips("ich9_ahci", AhciState::at_reset);
    check_renamed_round_trips("i2c_bus", I2cBusState::at_reset);
    check_renamed_round_trips("ich9_smb", SmbusState::at_reset);
}

#[test]
fn a_guest_that_needs_what_is_not_here_is_refused() {
    let used = &sections("q35-10.2-linux-devices", "hpet")[0];
    let mut state = HpetState::at_reset();
    load_whole(&mut state, used.version, &used.bytes()).unwrap();
    assert_eq!(save(&mut state).unwrap().bytes, used.bytes());
    let error = Absent::default().set_state(state);
    let error = match error {
        Err(error) => error.to_string(),
        Ok(()) => unreachable!("the guest's timer counts: {state:?}"),
    };
    assert_eq!(error, "the guest uses the HPET, and there is none");
}
