//! A function as a saved state.

use super::registers::Selection;
use super::{NO_VECTOR, STATUS, VirtioPci};
use crate::devices::pci::{Msix, PciState};
use crate::devices::virtio::saved::VirtioState;
use crate::devices::virtio::{Features, status};
use crate::vmstate::{Layout, StateError, Stateful};

/// A function, with what its section is called.
pub(super) struct Saved<'a> {
    function: &'a mut VirtioPci,
    section: Layout,
}

impl<'a> Saved<'a> {
    pub(super) fn new(function: &'a mut VirtioPci, section: Layout) -> Self {
        Self { function, section }
    }
}

impl Stateful<VirtioState> for Saved<'_> {
    fn state(&self) -> VirtioState {
        let VirtioPci {
            config,
            interrupts,
            core,
            selection,
            ..
        } = &*self.function;
        let pins = [interrupts.asks_by_pin(), false, false, false];
        let mut pci = match self.function.express {
            Some(_) => PciState::express(config, pins),
            None => PciState::conventional(config, pins),
        };
        // Whether the pin asks is said beside it.
        pci.config[STATUS] &= !super::INTERRUPT_STATUS;
        let mut queues = core.queue_states();
        for (queue, number) in queues.iter_mut().zip(0..) {
            queue.vector = interrupts.queue_vector(number);
        }
        let status = core.link().status();
        let accepted = core.accepted();
        VirtioState {
            section: self.section,
            pci,
            msix: self.function.msix.as_ref().map(Msix::state),
            config_vector: interrupts.config_vector(),
            status,
            isr: interrupts.isr(),
            queue_select: selection.queue.min(LAST_QUEUE),
            offered: core.offered(),
            accepted,
            config: core.device().config(),
            queues,
            own: core.device().state(),
            broken: core.link().is_broken(),
            started: status & status::DRIVER_OK != 0,
            disabled: false,
            feature_selects: [selection.device_feature, selection.driver_feature],
            written: match accepted.contains(Features::VERSION_1) {
                true => accepted,
                false => Features::NONE,
            },
        }
    }

    fn set_state(&mut self, state: VirtioState) -> Result<(), StateError> {
        let function = &mut *self.function;
        function.config.restore(&state.pci.config)?;
        if let Some((_, power)) = &mut function.express {
            // A function that sleeps wakes when its driver says so, not now.
            let _wakes = power.config_written(&function.config);
        }
        if let (Some(msix), Some(saved)) = (&mut function.msix, &state.msix) {
            msix.set_state(&function.config, saved.clone());
        }
        let interrupts = &function.interrupts;
        interrupts.set_config_vector(function.known_vector("config_vector", state.config_vector)?);
        for (queue, number) in state.queues.iter().zip(0..) {
            interrupts.set_queue_vector(number, function.known_vector("vector", queue.vector)?);
        }
        function.selection = Selection {
            device_feature: state.feature_selects[0],
            driver_feature: state.feature_selects[1],
            queue: state.queue_select,
        };
        function.modes_changed();
        function.core.restore(&state)?;
        function.interrupts.restore_isr(state.isr);
        Ok(())
    }
}

/// The last queue that can be named in a saved state.
const LAST_QUEUE: u16 = 1023;

impl VirtioPci {
    /// A vector that there is, or none.
    fn known_vector(&self, name: &str, vector: u16) -> Result<u16, StateError> {
        let count = self.msix.as_ref().map_or(0, |msix| msix.vectors().len());
        match vector == NO_VECTOR || usize::from(vector) < count || self.msix.is_none() {
            true => Ok(vector),
            false => Err(StateError::out_of_range(name, vector)),
        }
    }
}
