#![no_main]

#[path = "../src/migration.rs"]
#[expect(dead_code, reason = "the fuzzer finds inputs of its own")]
mod migration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| migration::run(bytes));
