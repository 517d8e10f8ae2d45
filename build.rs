//! Turns `schema/` into Rust.

fn main() {
    println!("cargo::rerun-if-changed=schema");
}
