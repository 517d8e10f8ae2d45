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
    println!("cargo::rerun-if-changed=src");
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
    x86_tables::generate("schema/cpu/x86".as_ref(), &out.join("x86_tables.rs"))?;
    trace_events(&out.join("trace_events.rs"))
}

/// Lists the places in the source that log something: what `-trace` knows.
fn trace_events(out: &Path) -> Result<(), String> {
    let mut names = Vec::new();
    collect_events(Path::new("src"), &mut names)?;
    names.sort();
    let code = format!("/// The name of every event, sorted.\npub const EVENTS: &[&str] = &{names:#?};\n");
    fs::write(out, code).map_err(|error| format!("{}: {error}", out.display()))
}

fn collect_events(folder: &Path, names: &mut Vec<String>) -> Result<(), String> {
    let at = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let path = entry.map_err(|error| at(folder, error))?.path();
        if path.is_dir() {
            collect_events(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(|error| at(&path, error))?;
            let logs = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
            if logs.iter().any(|level| text.contains(&format!("tracing::{level}"))) {
                names.push(event_name(&path));
            }
        }
    }
    Ok(())
}

/// `src/devices/serial/mod.rs` logs as `devices_serial`.
fn event_name(path: &Path) -> String {
    let mut module = path.with_extension("");
    if module.ends_with("mod") {
        module.pop();
    }
    let parts = module.iter().skip(1).map(|part| part.to_string_lossy().into_owned());
    parts.collect::<Vec<_>>().join("_")
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
