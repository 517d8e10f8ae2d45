#![no_main]

#[path = "../src/virtqueue.rs"]
mod virtqueue;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| virtqueue::run(bytes));
