//! `memory-backend-ram`, `-file` and `-memfd`: where guest memory comes from.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::object;
use crate::qapi::QmpError;
use crate::qom::PropertyError;
use crate::qom::types::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::qom::values::{OnOffAuto, Values};

/// Host NUMA nodes there may be.
const MAX_HOST_NODES: u16 = 128;

const POLICIES: &[&str] = &["default", "preferred", "bind", "interleave"];

const COMMON: [PropertyInfo; 10] = [
    PropertyInfo::new(
        "size",
        PropertyKind::ByteSize,
        Default::None,
        "Size in bytes (ex: 500M)",
    ),
    PropertyInfo::new(
        "share",
        PropertyKind::Bool,
        Default::Bool(false),
        "Other processes may see what the guest writes",
    ),
    PropertyInfo::new(
        "prealloc",
        PropertyKind::Bool,
        Default::Bool(false),
        "Allocate all of it at once",
    ),
    PropertyInfo::new(
        "prealloc-threads",
        PropertyKind::Uint32,
        Default::Uint(1),
        "Threads that allocate",
    ),
    PropertyInfo::new(
        "merge",
        PropertyKind::Bool,
        Default::Bool(true),
        "Let the host merge equal pages",
    ),
    PropertyInfo::new(
        "dump",
        PropertyKind::Bool,
        Default::Bool(true),
        "Include it in a core dump of this process",
    ),
    PropertyInfo::new(
        "reserve",
        PropertyKind::Bool,
        Default::Bool(true),
        "Reserve swap space or huge pages for it",
    ),
    PropertyInfo::new(
        "host-nodes",
        PropertyKind::Uint16List,
        Default::None,
        "Host NUMA nodes to take it from",
    ),
    PropertyInfo::new(
        "policy",
        PropertyKind::Enum("HostMemPolicy", POLICIES),
        Default::Str("default"),
        "How the host nodes are used",
    ),
    // Clients set it to false for machine types of before 4.0; it has no effect but on the name in a migration stream.
    PropertyInfo::new(
        "x-use-canonical-path-for-ramblock-id",
        PropertyKind::Bool,
        Default::Bool(true),
        "Name the RAM block after the object's path",
    ),
];

const FILE: [PropertyInfo; 6] = [
    PropertyInfo::new(
        "align",
        PropertyKind::ByteSize,
        Default::Uint(0),
        "What its address in this process is a multiple of",
    ),
    PropertyInfo::new(
        "mem-path",
        PropertyKind::String,
        Default::None,
        "A file, or a directory for a nameless one",
    ),
    PropertyInfo::new(
        "offset",
        PropertyKind::ByteSize,
        Default::Uint(0),
        "Where in the file it starts",
    ),
    PropertyInfo::new(
        "discard-data",
        PropertyKind::Bool,
        Default::Bool(false),
        "Give up what the file holds when the object goes",
    ),
    PropertyInfo::new(
        "readonly",
        PropertyKind::Bool,
        Default::Bool(false),
        "Open the file for reading only",
    ),
    PropertyInfo::new(
        "rom",
        PropertyKind::OnOffAuto,
        Default::Str("auto"),
        "Whether the memory is read-only as well",
    ),
];

/// A memfd is shared unless told otherwise: there is no other reason to choose one.
const MEMFD: [PropertyInfo; 4] = [
    PropertyInfo::new(
        "share",
        PropertyKind::Bool,
        Default::Bool(true),
        "Other processes may see what the guest writes",
    ),
    PropertyInfo::new("hugetlb", PropertyKind::Bool, Default::Bool(false), "Use huge pages"),
    PropertyInfo::new(
        "hugetlbsize",
        PropertyKind::ByteSize,
        Default::Uint(0),
        "Size of huge pages (ex: 2M, 1G)",
    ),
    PropertyInfo::new(
        "seal",
        PropertyKind::Bool,
        Default::Bool(true),
        "Forbid changes of its size",
    ),
];

