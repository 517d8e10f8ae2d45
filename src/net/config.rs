//! What is asked of a back end, checked as far as that is possible without opening anything.

use std::time::Duration;

use super::{MAX_QUEUES, NetError, address};
use crate::qapi::qmp::{
    NetClientDriver, Netdev, NetdevDgramOptions, NetdevSocketOptions, NetdevStreamOptions, NetdevTapOptions,
    NetdevVariant, SocketAddress,
};
use crate::qapi::text::is_well_formed_id;

const INVALID_WITH_FD: &str = "ifname=, script=, downscript=, vnet_hdr= are invalid with fd=/fds=/helper=";

/// A back end that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct NetdevConfig {
    /// Its id.
    pub id: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Tap(TapConfig),
    Stream(StreamConfig),
    Datagram {
        local: Option<SocketAddress>,
        remote: Option<SocketAddress>,
    },
    /// `-netdev socket,fd=`: a socket of either kind.
    Socket(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TapConfig {
    /// The descriptors of its queues.
    pub(super) fds: Vec<String>,
    /// The descriptors by which the kernel would move frames.
    pub(super) vhost_fds: Vec<String>,
    pub(super) ifname: String,
    pub(super) queues: usize,
    pub(super) header: Option<bool>,
    pub(super) send_buffer: Option<u64>,
    pub(super) vhost: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct StreamConfig {
    pub(super) address: SocketAddress,
    pub(super) server: bool,
    pub(super) reconnect: Option<Duration>,
    /// Asked for by an option whose clients hear of no peers.
    pub(super) silent: bool,
}

impl NetdevConfig {
    /// What `wanted` says.
    ///
    /// # Errors
    /// Names what contradicts what, is missing, or cannot be had.
    pub fn new(wanted: &Netdev) -> Result<Self, NetError> {
        if !is_well_formed_id(&wanted.id) {
            return Err(NetError::MalformedId);
        }
        let kind = match &wanted.variant {
            NetdevVariant::Tap(tap) => Kind::Tap(TapConfig::new(tap)?),
            NetdevVariant::Stream(stream) => Kind::Stream(StreamConfig::new(stream)?),
            NetdevVariant::Dgram(datagram) => datagrams(datagram)?,
            NetdevVariant::Socket(socket) => of_socket(socket)?,
        };
        Ok(Self {
            id: wanted.id.clone(),
            kind,
        })
    }

    /// The descriptors that are to be found for it, by number or by the name that `getfd` gave them.
    #[must_use]
    pub fn descriptors(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Tap(tap) => tap.fds.iter().chain(&tap.vhost_fds).map(String::as_str).collect(),
            Kind::Socket(fd) => vec![fd],
            Kind::Stream(StreamConfig {
                address: SocketAddress::Fd(fd),
                ..
            })
            | Kind::Datagram {
                local: Some(SocketAddress::Fd(fd)),
                ..
            } => vec![&fd.str],
            Kind::Stream(_) | Kind::Datagram { .. } => Vec::new(),
        }
    }

    /// Its kind, as clients know it.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match &self.kind {
            Kind::Tap(_) => NetClientDriver::Tap.as_str(),
            Kind::Stream(StreamConfig { silent: false, .. }) => NetClientDriver::Stream.as_str(),
            Kind::Datagram { .. } => NetClientDriver::Dgram.as_str(),
            Kind::Stream(_) | Kind::Socket(_) => NetClientDriver::Socket.as_str(),
        }
    }
}

impl TapConfig {
    fn new(wanted: &NetdevTapOptions) -> Result<Self, NetError> {
        let contradiction = |text| Err(NetError::Contradiction(text));
        let has_script = wanted.script.is_some() || wanted.downscript.is_some();
        let names = wanted.ifname.is_some() || has_script || wanted.vnet_hdr.is_some();
        if wanted.fd.is_some()
            && (names || wanted.queues.is_some() || wanted.fds.is_some() || wanted.vhostfds.is_some())
        {
            return contradiction(INVALID_WITH_FD);
        }
        if wanted.fds.is_some() && (names || wanted.queues.is_some() || wanted.vhostfd.is_some()) {
            return contradiction(INVALID_WITH_FD);
        }
        if wanted.queues.is_some_and(|queues| queues > 1) && wanted.vhostfd.is_some() {
            return contradiction("vhostfd= is not valid with multiqueue tap, use vhostfds=");
        }
        let queues = usize::try_from(wanted.queues.unwrap_or(1)).unwrap_or(usize::MAX);
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(NetError::Range {
                name: "queues",
                expected: "a number between 1 and 256",
            });
        }
        let list = |text: &Option<String>| -> Vec<String> {
            text.iter()
                .flat_map(|text| text.split(':'))
                .map(str::to_owned)
                .collect()
        };
        let fds: Vec<String> = wanted.fd.iter().cloned().chain(list(&wanted.fds)).collect();
        if fds.len() > MAX_QUEUES {
            return Err(NetError::Range {
                name: "fds",
                expected: "256 descriptors at most",
            });
        }
        let vhost_fds: Vec<String> = wanted.vhostfd.iter().cloned().chain(list(&wanted.vhostfds)).collect();
        let is_forced = wanted.vhostforce == Some(true);
        let vhost = wanted.vhost.unwrap_or(!vhost_fds.is_empty() || is_forced);
        if !vhost && (!vhost_fds.is_empty()) {
            return contradiction("vhostfd(s)= is not valid without vhost");
        }
        if vhost && is_forced {
            return Err(NetError::Vhost);
        }
        if !fds.is_empty() && !vhost_fds.is_empty() && fds.len() != vhost_fds.len() {
            return contradiction("The number of fds passed does not match the number of vhostfds passed");
        }
        if fds.is_empty() {
            // QEMU runs one unless it is told not to.
            for (name, script) in [("script", &wanted.script), ("downscript", &wanted.downscript)] {
                if script.as_deref() != Some("no") {
                    return Err(NetError::Script(name));
                }
            }
        }
        let queues = if fds.is_empty() { queues } else { fds.len() };
        Ok(Self {
            fds,
            vhost_fds,
            ifname: wanted.ifname.clone().unwrap_or_default(),
            queues,
            header: wanted.vnet_hdr,
            send_buffer: wanted.sndbuf,
            vhost,
        })
    }
}

