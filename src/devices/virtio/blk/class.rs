//! `virtio-blk-pci` and its kin: their properties, and how they are made.

use std::sync::Arc;

use super::{Blk, BlkConfig};
use crate::block::{AttachError, Attachment, ErrorPolicy, Policy};
use crate::devices::Notice;
use crate::devices::class::{DeviceClass, Realize, RealizeError, Site};
use crate::devices::pci::{PciPlace, SharedFunction};
use crate::devices::virtio::queue::MAX_SIZE;
use crate::devices::virtio::transport::pci::{self, Interfaces};
use crate::devices::virtio::types::device_types;
use crate::qom::{Default, OnOffAuto, PropertyInfo, PropertyKind, TypeInfo, Values};

/// A number of queues that nobody gave: one for each vCPU.
const QUEUES_UNSET: u64 = 0xffff;
/// A number of bytes that nobody gave.
const SIZE_UNSET: u64 = 0xffff_ffff;
/// Most sectors of a discard, unless somebody wants fewer.
const MAX_SECTORS: u64 = 0x003f_ffff;
/// Bytes of a block that nobody gave.
const BLOCK: u32 = 512;
/// Bytes that a block may have.
const BLOCKS: std::ops::RangeInclusive<u64> = 512..=2 << 20;

const ON_ERROR: PropertyKind = PropertyKind::Enum("BlockdevOnError", &["report", "ignore", "enospc", "stop", "auto"]);

const PROPERTIES: [PropertyInfo; 24] = [
    on_off("config-wce", true),
    PropertyInfo::new("cyls", PropertyKind::Uint32, Default::Uint(0), ""),
    on_off("discard", true),
    PropertyInfo::new("discard_granularity", PropertyKind::Size, Default::Uint(SIZE_UNSET), ""),
    PropertyInfo::new(
        "drive",
        PropertyKind::Str,
        Default::None,
        "Node name or ID of a block device to use as a backend",
    ),
    PropertyInfo::new("heads", PropertyKind::Uint32, Default::Uint(0), ""),
    PropertyInfo::new(
        "logical_block_size",
        PropertyKind::Size,
        Default::Uint(0),
        "A power of two between 512 B and 2 MiB",
    ),
    PropertyInfo::new(
        "max-discard-sectors",
        PropertyKind::Uint32,
        Default::Uint(MAX_SECTORS),
        "",
    ),
    PropertyInfo::new(
        "max-write-zeroes-sectors",
        PropertyKind::Uint32,
        Default::Uint(MAX_SECTORS),
        "",
    ),
    PropertyInfo::new("min_io_size", PropertyKind::Size, Default::Uint(0), ""),
    PropertyInfo::new("num-queues", PropertyKind::Uint16, Default::Uint(QUEUES_UNSET), ""),
    PropertyInfo::new("opt_io_size", PropertyKind::Size, Default::Uint(0), ""),
    PropertyInfo::new(
        "physical_block_size",
        PropertyKind::Size,
        Default::Uint(0),
        "A power of two between 512 B and 2 MiB",
    ),
    PropertyInfo::new("queue-size", PropertyKind::Uint16, Default::Uint(256), ""),
    on_off("report-discard-granularity", true),
    PropertyInfo::new(
        "rerror",
        ON_ERROR,
        Default::Str("auto"),
        "Error handling policy, report/ignore/enospc/stop/auto",
    ),
    PropertyInfo::new("secs", PropertyKind::Uint32, Default::Uint(0), ""),
    on_off("seg-max-adjust", true),
    PropertyInfo::new("serial", PropertyKind::Str, Default::None, ""),
    on_off("share-rw", false),
    PropertyInfo::new(
        "werror",
        ON_ERROR,
        Default::Str("auto"),
        "Error handling policy, report/ignore/enospc/stop/auto",
    ),
    PropertyInfo::new(
        "write-cache",
        PropertyKind::OnOffAuto,
        Default::Str("auto"),
        "on/off/auto",
    ),
    on_off("write-zeroes", true),
    pci::IOEVENTFD,
];

