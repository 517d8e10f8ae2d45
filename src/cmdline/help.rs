//! The texts of `-help`, `-version` and of lists that no registry of types holds.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::option::{OptionInfo, Section};
use super::table::options;
use crate::machine::config::FIRMWARE_FOLDERS;
use crate::qapi::qmp::NetClientDriver;
use crate::target::Target;

/// What `-version` prints: the version of QEMU that is spoken, and our own.
#[must_use]
pub fn version() -> String {
    format!(
        "QEMU emulator version {EMULATED_VERSION} (remuda {})\n\
         A libvirt-compatible emulator that is not QEMU; its authors hold the copyright.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The version of QEMU whose command line and QMP are spoken.
pub const EMULATED_VERSION: &str = "10.2.0";

/// What `-help` prints.
#[must_use]
pub fn usage(target: Target) -> String {
    let mut text = version();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "usage: {} [options]", target.binary());
    for section in Section::ALL {
        let listed: Vec<&OptionInfo> = options()
            .filter(|option| option.section == section && option.targets.include(target) && !option.is_refused())
            .collect();
        if listed.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}:", section.heading());
        listed.iter().for_each(|option| describe(&mut text, option));
    }
    text
}

/// Width of the column of names.
const INDENT: usize = 20;

fn describe(text: &mut String, option: &OptionInfo) {
    let mut head = format!("-{}", option.name);
    if option.has_argument() {
        head = format!("{head} {}", option.argument);
    }
    if head.len() >= INDENT {
        let _ = writeln!(text, "{head}");
        head.clear();
    }
    for line in option.help.lines() {
        let _ = writeln!(text, "{head:INDENT$}{line}");
        head.clear();
    }
}

/// What `-OPTION help` prints.
#[must_use]
pub fn parameters(option: &OptionInfo) -> String {
    let mut text = format!("{} options:\n", option.group.map_or(option.name, |group| group.name));
    for parameter in option.group.map_or(&[][..], |group| group.parameters) {
        let head = format!("  {}=<{}>", parameter.name, parameter.kind.as_str());
        let _ = writeln!(text, "{head:25} - {}", parameter.help);
    }
    text
}

/// What `-audiodev help` prints.
#[must_use]
pub fn audio_drivers() -> String {
    "Available audio drivers:\nnone\n".to_owned()
}

/// What `-netdev help` prints.
#[must_use]
pub fn netdevs() -> String {
    let kinds = NetClientDriver::ALL.iter().map(|kind| format!("{kind}\n"));
    format!("Available netdev backend types:\n{}", kinds.collect::<String>())
}

/// What `-L help` prints: the folders given, then those that are always looked into.
#[must_use]
pub fn data_dirs(given: &[PathBuf]) -> String {
    let built_in = FIRMWARE_FOLDERS.iter().map(Path::new);
    let folders = given.iter().map(PathBuf::as_path).chain(built_in);
    folders.map(|folder| format!("{}\n", folder.display())).collect()
}

/// Standard error's lines for a command line without a word, where no machine is the default.
#[must_use]
pub fn nothing_given(target: Target) -> String {
    format!(
        "No machine specified, and there is no default\n\
         Use -machine help to list supported machines, -help to list all options; for example:\n  \
         {} -machine q35,accel=kvm -cpu host -m 256 -nodefaults -display none -serial stdio -kernel FILE -append TEXT",
        target.binary()
    )
}

/// What `-display help` prints.
#[must_use]
pub fn displays() -> String {
    "Available display backend types:\nnone\n".to_owned()
}

/// What `-vga help` prints.
#[must_use]
pub fn vgas() -> String {
    "none                 no graphic card (default)\n".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_lists_what_the_target_has() {
        let x86 = usage(Target::X86_64);
        assert!(x86.starts_with("QEMU emulator version 10.2.0 (remuda "));
        assert!(x86.contains("usage: qemu-system-x86_64 [options]"));
        assert!(x86.contains("\n-no-hpet            the same as -machine hpet=off\n"));
        assert!(!x86.contains("-tpmdev"));
        assert!(!usage(Target::S390x).contains("x86 guests only"));
    }
}