/// The abstract parent and the three kinds.
pub(super) static TYPES: &[TypeInfo] = &[
    object("memory-backend", "object", true, "", &COMMON),
    object("memory-backend-ram", "memory-backend", false, "Anonymous memory", &[]),
    object(
        "memory-backend-file",
        "memory-backend",
        false,
        "Memory from a file",
        &FILE,
    ),
    object(
        "memory-backend-memfd",
        "memory-backend",
        false,
        "Memory from a memfd",
        &MEMFD,
    ),
];

/// Whether `object`, an entry of `-object`, is a memory backend of this id.
#[must_use]
pub fn is_memory_backend(object: &Map<String, Value>, id: &str) -> bool {
    let is = |name: &str, wanted: &str| object.get(name).and_then(Value::as_str) == Some(wanted);
    is("id", id) && TYPES.iter().any(|info| !info.is_abstract && is("qom-type", info.name))
}

/// What is asked of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBackendConfig {
    /// Bytes, not zero.
    pub size: u64,
    /// Other processes may see what the guest writes.
    pub share: bool,
    /// Allocate all of it at once.
    pub prealloc: bool,
    /// Threads that allocate, at least one.
    pub prealloc_threads: u64,
    /// Let the host merge equal pages.
    pub merge: bool,
    /// Include it in a core dump.
    pub dump: bool,
    /// Reserve swap space or huge pages.
    pub reserve: bool,
    /// How the host nodes are used.
    pub policy: NumaPolicy,
    /// Host NUMA nodes, ascending; empty exactly when the policy is the default one.
    pub host_nodes: Vec<u16>,
    /// What backs it.
    pub source: MemorySource,
}

/// How host NUMA nodes are used: the values of `MPOL_*` (linux/mempolicy.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumaPolicy {
    /// As the process's.
    Default = 0,
    /// From the first node while there is some.
    Preferred = 1,
    /// Only from the nodes.
    Bind = 2,
    /// From the nodes in turn.
    Interleave = 3,
}

impl NumaPolicy {
    const ALL: [Self; 4] = [Self::Default, Self::Preferred, Self::Bind, Self::Interleave];

    /// The QAPI name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        POLICIES[self as usize]
    }
}

/// What backs guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemorySource {
    /// Nothing: anonymous memory.
    Anonymous,
    /// A file.
    File {
        /// The file, or a directory in which a nameless one is made.
        path: PathBuf,
        /// Where in the file it starts, in bytes.
        offset: u64,
        /// What its address in this process is a multiple of, in bytes; 0 for the page size.
        align: u64,
        /// What may be done with it.
        access: FileAccess,
        /// Give up what the file holds when the object goes.
        discard: bool,
    },
    /// A memfd.
    Memfd {
        /// Size of huge pages in bytes, a power of two: none for ordinary pages, 0 for the host's usual size.
        huge_page_size: Option<u64>,
        /// Forbid changes of its size.
        seal: bool,
    },
}

/// What may be done with the file of a backend, and with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Both are written.
    Writable,
    /// The file is opened for reading only; what is written to the memory is private to this process.
    Template,
    /// The file is opened for reading only, and the memory is ROM.
    Rom,
}

/// What is asked of a backend and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryBackendError {
    /// A property by itself.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// Memory is to be allocated that must not be reserved.
    #[error("'prealloc=on' and 'reserve=off' are incompatible")]
    PreallocWithoutReserve,
    /// The host cannot have a node of this number.
    #[error("Invalid host-nodes value: {0}")]
    NoSuchNode(u16),
    /// Host nodes, and nothing said about how to use them.
    #[error(
        "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default"
    )]
    NodesWithoutPolicy,
    /// How to use host nodes, and none named.
    #[error("host-nodes must be set for policy {}", .0.name())]
    PolicyWithoutNodes(NumaPolicy),
    /// A file that is only read cannot be shared and written to.
    #[error("property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'")]
    SharedTemplate,
    /// ROM whose file is to be written.
    #[error("property 'rom' = 'on' is not supported with 'readonly' = 'off'")]
    WritableRom,
    /// Pages have sizes that are powers of two.
    #[error("Hugepage size must be a power of 2")]
    HugePageSize,
}

