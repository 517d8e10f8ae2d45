//! Command lines: one argument a line. What follows an empty line is what `-readconfig` reads.

#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use remuda::cmdline;
use remuda::target::Target;

fuzz_target!(|text: &str| {
    let (arguments, file) = text.split_once("\n\n").unwrap_or((text, ""));
    for target in [Target::X86_64, Target::S390x] {
        let arguments = arguments.lines().map(OsString::from);
        if let Err(error) = cmdline::parse(target, arguments, &|_| Ok(file.to_owned())) {
            assert!(!error.to_string().is_empty());
        }
    }
});
