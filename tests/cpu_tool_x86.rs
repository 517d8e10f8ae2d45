//! `remuda cpu` and host files about x86_64: the programs as an operator runs them.
#![cfg(test)]
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn host(name: &str) -> String {
    format!("{}/tests/vectors/x86/hosts/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

/// Exit status, standard output and standard error.
fn output(program: &str, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn remuda(args: &[&str]) -> (i32, String, String) {
    output(env!("CARGO_BIN_EXE_remuda"), args)
}

#[test]
fn this_host_described_is_this_host() {
    let (status, description, error) = remuda(&["host-describe"]);
    if !Path::new("/dev/kvm").exists() {
        assert_eq!(status, 1);
        assert!(error.contains("Could not access KVM kernel module"), "{error}");
        return;
    }
    assert_eq!((status, error.as_str()), (0, ""));
    let described: Value = serde_json::from_str(&description).unwrap();
    assert_eq!(described["target"], "x86_64");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("this-host.json");
    fs::write(&path, description).unwrap();
    let from_file = remuda(&["cpu", "list", "--host", path.to_str().unwrap()]);
    assert_eq!(from_file, remuda(&["cpu", "list"]));
    assert!(
        from_file
            .1
            .lines()
            .any(|line| line.starts_with("host ") && line.ends_with(" runs"))
    );
}

#[test]
fn the_exit_status_tells_whether_a_model_runs() {
    let genoa = host("genoa");
    let (status, out, _) = remuda(&["cpu", "explain", "EPYC-Rome", "--host", &genoa]);
    assert_eq!(status, 0, "{out}");
    let (status, out, _) = remuda(&["cpu", "explain", "SapphireRapids", "--host", &genoa]);
    assert_eq!(status, 1);
    assert!(
        out.contains("amx-int8: CPUID[eax=07h,ecx=00h].EDX.amx-int8 [bit 25]\n"),
        "{out}"
    );
    let (status, _, error) = remuda(&["cpu", "explain", "EPYC", "--host", "/no/such.json"]);
    assert_eq!(status, 2);
    assert!(
        error.starts_with("remuda cpu: /no/such.json: cannot read the host description"),
        "{error}"
    );
}

#[test]
fn no_guest_runs_on_a_described_host() {
    let accel = format!("hostfile,path={}", host("icx"));
    let quiet = ["-nodefaults", "-display", "none", "-machine", "q35", "-accel", &accel];
    let (status, _, error) = output(env!("CARGO_BIN_EXE_qemu-system-x86_64"), &quiet);
    assert_eq!(status, 1);
    assert!(error.contains("accelerator hostfile runs no guest"), "{error}");
}
