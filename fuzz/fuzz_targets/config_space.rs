#![no_main]

#[path = "../src/config_space.rs"]
mod config_space;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| config_space::run(bytes));
