//! Says whether a guest with the processor of one host can move to another: compares what the two offer.
//!
//! Each argument is the QMP socket of an emulator on a host, a probe (`-machine none`) being enough:
//!
//! ```sh
//! qemu-system-x86_64 -machine none,accel=kvm -nodefaults -display none -qmp unix:/tmp/here,server=on,wait=off &
//! ssh -fNL /tmp/there:/tmp/there otherhost
//! cargo run --example compare_hosts -- /tmp/here /tmp/there
//! ```

#[expect(dead_code, reason = "each example uses its part of the client")]
mod qmp;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use qmp::Qmp;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [here, there] = paths.as_slice() else {
        return Err("usage: compare_hosts QMP-SOCKET QMP-SOCKET".into());
    };
    let (here, there) = (features(here)?, features(there)?);
    let missing_there: Vec<&str> = here.difference(&there).map(String::as_str).collect();
    let missing_here: Vec<&str> = there.difference(&here).map(String::as_str).collect();
    println!("features of both: {}", here.intersection(&there).count());
    println!("only here: {}", missing_there.join(" "));
    println!("only there: {}", missing_here.join(" "));
    match (missing_there.is_empty(), missing_here.is_empty()) {
        (true, true) => println!("a guest with this host's processor can move either way"),
        (true, false) => println!("a guest can move from here to there, not back"),
        (false, true) => println!("a guest can move from there to here, not back"),
        (false, false) => println!("choose a model that has none of the above"),
    }
    Ok(())
}

/// The features that model `host` stands for where this monitor runs.
fn features(path: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut monitor = Qmp::connect(Path::new(path))?;
    let arguments = json!({"type": "full", "model": {"name": "host"}});
    let expansion = monitor.command("query-cpu-model-expansion", arguments)?;
    let props = expansion["model"]["props"]
        .as_object()
        .ok_or("the expansion has no properties")?;
    Ok(props
        .iter()
        .filter(|(_, value)| value.as_bool() == Some(true))
        .map(|(name, _)| name.clone())
        .collect())
}
