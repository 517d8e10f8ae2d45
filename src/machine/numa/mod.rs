//! Guest NUMA nodes: the CPUs and memory they hold, and the distances between them.

mod distances;
mod error;
mod options;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::distances::Distances;
pub use self::error::NumaError;
use super::config::{Entry, SmpConfig};
use super::topology;
use crate::qapi::Error;

/// One guest NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// Indices of its CPUs, in ascending order.
    pub cpus: Vec<u32>,
    /// Id of the memory backend that is its memory.
    pub memdev: Option<String>,
}

/// All of `-numa`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numa {
    /// The nodes by number. Empty when the guest has no NUMA.
    pub nodes: BTreeMap<u16, NumaNode>,
    /// What the user should be told though nothing is wrong.
    pub warnings: Vec<String>,
    distances: Distances,
}

impl Numa {
    /// Reads the `-numa` entries in order. `objects` are those of the command line, among which are the backends.
    ///
    /// # Errors
    /// Names the entry that contradicts itself, another one or the topology.
    pub fn from_entries(entries: &[Entry], objects: &[Map<String, Value>], smp: &SmpConfig) -> Result<Self, Error> {
        let mut numa = Self::default();
        for entry in entries {
            let added = numa.add_entry(&entry.parameters, objects, smp);
            added.map_err(|error| entry.blame(error))?;
        }
        numa.complete(smp)?;
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
        self.distances.are_given()
    }

    /// Relative access time from one node to another; 10 is local.
    #[must_use]
    pub fn distance(&self, from: u16, to: u16) -> u8 {
        self.distances.get(from, to)
    }

    fn assign(&mut self, cpu: u32, node: u16) {
        let cpus = &mut self.nodes.entry(node).or_default().cpus;
        if let Err(at) = cpus.binary_search(&cpu) {
            cpus.insert(at, cpu);
        }
    }

    /// Nodes must be numbered without gaps. Where no node has CPUs, they get them by socket in turn; where some CPUs are
    /// named, the others belong to node 0.
    fn complete(&mut self, smp: &SmpConfig) -> Result<(), NumaError> {
        let order: Vec<u16> = self.nodes.keys().copied().collect();
        let Some(last) = order.last() else {
            return Ok(());
        };
        if let Some(missing) = (0..*last).rev().find(|id| !self.nodes.contains_key(id)) {
            return Err(NumaError::Gap(missing));
        }
        self.distances.complete(*last)?;
        let none_named = self.nodes.values().all(|node| node.cpus.is_empty());
        let mut left_over = Vec::new();
        for cpu in 0..smp.max_cpus {
            if none_named {
                let socket = topology::ids(cpu, smp).socket as usize;
                self.assign(cpu, order[socket % order.len()]);
            } else if self.node_of_cpu(cpu).is_none() {
                left_over.push(format!("CPU {cpu} [{}]", topology::describe(cpu, smp)));
                self.assign(cpu, 0);
            }
        }
        if !left_over.is_empty() {
            self.warnings = vec![
                format!("CPU(s) not present in any NUMA nodes: {}", left_over.join(", ")),
                "All CPU(s) up to maxcpus should be described in NUMA config, ability to start up with partial NUMA \
                 mappings is obsoleted and will be removed in future"
                    .to_owned(),
            ];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
