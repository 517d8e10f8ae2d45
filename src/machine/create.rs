//! Making a guest of whichever machine the command line names.

use super::chardevs::Chardevs;
use super::config::MachineConfig;
use super::entropy::EntropySources;
use super::guest::Guest;
use crate::accel::choice;
use crate::block::Graph;
use crate::devices::Notifier;
use crate::net::Networks;
use crate::qapi::{Error, QmpError};
use crate::target::Target;

/// No accelerator runs such guests here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CreateError {
    /// None is named, and there is none.
    #[error("No accelerator selected and no default accelerator available")]
    NoDefaultAccelerator,
    /// None of those named does: why, a line each.
    #[error("{}", .0.join("\n"))]
    NoAccelerator(Vec<String>),
}

impl QmpError for CreateError {}

/// What the guest's devices have of the world outside of it.
pub struct BackEnds<'a> {
    /// The guest's side of the character devices.
    pub chardevs: Chardevs,
    /// Sources of random bytes.
    pub entropy: &'a EntropySources,
    /// The back ends of network cards.
    pub networks: &'a Networks,
    /// The nodes that disks are made of.
    pub graph: &'a Graph,
}

/// Makes the guest that `config` describes; with `only_migratable`, only if it could move to another host.
///
/// # Errors
/// Names the option, object, file or host resource that does not work.
pub fn create(
    target: Target,
    config: &MachineConfig,
    only_migratable: bool,
    back_ends: BackEnds<'_>,
    notifier: &Notifier,
) -> Result<Box<dyn Guest>, Error> {
    check_accelerators(target, config)?;
    match target {
        #[cfg(target_arch = "x86_64")]
        Target::X86_64 => {
            let resources = super::pc::Resources {
                chardevs: back_ends.chardevs,
                entropy: back_ends.entropy.clone(),
                networks: back_ends.networks.clone(),
                graph: back_ends.graph.clone(),
                ..super::pc::Resources::default()
            };
            Ok(Box::new(super::pc::Vm::new(config, resources, notifier)?))
        }
        #[cfg(not(target_arch = "x86_64"))]
        Target::X86_64 => {
            let _ = (back_ends, notifier);
            Err(CreateError::NoAccelerator(vec!["invalid accelerator kvm".to_owned()]).into())
        }
        Target::S390x => Ok(Box::new(super::s390_ccw::S390Ccw::new(config, only_migratable)?)),
    }
}

/// Checks that one of the accelerators listed, or the one there is, runs guests of `target`.
fn check_accelerators(target: Target, config: &MachineConfig) -> Result<(), CreateError> {
    if config.accels.is_empty() {
        return match choice::built_in(target).is_empty() {
            true => Err(CreateError::NoDefaultAccelerator),
            false => Ok(()),
        };
    }
    let refusals = config.accels.iter().map(|accel| choice::refusal(target, &accel.name));
    match refusals.collect::<Option<Vec<String>>>() {
        Some(refusals) => Err(CreateError::NoAccelerator(refusals)),
        None => Ok(()),
    }
}