impl QmpError for MemoryBackendError {}

fn zero(type_name: &str, property: &'static str) -> MemoryBackendError {
    let type_name = type_name.to_owned();
    PropertyError::Refused {
        type_name,
        property,
        value: 0,
    }
    .into()
}

impl MemoryBackendConfig {
    /// Checks the values of a backend of this type.
    ///
    /// # Errors
    /// Names the property that is missing, or the two that contradict each other.
    pub fn from_values(type_name: &str, values: &Values) -> Result<Self, MemoryBackendError> {
        let size = values.uint("size").ok_or(PropertyError::Missing("size"))?;
        if size == 0 {
            return Err(zero(type_name, "size"));
        }
        let prealloc_threads = values.uint("prealloc-threads").unwrap_or(1);
        if prealloc_threads == 0 {
            return Err(zero(type_name, "prealloc-threads"));
        }
        let (prealloc, reserve) = (values.boolean("prealloc"), values.boolean("reserve"));
        if prealloc && !reserve {
            return Err(MemoryBackendError::PreallocWithoutReserve);
        }
        let (policy, host_nodes) = placement(values)?;
        Ok(Self {
            size,
            share: values.boolean("share"),
            prealloc,
            prealloc_threads,
            merge: values.boolean("merge"),
            dump: values.boolean("dump"),
            reserve,
            policy,
            host_nodes,
            source: source(type_name, values)?,
        })
    }
}

fn placement(values: &Values) -> Result<(NumaPolicy, Vec<u16>), MemoryBackendError> {
    let nodes = values.uints("host-nodes").filter_map(|node| u16::try_from(node).ok());
    let nodes: Vec<u16> = nodes.collect();
    if let Some(node) = nodes.iter().find(|node| **node >= MAX_HOST_NODES) {
        return Err(MemoryBackendError::NoSuchNode(*node));
    }
    let name = values.text("policy").unwrap_or("default");
    let policy = NumaPolicy::ALL.into_iter().find(|policy| policy.name() == name);
    let policy = policy.unwrap_or(NumaPolicy::Default);
    match (policy, nodes.is_empty()) {
        (NumaPolicy::Default, false) => Err(MemoryBackendError::NodesWithoutPolicy),
        (NumaPolicy::Default, true) | (_, false) => Ok((policy, nodes)),
        (policy, true) => Err(MemoryBackendError::PolicyWithoutNodes(policy)),
    }
}

fn file_access(values: &Values) -> Result<FileAccess, MemoryBackendError> {
    match (values.on_off_auto("rom"), values.boolean("readonly")) {
        (OnOffAuto::Off | OnOffAuto::Auto, false) => Ok(FileAccess::Writable),
        (OnOffAuto::On | OnOffAuto::Auto, true) => Ok(FileAccess::Rom),
        (OnOffAuto::Off, true) if !values.boolean("share") => Ok(FileAccess::Template),
        (OnOffAuto::Off, true) => Err(MemoryBackendError::SharedTemplate),
        (OnOffAuto::On, false) => Err(MemoryBackendError::WritableRom),
    }
}

