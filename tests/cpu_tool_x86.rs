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
    assert_eq!(from_file, remuda(&["cpu", "list", "--host=host"]));
    assert!(
        from_file
            .1
            .lines()
            .any(|line| line.starts_with("host ") && line.ends_with(" yes"))
    );
    let (status, shown, _) = remuda(&["cpu", "show", "host"]);
    assert_eq!((status, shown.lines().next()), (0, Some("host")));
    let (_, same, _) = remuda(&["cpu", "compare", "host", path.to_str().unwrap()]);
    assert_eq!(same, "identical\n");
    let (status, baseline, error) = remuda(&["cpu", "baseline", "host"]);
    assert_eq!((status, error.as_str()), (0, ""));
    let (status, out, _) = remuda(&["cpu", "explain", baseline.trim()]);
    assert_eq!((status, out), (0, format!("{} runs on this host\n", baseline.trim())));
}

#[test]
fn the_exit_status_tells_whether_a_model_runs() {
    let genoa = host("genoa");
    let (status, out, _) = remuda(&["cpu", "explain", "EPYC-Rome", "--host", &genoa]);
    assert_eq!(status, 0, "{out}");
    let (status, out, _) = remuda(&["cpu", "explain", "SapphireRapids", "--host", &genoa]);
    assert_eq!(status, 1);
    assert!(
        out.starts_with("SapphireRapids does not run on genoa, which lacks\n"),
        "{out}"
    );
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

#[test]
fn what_cannot_be_written_is_an_error() {
    let genoa = host("genoa");
    let tools: [(&str, &[&str]); 7] = [
        (env!("CARGO_BIN_EXE_remuda"), &["--help"]),
        (env!("CARGO_BIN_EXE_remuda"), &["--version"]),
        (env!("CARGO_BIN_EXE_remuda"), &["cpu", "list", "--help"]),
        (env!("CARGO_BIN_EXE_remuda"), &["cpu", "list", "--host", &genoa]),
        (
            env!("CARGO_BIN_EXE_remuda"),
            &["cpu", "explain", "EPYC", "--host", &genoa],
        ),
        (env!("CARGO_BIN_EXE_qemu-system-x86_64"), &["-help"]),
        (env!("CARGO_BIN_EXE_qemu-system-x86_64"), &["-cpu", "help"]),
    ];
    for (program, args) in tools {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Command::new(program).args(args).stdout(full).output().unwrap();
        let error = String::from_utf8(done.stderr).unwrap();
        assert_ne!(done.status.code(), Some(0), "{args:?}");
        assert!(
            error.contains("cannot write to standard output: No space left on device"),
            "{args:?}: {error}"
        );
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        let done = Command::new(program).args(args).stdout(writer).output().unwrap();
        let error = String::from_utf8(done.stderr).unwrap();
        assert_ne!(done.status.code(), Some(0), "{args:?}");
        assert!(
            error.contains("cannot write to standard output: Broken pipe"),
            "{args:?}: {error}"
        );
    }
}

#[test]
fn the_tool_tells_its_version_and_its_usage() {
    let (status, version, _) = remuda(&["--version"]);
    assert_eq!(
        (status, version),
        (0, format!("remuda {}\n", env!("CARGO_PKG_VERSION")))
    );
    for args in [
        &["-h"][..],
        &["--help"],
        &["help"],
        &["serve", "--help"],
        &["host-describe", "-h"],
    ] {
        let (status, out, error) = remuda(args);
        assert!(
            status == 0 && out.starts_with("usage: remuda serve") && error.is_empty(),
            "{args:?}: {out}{error}"
        );
    }
    let (status, out, _) = remuda(&["cpu", "list", "--help"]);
    assert!(status == 0 && out.starts_with("usage: remuda cpu list "), "{out}");
    let (status, _, error) = remuda(&["--version", "now"]);
    assert!(status == 2 && error.contains("'now'"), "{error}");
}

#[test]
fn what_libvirt_says_of_a_host_is_a_host() {
    let capabilities = "<domainCapabilities><arch>x86_64</arch><cpu>
        <mode name='host-passthrough' supported='yes'/>
        <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC-Rome</model><vendor>AMD</vendor>
        <maxphysaddr mode='passthrough' limit='48'/>
        <feature policy='require' name='tsc_adjust'/><feature policy='disable' name='svm'/></mode></cpu></domainCapabilities>";
    let domain =
        "<domain><os><type arch='x86_64'>hvm</type></os><cpu mode='custom'><model>EPYC-Milan</model></cpu></domain>";
    let path = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (rome, guest) = (path("rome.xml"), path("guest.xml"));
    fs::write(&rome, capabilities).unwrap();
    fs::write(&guest, domain).unwrap();
    let (rome, guest) = (rome.to_str().unwrap(), guest.to_str().unwrap());
    assert_eq!(remuda(&["cpu", "explain", "EPYC-Rome", "--host", rome]).0, 0);
    let (status, out, _) = remuda(&["cpu", "explain", guest, "--host", rome]);
    assert_eq!(status, 1);
    assert!(
        out.starts_with("EPYC-Milan does not run on rome, which lacks\n"),
        "{out}"
    );
    let (status, out, _) = remuda(&["cpu", "baseline", rome, &host("genoa")]);
    assert!(status == 0 && out.starts_with("EPYC-Rome"), "{out}");
    let (status, out, _) = remuda(&[
        "cpu",
        "migratable",
        "--from",
        &host("genoa"),
        "--to",
        rome,
        "--cpu",
        guest,
    ]);
    assert!(
        status == 1 && out.starts_with("no: EPYC-Milan does not move from genoa to rome\n"),
        "{out}"
    );
    let (status, _, error) = remuda(&["cpu", "list", "--host", guest]);
    assert!(status == 2 && error.contains("a CPU model, not a host"), "{error}");
    let broken = path("broken.xml");
    fs::write(&broken, "<domainCapabilities>").unwrap();
    let (status, _, error) = remuda(&["cpu", "list", "--host", broken.to_str().unwrap()]);
    assert!(status == 2 && error.contains("broken.xml: not XML: "), "{error}");
}
