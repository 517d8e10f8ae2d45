//! What an accelerator offers to CPU models, found out in a process of its own.

use std::path::Path;

use super::hostfile;
use crate::report::with_causes;
use crate::target::Target;

/// Initialises an accelerator once and describes what it offers to guests of `target`, in the form of a host file. May
/// crash or hang with the accelerator: call it in a process of its own.
///
/// # Errors
/// Why the accelerator cannot be used.
pub fn describe(target: Target, name: &str, props: &[(String, String)]) -> Result<Vec<u8>, String> {
    match name {
        "kvm" if !target.is_native() => Err(format!("KVM runs no {} guests on this machine", target.name())),
        "kvm" => describe_kvm(),
        "hostfile" => {
            let path = Path::new(hostfile::path(props)?);
            let (text, described) = hostfile::read_text(path).map_err(|error| with_causes(&error))?;
            if described.target() != target {
                return Err(format!(
                    "{}: describes a host for {} guests",
                    path.display(),
                    described.target().name()
                ));
            }
            Ok(text.into_bytes())
        }
        other => Err(format!("invalid accelerator {other}")),
    }
}

/// Describes this host as KVM shows it, with what takes a VM to find out.
///
/// # Errors
/// Why KVM cannot be used.
#[cfg(target_arch = "x86_64")]
pub fn this_host() -> Result<Vec<u8>, String> {
    let host = super::kvm::x86_64::probe().map_err(|error| with_causes(&error))?;
    Ok(hostfile::x86::describe(&host).to_string().into_bytes())
}

/// Describes this host as KVM shows it.
///
/// # Errors
/// Why KVM cannot be used.
#[cfg(not(target_arch = "x86_64"))]
pub fn this_host() -> Result<Vec<u8>, String> {
    describe_kvm()
}

#[cfg(target_arch = "s390x")]
fn describe_kvm() -> Result<Vec<u8>, String> {
    let host = super::kvm::s390x::probe().map_err(|error| with_causes(&error))?;
    Ok(hostfile::s390x::describe(&host).to_string().into_bytes())
}

#[cfg(target_arch = "x86_64")]
fn describe_kvm() -> Result<Vec<u8>, String> {
    let system = super::kvm::x86_64::System::open();
    let host = system
        .and_then(|system| system.host())
        .map_err(|error| with_causes(&error))?;
    Ok(hostfile::x86::describe(&host).to_string().into_bytes())
}

#[cfg(not(any(target_arch = "s390x", target_arch = "x86_64")))]
fn describe_kvm() -> Result<Vec<u8>, String> {
    Err("KVM is not supported on this architecture".to_owned())
}
