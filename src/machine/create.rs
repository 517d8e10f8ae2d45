//! Making a guest of whichever machine the command line names.

use super::chardevs::Chardevs;
use super::config::MachineConfig;
use super::entropy::EntropySources;
use super::guest::Guest;
use crate::accel::choice;
use crate::devices::Notifier;
use crate::qapi::Error;
use crate::target::Target;

/// Makes the guest that `config` describes; with `only_migratable`, only if it could move to another host. `chardevs`
/// holds the guest's side of the character devices, `entropy` its sources of random bytes.
///
/// # Errors
/// Names the option, object, file or host resource that does not work.
pub fn create(
    target: Target,
    config: &MachineConfig,
    only_migratable: bool,
    chardevs: Chardevs,
    entropy: &EntropySources,
    notifier: &Notifier,
) -> Result<Box<dyn Guest>, Error> {
    check_accelerators(target, config)?;
    match target {
        #[cfg(target_arch = "x86_64")]
        Target::X86_64 => {
            let resources = super::pc::Resources {
                chardevs,
                entropy: entropy.clone(),
                ..super::pc::Resources::default()
            };
            Ok(Box::new(super::pc::Vm::new(config, resources, notifier)?))
        }
        #[cfg(not(target_arch = "x86_64"))]
        Target::X86_64 => {
            let _ = (chardevs, entropy, notifier);
            Err(Error::generic("invalid accelerator kvm"))
        }
        Target::S390x => Ok(Box::new(super::s390_ccw::S390Ccw::new(config, only_migratable)?)),
    }
}

/// Checks that one of the accelerators listed, or the one there is, runs guests of `target`.
fn check_accelerators(target: Target, config: &MachineConfig) -> Result<(), Error> {
    if config.accels.is_empty() {
        return match choice::built_in(target).is_empty() {
            true => Err(Error::generic(
                "No accelerator selected and no default accelerator available",
            )),
            false => Ok(()),
        };
    }
    let refusals = config.accels.iter().map(|accel| choice::refusal(target, &accel.name));
    match refusals.collect::<Option<Vec<String>>>() {
        Some(refusals) => Err(Error::generic(refusals.join("\n"))),
        None => Ok(()),
    }
}
