//! Devices of QEMU's q35 that are not here: what a saved state says of them.
//!
//! A machine that QEMU makes from the same command line has them, and whoever takes over a guest expects their sections, or
//! has them to give. So they are kept: they start as after a reset, and what came with a guest goes on with it. What a guest
//! cannot go on without is refused.

mod ahci;
mod dma;
mod hpet;
mod smbus;
#[cfg(test)]
mod tests;
mod vapic;
mod vmmouse;

pub use ahci::{AhciPort, AhciState, IdeDrive, NcqTransfer};
pub use dma::{DmaChannel, DmaState};
pub use hpet::{HpetState, HpetTimer};
pub use smbus::{I2cBusState, SmbusState};
pub use vapic::{VapicHandlers, VapicState};
pub use vmmouse::VmMouseState;

use super::Device;
use crate::vmstate::{StateError, StateErrorKind, Stateful, Visitor, VmState, section};

/// The state of a device that is not here.
pub trait AbsentState: VmState + Clone + Send {
    /// QOM type of the device.
    const TYPE: &'static str;

    /// The state after a reset.
    fn at_reset() -> Self;

    /// Why a guest that has this state cannot go on here.
    fn obstacle(&self) -> Option<&'static str> {
        None
    }
}

/// A device that is not here.
#[derive(Clone, Debug)]
pub struct Absent<S>(Option<Box<S>>);

impl<S> Default for Absent<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S: AbsentState> Stateful<S> for Absent<S> {
    fn state(&self) -> S {
        self.0.as_ref().map_or_else(S::at_reset, |state| (**state).clone())
    }

    fn set_state(&mut self, state: S) -> Result<(), StateError> {
        if let Some(obstacle) = state.obstacle() {
            return Err(StateError::new(StateErrorKind::Refused(obstacle.to_owned())));
        }
        self.0 = Some(Box::new(state));
        Ok(())
    }
}

impl<S: AbsentState> Device for Absent<S> {
    fn type_name(&self) -> &'static str {
        S::TYPE
    }

    fn reset(&mut self) {
        self.0 = None;
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<S>(self))
    }
}
