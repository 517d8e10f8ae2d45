//! `-compat`: what QMP clients are to do without.

use super::builder::Builder;
use super::error::Error;
use super::{keyval, parser};
use crate::qapi::qmp::{CompatPolicy, CompatPolicyInput, CompatPolicyOutput};
use crate::qapi::visit::{Policy, Reaction, decode_arguments, decode_keyval};

/// `-compat`, as `key=value,...` or in JSON. What is given again replaces what was given before, the rest stays.
///
/// Of what is told to clients nothing is unstable; `unstable-output` has nothing to hide, as in QEMU.
pub(super) fn apply(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    let policy: CompatPolicy = match argument.starts_with('{') {
        true => decode_arguments(parser::object(argument)?, Policy::ACCEPT_ALL),
        false => {
            let (members, help) = keyval::parse(argument, None)?;
            if help {
                return Err(Error::new("Help is not available for this option"));
            }
            decode_keyval(members)
        }
    }
    .map_err(|error| Error::new(error.desc))?;
    let compat = &mut builder.config.compat;
    if let Some(input) = policy.deprecated_input {
        compat.input.deprecated = reaction(input);
    }
    if let Some(input) = policy.unstable_input {
        compat.input.unstable = reaction(input);
    }
    if let Some(output) = policy.deprecated_output {
        compat.hides_deprecated = output == CompatPolicyOutput::Hide;
    }
    Ok(())
}

fn reaction(input: CompatPolicyInput) -> Reaction {
    match input {
        CompatPolicyInput::Accept => Reaction::Accept,
        CompatPolicyInput::Reject => Reaction::Reject,
        CompatPolicyInput::Crash => Reaction::Crash,
    }
}
