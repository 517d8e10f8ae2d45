//! States that are fetched from the accelerator and the machine before sections are visited, and given back afterwards.

use std::sync::{MutexGuard, PoisonError};

use crate::accel::x86_64::ChipStates;
use crate::cpu::x86::tables::word;
use crate::cpu::x86::vmstate::VcpuState;
use crate::devices::Clock;
use crate::machine::pc::Vm;
use crate::machine::pc::acpi::pin_gsi;
use crate::machine::pc::error::PcError;
use crate::machine::pc::vcpus::VcpuError;
use crate::machine::pc::vm::KvmClock;
use crate::vmstate::pc::{AcpiBuildState, GlobalState, KvmClockState, PciBusState, TimerState};
use crate::vmstate::{Section, StateError, StateErrorKind, Stateful, VmState, section};

/// What of a guest no device has.
impl Vm {
    fn vcpu_states(&self) -> Result<Vec<VcpuState>, VcpuError> {
        self.vcpus.states()
    }

    fn set_vcpu_states(&self, states: Vec<VcpuState>) -> Result<(), VcpuError> {
        self.vcpus.set_states(states)
    }

    /// The accelerator's chips, if they are its.
    fn chip_states(&self) -> Result<Option<ChipStates>, PcError> {
        if self.board.chips.get().is_some() {
            return Ok(None);
        }
        let states = self.accel.save_chips(self.guest_time());
        states.map(Some).map_err(PcError::Chips)
    }

    fn set_chip_states(&self, states: &ChipStates) -> Result<(), PcError> {
        let loaded = self.accel.load_chips(states, self.guest_time());
        loaded.map_err(PcError::Chips)
    }

    fn guest_time(&self) -> u64 {
        self.time.nanoseconds()
    }

    /// The guest's clock, and its paravirtual one when it goes on.
    fn set_guest_time(&self, time: u64, paravirtual: u64) {
        self.time.set(time);
        *self.kvmclock() = KvmClock::Stopped(paravirtual);
    }

    fn kvmclock(&self) -> MutexGuard<'_, KvmClock> {
        self.kvmclock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paravirtual clock, which stands still.
    fn paravirtual_clock(&self) -> Result<KvmClockState, PcError> {
        let now = self.accel.clock().get();
        let now = now.map_err(PcError::GetClock)?;
        Ok(match *self.kvmclock() {
            KvmClock::Stopped(clock) => KvmClockState { clock, ..now },
            KvmClock::Running | KvmClock::Fresh => now,
        })
    }

    /// Whether the guest's processor has the paravirtual clock, through either pair of registers.
    pub(super) fn has_paravirtual_clock(&self) -> bool {
        const CLOCKS: u32 = 1 << 0 | 1 << 3;
        self.processor().cpu().features().register(word::KVM_FEATURES) & CLOCKS != 0
    }

    /// Whether the guest has ever run.
    fn has_run(&self) -> bool {
        *self.kvmclock() != KvmClock::Fresh
    }

    /// The id of a vCPU's local APIC.
    pub(super) fn apic_id(&self, index: u32) -> u32 {
        self.processor().topology().apic_id(index)
    }

    /// How many functions ask at each line of the root bus.
    fn asked_lines(&self) -> Vec<i32> {
        let mut lines = vec![0; ROOT_BUS_LINES];
        for (slot, pin) in self.devices.pci.asked_pins() {
            // They are interrupts 16 to 23, in order.
            lines[usize::from(pin_gsi(slot, pin)) % ROOT_BUS_LINES] += 1;
        }
        lines
    }

    /// Shows memory and ports where the guest had them.
    fn remap(&self) {
        self.devices.pci.remap();
    }
}

/// Lines of the root bus.
const ROOT_BUS_LINES: usize = 8;

/// What is no device's own.
pub(super) struct Parts {
    pub(super) vcpus: Vec<VcpuState>,
    /// The accelerator's interrupt controllers and timer; none if they are devices.
    pub(super) chips: Option<ChipStates>,
    pub(super) timer: TimerState,
    pub(super) kvmclock: KvmClockState,
    pub(super) root_bus: PciBusState,
    pub(super) acpi: AcpiBuildState,
    pub(super) global: GlobalState,
}

impl Parts {
    /// Those of a paused guest.
    pub(super) fn of(vm: &Vm, run_state: &str) -> Result<Self, StateError> {
        let refused = |what: String| StateError::new(StateErrorKind::Refused(what));
        Ok(Self {
            vcpus: vm.vcpu_states().map_err(|error| refused(error.to_string()))?,
            chips: vm.chip_states().map_err(|error| refused(error.to_string()))?,
            timer: TimerState {
                cpu_ticks_offset: 0,
                cpu_clock_offset: i64::try_from(vm.guest_time()).unwrap_or(i64::MAX),
            },
            kvmclock: vm.paravirtual_clock().map_err(|error| refused(error.to_string()))?,
            root_bus: PciBusState {
                irq_count: vm.asked_lines(),
            },
            acpi: AcpiBuildState { patched: vm.has_run() },
            global: GlobalState {
                runstate: run_state.to_owned(),
                ..GlobalState::default()
            },
        })
    }

    /// Gives a guest what has been read into these. Returns what the guest was doing.
    pub(super) fn give_to(self, vm: &Vm) -> Result<String, StateError> {
        let refused = |what: String| StateError::new(StateErrorKind::Refused(what));
        let time = u64::try_from(self.timer.cpu_clock_offset);
        let time = time.map_err(|_| StateError::out_of_range("cpu_clock_offset", u64::MAX).within("timer"))?;
        vm.set_guest_time(time, self.kvmclock.clock);
        if let Some(chips) = &self.chips {
            vm.set_chip_states(chips).map_err(|error| refused(error.to_string()))?;
        }
        vm.set_vcpu_states(self.vcpus)
            .map_err(|error| refused(error.to_string()))?;
        vm.remap();
        Ok(self.global.runstate)
    }
}

/// A state that is written to where it is.
pub(super) struct Held<'a, S>(pub(super) &'a mut S);

impl<S: VmState + Clone> Stateful<S> for Held<'_, S> {
    fn state(&self) -> S {
        self.0.clone()
    }

    fn set_state(&mut self, state: S) -> Result<(), StateError> {
        *self.0 = state;
        Ok(())
    }
}

/// Calls `visit` with a state as a section.
pub(super) fn visit_held<S: VmState + Clone>(
    state: &mut S,
    visit: impl FnOnce(&mut dyn Section) -> Result<(), StateError>,
) -> Result<(), StateError> {
    visit(&mut section::<S>(&mut Held(state)))
}
