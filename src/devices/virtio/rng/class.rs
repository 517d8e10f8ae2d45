//! `virtio-rng-pci` and its kin: their properties, and how they are made.

use std::sync::Arc;
use std::time::Duration;

use super::{Allowance, EntropySource, Rng};
use crate::devices::class::{DeviceClass, Realize, RealizeError, Site};
use crate::devices::pci::{PciPlace, SharedFunction};
use crate::devices::virtio::transport::pci::{self, Interfaces};
use crate::devices::virtio::types::device_types;
use crate::qom::objects::RNG_BACKEND;
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};

/// Vectors if nobody asks for others: queue and configuration.
const VECTORS: u16 = 2;
/// Bytes in a period that are as good as no limit.
const NO_LIMIT: u64 = i64::MAX as u64;

const MAX_BYTES: PropertyInfo = PropertyInfo::new("max-bytes", PropertyKind::Uint64, Default::Uint(NO_LIMIT), "");
const PERIOD: PropertyInfo = PropertyInfo::new("period", PropertyKind::Uint32, Default::Uint(1 << 16), "");
const RNG: PropertyInfo = PropertyInfo::new("rng", PropertyKind::Link(RNG_BACKEND), Default::None, "");

device_types!(
    "virtio-rng",
    RNG_DEVICE: &[MAX_BYTES, PERIOD, RNG],
    RNG_PCI_BASE: &[
        pci::IOEVENTFD,
        pci::VECTORS,
        MAX_BYTES,
        PERIOD,
        RNG,
        PropertyInfo::read_only("virtio-backend", PropertyKind::Other("child<virtio-rng-device>"), ""),
    ],
    realize
);

/// A limit that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RngError {
    /// A period without length.
    #[error("'period' parameter expects a positive integer")]
    Period,
    /// More bytes than a signed number holds.
    #[error("'max-bytes' parameter must be non-negative, and less than 2^63")]
    MaxBytes,
}

fn realize(
    info: &'static TypeInfo,
    interfaces: Interfaces,
    (values, place, site): (&Values, PciPlace, &mut dyn Site),
) -> Result<SharedFunction, RealizeError> {
    let period = values.uint("period").filter(|period| *period != 0);
    let max_bytes = values.uint("max-bytes").filter(|bytes| *bytes <= NO_LIMIT);
    let allowance = Allowance {
        period: Duration::from_millis(period.ok_or_else(|| RealizeError::of(RngError::Period))?),
        max_bytes: max_bytes.ok_or_else(|| RealizeError::of(RngError::MaxBytes))?,
    };
    let source = match values.text("rng") {
        Some(id) => site.entropy(id).ok_or_else(|| RealizeError::NoObject(id.to_owned()))?,
        None => EntropySource::Builtin,
    };
    let device = Arc::new(Rng::new(source, allowance, site.event_loop()));
    pci::realize((info, &RNG_DEVICE), interfaces, VECTORS, (values, place, site), device)
}
