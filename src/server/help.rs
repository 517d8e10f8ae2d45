//! The texts of `-help`, `-device help` and their kin, from the registries.

use crate::accel::{choice, hostfile};
use crate::cmdline::HelpRequest;
use crate::cmdline::help;
use crate::cpu;
use crate::logging::items;
use crate::machine;
use crate::machine::types::machine_types;
use crate::qapi::Error;
use crate::target::Target;

/// What a help request prints.
///
/// # Errors
/// There is nothing of the name that was asked for.
pub(super) fn text(target: Target, request: &HelpRequest) -> Result<String, Error> {
    let registry = || machine::registry(target, target.is_native());
    Ok(match request {
        HelpRequest::Usage => help::usage(target),
        HelpRequest::Version => help::version(),
        HelpRequest::Machines => machines(target),
        HelpRequest::Machine(name) => {
            let machine = machine::types::of(target, name.as_deref())?;
            registry().machine_help(machine.qom_type.name)
        }
        HelpRequest::Cpus => match target {
            Target::X86_64 => cpu::x86::help(),
            Target::S390x => cpu::s390x::help(),
        },
        HelpRequest::Accels => accels(target),
        HelpRequest::Accel(name) => {
            choice::check_name(target, name).map_err(Error::generic)?;
            registry().machine_help(&format!("{name}-accel"))
        }
        HelpRequest::AudioDrivers => help::audio_drivers(),
        HelpRequest::Netdevs => help::netdevs(),
        HelpRequest::DataDirs(given) => help::data_dirs(given),
        HelpRequest::TraceEvents => items::event_help(),
        HelpRequest::Devices => registry().devices_help(),
        HelpRequest::Device(name) => registry().device_help(name)?,
        HelpRequest::Objects => registry().objects_help(),
        HelpRequest::Object(name) => registry().object_help(name)?,
        HelpRequest::Chardevs => {
            let names = crate::chardev::ChardevRegistry::backends();
            format!("Available chardev backend types: \n  {}\n", names.join("\n  "))
        }
        HelpRequest::Displays => help::displays(),
        HelpRequest::Vgas => help::vgas(),
        HelpRequest::LogItems => items::help(),
        HelpRequest::Parameters(option) => help::parameters(option),
    })
}

fn accels(target: Target) -> String {
    let names = choice::built_in(target).iter().chain([&hostfile::NAME]);
    let lines = names.map(|name| format!("{name}\n"));
    std::iter::once("Accelerators supported in QEMU binary:\n".to_owned())
        .chain(lines)
        .collect()
}

fn machines(target: Target) -> String {
    let mut text = "Supported machines are:\n".to_owned();
    for machine in machine_types(target) {
        let deprecated = if machine.deprecated { " (deprecated)" } else { "" };
        if let Some(alias) = machine.alias {
            text += &format!("{alias:<20} {} (alias of {})\n", machine.description, machine.name);
        }
        let default = if machine.is_default { " (default)" } else { "" };
        text += &format!("{:<20} {}{default}{deprecated}\n", machine.name, machine.description);
    }
    text
}
