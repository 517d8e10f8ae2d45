//! x86_64 CPU models: pure functions over the tables in `schema/cpu/x86` and the description of a host.
//!
//! ```text
//! -cpu text ──▶ Arguments ┐
//! machine type ▶ Compat  ─┼─▶ Cpus ─▶ definitions, expansions
//! host, KVM ───▶ Accel   ─┘     └──── realise ─▶ Processor ─▶ one VM, many vCPUs
//! ```
//!
//! A [`Cpu`] is made from a [`Model`], set by machine type and command line, expanded (features that need others go,
//! levels rise to the leaves in use), and filtered by what the host can do.

mod arguments;
mod assemble;
mod caches;
mod compat;
mod cpu;
mod error;
mod expand;
mod features;
mod help;
mod host;
mod hyperv;
mod leaves;
mod model;
mod msrs;
mod props;
mod query;
mod realize;
mod supported;
pub mod tables;
mod topology;
mod types;
pub mod vmstate;

pub use arguments::{Arguments, DEFAULT_MODEL};
pub use compat::MachineCompat;
pub use cpu::Cpu;
pub use error::{BitName, Error, Warning};
pub use features::Features;
pub use help::help;
pub use host::{CpuidEntry, Host};
pub use model::Model;
pub use props::{PropValue, WordValue, canonical_name};
pub use query::{Cpus, DefinitionInfo, Expansion, ExpansionInfo};
pub use realize::{Processor, RealizedVcpu, RealizedVm};
pub use supported::{Accel, IrqChip};
pub use topology::{CacheLevels, Place, Topology};
pub use types::{CPU, properties, types};
