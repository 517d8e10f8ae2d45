//! Turns `schema/` into Rust.

use std::path::PathBuf;

#[path = "src/cpu/s390x/tablegen.rs"]
mod s390x_tables;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=schema");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    s390x_tables::generate("schema/cpu/s390x".as_ref(), &out.join("s390x_tables.rs"))
}
