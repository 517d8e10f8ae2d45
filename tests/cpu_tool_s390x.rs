//! `remuda cpu` about S390 models and hosts: the program as an operator runs it, on the recorded hosts.
#![cfg(test)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

const Z15: &str = "HOSTS/6.0.0/sim_host.json";
const Z15_RESTRICTED: &str = "HOSTS/8.1.0/sim_host.json";
const Z16: &str = "HOSTS/9.2.0/sim_host.json";

/// Exit status, standard output and standard error of `remuda cpu TEXT`.
fn remuda(text: &str) -> (i32, String, String) {
    let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/s390x/hosts");
    let args = text.split_whitespace().map(|arg| arg.replace("HOSTS", hosts));
    let output = Command::new(env!("CARGO_BIN_EXE_remuda"))
        .arg("cpu")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn migratable(from: &str, to: &str, cpu: &str) -> (i32, String) {
    let (status, out, error) = remuda(&format!("migratable --from {from} --to {to} {cpu}"));
    assert_eq!(error, "", "{from} {to} {cpu}");
    (status, out)
}

/// A host in a file of its own: the recorded one, with `change` made to its description.
fn changed(recorded: &str, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/s390x/hosts");
    let text = fs::read_to_string(recorded.replace("HOSTS", hosts)).unwrap();
    let mut description: Value = serde_json::from_str(&text).unwrap();
    change(&mut description);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, description.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_guest_moves_where_its_model_runs() {
    for (from, to, cpu) in [
        (Z15, Z16, "--cpu z14"),
        (Z16, Z15, "--cpu z14"),
        (Z16, Z15, "--cpu 2964-ga1,te=off"),
        (Z15, Z15, ""),
        (Z15, Z15, "--cpu host"),
    ] {
        let (status, out) = migratable(from, to, cpu);
        assert!(status == 0 && out.starts_with("yes: "), "{from} {to} {cpu}: {out}");
    }
}

#[test]
fn a_generation_in_the_way_is_named() {
    let (status, out) = migratable(Z16, Z15, "--cpu gen16a-base");
    assert_eq!(status, 1);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("no: gen16a-base does not move from "), "{out}");
    assert_eq!(
        lines[1],
        "  type: gen16a is of generation 16 GA 1, the host is a gen15a of generation 15 GA 1"
    );
}

#[test]
fn a_facility_in_the_way_is_named_with_its_number() {
    let (status, out) = migratable(Z15, Z15_RESTRICTED, "");
    assert_eq!(status, 1);
    let ri = "  ri: runtime instrumentation, facility 64; the kernel must have KVM_CAP_S390_RI and the machine what it needs";
    assert!(out.lines().any(|line| line == ri), "{out}");
    let (status, out) = migratable(Z15_RESTRICTED, Z16, "");
    assert_eq!(status, 0);
    assert!(out.contains("start the guest with -cpu gen15a-base,"), "{out}");
}

#[test]
fn a_limit_of_the_blocking_control_in_the_way_is_named() {
    let narrow = changed(Z16, "narrow.json", |description| {
        description["machine"]["ibc"] = json!("0x00410061");
    });
    let (status, out) = migratable(Z15, &narrow, "--cpu z13-base");
    assert_eq!(
        (status, out.lines().nth(1)),
        (
            1,
            Some("  IBC: z13 needs instruction blocking control 0x031, the host can be held to 0x041 to 0x061")
        )
    );
    let (status, _) = migratable(Z15, &narrow, "--cpu z14-base");
    assert_eq!(status, 0);
}

#[test]
fn a_guest_that_cannot_run_where_it_is_does_not_move() {
    let (status, out) = migratable(Z15, Z16, "--cpu gen16a-base");
    assert_eq!(status, 1);
    assert!(
        out.starts_with("no: gen16a-base does not run on ") && out.contains(", where it is to come from\n  type: "),
        "{out}"
    );
}

#[test]
fn the_answer_can_be_had_as_json() {
    let (status, out) = migratable(Z16, Z15, "--cpu gen16a-base --json");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (status, &answer["migratable"], &answer["obstacles"][0]["kind"]),
        (1, &json!(false), &json!("generation"))
    );
    let (status, out) = migratable(Z15, Z15_RESTRICTED, "--json");
    let answer: Value = serde_json::from_str(&out).unwrap();
    let obstacles = answer["obstacles"].as_array().unwrap();
    let ri = obstacles.iter().find(|obstacle| obstacle["name"] == "ri").unwrap();
    assert_eq!(
        (status, &ri["kind"], &ri["facility"]),
        (1, &json!("feature"), &json!(64))
    );
    let (status, out) = migratable(Z15, Z16, "--cpu z14-base --json");
    assert_eq!(
        (status, out.as_str()),
        (0, "{\"migratable\":true,\"model\":{\"name\":\"z14-base\"}}\n")
    );
}

#[test]
fn a_baseline_of_any_number_of_hosts_runs_on_each() {
    let (status, out, _) = remuda(&format!("baseline {Z15} {Z15_RESTRICTED} {Z16}"));
    assert_eq!(status, 0);
    let model = out.trim();
    for host in [Z15, Z15_RESTRICTED, Z16] {
        let (status, out, _) = remuda(&format!("explain {model} --host {host}"));
        assert_eq!(
            (status, out.as_str()),
            (0, format!("{model} runs on sim_host\n").as_str()),
            "{host}"
        );
        let (status, out, _) = remuda(&format!("compare {host} {model} --target s390x"));
        assert_eq!(status, 0);
        assert!(
            ["superset", "identical"].contains(&out.lines().next().unwrap()),
            "{host}: {out}"
        );
    }
}

#[test]
fn models_are_expanded_under_every_name() {
    let show = |name: &str| remuda(&format!("show {name} --target s390x --json")).1;
    assert_eq!(show("2066-ga1"), show("z800"));
    let (_, out, _) = remuda("show z13 --target s390x --full --json");
    let model: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&model["model"]["name"], &model["model"]["props"]["vx"]),
        (&json!("z13-base"), &json!(true))
    );
    assert_eq!(model["model"]["props"]["nnpa"], json!(false));
}

#[test]
fn what_cannot_be_answered_ends_with_status_2() {
    for (text, wanted) in [
        (format!("migratable --from {Z15}"), "--from and --to are needed"),
        (
            format!("migratable --from {Z15} --to /nonexistent.json"),
            "/nonexistent.json: cannot read the host description: No such file",
        ),
        (
            format!("migratable --from {Z15} --to {Z16} --cpu z99"),
            "unable to find CPU model 'z99'",
        ),
        (
            format!("migratable --from {Z15} --to {Z16} --cpu z13,nnpa=on"),
            "Feature 'nnpa' is not available for CPU model 'z13', it was introduced with later models.",
        ),
    ] {
        let (status, out, error) = remuda(&text);
        assert_eq!((status, out.as_str()), (2, ""), "{text}");
        assert!(
            error.starts_with("remuda cpu: ") && error.contains(wanted),
            "{text}: {error}"
        );
    }
}
