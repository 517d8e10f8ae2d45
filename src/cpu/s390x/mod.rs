//! S390 CPU models.
//!
//! A model is a *definition* (a machine of the family: type, generation, GA) and a set of features. Which features a model
//! has follows from its definition, the machine version of the guest ([`Compat`]) and its switches; whether it can run
//! follows from the [`Host`]. Nothing here reads files, asks the kernel or knows QMP's types.
//!
//! The tables come from `schema/cpu/s390x`, compiled by the build script.

mod compat;
mod create;
mod error;
pub mod facility;
pub mod feature;
mod help;
mod host;
mod lookup;
mod model;
mod order;
mod payload;
mod props;
mod query;
mod set;
mod tables;
pub mod types;

pub use compat::{Compat, DefaultOff, EmulatedModel, MachineVersion};
pub use create::{Inconsistency, check_same, inconsistencies};
pub use error::Error;
pub use facility::FacilityList;
pub use feature::FeatureId;
pub use help::help;
pub use host::{Host, HostKind, HostModel, Identity};
pub use lookup::{Wanted, find as find_definition};
pub use model::{Definition, Model, Named, Variant, definitions, named};
pub use payload::{FEAT_WORDS, MachineProps, ProcessorProps, SUBFUNCTION_BYTES, Subfunctions};
pub use query::{
    AcceleratorInfo, CompareInfo, CompareResult, Cpus, DefinitionInfo, Expansion, ExpansionInfo, ModelArgument,
    ModelInfo, baseline, compare, cpu_desc_avail, expand, static_info,
};
pub use set::FeatureSet;
