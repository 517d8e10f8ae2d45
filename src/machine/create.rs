//! Making a guest of whichever machine the command line names.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;

use super::config::MachineConfig;
use super::guest::Guest;
use crate::devices::Notifier;
use crate::qapi::Error;
use crate::target::Target;

/// Makes the guest that `config` describes; with `only_migratable`, only if it could move to another host. `chardevs`
/// holds, by id, the guest's side of the character devices.
///
/// # Errors
/// Names the option, object, file or host resource that does not work.
pub fn create(
    target: Target,
    config: &MachineConfig,
    only_migratable: bool,
    chardevs: HashMap<String, UnixStream>,
    notifier: &Notifier,
) -> Result<Box<dyn Guest>, Error> {
    match target {
        #[cfg(target_arch = "x86_64")]
        Target::X86_64 => {
            let resources = super::q35::Resources { chardevs };
            Ok(Box::new(super::q35::Vm::new(config, resources, notifier)?))
        }
        #[cfg(not(target_arch = "x86_64"))]
        Target::X86_64 => {
            let _ = (chardevs, notifier);
            Err(Error::generic(
                "a guest of the x86_64 architecture needs a host of that architecture",
            ))
        }
        Target::S390x if !target.is_native() => Err(Error::generic(
            "a guest of the s390x architecture needs a host of that architecture",
        )),
        Target::S390x => Ok(Box::new(super::s390_ccw::S390Ccw::new(config, only_migratable)?)),
    }
}
