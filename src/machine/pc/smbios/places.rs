//! Types 8, 9 and 41: connectors, slots and devices of the main board.

use super::error::SmbiosError;
use super::options::{Connector, Onboard, Slot};
use super::structure::{Structure, Text};
use crate::machine::pci::Devfn;

/// Where a PCI device is: none for one that is not on the root bus, whose bus number firmware gives.
pub(crate) type Spot = Option<Devfn>;

/// Finds PCI devices by their ids.
pub(crate) type FindDevice<'a> = &'a dyn Fn(&str) -> Option<Spot>;

/// What says in a slot that there is no segment, bus or device to tell.
const NO_DEVICE: u8 = 0xff;
/// A device on the main board is enabled.
const ENABLED: u8 = 0x80;

pub(super) fn connector(handle: u16, connector: &Connector) -> Structure {
    Structure::new(8, handle)
        .texts(&[Text::from(connector.internal.clone())])
        .bytes(&[connector.kind])
        .texts(&[Text::from(connector.external.clone())])
        .bytes(&[connector.kind, connector.port])
}

pub(super) fn slot(handle: u16, slot: &Slot, find: FindDevice<'_>) -> Result<Structure, SmbiosError> {
    let devfn = device(9, slot.pcidev.as_deref(), &slot.designation, find)?;
    let place = match devfn {
        Some(devfn) => [0, 0, 0, devfn.byte()],
        None => [NO_DEVICE, 0, NO_DEVICE, NO_DEVICE],
    };
    Ok(Structure::new(9, handle)
        .texts(&[Text::from(slot.designation.clone())])
        .bytes(&[slot.kind, slot.width, slot.usage, slot.length])
        .word(slot.id)
        .bytes(&slot.characteristics)
        .bytes(&place))
}

pub(super) fn onboard(handle: u16, onboard: &Onboard, find: FindDevice<'_>) -> Result<Structure, SmbiosError> {
    let devfn = device(41, onboard.pcidev.as_deref(), &onboard.designation, find)?;
    Ok(Structure::new(41, handle)
        .texts(&[Text::from(onboard.designation.clone())])
        .bytes(&[onboard.kind | ENABLED, onboard.instance])
        .word(0)
        .bytes(&[0, devfn.map_or(0, Devfn::byte)]))
}

/// The device that a structure is about; none if it names none.
fn device(kind: u8, id: Option<&str>, designation: &str, find: FindDevice<'_>) -> Result<Spot, SmbiosError> {
    let Some(id) = id else { return Ok(None) };
    let spot = find(id).ok_or_else(|| SmbiosError::NoDevice {
        kind,
        id: id.to_owned(),
        designation: designation.to_owned(),
    })?;
    match spot {
        Some(devfn) => Ok(Some(devfn)),
        None => Err(SmbiosError::NotOnRootBus {
            kind,
            id: id.to_owned(),
        }),
    }
}
