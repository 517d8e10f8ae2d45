#![no_main]

#[path = "../src/qcow2.rs"]
#[expect(dead_code, reason = "the fuzzer finds inputs of its own")]
mod qcow2;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qcow2::run(bytes));
