//! Guest RAM: backends laid out in guest physical memory.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::layout::{FOUR_GIB, Split};
use super::memory_map::MemoryMap;
use crate::{
    machine::{
        backend::{Backend, BackendDefaults, BackendError},
        info::{MemdevInfo, MemoryRegionInfo},
        numa::Numa,
    },
    mem::{BlockExists, Edit, MapError, Mapping, RamBlock, Region},
    qapi::QmpError,
    qom::{Registry, objects::is_memory_backend},
};

/// Id of the backend that `-m` alone stands for.
pub(crate) const DEFAULT_RAM_ID: &str = "pc.ram";

/// Guest RAM that cannot be had as it is asked for, in QEMU's words where it has some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RamError {
    /// A backend by itself.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A block of this name is there already.
    #[error(transparent)]
    Block(#[from] BlockExists),
    /// The guest cannot be shown the RAM.
    #[error(transparent)]
    Map(#[from] MapError),
    /// There is to be one backend for all RAM, and one for each node.
    #[error("'-machine memory-backend' and '-numa memdev' properties are mutually exclusive")]
    TwoBackends,
    /// Two nodes have the same backend.
    #[error("memory backend {0} can't be used multiple times.")]
    UsedTwice(String),
    /// The backends of all nodes are more or less than the guest's RAM.
    #[error("total memory for NUMA nodes (0x{nodes:x}) should equal RAM size (0x{size:x})")]
    NodesDiffer {
        /// What the nodes have, in bytes.
        nodes: u64,
        /// What the guest has, in bytes.
        size: u64,
    },
    /// The backend for all RAM is larger or smaller than that.
    #[error("Machine memory size (0x{size:x}) does not match the size of the memory backend '{id}' (0x{backend:x})")]
    BackendDiffers {
        /// The backend.
        id: String,
        /// What it has, in bytes.
        backend: u64,
        /// What the guest has, in bytes.
        size: u64,
    },
    /// An object has the id of the RAM that is nobody's object.
    #[error(
        "object name '{DEFAULT_RAM_ID}' is reserved for the default RAM backend, it can't be used for any other \
         purposes. Change the object's 'id' to something else"
    )]
    ReservedId,
    /// No backend has this id.
    #[error("Memory backend '{0}' not found")]
    NoBackend(String),
}

impl QmpError for RamError {}

/// Guest RAM.
#[derive(Debug)]
pub(crate) struct Ram {
    /// Backends in the order of their addresses.
    pub(crate) blocks: Vec<Block>,
    /// How it is split at 4 GiB.
    pub(crate) split: Split,
}

/// A backend and where the guest sees it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) backend: Backend,
    pub(crate) block: Arc<RamBlock>,
    /// Guest NUMA node, if there are any.
    pub(crate) node: Option<u16>,
    pub(crate) pieces: Vec<Piece>,
}

/// A contiguous part of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) guest_addr: u64,
    /// Where the part starts in its block.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
}

/// What memory is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RamRequest<'a> {
    /// `-m`, in bytes.
    pub(crate) size: u64,
    /// Most bytes below 4 GiB.
    pub(crate) max_low: u64,
    /// `-machine memory-backend=`.
    pub(crate) backend: Option<&'a str>,
    pub(crate) numa: &'a Numa,
    pub(crate) registry: &'a Registry,
    pub(crate) objects: &'a [Map<String, Value>],
    pub(crate) defaults: BackendDefaults,
}

impl Ram {
    /// Opens backends and maps them.
    pub(crate) fn new(request: &RamRequest<'_>) -> Result<Self, RamError> {
        let split = Split::of(request.size, request.max_low);
        let mut next = 0;
        let mut blocks = Vec::new();
        for (backend, node) in request.backends()? {
            let start = next;
            next += backend.config.size;
            let pieces = pieces(start, backend.config.size, split);
            let block = backend.map()?;
            blocks.push(Block {
                backend,
                block,
                node,
                pieces,
            });
        }
        Ok(Self { blocks, split })
    }

    /// Shows the RAM to the guest, for as long as what is returned lives.
    pub(crate) fn plug_into(&self, map: &MemoryMap) -> Result<Vec<Mapping>, RamError> {
        let mut mappings = Vec::new();
        for block in &self.blocks {
            map.blocks.add(&block.block)?;
            let all = block.region();
            for piece in &block.pieces {
                let name = match piece.guest_addr {
                    FOUR_GIB.. => "ram-above-4g",
                    _ => "ram-below-4g",
                };
                let part = Region::alias(name, &all, piece.offset, piece.size);
                let mapping = map.topology.map(&map.system, piece.guest_addr, &part, 0);
                mappings.push(mapping?);
            }
        }
        Ok(mappings)
    }