fn source(type_name: &str, values: &Values) -> Result<MemorySource, MemoryBackendError> {
    match type_name {
        "memory-backend-file" => Ok(MemorySource::File {
            path: values
                .text("mem-path")
                .map(PathBuf::from)
                .ok_or(PropertyError::Missing("mem-path"))?,
            offset: values.uint("offset").unwrap_or(0),
            align: values.uint("align").unwrap_or(0),
            access: file_access(values)?,
            discard: values.boolean("discard-data"),
        }),
        "memory-backend-memfd" => {
            let size = values.uint("hugetlbsize").unwrap_or(0);
            let hugetlb = values.boolean("hugetlb");
            // Without hugetlb the size is of no use, and no mistake.
            if size != 0 && !size.is_power_of_two() {
                return Err(MemoryBackendError::HugePageSize);
            }
            Ok(MemorySource::Memfd {
                huge_page_size: hugetlb.then_some(size),
                seal: values.boolean("seal"),
            })
        }
        _ => Ok(MemorySource::Anonymous),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::qom::Registry;

    fn config(kind: &str, given: &serde_json::Value) -> Result<MemoryBackendConfig, String> {
        let name = format!("memory-backend-{kind}");
        let values = Registry::new()
            .values(&name, given.as_object().unwrap(), [])
            .map_err(|error| error.to_string())?;
        MemoryBackendConfig::from_values(&name, &values).map_err(|error| error.to_string())
    }

    #[test]
    fn what_libvirt_asks_for() {
        let ram = config(
            "ram",
            &json!({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 268_435_456}),
        )
        .unwrap();
        assert_eq!(
            (ram.size, ram.share, ram.source),
            (256 << 20, false, MemorySource::Anonymous)
        );
        let memfd = config(
            "memfd",
            &json!({"hugetlb": true, "hugetlbsize": 2_097_152, "share": true, "prealloc": true,
            "size": 1_073_741_824, "host-nodes": [0], "policy": "bind"}),
        );
        let memfd = memfd.unwrap();
        assert_eq!(
            (memfd.policy, memfd.host_nodes.as_slice()),
            (NumaPolicy::Bind, &[0][..])
        );
        assert_eq!(
            memfd.source,
            MemorySource::Memfd {
                huge_page_size: Some(2 << 20),
                seal: true
            }
        );
        let file = config(
            "file",
            &json!({"mem-path": "/dev/hugepages", "size": "1G", "share": "yes"}),
        )
        .unwrap();
        assert!(matches!(file.source, MemorySource::File { offset: 0, .. }) && file.share);
        assert!(config("memfd", &json!({"size": 4096})).unwrap().share);
    }

    #[test]
    fn what_cannot_be() {
        for (kind, given, expected) in [
            ("ram", json!({}), "Parameter 'size' is missing"),
            (
                "ram",
                json!({"size": 0}),
                "property 'size' of memory-backend-ram doesn't take value '0'",
            ),
            ("ram", json!({"size": true}), "Parameter 'size' expects uint64"),
            (
                "ram",
                json!({"size": 4096, "policy": "bind"}),
                "host-nodes must be set for policy bind",
            ),
            (
                "ram",
                json!({"size": 4096, "policy": "bind", "host-nodes": [128]}),
                "Invalid host-nodes value: 128",
            ),
            (
                "ram",
                json!({"size": 4096, "policy": "foo"}),
                "Parameter 'policy' does not accept value 'foo'",
            ),
            (
                "ram",
                json!({"size": 4096, "prealloc": true, "reserve": false}),
                "'prealloc=on' and 'reserve=off' are incompatible",
            ),
            (
                "ram",
                json!({"size": 4096, "prealloc-threads": 0}),
                "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'",
            ),
            (
                "ram",
                json!({"size": 4096, "mem-path": "x"}),
                "Parameter 'mem-path' is unexpected",
            ),
            ("file", json!({"size": 4096}), "Parameter 'mem-path' is missing"),
            (
                "file",
                json!({"size": 4096, "mem-path": "x", "rom": "on"}),
                "property 'rom' = 'on' is not supported with 'readonly' = 'off'",
            ),
            (
                "file",
                json!({"size": 4096, "mem-path": "x", "rom": "off", "readonly": true, "share": true}),
                "property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'",
            ),
            (
                "memfd",
                json!({"size": 4096, "hugetlb": true, "hugetlbsize": 3}),
                "Hugepage size must be a power of 2",
            ),
        ] {
            assert_eq!(config(kind, &given).unwrap_err(), expected);
        }
    }
}
