//! `-numa`: guest NUMA nodes, the CPUs and memory they hold, and the distances between them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{config::SmpConfig, fields::Fields, topology};
use crate::qapi::Error;

/// Most nodes a guest may have.
const MAX_NODES: u16 = 128;
/// Distance of a node to itself (ACPI 6.5, 5.2.17).
const LOCAL_DISTANCE: u8 = 10;
/// Distance to another node when none is given.
const REMOTE_DISTANCE: u8 = 20;

/// One guest NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// Indices of its CPUs, in ascending order.
    pub cpus: Vec<u32>,
    /// Id of the memory backend that is its memory.
    pub memdev: Option<String>,
    /// Its memory in bytes, when there is no backend.
    pub mem: Option<u64>,
}

/// All of `-numa`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numa {
    /// The nodes by number. Empty when the guest has no NUMA.
    pub nodes: BTreeMap<u16, NumaNode>,
    distances: BTreeMap<(u16, u16), u8>,
}

impl Numa {
    /// Reads the `-numa` entries in order.
    ///
    /// # Errors
    /// Names the entry that contradicts itself, another one or the topology.
    pub fn from_entries(entries: &[Map<String, Value>], smp: &SmpConfig) -> Result<Self, Error> {
        let mut numa = Self::default();
        for entry in entries {
            let fields = Fields::new(entry);
            match fields.required_text("type")? {
                "node" => numa.add_node(fields, smp)?,
                "dist" => numa.add_distance(fields)?,
                "cpu" => numa.add_cpus(fields, smp)?,
                other => return Err(Error::generic(format!("-numa {other} is not supported"))),
            }
        }
        numa.check(smp)?;
        Ok(numa)
    }

    /// Whether the guest has NUMA nodes.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// The node of the CPU with this index.
    #[must_use]
    pub fn node_of_cpu(&self, index: u32) -> Option<u16> {
        let hit = self.nodes.iter().find(|(_, node)| node.cpus.contains(&index));
        hit.map(|(id, _)| *id)
    }

    /// Whether distances were given.
    #[must_use]
    pub fn has_distances(&self) -> bool {
        !self.distances.is_empty()
    }

    /// Relative access time from one node to another; 10 is local.
    #[must_use]
    pub fn distance(&self, from: u16, to: u16) -> u8 {
        if from == to {
            return LOCAL_DISTANCE;
        }
        let given = self
            .distances
            .get(&(from, to))
            .or_else(|| self.distances.get(&(to, from)));
        given.copied().unwrap_or(REMOTE_DISTANCE)
    }

    fn add_node(&mut self, fields: Fields<'_>, smp: &SmpConfig) -> Result<(), Error> {
        let next = self.nodes.last_key_value().map_or(0, |(id, _)| id + 1);
        let id: u16 = fields.small("nodeid")?.unwrap_or(next);
        if id >= MAX_NODES {
            return Err(Error::generic(format!("Max number of NUMA nodes reached: {id}")));
        }
        if self.nodes.contains_key(&id) {
            return Err(Error::generic(format!("Duplicate NUMA nodeid: {id}")));
        }
        let cpus = fields.numbers("cpus")?;
        if let Some(cpu) = cpus.iter().find(|cpu| **cpu >= smp.max_cpus) {
            return Err(Error::generic(format!(
                "CPU index ({cpu}) should be smaller than maxcpus ({})",
                smp.max_cpus
            )));
        }
        let node = NumaNode {
            cpus: Vec::new(),
            memdev: fields.text("memdev").map(str::to_owned),
            mem: fields.size("mem")?,
        };
        if node.memdev.is_some() && node.mem.is_some() {
            return Err(Error::generic(
                "numa configuration should use either mem= or memdev=, mixing both is not allowed",
            ));
        }
        self.nodes.insert(id, node);
        cpus.into_iter().try_for_each(|cpu| self.assign(cpu, id))
    }

    fn add_distance(&mut self, fields: Fields<'_>) -> Result<(), Error> {
        let required = |name: &str| -> Result<u16, Error> {
            let value = fields.small(name)?;
            value.ok_or_else(|| Error::generic(format!("Parameter '{name}' is missing")))
        };
        let (src, dst, val) = (required("src")?, required("dst")?, required("val")?);
        for node in [src, dst] {
            if !self.nodes.contains_key(&node) {
                return Err(Error::generic(format!(
                    "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first: {node}"
                )));
            }
        }
        let val = u8::try_from(val).ok().filter(|val| *val >= LOCAL_DISTANCE);
        let val = val.ok_or_else(|| Error::generic("NUMA distance is invalid, it should be between 10 and 255"))?;
        if src == dst && val != LOCAL_DISTANCE {
            return Err(Error::generic(format!("Local distance of node {src} should be 10.")));
        }
        self.distances.insert((src, dst), val);
        Ok(())
    }

