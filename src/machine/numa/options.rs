//! Reading one `-numa` option.

use serde_json::{Map, Value};

use super::distances::LOCAL;
use super::error::NumaError;
use super::{Numa, NumaNode};
use crate::machine::config::SmpConfig;
use crate::machine::fields::Fields;
use crate::machine::topology;
use crate::qom::objects::is_memory_backend;

/// Most nodes a guest may have.
const MAX_NODES: u16 = 128;

impl Numa {
    /// Adds what one option says.
    pub(super) fn add_entry(
        &mut self,
        parameters: &Map<String, Value>,
        objects: &[Map<String, Value>],
        smp: &SmpConfig,
    ) -> Result<(), NumaError> {
        let fields = Fields::new(parameters);
        match fields.required_text("type")? {
            "node" => self.add_node(fields, objects, smp),
            "dist" => self.add_distance(fields),
            "cpu" => self.add_cpus(fields, smp),
            "hmat-lb" | "hmat-cache" => Err(NumaError::NoHmat),
            other => Err(NumaError::NoSuchType(other.to_owned())),
        }
    }

    fn add_node(
        &mut self,
        fields: Fields<'_>,
        objects: &[Map<String, Value>],
        smp: &SmpConfig,
    ) -> Result<(), NumaError> {
        let id: Option<u16> = fields.number("nodeid", "uint16_t")?;
        let cpus = fields.numbers("cpus")?;
        let mem = fields.size("mem")?;
        let memdev = fields.text("memdev").filter(|memdev| !memdev.is_empty());
        let initiator: Option<u16> = fields.number("initiator", "uint16_t")?;
        fields.only(&["type", "nodeid", "cpus", "mem", "memdev", "initiator"])?;
        let id = match id {
            Some(id) => id,
            // More than there may be is refused below.
            None => u16::try_from(self.nodes.len()).unwrap_or(MAX_NODES),
        };
        if id >= MAX_NODES {
            return Err(NumaError::TooMany(id));
        }
        if self.nodes.contains_key(&id) {
            return Err(NumaError::Duplicate(id));
        }
        if let Some(cpu) = cpus.iter().find(|cpu| u32::from(**cpu) >= smp.max_cpus) {
            return Err(NumaError::NoCpu {
                cpu: *cpu,
                max_cpus: smp.max_cpus,
            });
        }
        if let Some(node) = cpus.iter().find_map(|cpu| self.node_of_cpu(u32::from(*cpu))) {
            return Err(NumaError::Assigned(node));
        }
        let others_have_backends = self.nodes.values().any(|node| node.memdev.is_some());
        if mem.is_some() && (memdev.is_some() || others_have_backends) {
            return Err(NumaError::TwoKindsOfMemory);
        }
        if mem.is_some() {
            return Err(NumaError::NoMem);
        }
        if let Some(memdev) = memdev.filter(|memdev| !objects.iter().any(|object| is_memory_backend(object, memdev))) {
            return Err(NumaError::NoBackend(memdev.to_owned()));
        }
        if initiator.is_some() {
            return Err(NumaError::NoHmat);
        }
        let node = NumaNode {
            cpus: Vec::new(),
            memdev: memdev.map(str::to_owned),
        };
        self.nodes.insert(id, node);
        cpus.into_iter().for_each(|cpu| self.assign(cpu.into(), id));
        Ok(())
    }

    fn add_distance(&mut self, fields: Fields<'_>) -> Result<(), NumaError> {
        let (src, dst): (u16, u16) = (
            fields.required_number("src", "uint16_t")?,
            fields.required_number("dst", "uint16_t")?,
        );
        let val: u8 = fields.required_number("val", "uint8_t")?;
        fields.only(&["type", "src", "dst", "val"])?;
        for (name, node) in [("src", src), ("dst", dst)] {
            if node >= MAX_NODES {
                return Err(NumaError::NodeOutOfRange {
                    name,
                    last: MAX_NODES - 1,
                });
            }
        }
        if [src, dst].iter().any(|node| !self.nodes.contains_key(node)) {
            return Err(NumaError::UndeclaredEnd);
        }
        if val < LOCAL {
            return Err(NumaError::TooNear {
                distance: val,
                least: LOCAL,
            });
        }
        if src == dst && val != LOCAL {
            return Err(NumaError::NotLocal {
                node: src,
                local: LOCAL,
            });
        }
        self.distances.set(src, dst, val);
        Ok(())
    }

    fn add_cpus(&mut self, fields: Fields<'_>, smp: &SmpConfig) -> Result<(), NumaError> {
        let node = fields.signed("node-id")?;
        let mut wanted = Vec::new();
        for (name, of) in topology::PLACES {
            if let Some(id) = fields.signed(name)? {
                wanted.push((name, of, id));
            }
        }
        let known = topology::PLACES.iter().map(|(name, _)| *name);
        let known: Vec<&str> = known.chain(["type", "node-id"]).collect();
        fields.only(&known)?;
        let node = node.ok_or(NumaError::NoNodeId)?;
        let declared = u16::try_from(node).ok().filter(|node| self.nodes.contains_key(node));
        let declared = declared.ok_or(NumaError::UndeclaredNode(node))?;
        if let Some((name, ..)) = wanted.iter().find(|(_, of, _)| of(0, smp).is_none()) {
            return Err(NumaError::NoLevel(name));
        }
        let matches = |cpu: &u32| {
            let mut wanted = wanted.iter();
            wanted.all(|(_, of, id)| of(*cpu, smp).is_some_and(|have| i64::from(have) == *id))
        };
        let cpus: Vec<u32> = (0..smp.max_cpus).filter(matches).collect();
        if cpus.is_empty() {
            return Err(NumaError::NoMatch);
        }
        let mut elsewhere = cpus.iter().filter_map(|cpu| self.node_of_cpu(*cpu));
        if let Some(node) = elsewhere.find(|node| *node != declared) {
            return Err(NumaError::Assigned(node));
        }
        cpus.into_iter().for_each(|cpu| self.assign(cpu, declared));
        Ok(())
    }
}
