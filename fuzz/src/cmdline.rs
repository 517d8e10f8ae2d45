//! Command lines: one argument a line. What follows an empty line is what `-readconfig` reads.

use std::ffi::OsString;

use remuda::cmdline;
use remuda::target::Target;

/// One command line, for each architecture.
pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (arguments, file) = text.split_once("\n\n").unwrap_or((&text, ""));
    for target in [Target::X86_64, Target::S390x] {
        let arguments = arguments.lines().map(OsString::from);
        if let Err(error) = cmdline::parse(target, arguments, &|_| Ok(file.to_owned())) {
            assert!(!error.to_string().is_empty());
        }
    }
}
