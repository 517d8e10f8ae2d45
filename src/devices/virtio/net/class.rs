//! `virtio-net-pci` and its kin: their properties, and how they are made.

use std::sync::Arc;
use std::time::Duration;

use super::settings::SWITCHES;
use super::{Backing, Net, NetSettings, Sending};
use crate::devices::class::{DeviceClass, Realize, RealizeError, Site};
use crate::devices::pci::{PciPlace, SharedFunction};
use crate::devices::virtio::Features;
use crate::devices::virtio::transport::pci::{self, Interfaces};
use crate::devices::virtio::types::device_types;
use crate::net::{Attachment, Mac, Nic};
use crate::qom::{Default, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::report;

/// Sizes that queues may have.
const QUEUE_SIZES: std::ops::RangeInclusive<u16> = 256..=1024;
/// A queue for what goes out has no more buffers, whatever it was given: back ends take no longer chains.
const MAX_TX_QUEUE: u16 = 256;
/// Frames sent before others have their turn.
const BURST: i64 = 256;
/// Nanoseconds that a frame waits for others.
const TIMER: u64 = 150_000;
/// Queue pairs at most: each has a place among the notifications.
const MAX_PAIRS: usize = 256;

const fn switch(name: &'static str, default: bool) -> PropertyInfo {
    PropertyInfo::new(name, PropertyKind::Bool, Default::Bool(default), "on/off")
}

/// What function and device have alike.
const SHARED: [PropertyInfo; 35] = [
    switch("csum", true),
    switch("ctrl_guest_offloads", true),
    switch("ctrl_mac_addr", true),
    switch("ctrl_rx", true),
    switch("ctrl_rx_extra", true),
    switch("ctrl_vlan", true),
    switch("ctrl_vq", true),
    PropertyInfo::new("duplex", PropertyKind::Str, Default::None, ""),
    switch("gso", true),
    switch("guest_announce", true),
    switch("guest_csum", true),
    switch("guest_ecn", true),
    switch("guest_tso4", true),
    switch("guest_tso6", true),
    switch("guest_ufo", true),
    switch("guest_uso4", true),
    switch("guest_uso6", true),
    switch("host_ecn", true),
    PropertyInfo::new("host_mtu", PropertyKind::Uint16, Default::Uint(0), ""),
    switch("host_tso4", true),
    switch("host_tso6", true),
    switch("host_ufo", true),
    switch("host_uso", true),
    PropertyInfo::new(
        "mac",
        PropertyKind::Str,
        Default::None,
        "Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56",
    ),
    switch("mq", false),
    switch("mrg_rxbuf", true),
    PropertyInfo::new(
        "netdev",
        PropertyKind::Str,
        Default::None,
        "ID of a netdev to use as a backend",
    ),
    PropertyInfo::new("rx_queue_size", PropertyKind::Uint16, Default::Uint(256), ""),
    PropertyInfo::new("speed", PropertyKind::Int32, Default::Int(-1), ""),
    switch("status", true),
    PropertyInfo::new("tx", PropertyKind::Str, Default::None, ""),
    PropertyInfo::new("tx_queue_size", PropertyKind::Uint16, Default::Uint(256), ""),
    PropertyInfo::new("x-txburst", PropertyKind::Int32, Default::Int(BURST), ""),
    PropertyInfo::new("x-txtimer", PropertyKind::Uint32, Default::Uint(TIMER), ""),
    PropertyInfo::read_only("virtio-backend", PropertyKind::Other("child<virtio-net-device>"), ""),
];

/// The properties of the functions: those of the transport beside the shared ones.
const fn of_functions() -> [PropertyInfo; SHARED.len() + 2] {
    let mut all = [pci::IOEVENTFD; SHARED.len() + 2];
    all[1] = pci::VECTORS;
    let mut index = 0;
    while index < SHARED.len() {
        all[index + 2] = SHARED[index];
        index += 1;
    }
    all
}

static FUNCTION_PROPERTIES: [PropertyInfo; SHARED.len() + 2] = of_functions();
static DEVICE_PROPERTIES: [PropertyInfo; SHARED.len()] = SHARED;

device_types!(
    "virtio-net",
    NET_DEVICE: DEVICE_PROPERTIES.split_at(SHARED.len() - 1).0,
    NET_PCI_BASE: &FUNCTION_PROPERTIES,
    realize
);

/// Why there can be no such card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// There is no back end of this id.
    #[error("Property 'virtio-net-device.netdev' can't find value '{0}'")]
    NoNetdev(String),
    /// Another card has it.
    #[error("Property 'virtio-net-device.netdev' can't take value '{0}', it's in use")]
    NetdevInUse(String),
    /// A text that is no address.
    #[error("Property 'virtio-net-device.mac' doesn't take value '{0}'")]
    NotMac(String),
    /// A number of buffers that a queue cannot have.
    #[error("Invalid {name} (= {value}), must be a power of 2 between 256 and 1024.")]
    QueueSize {
        /// The property.
        name: &'static str,
        /// Its value.
        value: u64,
    },
    /// Neither of the two ways.
    #[error("'duplex' must be 'half' or 'full'")]
    Duplex,
    /// Less than nothing.
    #[error("'speed' must be between 0 and INT_MAX")]
    Speed,
    /// More pairs than there are places for.
    #[error("Invalid number of queue pairs (= {0}), must be a positive integer less than 256.")]
    Pairs(usize),
}

