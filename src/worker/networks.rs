//! Back ends of network cards, and the cards, as commands and events deal with them.

use std::time::Duration;

use super::core::Core;
use crate::io::run_blocking;
use crate::ipc::message::MonitorRequest;
use crate::net::{AnnounceSchedule, NetError, NetdevConfig, News, Opened, RxFilter, RxState};
use crate::qapi::Error;
use crate::qapi::qmp::{
    AnnounceParameters, Event, Netdev, NetdevStreamConnectedEvent, NetdevStreamDisconnectedEvent,
    NicRxFilterChangedEvent, RxFilterInfo, RxState as ShownState,
};

/// `netdev_add`.
///
/// # Errors
/// Names what is wrong, taken, or cannot be opened.
pub(super) async fn add(core: &Core, wanted: &Netdev) -> Result<(), Error> {
    let networks = core.networks()?;
    let config = NetdevConfig::new(wanted).map_err(|error| refusal(&error))?;
    networks.check_free(&config.id).map_err(|error| refusal(&error))?;
    let mut fds = Vec::new();
    for name in config.descriptors() {
        fds.push(core.ask(MonitorRequest::TakeDescriptor(name.to_owned())).await?);
    }
    let opened = run_blocking(move || Opened::new(&config, fds)).await?;
    let added = opened.and_then(|opened| networks.add(opened));
    added.map_err(|error| refusal(&error))
}

/// `query-rx-filter`.
///
/// # Errors
/// There is no card of that name.
pub(super) fn rx_filters(core: &Core, name: Option<&str>) -> Result<Vec<RxFilterInfo>, Error> {
    let filters = core.networks()?.rx_filters(name);
    let filters = filters.map_err(|error| refusal(&error))?.into_iter();
    Ok(filters.map(|(name, filter)| shown(name, filter)).collect())
}

/// What a command asks for; times that are negative are none.
pub(super) fn schedule(args: AnnounceParameters) -> AnnounceSchedule {
    let millis = |number: i64| Duration::from_millis(u64::try_from(number).unwrap_or_default());
    AnnounceSchedule {
        initial: millis(args.initial),
        max: millis(args.max),
        rounds: u32::try_from(args.rounds.max(0)).unwrap_or(u32::MAX),
        step: millis(args.step),
        interfaces: args.interfaces,
        id: args.id,
    }
}

/// What clients are told of an error.
pub(super) fn refusal(error: &NetError) -> Error {
    match error {
        NetError::NotFound(_) => Error::device_not_found(error.to_string()),
        other => Error::generic(other.to_string()),
    }
}

/// What clients are told of news.
pub(super) fn event(news: News) -> Event {
    match news {
        News::Connected(netdev_id, addr) => {
            Event::NetdevStreamConnected(NetdevStreamConnectedEvent { netdev_id, addr })
        }
        News::Disconnected(netdev_id) => Event::NetdevStreamDisconnected(NetdevStreamDisconnectedEvent { netdev_id }),
        News::RxFilterChanged(name, path) => Event::NicRxFilterChanged(NicRxFilterChangedEvent { name, path }),
    }
}

fn shown(name: String, filter: RxFilter) -> RxFilterInfo {
    let state = |state: RxState| match state {
        RxState::Normal => ShownState::Normal,
        RxState::None => ShownState::None,
        RxState::All => ShownState::All,
    };
    let texts = |macs: Vec<crate::net::Mac>| macs.into_iter().map(|mac| mac.to_string()).collect();
    RxFilterInfo {
        name,
        promiscuous: filter.promiscuous,
        multicast: state(filter.multicast),
        unicast: state(filter.unicast),
        vlan: state(filter.vlan),
        // QEMU tells the opposite of what the name says.
        broadcast_allowed: filter.no_broadcast,
        multicast_overflow: filter.multicast_overflow,
        unicast_overflow: filter.unicast_overflow,
        main_mac: filter.main_mac.to_string(),
        vlan_table: filter.vlan_table.into_iter().map(i64::from).collect(),
        unicast_table: texts(filter.unicast_table),
        multicast_table: texts(filter.multicast_table),
    }
}
