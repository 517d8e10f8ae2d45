//! Turns `schema/` into Rust.

#[path = "src/qapi/compiler/mod.rs"]
mod compiler;
#[path = "src/cpu/s390x/tablegen.rs"]
mod s390x_tables;
#[path = "src/cpu/x86/tablegen.rs"]
mod x86_tables;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=src/qapi/compiler");
    println!("cargo::rerun-if-changed=src/cpu/s390x/tablegen.rs");
    println!("cargo::rerun-if-changed=src/cpu/x86/tablegen.rs");
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?);
    qapi(&out)?;
    s390x_tables::generate("schema/cpu/s390x".as_ref(), &out.join("s390x_tables.rs"))?;
    x86_tables::generate("schema/cpu/x86".as_ref(), &out.join("x86_tables.rs"))
}

/// Compiles each root module of the QAPI schema.
fn qapi(out: &Path) -> Result<(), String> {
    for root in ["qmp", "remuda"] {
        let module = PathBuf::from(format!("schema/{root}.json"));
        for file in
            compiler::compile(&module, root, &|path| fs::read_to_string(path)).map_err(|error| error.to_string())?
        {
            let path = out.join(file.name);
            fs::write(&path, file.contents).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