    /// Shows what of the RAM reaches into `low`, which stands for guest memory from 0 on, by regions of its own.
    pub(crate) fn plug_low(&self, edit: &mut Edit<'_>, low: &Region) -> Result<Vec<Mapping>, MapError> {
        let mut mappings = Vec::new();
        for block in &self.blocks {
            for piece in block.pieces.iter().filter(|piece| piece.guest_addr < low.len()) {
                let size = piece.size.min(low.len() - piece.guest_addr);
                let part = Region::alias("ram-below-1m", &block.region(), piece.offset, size);
                mappings.push(edit.map(low, piece.guest_addr, &part, 0)?);
            }
        }
        Ok(mappings)
    }

    /// Bytes of the memory of a NUMA node.
    pub(crate) fn size_of_node(&self, node: u16) -> u64 {
        let blocks = self.blocks.iter().filter(|block| block.node == Some(node));
        blocks.map(|block| block.backend.info().size).sum()
    }

    /// The blocks and where the guest sees them.
    pub(crate) fn regions(&self) -> Vec<MemoryRegionInfo> {
        let region = |block: &Block, piece: &Piece| MemoryRegionInfo {
            block: block.backend.id.clone(),
            guest_addr: piece.guest_addr,
            offset: piece.offset,
            size: piece.size,
        };
        self.blocks
            .iter()
            .flat_map(|block| block.pieces.iter().map(move |piece| region(block, piece)))
            .collect()
    }

    /// The backends as `query-memdev` shows them.
    pub(crate) fn memdevs(&self) -> Vec<MemdevInfo> {
        self.blocks.iter().map(|block| block.backend.info()).collect()
    }
}

impl Block {
    /// A new region of all of it.
    fn region(&self) -> Region {
        match self.backend.is_rom() {
            true => Region::rom(&self.block),
            false => Region::ram(&self.block),
        }
    }
}

impl RamRequest<'_> {
    /// The backends in the order of their addresses, with their guest NUMA nodes.
    fn backends(&self) -> Result<Vec<(Backend, Option<u16>)>, RamError> {
        if !self.numa.is_enabled() {
            return Ok(vec![(self.whole()?, None)]);
        }
        let named = self.numa.nodes.iter();
        let named: Vec<(u16, &str)> = named
            .filter_map(|(id, node)| Some((*id, node.memdev.as_deref()?)))
            .collect();
        if self.backend.is_some() && !named.is_empty() {
            return Err(RamError::TwoBackends);
        }
        let mut backends: Vec<(Backend, Option<u16>)> = Vec::new();
        let mut total = 0_u64;
        for (id, memdev) in named {
            if backends.iter().any(|(backend, _)| backend.id == memdev) {
                return Err(RamError::UsedTwice(memdev.to_owned()));
            }
            let backend = self.find(memdev)?;
            total = total.saturating_add(backend.config.size);
            backends.push((backend, Some(id)));
        }
        if total != self.size {
            return Err(RamError::NodesDiffer {
                nodes: total,
                size: self.size,
            });
        }
        Ok(backends)
    }

    /// One backend for all RAM.
    fn whole(&self) -> Result<Backend, RamError> {
        let Some(id) = self.backend else {
            let is_taken = |object: &Map<String, Value>| object.get("id").is_some_and(|id| id == DEFAULT_RAM_ID);
            if self.objects.iter().any(is_taken) {
                return Err(RamError::ReservedId);
            }
            return Ok(Backend::anonymous(DEFAULT_RAM_ID, self.size, self.defaults));
        };
        let backend = self.find(id)?;
        if backend.config.size != self.size {
            return Err(RamError::BackendDiffers {
                id: id.to_owned(),
                backend: backend.config.size,
                size: self.size,
            });
        }
        Ok(backend)
    }

    fn find(&self, id: &str) -> Result<Backend, RamError> {
        let not_found = || RamError::NoBackend(id.to_owned());
        let object = self.objects.iter().find(|object| is_memory_backend(object, id));
        let backend = Backend::from_object(self.registry, object.ok_or_else(not_found)?, self.defaults)?;
        backend.ok_or_else(not_found)
    }
}

