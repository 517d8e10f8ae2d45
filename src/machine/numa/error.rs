//! Why there cannot be such nodes, in QEMU's words.

use crate::machine::fields::FieldError;
use crate::qapi::QmpError;

/// A `-numa` option that contradicts itself, another one or the topology; or what is missing of them all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumaError {
    /// A parameter by itself.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no such kind of entry.
    #[error("Parameter 'type' does not accept value '{0}'")]
    NoSuchType(String),
    /// `initiator=`, `hmat-lb` and `hmat-cache` want `-machine hmat=on`, which there is not.
    #[error(
        "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on before using any \
         of hmat specific options"
    )]
    NoHmat,
    /// A node's number is too large.
    #[error("Max number of NUMA nodes reached: {0}")]
    TooMany(u16),
    /// Two nodes have this number.
    #[error("Duplicate NUMA nodeid: {0}")]
    Duplicate(u16),
    /// The guest will never have this CPU.
    #[error("CPU index ({cpu}) should be smaller than maxcpus ({max_cpus})")]
    NoCpu {
        /// Its index.
        cpu: u16,
        /// How many there may be.
        max_cpus: u32,
    },
    /// A CPU belongs to this node already.
    #[error("CPU is already assigned to node-id: {0}")]
    Assigned(u16),
    /// Some nodes are given bytes, others a backend.
    #[error("numa configuration should use either mem= or memdev=,mixing both is not allowed")]
    TwoKindsOfMemory,
    /// A node is given bytes.
    #[error("Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead")]
    NoMem,
    /// No memory backend has this id.
    #[error("memdev={0} is ambiguous")]
    NoBackend(String),
    /// A number that no node has.
    #[error("Parameter '{name}' expects an integer between 0 and {last}")]
    NodeOutOfRange {
        /// The parameter.
        name: &'static str,
        /// The highest number.
        last: u16,
    },
    /// A distance from or to a node that was not declared.
    #[error("Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.")]
    UndeclaredEnd,
    /// A distance below that of a node to itself.
    #[error("NUMA distance ({distance}) is invalid, it shouldn't be less than {least}.")]
    TooNear {
        /// The distance.
        distance: u8,
        /// The least there is.
        least: u8,
    },
    /// A node's distance to itself is another than all have.
    #[error("Local distance of node {node} should be {local}.")]
    NotLocal {
        /// The node.
        node: u16,
        /// What all have.
        local: u8,
    },
    /// There is a distance for some pairs, and for this one in neither direction.
    #[error(
        "The distance between node {from} and {to} is missing, at least one distance value between each nodes should be \
         provided."
    )]
    NoDistance {
        /// The lower node.
        from: u16,
        /// The higher node.
        to: u16,
    },
    /// One pair has two distances, another only one.
    #[error(
        "At least one asymmetrical pair of distances is given, please provide distances for both directions of all node \
         pairs."
    )]
    OneWay,
    /// CPUs are to belong to no node.
    #[error("Missing mandatory node-id property")]
    NoNodeId,
    /// CPUs are to belong to a node that was not declared.
    #[error(
        "Invalid node-id={0}, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa \
         cpu,node-id=ID"
    )]
    UndeclaredNode(i64),
    /// The topology has no such level.
    #[error("{0} is not supported")]
    NoLevel(&'static str),
    /// No CPU is in that place.
    #[error("no match found")]
    NoMatch,
    /// There are nodes on both sides of a number that none has.
    #[error("numa: Node ID missing: {0}")]
    Gap(u16),
}

impl QmpError for NumaError {}
