//! Turns `schema/` into Rust.

#[path = "src/qapi/compiler/mod.rs"]
mod compiler;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=src/qapi/compiler");
    match qapi() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles each root module of the QAPI schema.
fn qapi() -> Result<(), String> {
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?);
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
