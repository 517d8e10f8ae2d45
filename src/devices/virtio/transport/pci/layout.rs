//! Configuration space of a virtio function, as QEMU lays it out.

use std::sync::Arc;

use super::registers::{self, NotifyLayout};
use super::{MSIX_BAR, VirtioPciConfig, legacy};
use crate::devices::pci::{BarKind, ConfigSpace, Endpoint, EndpointConfig, Msix, MsixLayout, PowerManagement};
use crate::devices::virtio::core::Core;
use crate::irq::MsiSource;

/// Vendor of all virtio functions.
const VENDOR: u16 = 0x1af4;
/// Device ids of modern functions: this and the id of the kind.
const MODERN_IDS: u16 = 0x1040;
/// Subsystem id of modern functions.
const SUBSYSTEM: u16 = 0x1100;
/// Id of vendor-specific capabilities.
const VENDOR_CAPABILITY: u8 = 9;
/// Bytes of the registers of MSI-X at least, and where the pending bits are at least.
const MSIX_LEN: u64 = 4096;
const MSIX_PENDING: u32 = 0x800;
/// Bytes of an entry of the table.
const MSIX_ENTRY: u32 = 16;
/// First byte behind the header.
const HEADER_END: usize = 0x40;
/// First byte of extended configuration space, and the first behind its empty list of capabilities.
const EXTENDED: usize = 0x100;
const EXTENDED_BODY: usize = EXTENDED + 4;
const END: usize = 0x1000;
/// Structures by their numbers (virtio 1.2, 4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
const WINDOW: u8 = 5;
/// Bytes of the common, ISR and device structures.
const STRUCTURE_LEN: u32 = 0x1000;

/// A function's configuration space, and what lives in it.
pub(super) struct LaidOut {
    pub(super) config: ConfigSpace,
    pub(super) express: Option<(Endpoint, PowerManagement)>,
    pub(super) window: Option<ConfigWindow>,
    pub(super) msix: Option<Msix>,
}

pub(super) fn configuration(wanted: &VirtioPciConfig, core: &Core, msi: Arc<dyn MsiSource>) -> LaidOut {
    let kind = core.device().kind();
    let mut config = match kind.transitional_id.filter(|_| wanted.legacy) {
        Some(id) => ConfigSpace::new(VENDOR, id, kind.class, 0).with_subsystem(VENDOR, kind.id),
        None => ConfigSpace::new(VENDOR, MODERN_IDS + kind.id, kind.class, 1).with_subsystem(VENDOR, SUBSYSTEM),
    }
    .with_multifunction(wanted.multifunction)
    .with_interrupt_pin(1);
    let express = wanted.express.then(|| {
        let endpoint = EndpointConfig {
            function_level_reset: wanted.function_level_reset,
            extended_tag: wanted.extended_tag,
        };
        let endpoint = Endpoint::add(&mut config, endpoint);
        (endpoint, PowerManagement::add(&mut config, wanted.no_soft_reset))
    });
    if wanted.legacy {
        let len = legacy::bar_len(wanted.vectors != 0, core.device().config().len());
        config.add_bar(legacy::BAR, BarKind::Io, len);
    }
    let window = wanted
        .modern
        .then(|| add_structures(&mut config, wanted.page_per_queue));
    let msix = (wanted.vectors != 0).then(|| {
        let (layout, len) = msix_layout(wanted.vectors);
        config.add_bar(MSIX_BAR, BarKind::Memory32, len);
        Msix::add(&mut config, layout, msi)
    });
    open_the_rest(&mut config, wanted.express);
    LaidOut {
        config: config.sealed(),
        express,
        window,
        msix,
    }
}

/// Where table and pending bits are for so many vectors, and bytes of both.
fn msix_layout(vectors: u16) -> (MsixLayout, u64) {
    let count = u32::from(vectors);
    let pending = MSIX_PENDING.max(count * MSIX_ENTRY);
    let end = u64::from(pending) + u64::from(count.div_ceil(64) * 8);
    let layout = MsixLayout {
        vectors,
        bar: MSIX_BAR as u8,
        table: 0,
        pending,
    };
    (layout, end.max(MSIX_LEN).next_power_of_two())
}

/// The modern registers, and where to find them.
fn add_structures(config: &mut ConfigSpace, page_per_queue: bool) -> ConfigWindow {
    let notify = NotifyLayout::new(page_per_queue);
    config.add_bar(
        registers::BAR,
        BarKind::Memory64 { prefetchable: true },
        notify.bar_len(),
    );
    add_structure(config, COMMON, registers::COMMON, STRUCTURE_LEN, &[]);
    add_structure(config, ISR, registers::ISR, STRUCTURE_LEN, &[]);
    add_structure(config, DEVICE, registers::DEVICE, STRUCTURE_LEN, &[]);
    let multiplier = notify.multiplier.to_le_bytes();
    add_structure(config, NOTIFY, registers::NOTIFY, notify.len(), &multiplier);
    let body = [20, WINDOW, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ConfigWindow::new(config, &body)
}

fn add_structure(config: &mut ConfigSpace, number: u8, offset: u64, len: u32, more: &[u8]) {
    // Two bytes of header, and this.
    let size = 16 + more.len() as u8;
    let mut body = vec![size, number, registers::BAR as u8, 0, 0, 0];
    body.extend(offset.to_le_bytes().into_iter().take(4));
    body.extend(len.to_le_bytes());
    body.extend(more);
    config.add_capability(VENDOR_CAPABILITY, &body);
}

/// Bytes that no capability has taken keep what is written to them.
fn open_the_rest(config: &mut ConfigSpace, express: bool) {
    let end = config.capabilities_end().max(HEADER_END);
    config.allow_write(end, &vec![0xff; EXTENDED - end]);
    if express {
        config.allow_write(EXTENDED_BODY, &vec![0xff; END - EXTENDED_BODY]);
    }
}

/// The capability by which the modern registers are reached without a mapping (virtio 1.2, 4.1.4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConfigWindow {
    at: usize,
}

impl ConfigWindow {
    const BAR: usize = 4;
    const OFFSET: usize = 8;
    const LENGTH: usize = 12;
    const DATA: usize = 16;

    fn new(config: &mut ConfigSpace, body: &[u8]) -> Self {
        let at = config.add_capability(VENDOR_CAPABILITY, body);
        config.allow_write(at + Self::BAR, &[0xff]);
        config.allow_write(at + Self::OFFSET, &[0xff; 12]);
        Self { at }
    }

    /// Where the data are.
    pub(super) fn data(self) -> usize {
        self.at + Self::DATA
    }

    /// Whether an access reaches the data.
    pub(super) fn is_data(self, at: u16, len: usize) -> bool {
        let at = usize::from(at);
        at < self.data() + 4 && self.data() < at + len
    }

    /// What the driver wants to reach: offset and number of bytes.
    pub(super) fn target(self, config: &ConfigSpace) -> Option<(u64, usize)> {
        let (offset, len) = (config.u32(self.at + Self::OFFSET), config.u32(self.at + Self::LENGTH));
        let is_modern = usize::from(config.u8(self.at + Self::BAR)) == registers::BAR;
        let len = usize::try_from(len).ok().filter(|len| [1, 2, 4].contains(len))?;
        (is_modern && u64::from(offset) % len as u64 == 0).then_some((offset.into(), len))
    }
}
