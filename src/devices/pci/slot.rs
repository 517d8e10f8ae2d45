//! A slot whose device may come and go (PCI Express Base 5.0, 6.7 and 7.5.3.10 to 7.5.3.11).

use super::{ConfigSpace, express::Express};

/// Slot control: what interrupts. The lowest five bits are those of the slot status.
const EVENT_MASK: u16 = 0x1f;
/// Slot control: events interrupt at all.
const INTERRUPT_ENABLE: u16 = 1 << 5;
/// Slot control: the power indicator.
const POWER_INDICATOR: u16 = 3 << 8;
const POWER_INDICATOR_BLINKS: u16 = 2 << 8;
/// Slot control: power is off.
const POWER_OFF: u16 = 1 << 10;
/// Slot control: writing one turns the interlock; reads as zero.
const INTERLOCK_TOGGLE: u16 = 1 << 11;

/// Slot status: somebody pressed the attention button.
const BUTTON_PRESSED: u16 = 1 << 0;
/// Slot status: a device came or went.
const PRESENCE_CHANGED: u16 = 1 << 3;
/// Slot status: what slot control asked for is done.
const COMMAND_COMPLETED: u16 = 1 << 4;
/// Slot status: there is a device.
const PRESENT: u16 = 1 << 6;
/// Slot status: the interlock is engaged.
const INTERLOCKED: u16 = 1 << 7;

/// What became of the wish to take a device out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplug {
    /// The guest has been asked and will say when.
    Asked,
    /// The slot has no power: the device may go at once.
    Now,
}

/// Why a device cannot be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnplugError {
    /// The slot was made without hot plug.
    #[error("Hot-unplug failed: unsupported by the port device")]
    Unsupported,
    /// The guest is switching the slot on or off.
    #[error("Hot-unplug failed: guest is busy (power indicator blinking)")]
    Busy,
}

/// The hot-plug side of a port's PCI Express capability.
#[derive(Debug)]
pub(super) struct HotplugSlot {
    express: Express,
    supported: bool,
    /// Slot control before the guest's last write.
    control: u16,
    /// Whether the slot asked for an interrupt when last looked at.
    interrupting: bool,
}

/// What a change in the slot means for the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The guest switched off the power of a slot with a device in it, which may now be taken out.
    pub(super) eject: bool,
    /// An event has just begun to ask for an interrupt.
    pub(super) raise: bool,
}

impl HotplugSlot {
    /// The slot of the port with this capability.
    pub(super) fn new(express: Express, supported: bool) -> Self {
        Self {
            express,
            supported,
            control: 0,
            interrupting: false,
        }
    }

    /// Whether an event asks for an interrupt: the level of INTx.
    pub(super) fn is_interrupting(&self) -> bool {
        self.interrupting
    }

    /// A device was put in while the guest runs.
    pub(super) fn insert(&mut self, config: &mut ConfigSpace) -> Effect {
        self.express.set_link(config, true);
        self.set_status(config, PRESENT | PRESENCE_CHANGED | BUTTON_PRESSED, 0);
        self.look(config)
    }

    /// The device was taken out.
    pub(super) fn remove(&mut self, config: &mut ConfigSpace) -> Effect {
        self.express.set_link(config, false);
        self.set_status(config, PRESENCE_CHANGED, PRESENT);
        self.look(config)
    }

    /// Asks the guest to let the device go, by a press of the attention button.
    pub(super) fn request_removal(&mut self, config: &mut ConfigSpace) -> Result<(Unplug, Effect), UnplugError> {
        if !self.supported {
            return Err(UnplugError::Unsupported);
        }
        let control = self.express.slot_control(config);
        if control & POWER_OFF != 0 {
            return Ok((Unplug::Now, Effect::default()));
        }
        if control & POWER_INDICATOR == POWER_INDICATOR_BLINKS {
            return Err(UnplugError::Busy);
        }
        self.set_status(config, BUTTON_PRESSED, 0);
        Ok((Unplug::Asked, self.look(config)))
    }

    /// The guest wrote `len` bytes of configuration space from `at` on.
    pub(super) fn config_written(&mut self, config: &mut ConfigSpace, at: u16, len: usize) -> Effect {
        let mut eject = false;
        if self.supported && self.express.is_slot_control(at, len) {
            eject = self.control_written(config);
        }
        Effect {
            eject,
            ..self.look(config)
        }
    }

    /// After a reset or restore.
    pub(super) fn resume(&mut self, config: &ConfigSpace) {
        self.control = self.express.slot_control(config);
        self.interrupting = false;
        self.look(config);
    }

    /// Every command is carried out at once. Tells whether the device may be taken out.
    fn control_written(&mut self, config: &mut ConfigSpace) -> bool {
        let control = self.express.slot_control(config);
        let status = self.express.slot_status(config);
        if control & INTERLOCK_TOGGLE != 0 {
            let (set, clear) = match status & INTERLOCKED {
                0 => (INTERLOCKED, 0),
                _ => (0, INTERLOCKED),
            };
            self.set_status(config, set, clear);
        }
        let control = control & !INTERLOCK_TOGGLE;
        self.express.set_slot_control(config, control);
        let off = |control: u16| control & POWER_OFF != 0 && control & POWER_INDICATOR == POWER_INDICATOR;
        let switched_off = off(control) && !off(self.control);
        self.control = control;
        self.set_status(config, COMMAND_COMPLETED, 0);
        switched_off && status & PRESENT != 0
    }

    fn set_status(&self, config: &mut ConfigSpace, set: u16, clear: u16) {
        let status = self.express.slot_status(config);
        self.express.set_slot_status(config, status & !clear | set);
    }

    fn look(&mut self, config: &ConfigSpace) -> Effect {
        let (control, status) = (self.express.slot_control(config), self.express.slot_status(config));
        let event = control & status & EVENT_MASK != 0;
        let interrupting = self.supported && control & INTERRUPT_ENABLE != 0 && event;
        let before = std::mem::replace(&mut self.interrupting, interrupting);
        Effect {
            eject: false,
            raise: interrupting && !before,
        }
    }
}
