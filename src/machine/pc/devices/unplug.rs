//! Taking devices out: asking the guest, and what follows when it has let go.

use super::Devices;
use super::instance::Instance;
use crate::devices::pci::Unplug;
use crate::machine::guest::RemovedDevice;
use crate::qapi::Error;

impl Devices {
    /// Asks for the device at this path to be let go. Returns it if it is gone at once.
    pub(crate) fn unplug(&self, path: &str) -> Result<Vec<RemovedDevice>, Error> {
        let mut instances = self.instances();
        let Some(instance) = instances.iter_mut().find(|instance| instance.path == path) else {
            let fixture = self.fixtures.iter().find(|fixture| fixture.path == path);
            return Err(no_hotplug(fixture.map_or("main-system-bus", |fixture| fixture.bus)));
        };
        let place = instance.place.filter(|_| self.pci.takes_hotplug(&instance.bus));
        let place = place.ok_or_else(|| no_hotplug(&instance.bus))?;
        if instance.unplugging {
            return Err(Error::generic(format!(
                "Device {} is already in the process of unplug",
                instance.id.as_deref().unwrap_or_default()
            )));
        }
        let asked = self.pci.request_unplug(place);
        match asked.map_err(|error| Error::generic(error.to_string()))? {
            Unplug::Asked => {
                instance.unplugging = true;
                Ok(Vec::new())
            }
            Unplug::Now => Ok(self.take_out(&mut instances, |instance| instance.path == path)),
        }
    }

    /// Takes out the devices that the guest has let go of.
    pub(crate) fn take_released(&self) -> Vec<RemovedDevice> {
        let released = self.pci.take_released();
        self.take_out(&mut self.instances(), |instance| {
            instance.place.is_some_and(|place| released.contains(&place))
        })
    }

    /// Takes out the devices that the guest has been asked for: what begins anew is without them.
    pub(crate) fn finish_unplugs(&self) -> Vec<RemovedDevice> {
        self.take_out(&mut self.instances(), |instance| instance.unplugging)
    }

    fn take_out(&self, instances: &mut Vec<Instance>, which: impl Fn(&Instance) -> bool) -> Vec<RemovedDevice> {
        let (gone, rest) = std::mem::take(instances).into_iter().partition(which);
        *instances = rest;
        let gone: Vec<Instance> = gone;
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
pub(super) fn no_hotplug(bus: &str) -> Error {
    Error::generic(format!("Bus '{bus}' does not support hotplugging"))
}
