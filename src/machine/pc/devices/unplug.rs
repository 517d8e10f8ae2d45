//! Taking devices out: asking the guest, and what follows when it has let go.

use std::sync::PoisonError;

use super::Devices;
use super::error::PlugError;
use super::instance::Instance;
use crate::devices::Clock;
use crate::devices::class::Realize;
use crate::devices::pci::Unplug;
use crate::devices::pm::Pm;
use crate::machine::guest::RemovedDevice;

/// Nanoseconds of guest time after which a guest that has been asked by ACPI may be asked again: it may have been busy.
const ASKED_AGAIN: u64 = 1_000_000;

impl Devices {
    /// Asks for the device at this path to be let go. Returns it if it is gone at once.
    pub(crate) fn unplug(&self, path: &str) -> Result<Vec<RemovedDevice>, PlugError> {
        let mut instances = self.instances();
        let Some(instance) = instances.iter_mut().find(|instance| instance.path == path) else {
            let fixture = self.fixtures.iter().find(|fixture| fixture.path == path);
            return Err(no_hotplug(fixture.map_or("main-system-bus", |fixture| fixture.bus)));
        };
        if matches!(instance.class.realize, Realize::Port(_)) {
            // The guest need not agree: it loses a port as it loses a line.
            return Ok(self.take_out(&mut instances, |instance| instance.path == path));
        }
        let place = instance.place.filter(|_| self.pci.takes_hotplug(&instance.bus));
        let place = place.ok_or_else(|| no_hotplug(&instance.bus))?;
        let now = self.wiring.clock.nanoseconds();
        if instance.unplugging.is_some_and(|until| now < until) {
            return Err(PlugError::UnplugUnderWay(instance.id.clone().unwrap_or_default()));
        }
        if self.pci.is_hidden(place) {
            return Ok(self.take_out(&mut instances, |instance| instance.path == path));
        }
        if let Some(slot) = self.pci.hotplug_slot(place) {
            instance.unplugging = Some(now.saturating_add(ASKED_AGAIN));
            let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
            pm.with(|pm| pm.removal_wanted(slot));
            return Ok(Vec::new());
        }
        match self.pci.request_unplug(place).map_err(PlugError::Unplug)? {
            Unplug::Asked => {
                // The button was pressed: another press would be a change of mind.
                instance.unplugging = Some(u64::MAX);
                Ok(Vec::new())
            }
            Unplug::Now => Ok(self.take_out(&mut instances, |instance| instance.path == path)),
        }
    }

    /// Takes out the devices that the guest has let go of.
    pub(crate) fn take_released(&self) -> Vec<RemovedDevice> {
        let released = self.pci.take_released();
        let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
        let ejected = pm.with(Pm::take_ejected);
        drop(pm);
        let is_ejected = |place| {
            let slot = self.pci.hotplug_slot(place);
            slot.is_some_and(|slot| ejected.contains(&slot))
        };
        self.take_out(&mut self.instances(), |instance| {
            instance
                .place
                .is_some_and(|place| released.contains(&place) || is_ejected(place))
        })
    }

    /// Takes out the devices that the guest has been asked for: what begins anew is without them.
    pub(crate) fn finish_unplugs(&self) -> Vec<RemovedDevice> {
        self.take_out(&mut self.instances(), |instance| instance.unplugging.is_some())
    }

    fn take_out(&self, instances: &mut Vec<Instance>, which: impl Fn(&Instance) -> bool) -> Vec<RemovedDevice> {
        let (mut gone, rest): (Vec<Instance>, Vec<Instance>) = std::mem::take(instances).into_iter().partition(which);
        // What is plugged into a device goes with it, and before it.
        let is_below = |other: &Instance| gone.iter().any(|one| one.own_bus(&other.bus).is_some());
        let (mut below, rest): (Vec<Instance>, Vec<Instance>) = rest.into_iter().partition(is_below);
        *instances = rest;
        below.append(&mut gone);
        let gone = below;
        let end = |instance: Instance| {
            if let Some(place) = instance.place {
                self.pci.remove(place);
            }
            instance.end()
        };
        gone.into_iter().map(end).collect()
    }
}

/// A bus lets no device go, nor takes one, while the guest is there.
pub(super) fn no_hotplug(bus: &str) -> PlugError {
    PlugError::ColdBus(bus.to_owned())
}
