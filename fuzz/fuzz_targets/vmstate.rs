#![no_main]

#[path = "../src/vmstate.rs"]
#[expect(dead_code, reason = "the fuzzer finds inputs of its own")]
mod vmstate;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vmstate::run(bytes));
