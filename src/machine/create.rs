//! Making a guest of whichever machine the command line names.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;

use super::config::MachineConfig;
use super::guest::Guest;
use crate::devices::Notifier;
use crate::qapi::Error;
use crate::target::Target;

/// Makes the guest that `config` describes. `chardevs` holds, by id, the guest's side of the character devices.
///
/// # Errors
/// Names the option, object, file or host resource that does not work.
pub fn create(
    target: Target,
    config: &MachineConfig,
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
            let _ = (config, chardevs, notifier);
            Err(Error::generic(
                "a guest of the x86_64 architecture needs a host of that architecture",
            ))
        }
        Target::S390x => Err(Error::generic(
            "an s390x guest needs SCLP and channel I/O, which this emulator lacks",
        )),
    }
}
