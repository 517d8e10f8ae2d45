#![no_main]

#[path = "../src/cmdline.rs"]
mod cmdline;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cmdline::run(bytes));