const fn on_off(name: &'static str, default: bool) -> PropertyInfo {
    PropertyInfo::new(name, PropertyKind::Bool, Default::Bool(default), "on/off")
}

/// The properties, with what a function has beside those of the device behind it.
const FUNCTION_PROPERTIES: [PropertyInfo; 27] = {
    let mut all = [pci::VECTORS; 27];
    let mut index = 0;
    while index < PROPERTIES.len() {
        all[index] = PROPERTIES[index];
        index += 1;
    }
    all[26] = PropertyInfo::new("bootindex", PropertyKind::Int32, Default::None, "");
    all[25] = PropertyInfo::read_only("virtio-backend", PropertyKind::Other("child<virtio-blk-device>"), "");
    all
};
/// The properties without what only functions have.
const DEVICE_PROPERTIES: [PropertyInfo; 23] = {
    let mut all = [PROPERTIES[0]; 23];
    let mut index = 0;
    while index < all.len() {
        all[index] = PROPERTIES[index];
        index += 1;
    }
    all
};

device_types!(
    "virtio-blk",
    BLK_DEVICE: &DEVICE_PROPERTIES,
    BLK_PCI_BASE: &FUNCTION_PROPERTIES,
    realize
);

/// Why there can be no such disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlkError {
    /// Nobody said which node it is over.
    #[error("drive property not set")]
    NoDrive,
    /// There is no such node.
    #[error("Property 'virtio-blk-device.drive' can't find value '{0}'")]
    NoNode(String),
    /// Others use the node.
    #[error("{0}")]
    Refused(AttachError),
    /// It would have no queue.
    #[error("num-queues property must be larger than 0")]
    NoQueue,
    /// More queues than there are vectors and notifications for.
    #[error("num-queues property must be no more than {MAX_SIZE}")]
    Queues,
    /// A size that rings do not have.
    #[error("invalid queue-size property ({0}), must be a power of 2 (max {MAX_SIZE})")]
    QueueSize(u64),
    /// Too small for the two parts that every request has.
    #[error("invalid queue-size property ({0}), must be greater than 2")]
    SmallQueue(u64),
    /// A size that blocks do not have.
    #[error("Property '{0}' doesn't take value {1} (a power of two, minimum: 512, maximum: 2097152)")]
    BlockSize(&'static str, u64),
    /// Blocks of the medium are smaller than those of the disk.
    #[error("logical_block_size > physical_block_size not supported")]
    Physical,
    /// A property that cannot be that large.
    #[error("'{0}' is too large")]
    TooLarge(&'static str),
    /// Discards of no whole block.
    #[error("discard_granularity must be a multiple of logical_block_size")]
    Granularity,
    /// Reads cannot be stopped for lack of room.
    #[error("rerror={0} is not supported")]
    ReadPolicy(String),
}

fn realize(
    info: &'static TypeInfo,
    interfaces: Interfaces,
    (values, place, site): (&Values, PciPlace, &mut dyn Site),
) -> Result<SharedFunction, RealizeError> {
    let config = config(values, site).map_err(RealizeError::of)?;
    let policy = policy(values).map_err(RealizeError::of)?;
    let drive = values.text("drive").filter(|drive| !drive.is_empty());
    let node = drive.ok_or_else(|| RealizeError::of(BlkError::NoDrive))?;
    let notifier = site.notifier();
    let backend = site.graph().attach(Attachment {
        node,
        path: format!("{}/virtio-backend", site.path()),
        share_writes: values.boolean("share-rw"),
        writeback: config.writeback,
        policy,
        notify: Arc::new(move || notifier(Notice::DiskError)),
    });
    let backend = backend.map_err(|error| {
        RealizeError::of(match error {
            AttachError::NoNode(name) => BlkError::NoNode(name),
            refused => BlkError::Refused(refused),
        })
    })?;
    let vectors = config.queues + 1;
    let device = Arc::new(Blk::new(backend, config, site.event_loop()));
    pci::realize((info, &BLK_DEVICE), interfaces, vectors, (values, place, site), device)
}

fn config(values: &Values, site: &dyn Site) -> Result<BlkConfig, BlkError> {
    let uint = |name| values.uint(name).unwrap_or_default();
    let queues = match uint("num-queues") {
        QUEUES_UNSET => u64::from(site.cpus()).min(MAX_SIZE.into()),
        0 => return Err(BlkError::NoQueue),
        queues => queues,
    };
    let queue_size = uint("queue-size");
    if queue_size <= 2 {
        return Err(BlkError::SmallQueue(queue_size));
    }
    let is_ring = queue_size.is_power_of_two() && queue_size <= MAX_SIZE.into();
    let narrow = |name| u32::try_from(uint(name)).map_err(|_| BlkError::TooLarge(name));
    let logical_block = block(values, "logical_block_size")?.unwrap_or(BLOCK);
    let physical_block = block(values, "physical_block_size")?;
    if physical_block.is_some_and(|physical| physical < logical_block) {
        return Err(BlkError::Physical);
    }
    let granularity = match uint("discard_granularity") {
        SIZE_UNSET => logical_block,
        _ if !values.boolean("report-discard-granularity") => logical_block,
        _ => narrow("discard_granularity")?,
    };
    if granularity % logical_block != 0 {
        return Err(BlkError::Granularity);
    }
    let geometry = (narrow("cyls")?, narrow("heads")?, narrow("secs")?);
    Ok(BlkConfig {
        queues: match u16::try_from(queues) {
            Ok(queues) if queues <= MAX_SIZE => queues,
            _ => return Err(BlkError::Queues),
        },
        queue_size: match u16::try_from(queue_size) {
            Ok(size) if is_ring => size,
            _ => return Err(BlkError::QueueSize(queue_size)),
        },
        serial: values.text("serial").unwrap_or_default().as_bytes().to_vec(),
        config_wce: values.boolean("config-wce"),
        writeback: values.on_off_auto("write-cache") != OnOffAuto::Off,
        discard: values.boolean("discard"),
        write_zeroes: values.boolean("write-zeroes"),
        max_discard: narrow("max-discard-sectors")?,
        max_zeroes: narrow("max-write-zeroes-sectors")?,
        logical_block,
        physical_block: physical_block.unwrap_or(logical_block),
        min_io: uint("min_io_size"),
        opt_io: uint("opt_io_size"),
        discard_granularity: granularity,
        seg_max_adjust: values.boolean("seg-max-adjust"),
        geometry: (geometry != (0, 0, 0)).then_some(geometry),
    })
}

/// A property that is the size of a block; none if nobody gave it.
fn block(values: &Values, name: &'static str) -> Result<Option<u32>, BlkError> {
    match values.uint(name) {
        None | Some(0) => Ok(None),
        Some(size) if BLOCKS.contains(&size) && size.is_power_of_two() => {
            u32::try_from(size).map(Some).map_err(|_| BlkError::TooLarge(name))
        }
        Some(size) => Err(BlkError::BlockSize(name, size)),
    }
}

fn policy(values: &Values) -> Result<ErrorPolicy, BlkError> {
    let read = match values.text("rerror").unwrap_or_default() {
        "ignore" => Policy::Ignore,
        "stop" => Policy::Stop,
        name @ "enospc" => return Err(BlkError::ReadPolicy(name.to_owned())),
        _ => Policy::Report,
    };
    let write = match values.text("werror").unwrap_or_default() {
        "ignore" => Policy::Ignore,
        "stop" => Policy::Stop,
        "report" => Policy::Report,
        _ => Policy::StopIfFull,
    };
    Ok(ErrorPolicy { read, write })
}
