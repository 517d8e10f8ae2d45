//! What a device is connected to, at the machine's start and when it is plugged in later.

use std::path::PathBuf;
use std::sync::Arc;

use super::instance::Instance;
use crate::block::Graph;
use crate::devices::characters::{Input, Sink};
use crate::devices::class::{Characters, RealizeError, Site};
use crate::devices::virtio::rng::EntropySource;
use crate::devices::{Clock, Notifier};
use crate::io::{GuestClock, Handle};
use crate::irq::{IrqLine, Lines, MsiSource, NoSuchLine, Router};
use crate::machine::chardevs::Chardevs;
use crate::machine::config::Global;
use crate::machine::entropy::EntropySources;
use crate::machine::pc::board::Board;
use crate::machine::streams::{Connection, Streams};
use crate::mem::{AddressSpace, Mapping, Region};
use crate::net::Networks;
use crate::qom::{GlobalValue, Registry};

/// The parts of a machine that devices are connected to.
pub(super) struct Wiring {
    pub(super) registry: Registry,
    /// `-global`, in the order given.
    pub(super) globals: Vec<Global>,
    /// Where ROMs are looked for before the usual places.
    pub(super) data_dirs: Vec<PathBuf>,
    pub(super) board: Arc<Board>,
    pub(super) lines: Lines,
    pub(super) router: Arc<Router>,
    pub(super) clock: Arc<GuestClock>,
    pub(super) entropy: EntropySources,
    pub(super) networks: Networks,
    /// The nodes that disks are made of.
    pub(super) graph: Graph,
    /// How many vCPUs there are.
    pub(super) cpus: u32,
    /// The loop of devices that have none of their own.
    pub(super) io: Handle,
}

impl Wiring {
    /// A driver of an interrupt line.
    pub(super) fn line(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, NoSuchLine> {
        self.lines.driver(gsi)
    }

    /// `-global` as values of properties.
    pub(super) fn globals(&self) -> impl Iterator<Item = GlobalValue<'_>> {
        self.globals.iter().map(Global::as_value)
    }
}

/// The machine as the device that is being made sees it.
pub(super) struct DeviceSite<'a> {
    pub(super) wiring: &'a Wiring,
    pub(super) streams: &'a Streams,
    pub(super) chardevs: &'a mut Chardevs,
    /// The device's id and its path in the tree of objects.
    pub(super) id: Option<&'a str>,
    pub(super) path: &'a str,
    /// The devices there are.
    pub(super) others: &'a [Instance],
    /// What the guest will reach the device by.
    pub(super) mappings: Vec<Mapping>,
    /// The device's connections to character devices, by number.
    pub(super) connections: Vec<Connection>,
}

impl Site for DeviceSite<'_> {
    fn notifier(&self) -> Notifier {
        self.wiring.board.notifier()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.wiring.clock) as _
    }

    fn memory(&self) -> &Arc<AddressSpace> {
        &self.wiring.board.map.memory
    }

    fn msi(&self) -> Arc<dyn MsiSource> {
        Arc::new(Arc::clone(&self.wiring.router))
    }

    fn line(&self, gsi: u8) -> Result<Arc<dyn IrqLine>, RealizeError> {
        Ok(self.wiring.lines.driver(gsi)?)
    }

    fn map_ports(&mut self, start: u16, ports: &Region) -> Result<(), RealizeError> {
        let map = &self.wiring.board.map;
        self.mappings.push(map.topology.map(&map.io, start.into(), ports, 0)?);
        Ok(())
    }

    fn characters(&mut self, chardev: Option<&str>) -> Result<Characters, RealizeError> {
        let take = |id: &str| {
            let line = self.chardevs.take(id);
            line.map_err(|error| RealizeError::NoChardev(id.to_owned(), error))
        };
        let line = chardev.map(take).transpose()?;
        let (connection, outlet) = self.streams.add(line).map_err(RealizeError::NoStream)?;
        let is_connected = outlet.is_some();
        let sink: Box<dyn Sink> = match outlet {
            Some(outlet) => Box::new(outlet),
            None => Box::new(self.streams.attention()),
        };
        self.connections.push(connection);
        Ok(Characters {
            connection: self.connections.len() - 1,
            sink,
            is_connected,
        })
    }

    fn set_input(&mut self, connection: usize, input: Box<dyn Input>) {
        if let Some(connection) = self.connections.get(connection) {
            connection.set_input(input);
        }
    }

    fn entropy(&self, id: &str) -> Option<EntropySource> {
        self.wiring.entropy.get(id)
    }

    fn networks(&self) -> &Networks {
        &self.wiring.networks
    }

    fn id(&self) -> Option<&str> {
        self.id
    }

    fn graph(&self) -> &Graph {
        &self.wiring.graph
    }

    fn path(&self) -> &str {
        self.path
    }

    fn cpus(&self) -> u32 {
        self.wiring.cpus
    }

    fn event_loop(&self) -> Handle {
        self.wiring.io.clone()
    }

    fn count(&self, type_name: &str) -> usize {
        let same = self.others.iter().filter(|other| other.class.info.name == type_name);
        same.count()
    }
}