/// Where the guest sees a block of `size` bytes that are RAM bytes from `start` on.
fn pieces(start: u64, size: u64, split: Split) -> Vec<Piece> {
    let end = start + size;
    let mut pieces = Vec::new();
    if start < split.low {
        pieces.push(Piece {
            guest_addr: start,
            offset: 0,
            size: end.min(split.low) - start,
        });
    }
    if end > split.low {
        let first = start.max(split.low);
        pieces.push(Piece {
            guest_addr: FOUR_GIB + (first - split.low),
            offset: first - start,
            size: end - first,
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::machine::config::{Entry, SmpConfig};

    const DEFAULTS: BackendDefaults = BackendDefaults {
        merge: false,
        dump: true,
    };
    const MIB: u64 = 1 << 20;

    /// Nodes with these backends, of 16 MiB and 48 MiB.
    fn numa(backends: &[&str]) -> (Numa, [Map<String, Value>; 2]) {
        let entry = |backend: &&str| Entry {
            location: String::new(),
            parameters: object(json!({"type": "node", "memdev": backend})),
        };
        let entries: Vec<_> = backends.iter().map(entry).collect();
        let objects = [("a", 16 * MIB), ("b", 48 * MIB)]
            .map(|(id, size)| object(json!({"qom-type": "memory-backend-ram", "id": id, "size": size})));
        let smp = SmpConfig {
            cpus: 1,
            max_cpus: 1,
            ..SmpConfig::default()
        };
        (Numa::from_entries(&entries, &objects, &smp).unwrap(), objects)
    }

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => unreachable!(),
        }
    }

    #[test]
    fn large_memory_continues_above_four_gib() {
        let numa = Numa::default();
        let request = RamRequest {
            size: 3 << 30,
            max_low: FOUR_GIB,
            backend: None,
            numa: &numa,
            registry: &Registry::new(),
            objects: &[],
            defaults: DEFAULTS,
        };
        let ram = Ram::new(&request).unwrap();
        let regions: Vec<_> = ram
            .regions()
            .iter()
            .map(|region| (region.guest_addr, region.offset, region.size))
            .collect();
        assert_eq!(regions, [(0, 0, 2 << 30), (1 << 32, 2 << 30, 1 << 30)]);
        assert_eq!(ram.regions()[0].block, "pc.ram");
    }

    #[test]
    fn nodes_follow_each_other() {
        let (numa, objects) = numa(&["a", "b"]);
        let mut request = RamRequest {
            size: 64 * MIB,
            max_low: FOUR_GIB,
            backend: None,
            numa: &numa,
            registry: &Registry::new(),
            objects: &objects,
            defaults: DEFAULTS,
        };
        let ram = Ram::new(&request).unwrap();
        let blocks: Vec<_> = ram
            .blocks
            .iter()
            .map(|block| (block.node, block.pieces[0].guest_addr))
            .collect();
        assert_eq!(blocks, [(Some(0), 0), (Some(1), 16 * MIB)]);
        request.size = 65 * MIB;
        let error = Ram::new(&request).unwrap_err();
        assert_eq!(
            error.to_string(),
            "total memory for NUMA nodes (0x4000000) should equal RAM size (0x4100000)"
        );
        request.backend = Some("a");
        assert_eq!(
            Ram::new(&request).unwrap_err().to_string(),
            "'-machine memory-backend' and '-numa memdev' properties are mutually exclusive"
        );
    }

    #[test]
    fn a_node_has_memory_and_a_backend_is_that_of_one_node() {
        for (backends, complaint) in [
            (&["a", "a"][..], "memory backend a can't be used multiple times."),
            (
                &[""],
                "total memory for NUMA nodes (0x0) should equal RAM size (0x2000000)",
            ),
        ] {
            let (numa, objects) = numa(backends);
            let request = RamRequest {
                size: 32 * MIB,
                max_low: FOUR_GIB,
                backend: None,
                numa: &numa,
                registry: &Registry::new(),
                objects: &objects,
                defaults: DEFAULTS,
            };
            assert_eq!(Ram::new(&request).unwrap_err().to_string(), complaint);
        }
    }

    #[test]
    fn a_backend_must_exist_and_fit() {
        let numa = Numa::default();
        let objects = [json!({"qom-type": "memory-backend-ram", "id": "m", "size": "2M"})
            .as_object()
            .unwrap()
            .clone()];
        let mut request = RamRequest {
            size: 4 * MIB,
            max_low: FOUR_GIB,
            backend: Some("x"),
            numa: &numa,
            registry: &Registry::new(),
            objects: &objects,
            defaults: DEFAULTS,
        };
        assert_eq!(
            Ram::new(&request).unwrap_err().to_string(),
            "Memory backend 'x' not found"
        );
        request.backend = Some("m");
        assert!(
            Ram::new(&request)
                .unwrap_err()
                .to_string()
                .contains("does not match the size")
        );
    }
}
