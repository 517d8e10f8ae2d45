//! What `pcie-root-port` has for properties, and how a port is made from them.

use std::sync::Arc;

use super::{RootPort, RootPortConfig, RootPortLinks};
use crate::devices::Notice;
use crate::devices::class::{DeviceClass, Realize, RealizeError, Site};
use crate::devices::pci::express::{LINK_SPEEDS, LINK_WIDTHS, Link};
use crate::devices::pci::{PciPlace, Reserve, SharedFunction};
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};

/// The QOM type.
pub(super) static ROOT_PORT: TypeInfo = TypeInfo {
    name: "pcie-root-port",
    parent: Some("pci-device"),
    is_abstract: false,
    interfaces: &["pci-express-device"],
    bus: Some("PCI"),
    user_creatable: true,
    hotpluggable: false,
    description: "PCI Express Root Port",
    properties: &[
        PropertyInfo::new("port", PropertyKind::Uint8, Default::Uint(0), "Number of the port"),
        PropertyInfo::new(
            "chassis",
            PropertyKind::Uint8,
            Default::Uint(0),
            "Chassis the slot is in",
        ),
        PropertyInfo::new("slot", PropertyKind::Uint16, Default::Uint(0), "Number of the slot"),
        PropertyInfo::new(
            "hotplug",
            PropertyKind::Bool,
            Default::Bool(true),
            "Devices may come and go",
        ),
        reserve("bus-reserve", PropertyKind::Uint32, u32::MAX as u64),
        reserve("io-reserve", PropertyKind::Size, u64::MAX),
        reserve("mem-reserve", PropertyKind::Size, u64::MAX),
        reserve("pref32-reserve", PropertyKind::Size, u64::MAX),
        reserve("pref64-reserve", PropertyKind::Size, u64::MAX),
        PropertyInfo::new(
            "x-speed",
            PropertyKind::Enum("PCIELinkSpeed", LINK_SPEEDS),
            Default::Str("16"),
            "2_5/5/8/16/32/64",
        ),
        PropertyInfo::new(
            "x-width",
            PropertyKind::Enum("PCIELinkWidth", LINK_WIDTHS),
            Default::Str("32"),
            "1/2/4/8/12/16/32",
        ),
        PropertyInfo::new("x-pcie-err-unc-mask", PropertyKind::Bool, Default::Bool(true), "on/off"),
        PropertyInfo::new(
            "x-pci-express-writeable-slt-bug",
            PropertyKind::Bool,
            Default::Bool(false),
            "on/off",
        ),
    ],
};

const fn reserve(name: &'static str, kind: PropertyKind, unset: u64) -> PropertyInfo {
    PropertyInfo::new(name, kind, Default::Uint(unset), "")
}

/// The class.
pub static CLASS: DeviceClass = DeviceClass {
    info: &ROOT_PORT,
    realize: Realize::Pci(realize),
};

fn realize(values: &Values, place: PciPlace, site: &mut dyn Site) -> Result<SharedFunction, RealizeError> {
    let reserved = |name, unset: u64| values.uint(name).filter(|value| *value != unset);
    let reserve = Reserve {
        buses: reserved("bus-reserve", u32::MAX.into()).and_then(|buses| u32::try_from(buses).ok()),
        io: reserved("io-reserve", u64::MAX),
        memory: reserved("mem-reserve", u64::MAX),
        prefetchable_32: reserved("pref32-reserve", u64::MAX),
        prefetchable_64: reserved("pref64-reserve", u64::MAX),
    };
    let text = |name| values.text(name).unwrap_or_default();
    let [port, ..] = values.uint("port").unwrap_or_default().to_le_bytes();
    let [chassis, ..] = values.uint("chassis").unwrap_or_default().to_le_bytes();
    let [low, high, ..] = values.uint("slot").unwrap_or_default().to_le_bytes();
    let config = RootPortConfig {
        port,
        chassis,
        slot: u16::from_le_bytes([low, high]),
        hotplug: values.boolean("hotplug"),
        extended_tag: values.boolean("x-pcie-ext-tag"),
        multifunction: place.multifunction,
        reserve: reserve.check().map_err(RealizeError::of)?,
        link: Link::from_names(text("x-speed"), text("x-width")).unwrap_or_default(),
        masks_uncorrectable: values.boolean("x-pcie-err-unc-mask"),
        writable_latency: values.boolean("x-pci-express-writeable-slt-bug"),
    };
    let notifier = site.notifier();
    let links = RootPortLinks {
        intx: place.intx,
        msi: site.msi(),
        ejected: Arc::new(move || notifier(Notice::SlotReleased)),
    };
    Ok(Arc::new(std::sync::Mutex::new(RootPort::new(config, links))))
}
