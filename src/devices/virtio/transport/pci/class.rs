//! What every `virtio-*-pci` has for properties, and how a function is made from them.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{VirtioPci, VirtioPciConfig, VirtioPciLinks};
use crate::devices::class::{RealizeError, Site};
use crate::devices::pci::{PciPlace, SharedFunction};
use crate::devices::virtio::{Features, VirtioDevice};
use crate::qom::tree::Simple;
use crate::qom::{Default, Object, OnOffAuto, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::report;

/// Most vectors that MSI-X has.
const MAX_VECTORS: u64 = 2048;
/// A number of vectors that nobody gave.
const VECTORS_UNSET: u64 = 0xffff_ffff;

/// What all virtio devices on PCI inherit from.
pub static VIRTIO_PCI: TypeInfo = TypeInfo {
    name: "virtio-pci",
    parent: Some("pci-device"),
    is_abstract: true,
    interfaces: &[],
    bus: Some("PCI"),
    user_creatable: false,
    hotpluggable: false,
    description: "",
    properties: &[
        on_off("page-per-vq", false),
        on_off("x-pcie-flr-init", true),
        on_off("x-pcie-pm-no-soft-reset", false),
        RINGS[0],
        RINGS[1],
        RINGS[2],
        RINGS[3],
        RINGS[4],
        RINGS[5],
        RINGS[6],
    ],
};

/// Properties of the rings and of their features, which the device behind the function has as well.
pub const RINGS: [PropertyInfo; 7] = [
    on_off("any_layout", true),
    on_off("event_idx", true),
    on_off("indirect_desc", true),
    on_off("iommu_platform", false),
    on_off("notify_on_empty", true),
    on_off("packed", false),
    on_off("queue_reset", true),
];

/// Number of vectors, unless the kind of device knows better.
pub const VECTORS: PropertyInfo = PropertyInfo::new("vectors", PropertyKind::Uint32, Default::Uint(VECTORS_UNSET), "");
/// Whether the accelerator takes notifications.
pub const IOEVENTFD: PropertyInfo = PropertyInfo::new("ioeventfd", PropertyKind::Bool, Default::Bool(true), "on/off");
/// Which interfaces a function has whose type leaves that open.
pub const INTERFACES: [PropertyInfo; 2] = [
    PropertyInfo::new(
        "disable-legacy",
        PropertyKind::OnOffAuto,
        Default::Str("auto"),
        "on/off/auto",
    ),
    on_off("disable-modern", false),
];

const fn on_off(name: &'static str, default: bool) -> PropertyInfo {
    PropertyInfo::new(name, PropertyKind::Bool, Default::Bool(default), "on/off")
}

/// The interfaces of a function's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// As the properties say; by default no legacy interface behind a PCI Express port.
    Chosen,
    /// Both.
    Transitional,
    /// The modern one.
    NonTransitional,
}

/// Why there can be no such function.
#[derive(Debug, thiserror::Error)]
pub enum VirtioPciError {
    /// Both interfaces are off.
    #[error(
        "device cannot work as neither modern nor legacy mode is enabled\nSet either disable-modern or disable-legacy to off"
    )]
    NoInterface,
    /// Drivers of the legacy interface know of no IOMMU.
    #[error("VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device")]
    LegacyPlatform,
    /// The host is out of descriptors.
    #[error("cannot make the queues of {0}: {1}")]
    Host(&'static str, #[source] io::Error),
}

/// Makes a function of the first type with `device` behind it, which is of the second. The function has `vectors` vectors if
/// nobody asks for others.
///
/// # Errors
/// The properties contradict each other, or the host is out of descriptors.
pub fn realize(
    (info, behind): (&'static TypeInfo, &'static TypeInfo),
    interfaces: Interfaces,
    vectors: u16,
    (values, place, site): (&Values, PciPlace, &mut dyn Site),
    device: Arc<dyn VirtioDevice>,
) -> Result<SharedFunction, RealizeError> {
    let (legacy, modern) = match interfaces {
        Interfaces::Transitional => (true, true),
        Interfaces::NonTransitional => (false, true),
        Interfaces::Chosen => {
            let without_legacy = match values.on_off_auto("disable-legacy") {
                OnOffAuto::Auto => place.express,
                chosen => chosen.resolve(false),
            };
            (!without_legacy, !values.boolean("disable-modern"))
        }
    };
    if !legacy && !modern {
        return Err(RealizeError::of(VirtioPciError::NoInterface));
    }
    if legacy && values.boolean("iommu_platform") {
        return Err(RealizeError::of(VirtioPciError::LegacyPlatform));
    }
    let config = VirtioPciConfig {
        type_name: info.name,
        express: place.express,
        legacy,
        modern,
        vectors: wanted_vectors(values, vectors),
        multifunction: place.multifunction,
        page_per_queue: values.boolean("page-per-vq"),
        ioeventfd: values.boolean("ioeventfd"),
        function_level_reset: values.boolean("x-pcie-flr-init"),
        no_soft_reset: values.boolean("x-pcie-pm-no-soft-reset"),
        extended_tag: values.boolean("x-pcie-ext-tag"),
        features: offered(values),
    };
    let links = VirtioPciLinks {
        intx: place.intx,
        msi: site.msi(),
        memory: Arc::clone(site.memory()),
    };
    let function = VirtioPci::new(config, links, device, shown(behind, values));
    let function = function.map_err(|error| RealizeError::of(VirtioPciError::Host(info.name, error)))?;
    Ok(Arc::new(Mutex::new(function)))
}

/// The device behind a function in the tree of objects: it has the properties of its type, as the function was given them.
fn shown(behind: &'static TypeInfo, values: &Values) -> Arc<dyn Object> {
    let declared = RINGS.iter().chain(behind.properties);
    let fixed = [("realized", true), ("hotplugged", false), ("hotpluggable", false)];
    let object = fixed.into_iter().fold(Simple::new(behind.name), |object, (name, on)| {
        object.with(name, "bool", json!(on))
    });
    let object = declared.fold(object, |object, property| {
        let value = match (property.kind, values.text(property.name)) {
            (PropertyKind::Link(_), id) => json!(id.map(|id| format!("/objects/{id}")).unwrap_or_default()),
            _ => values.get(property.name).cloned().unwrap_or_default(),
        };
        object.with(property.name, &property.kind.type_name(), value)
    });
    Arc::new(object)
}

/// More than there can be means none, and a word about it.
fn wanted_vectors(values: &Values, default: u16) -> u16 {
    match values.uint("vectors") {
        None | Some(VECTORS_UNSET) => default,
        Some(vectors) => match u16::try_from(vectors) {
            Ok(number) if vectors <= MAX_VECTORS => number,
            _ => {
                report::warning(format!("unable to init msix vectors to {vectors}"));
                0
            }
        },
    }
}

/// The feature bits of transport and rings.
fn offered(values: &Values) -> Features {
    [
        ("any_layout", Features::ANY_LAYOUT),
        ("event_idx", Features::EVENT_IDX),
        ("indirect_desc", Features::INDIRECT_DESC),
        ("iommu_platform", Features::ACCESS_PLATFORM),
        ("notify_on_empty", Features::NOTIFY_ON_EMPTY),
        ("packed", Features::RING_PACKED),
        ("queue_reset", Features::RING_RESET),
    ]
    .into_iter()
    .fold(Features::NONE, |all, (name, bit)| all.with(bit, values.boolean(name)))
}
