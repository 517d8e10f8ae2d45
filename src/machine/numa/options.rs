//! Reading one `-numa` option.

use serde_json::{Map, Value};

use super::distances::LOCAL;
use super::{Numa, NumaNode};
use crate::machine::config::SmpConfig;
use crate::machine::fields::Fields;
use crate::machine::topology;
use crate::qapi::Error;
use crate::qom::objects::is_memory_backend;

/// Most nodes a guest may have.
const MAX_NODES: u16 = 128;
/// What QEMU says to `initiator=`, `hmat-lb` and `hmat-cache` without `-machine hmat=on`.
const NO_HMAT: &str = "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on \
                       before using any of hmat specific options";

impl Numa {
    /// Adds what one option says.
    pub(super) fn add_entry(
        &mut self,
        parameters: &Map<String, Value>,
        objects: &[Map<String, Value>],
        smp: &SmpConfig,
    ) -> Result<(), Error> {
        let fields = Fields::new(parameters);
        match fields.required_text("type")? {
            "node" => self.add_node(fields, objects, smp),
            "dist" => self.add_distance(fields),
            "cpu" => self.add_cpus(fields, smp),
            "hmat-lb" | "hmat-cache" => Err(Error::generic(NO_HMAT)),
            other => Err(Error::generic(format!(
                "Parameter 'type' does not accept value '{other}'"
            ))),
        }
    }

    fn add_node(&mut self, fields: Fields<'_>, objects: &[Map<String, Value>], smp: &SmpConfig) -> Result<(), Error> {
        let id: Option<u16> = fields.number("nodeid", "uint16_t")?;
        let cpus = fields.numbers("cpus")?;
        let mem = fields.size("mem")?;
        let memdev = fields.text("memdev").filter(|memdev| !memdev.is_empty());
        let initiator: Option<u16> = fields.number("initiator", "uint16_t")?;
        fields.only(&["type", "nodeid", "cpus", "mem", "memdev", "initiator"])?;
        let id = match id {
            Some(id) => id,
            None => u16::try_from(self.nodes.len()).unwrap_or(u16::MAX),
        };
        if id >= MAX_NODES {
            return Err(Error::generic(format!("Max number of NUMA nodes reached: {id}")));
        }
        if self.nodes.contains_key(&id) {
            return Err(Error::generic(format!("Duplicate NUMA nodeid: {id}")));
        }
        if let Some(cpu) = cpus.iter().find(|cpu| u32::from(**cpu) >= smp.max_cpus) {
            return Err(Error::generic(format!(
                "CPU index ({cpu}) should be smaller than maxcpus ({})",
                smp.max_cpus
            )));
        }
        if cpus.iter().any(|cpu| self.node_of_cpu(u32::from(*cpu)).is_some()) {
            return Err(self.assigned_before(cpus.iter().map(|cpu| u32::from(*cpu))));
        }
        let others_have_backends = self.nodes.values().any(|node| node.memdev.is_some());
        if mem.is_some() && (memdev.is_some() || others_have_backends) {
            return Err(Error::generic(
                "numa configuration should use either mem= or memdev=,mixing both is not allowed",
            ));
        }
        if mem.is_some() {
            return Err(Error::generic(
                "Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead",
            ));
        }
        if let Some(memdev) = memdev.filter(|memdev| !objects.iter().any(|object| is_memory_backend(object, memdev))) {
            return Err(Error::generic(format!("memdev={memdev} is ambiguous")));
        }
        if initiator.is_some() {
            return Err(Error::generic(NO_HMAT));
        }
        let node = NumaNode {
            cpus: Vec::new(),
            memdev: memdev.map(str::to_owned),
        };
        self.nodes.insert(id, node);
        cpus.into_iter().for_each(|cpu| self.assign(cpu.into(), id));
        Ok(())
    }

    fn add_distance(&mut self, fields: Fields<'_>) -> Result<(), Error> {
        let (src, dst): (u16, u16) = (
            fields.required_number("src", "uint16_t")?,
            fields.required_number("dst", "uint16_t")?,
        );
        let val: u8 = fields.required_number("val", "uint8_t")?;
        fields.only(&["type", "src", "dst", "val"])?;
        for (name, node) in [("src", src), ("dst", dst)] {
            if node >= MAX_NODES {
                return Err(Error::generic(format!(
                    "Parameter '{name}' expects an integer between 0 and {}",
                    MAX_NODES - 1
                )));
            }
        }
        if [src, dst].iter().any(|node| !self.nodes.contains_key(node)) {
            return Err(Error::generic(
                "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.",
            ));
        }
        if val < LOCAL {
            return Err(Error::generic(format!(
                "NUMA distance ({val}) is invalid, it shouldn't be less than {LOCAL}."
            )));
        }
        if src == dst && val != LOCAL {
            return Err(Error::generic(format!(
                "Local distance of node {src} should be {LOCAL}."
            )));
        }
        self.distances.set(src, dst, val);
        Ok(())
    }

    fn add_cpus(&mut self, fields: Fields<'_>, smp: &SmpConfig) -> Result<(), Error> {
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
        let node = node.ok_or_else(|| Error::generic("Missing mandatory node-id property"))?;
        let declared = u16::try_from(node).ok().filter(|node| self.nodes.contains_key(node));
        let declared = declared.ok_or_else(|| {
            Error::generic(format!(
                "Invalid node-id={node}, NUMA node must be defined with -numa node,nodeid=ID before it's used with \
                 -numa cpu,node-id=ID"
            ))
        })?;
        if let Some((name, ..)) = wanted.iter().find(|(_, of, _)| of(0, smp).is_none()) {
            return Err(Error::generic(format!("{name} is not supported")));
        }
        let matches = |cpu: &u32| {
            let mut wanted = wanted.iter();
            wanted.all(|(_, of, id)| of(*cpu, smp).is_some_and(|have| i64::from(have) == *id))
        };
        let cpus: Vec<u32> = (0..smp.max_cpus).filter(matches).collect();
        if cpus.is_empty() {
            return Err(Error::generic("no match found"));
        }
        let elsewhere = |cpu: &u32| self.node_of_cpu(*cpu).is_some_and(|node| node != declared);
        if cpus.iter().any(elsewhere) {
            return Err(self.assigned_before(cpus.into_iter().filter(elsewhere)));
        }
        cpus.into_iter().for_each(|cpu| self.assign(cpu, declared));
        Ok(())
    }

    /// What is wrong with giving these CPUs to a node: the first of them that has one already.
    fn assigned_before(&self, mut cpus: impl Iterator<Item = u32>) -> Error {
        let node = cpus.find_map(|cpu| self.node_of_cpu(cpu)).unwrap_or_default();
        Error::generic(format!("CPU is already assigned to node-id: {node}"))
    }
}
