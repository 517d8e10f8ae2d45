//! What a peer may send as the saved state of a device: a byte that chooses one, then the section.

use remuda::cpu::x86::vmstate::{ApicState, CpuCommonState, CpuState};
use remuda::devices::absent::{AbsentState, AhciState, DmaState, HpetState, SmbusState, VapicState, VmMouseState};
use remuda::devices::{fw_cfg::FwCfgState, rtc::RtcState, serial};
use remuda::vmstate::pc::{GlobalState, IoApicState, KvmClockState, PciBusState, PicState, PitState, TimerState};
use remuda::vmstate::{VmState, load, save};

/// States of every kind of field and subsection, as after a reset.
fn states() -> Vec<Box<dyn VmState>> {
    vec![
        Box::new(CpuState::default()),
        Box::new(CpuCommonState::default()),
        Box::new(ApicState::default()),
        Box::new(PicState::default()),
        Box::new(IoApicState::default()),
        Box::new(PitState::default()),
        Box::new(TimerState::default()),
        Box::new(KvmClockState::default()),
        Box::new(GlobalState::default()),
        Box::new(PciBusState { irq_count: vec![0; 8] }),
        Box::new(RtcState::default()),
        Box::new(FwCfgState::default()),
        Box::new(serial::State::default()),
        Box::new(AhciState::at_reset()),
        Box::new(DmaState::<1>::at_reset()),
        Box::new(HpetState::at_reset()),
        Box::new(SmbusState::at_reset()),
        Box::new(VapicState::at_reset()),
        Box::new(VmMouseState::at_reset()),
    ]
}

/// One section. What is a state can be saved, and that is read as the same.
pub(crate) fn run(bytes: &[u8]) {
    let Some((choice, section)) = bytes.split_first() else {
        return;
    };
    let mut states = states();
    let count = states.len();
    let state = &mut states[usize::from(*choice) % count];
    let version = state.layout().version;
    if load(&mut **state, version, section).is_err() {
        return;
    }
    let saved = save(&mut **state);
    assert!(saved.is_ok(), "a state that was read is written: {saved:?}");
    let Ok(saved) = saved else { return };
    let mut again = self::states();
    let other = &mut again[usize::from(*choice) % count];
    assert_eq!(load(&mut **other, version, &saved.bytes), Ok(saved.bytes.len()));
    assert_eq!(save(&mut **other).map(|saved| saved.bytes), Ok(saved.bytes));
}

/// Sections to begin with: each kind as it is after a reset.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let numbered = (0..).zip(states());
    let seed = |(number, mut state): (u8, Box<dyn VmState>)| {
        let saved = save(&mut *state).map_or_else(|_| Vec::new(), |saved| saved.bytes);
        [&[number][..], &saved].concat()
    };
    numbered.map(seed).collect()
}