impl StreamConfig {
    fn new(wanted: &NetdevStreamOptions) -> Result<Self, NetError> {
        let server = wanted.server.unwrap_or(false);
        if wanted.reconnect.is_some() && wanted.reconnect_ms.is_some() {
            return Err(NetError::Contradiction(
                "'reconnect' and 'reconnect-ms' are mutually exclusive",
            ));
        }
        let millis = match (wanted.reconnect, wanted.reconnect_ms) {
            (Some(seconds), _) => seconds.checked_mul(1000),
            (None, millis) => Some(millis.unwrap_or(0)),
        };
        let millis = millis
            .and_then(|millis| u64::try_from(millis).ok())
            .ok_or(NetError::Range {
                name: "reconnect-ms",
                expected: "a positive number",
            })?;
        let reconnect = (millis != 0).then(|| Duration::from_millis(millis));
        if server && reconnect.is_some() {
            return Err(NetError::Contradiction(
                "'reconnect-ms' option is incompatible with socket in server mode",
            ));
        }
        if reconnect.is_some() && matches!(wanted.addr, SocketAddress::Fd(_)) {
            return Err(NetError::Contradiction(
                "'reconnect-ms' option is incompatible with a socket that is open already",
            ));
        }
        Ok(Self {
            address: wanted.addr.clone(),
            server,
            reconnect,
            silent: false,
        })
    }
}

fn datagrams(wanted: &NetdevDgramOptions) -> Result<Kind, NetError> {
    let is_fd = |address: &Option<SocketAddress>| matches!(address, Some(SocketAddress::Fd(_)));
    if is_fd(&wanted.remote) {
        return Err(NetError::Contradiction(
            "remote= cannot be a socket that is open already",
        ));
    }
    if is_fd(&wanted.local) && wanted.remote.is_some() {
        return Err(NetError::Contradiction("don't set remote with local.fd"));
    }
    if wanted.local.is_none() && wanted.remote.is_none() {
        return Err(NetError::Incomplete("dgram requires local= parameter"));
    }
    Ok(Kind::Datagram {
        local: wanted.local.clone(),
        remote: wanted.remote.clone(),
    })
}

fn of_socket(wanted: &NetdevSocketOptions) -> Result<Kind, NetError> {
    let given = [&wanted.fd, &wanted.listen, &wanted.connect, &wanted.mcast, &wanted.udp];
    if given.into_iter().flatten().count() != 1 {
        return Err(NetError::Contradiction(
            "exactly one of listen=, connect=, mcast=, udp=, or fd= is required",
        ));
    }
    if wanted.localaddr.is_some() && wanted.mcast.is_none() && wanted.udp.is_none() {
        return Err(NetError::Contradiction("localaddr= is only valid with mcast= or udp="));
    }
    let stream = |address, server| {
        Kind::Stream(StreamConfig {
            address,
            server,
            reconnect: None,
            silent: true,
        })
    };
    if let Some(text) = &wanted.listen {
        // A port alone is one of any address.
        let text = if text.contains(':') {
            text.clone()
        } else {
            format!(":{text}")
        };
        return Ok(stream(address::parse("listen", &text)?, true));
    }
    if let Some(text) = &wanted.connect {
        return Ok(stream(address::parse("connect", text)?, false));
    }
    if let Some(text) = &wanted.mcast {
        // Without a port: the interface alone.
        let local = wanted
            .localaddr
            .as_ref()
            .map(|local| address::parse("localaddr", &format!("{local}:0")));
        return Ok(Kind::Datagram {
            local: local.transpose()?,
            remote: Some(address::parse("mcast", text)?),
        });
    }
    if let Some(text) = &wanted.udp {
        let Some(local) = &wanted.localaddr else {
            return Err(NetError::Incomplete("localaddr= is mandatory with udp="));
        };
        return Ok(Kind::Datagram {
            local: Some(address::parse("localaddr", local)?),
            remote: Some(address::parse("udp", text)?),
        });
    }
    Ok(Kind::Socket(wanted.fd.clone().unwrap_or_default()))
}