fn realize(
    info: &'static TypeInfo,
    interfaces: Interfaces,
    (values, place, site): (&Values, PciPlace, &mut dyn Site),
) -> Result<SharedFunction, RealizeError> {
    let networks = site.networks().clone();
    let given = values
        .text("mac")
        .map(|text| text.parse().map_err(|_| NetError::NotMac(text.to_owned())));
    let given: Option<Mac> = given.transpose().map_err(RealizeError::of)?;
    let attachment = attach(values, site).map_err(RealizeError::of)?;
    let mac = networks.claim_mac(given);
    let settings = settings(values, mac.mac(), attachment.as_ref(), site).map_err(RealizeError::of)?;
    let vectors = 2 * settings.pairs + 2;
    let net = Net::new(settings, attachment, site.event_loop());
    let nic: Arc<dyn Nic> = Arc::clone(&net) as _;
    net.keep(networks.register("virtio-net-pci", site.id(), mac, Arc::downgrade(&nic)));
    pci::realize((info, &NET_DEVICE), interfaces, vectors, (values, place, site), net)
}

/// Takes the back end that it is to have.
fn attach(values: &Values, site: &dyn Site) -> Result<Option<Attachment>, NetError> {
    let Some(id) = values.text("netdev") else {
        return Ok(None);
    };
    let networks = site.networks();
    let netdev = networks.find(id).ok_or_else(|| NetError::NoNetdev(id.to_owned()))?;
    let attachment = networks.attach(&netdev);
    attachment.map(Some).ok_or_else(|| NetError::NetdevInUse(id.to_owned()))
}

fn settings(
    values: &Values,
    mac: Mac,
    attachment: Option<&Attachment>,
    site: &dyn Site,
) -> Result<NetSettings, NetError> {
    let netdev = attachment.map(Attachment::netdev);
    let pairs = netdev.map_or(1, |netdev| netdev.ports().len());
    let pairs = match u16::try_from(pairs) {
        Ok(number) if pairs < MAX_PAIRS => number,
        _ => return Err(NetError::Pairs(pairs)),
    };
    let full_duplex = match values.text("duplex") {
        None => None,
        Some("half") => Some(false),
        Some("full") => Some(true),
        Some(_) => return Err(NetError::Duplex),
    };
    let speed = match values.int("speed").unwrap_or(-1) {
        -1 => None,
        speed => Some(u32::try_from(speed).map_err(|_| NetError::Speed)?),
    };
    let wanted = SWITCHES
        .into_iter()
        .fold(Features::NONE, |all, (name, bit)| all.with(bit, values.boolean(name)));
    let [burst, timer] = [values.int("x-txburst"), values.int("x-txtimer")];
    Ok(NetSettings {
        mac,
        pairs,
        wanted,
        backing: Backing {
            offloads: netdev.and_then(|netdev| netdev.offloads()),
        },
        rx_queue_size: queue_size(values, "rx_queue_size")?,
        tx_queue_size: queue_size(values, "tx_queue_size")?.min(MAX_TX_QUEUE),
        mtu: values
            .uint("host_mtu")
            .and_then(|mtu| u16::try_from(mtu).ok())
            .unwrap_or_default(),
        speed,
        full_duplex,
        sending: sending(values.text("tx"), timer.unwrap_or_default()),
        burst: burst
            .and_then(|burst| usize::try_from(burst).ok())
            .unwrap_or_default()
            .max(1),
        id: site.id().map(str::to_owned),
        path: format!("{}/virtio-backend", site.path()),
        teller: site.networks().teller(),
    })
}

fn sending(how: Option<&str>, nanoseconds: i64) -> Sending {
    match how {
        Some("timer") => Sending::After(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default())),
        None | Some("bh") => Sending::Soon,
        Some(other) => {
            report::warning(format!(
                "virtio-net: Unknown option tx={other}, valid options: \"timer\" \"bh\"; defaulting to \"bh\""
            ));
            Sending::Soon
        }
    }
}

fn queue_size(values: &Values, name: &'static str) -> Result<u16, NetError> {
    let value = values.uint(name).unwrap_or_default();
    let size = u16::try_from(value).ok();
    let size = size.filter(|size| QUEUE_SIZES.contains(size) && size.is_power_of_two());
    size.ok_or(NetError::QueueSize { name, value })
}
