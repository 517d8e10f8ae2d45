//! What a machine tells about itself, in plain values.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::topology::TopologyIds;

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuInfo {
    /// Its number, from 0.
    pub index: u32,
    /// The kernel's id of its thread.
    pub thread_id: i32,
    /// Its place in the topology.
    pub ids: TopologyIds,
    /// Its NUMA node.
    pub node: Option<u16>,
    /// Its QOM path.
    pub qom_path: String,
}

/// A NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeInfo {
    /// Its number.
    pub node: u16,
    /// Bytes of its memory.
    pub size: u64,
}

/// A place for a vCPU that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptySlotInfo {
    /// The number the vCPU would have.
    pub index: u32,
    /// Its place in the topology.
    pub ids: TopologyIds,
    /// Its NUMA node.
    pub node: Option<u16>,
}

/// A part of RAM and where the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRegionInfo {
    /// Id of the backend it belongs to; the name of QEMU's RAM block.
    pub block: String,
    /// Guest physical address.
    pub guest_addr: u64,
    /// Where it starts in its block.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What the guest finds as ROM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RomInfo {
    /// A file that lies in ROM.
    Loaded {
        /// Guest physical address.
        addr: u64,
        /// Bytes.
        size: u64,
        /// The file, as it was named.
        name: String,
    },
    /// What firmware is given by name, and puts where it likes.
    Given {
        /// Bytes.
        size: u64,
        /// Its name there.
        name: String,
    },
}

/// A memory backend, as `query-memdev` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemdevInfo {
    /// Its id.
    pub id: String,
    /// QOM type name.
    pub qom_type: &'static str,
    /// Bytes.
    pub size: u64,
    /// Whether equal pages may be merged.
    pub merge: bool,
    /// Whether pages go into core dumps.
    pub dump: bool,
    /// Whether all pages are there from the start.
    pub prealloc: bool,
    /// Whether other processes see writes.
    pub share: bool,
    /// Whether swap space is reserved.
    pub reserve: bool,
    /// Host NUMA nodes.
    pub host_nodes: Vec<u32>,
    /// `default`, `preferred`, `bind` or `interleave`.
    pub policy: &'static str,
}

impl MemdevInfo {
    /// Its properties, as an `-object` entry would give them.
    #[must_use]
    pub fn properties(&self) -> Map<String, Value> {
        let properties = [
            ("size", json!(self.size)),
            ("merge", json!(self.merge)),
            ("dump", json!(self.dump)),
            ("prealloc", json!(self.prealloc)),
            ("share", json!(self.share)),
            ("reserve", json!(self.reserve)),
            ("host-nodes", json!(self.host_nodes)),
            ("policy", json!(self.policy)),
        ];
        properties
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }
}
