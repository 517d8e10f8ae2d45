//! Starts a guest over QMP, talks to it on its serial port, presses its power button.
//!
//! ```sh
//! cargo run --example first_guest -- EMULATOR KERNEL
//! ```
//!
//! `examples/first_guest.sh` builds both and runs this. Without `/dev/kvm` there is no guest: then it shows what
//! libvirt's probe would learn.

mod qmp;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use qmp::Qmp;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [emulator, kernel] = arguments.as_slice() else {
        return Err("usage: first_guest EMULATOR KERNEL".into());
    };
    let directory = std::env::temp_dir().join(format!("first-guest-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let kvm = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    let outcome = match kvm {
        Ok(_) => run_guest(emulator, kernel, &directory),
        Err(error) => {
            println!("/dev/kvm: {error}. There can be no guest here; this is what a probe shows.\n");
            probe(emulator, &directory)
        }
    };
    std::fs::remove_dir_all(&directory)?;
    outcome
}

/// Runs the guest from start to power-off.
fn run_guest(emulator: &str, kernel: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    let console = UnixListener::bind(directory.join("console"))?;
    let monitor = directory.join("qmp");
    let mut child = Command::new(emulator)
        .args([
            "-machine",
            "q35,accel=kvm",
            "-cpu",
            "host",
            "-m",
            "128",
            "-nodefaults",
            "-display",
            "none",
            "-S",
        ])
        .args(["-kernel", kernel, "-append", "hello from first_guest"])
        .args([
            "-chardev",
            &format!("socket,id=console,path={}", directory.join("console").display()),
        ])
        .args(["-serial", "chardev:console", "-qmp", &listening(&monitor)])
        .stdin(Stdio::null())
        .spawn()?;
    let outcome = converse(&console, &monitor);
    finish(&mut child, outcome)
}

/// What one does with a guest: start it, ask about it, talk to it, end it.
fn converse(console: &UnixListener, monitor: &Path) -> Result<(), Box<dyn Error>> {
    let mut qmp = Qmp::connect(monitor)?;
    show_version(&mut qmp)?;
    println!("status: {}", qmp.command("query-status", &json!({}))?["status"]);

    qmp.command("cont", &json!({}))?;
    let (mut console, _) = console.accept()?;
    let mut lines = BufReader::new(console.try_clone()?);
    print_until(&mut lines, "READY")?;
    console.write_all(b"e the guest answers\r")?;
    print_until(&mut lines, "ECHO")?;

    println!("status: {}", qmp.command("query-status", &json!({}))?["status"]);
    let cpus = qmp.command("query-cpus-fast", &json!({}))?;
    println!("vCPU 0 is thread {} at {}", cpus[0]["thread-id"], cpus[0]["qom-path"]);
    println!("CPU model: {}", qmp.command("query-cpu-model", &json!({}))?);
    show_host_cpu(&mut qmp)?;
    show_models(&mut qmp)?;

    println!("pressing the power button");
    qmp.command("system_powerdown", &json!({}))?;
    print_until(&mut lines, "POWER-OFF")?;
    while let Ok(event) = qmp.event() {
        println!("event: {} {}", event["event"], event["data"]);
    }
    Ok(())
}

/// Shows what the emulator says of itself and of the host's processor, without a guest.
fn probe(emulator: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    let monitor = directory.join("qmp");
    let mut child = Command::new(emulator)
        .args([
            "-machine",
            "none,accel=kvm:tcg",
            "-nodefaults",
            "-display",
            "none",
            "-S",
            "-qmp",
            &listening(&monitor),
        ])
        .stdin(Stdio::null())
        .spawn()?;
    let outcome = Qmp::connect(&monitor).and_then(|mut qmp| {
        show_version(&mut qmp)?;
        println!("KVM: {}", qmp.command("query-kvm", &json!({}))?);
        let machines = qmp.command("query-machines", &json!({}))?;
        let names: Vec<&str> = machines
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["name"].as_str())
            .collect();
        println!("machines: {}", names.join(" "));
        show_models(&mut qmp)?;
        qmp.command("quit", &json!({}))?;
        Ok(())
    });
    finish(&mut child, outcome)
}

fn show_version(qmp: &mut Qmp) -> Result<(), Box<dyn Error>> {
    let version = qmp.command("query-version", &json!({}))?;
    let qemu = &version["qemu"];
    println!(
        "speaks QMP of {}.{}.{}: {}",
        qemu["major"], qemu["minor"], qemu["micro"], version["package"]
    );
    Ok(())
}

fn show_host_cpu(qmp: &mut Qmp) -> Result<(), Box<dyn Error>> {
    let arguments = json!({"type": "full", "model": {"name": "host"}});
    let expansion = qmp.command("query-cpu-model-expansion", &arguments)?;
    let on = |value: &Value| value.as_bool() == Some(true);
    let count = expansion["model"]["props"]
        .as_object()
        .map_or(0, |props| props.values().filter(|v| on(v)).count());
    println!("model host has {count} properties on here");
    Ok(())
}

/// Shows which CPU models run here, by the accelerator that says so.
fn show_models(qmp: &mut Qmp) -> Result<(), Box<dyn Error>> {
    let models = qmp.command("query-cpu-definitions", &json!({}))?;
    let models = models.as_array().ok_or("the CPU definitions are no list")?;
    let runs = |model: &&Value| model["accelerators"][0]["runnable"] == true;
    let count = models.iter().filter(runs).count();
    println!("of {} CPU models {count} run here", models.len());
    let blocked = models.iter().find(|model| !runs(model));
    if let Some(model) = blocked.filter(|model| model["accelerators"].is_array()) {
        println!("{} lacks {}", model["name"], model["unavailable-features"]);
    }
    Ok(())
}

/// Prints the guest's lines up to the one that begins with `word`.
fn print_until(lines: &mut BufReader<UnixStream>, word: &str) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    while !line.starts_with(word) {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err(format!("the console closed before {word}").into());
        }
        println!("guest: {}", line.trim_end());
    }
    Ok(())
}

fn listening(path: &Path) -> String {
    format!("unix:{},server=on,wait=off", path.display())
}

/// Waits for the emulator, which is ended first if something went wrong.
fn finish(child: &mut Child, outcome: Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    if outcome.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    outcome?;
    println!("the emulator has ended: {status}");
    Ok(())
}