    fn add_cpus(&mut self, fields: Fields<'_>, smp: &SmpConfig) -> Result<(), Error> {
        let node = fields.small("node-id")?;
        let node = node.ok_or_else(|| Error::generic("Missing mandatory node-id property"))?;
        if !self.nodes.contains_key(&node) {
            return Err(Error::generic(format!(
                "Invalid node-id={node}, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID"
            )));
        }
        let wanted = ["socket-id", "die-id", "module-id", "core-id", "thread-id"].map(|name| fields.small::<u32>(name));
        let [socket, die, module, core, thread] = wanted;
        let wanted = [socket?, die?, module?, core?, thread?];
        let matches = |index: &u32| {
            let ids = topology::ids(*index, smp);
            let ids = [ids.socket, ids.die, ids.module, ids.core, ids.thread];
            wanted
                .iter()
                .zip(ids)
                .all(|(want, have)| want.is_none_or(|want| want == have))
        };
        let cpus: Vec<u32> = (0..smp.max_cpus).filter(matches).collect();
        if cpus.is_empty() {
            return Err(Error::generic("no match found"));
        }
        cpus.into_iter().try_for_each(|cpu| self.assign(cpu, node))
    }

    fn assign(&mut self, cpu: u32, node: u16) -> Result<(), Error> {
        if self.node_of_cpu(cpu).is_some_and(|other| other != node) {
            return Err(Error::generic(format!(
                "CPU {cpu} is already assigned to another NUMA node"
            )));
        }
        let cpus = &mut self.nodes.entry(node).or_default().cpus;
        if let Err(at) = cpus.binary_search(&cpu) {
            cpus.insert(at, cpu);
        }
        Ok(())
    }

    /// Nodes must be numbered without gaps; CPUs that nobody assigned go to the nodes by socket in turn.
    fn check(&mut self, smp: &SmpConfig) -> Result<(), Error> {
        let count = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        if let Some(missing) = (0..count).find(|id| !self.nodes.contains_key(id)) {
            return Err(Error::generic(format!("numa: Node ID missing: {missing}")));
        }
        if count == 0 {
            return Ok(());
        }
        for cpu in 0..smp.max_cpus {
            if self.node_of_cpu(cpu).is_none() {
                let socket = topology::ids(cpu, smp).socket;
                let node = u16::try_from(socket % u32::from(count)).unwrap_or_default();
                self.assign(cpu, node)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn smp() -> SmpConfig {
        SmpConfig {
            cpus: 4,
            max_cpus: 4,
            drawers: 1,
            books: 1,
            sockets: 2,
            dies: 1,
            clusters: 1,
            modules: 1,
            cores: 2,
            threads: 1,
        }
    }

    fn numa(value: &Value) -> Result<Numa, Error> {
        let entries: Vec<_> = value
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry.as_object().unwrap().clone())
            .collect();
        Numa::from_entries(&entries, &smp())
    }

    #[test]
    fn nodes_take_the_cpus_and_backends_named() {
        let numa = numa(&json!([
            {"type": "node", "nodeid": "0", "cpus": "0-1", "memdev": "ram-node0"},
            {"type": "node", "nodeid": "1", "cpus": "2-3", "memdev": "ram-node1"},
            {"type": "dist", "src": "0", "dst": "1", "val": "21"},
        ]))
        .unwrap();
        assert_eq!(
            (0..4).map(|cpu| numa.node_of_cpu(cpu)).collect::<Vec<_>>(),
            [Some(0), Some(0), Some(1), Some(1)]
        );
        assert_eq!(numa.nodes[&1].memdev.as_deref(), Some("ram-node1"));
        assert_eq!(
            [numa.distance(0, 0), numa.distance(0, 1), numa.distance(1, 0)],
            [10, 21, 21]
        );
    }

    #[test]
    fn cpus_may_be_named_by_their_place() {
        let numa = numa(&json!([
            {"type": "node", "nodeid": 0},
            {"type": "node", "nodeid": 1},
            {"type": "cpu", "node-id": 1, "socket-id": 0},
            {"type": "cpu", "node-id": 0, "socket-id": 1, "core-id": 0},
        ]))
        .unwrap();
        assert_eq!(numa.nodes[&1].cpus, [0, 1, 3]);
        assert_eq!(numa.nodes[&0].cpus, [2]);
    }

    #[test]
    fn contradictions_are_named() {
        let twice = numa(&json!([{"type": "node", "nodeid": 0}, {"type": "node", "nodeid": 0}]));
        assert_eq!(twice.unwrap_err().desc, "Duplicate NUMA nodeid: 0");
        let gap = numa(&json!([{"type": "node", "nodeid": 1}]));
        assert_eq!(gap.unwrap_err().desc, "numa: Node ID missing: 0");
        let far = numa(&json!([{"type": "node", "cpus": "7"}]));
        assert_eq!(
            far.unwrap_err().desc,
            "CPU index (7) should be smaller than maxcpus (4)"
        );
    }
}
