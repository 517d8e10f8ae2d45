use super::super::run;
use super::*;

/// Exit status and output of `remuda cpu TEXT`; @HOST stands for the file of a recorded host.
fn remuda(text: &str) -> (Result<Verdict, ToolError>, String) {
    let file = |arg: &str| match arg.split_once('@') {
        Some((before, host)) => format!(
            "{before}{}/tests/vectors/x86/hosts/{host}.json",
            env!("CARGO_MANIFEST_DIR")
        ),
        None => arg.to_owned(),
    };
    let args: Vec<String> = text.split_whitespace().map(file).collect();
    let mut out = Vec::new();
    let verdict = run(&args, &mut out);
    (verdict, String::from_utf8(out).unwrap())
}

fn json_of(text: &str) -> (Result<Verdict, ToolError>, Value) {
    let (verdict, text) = remuda(&format!("{text} --json"));
    (verdict, serde_json::from_str(&text).unwrap())
}

/// The first line of an answer.
fn first_line(text: &str) -> String {
    remuda(text).1.lines().next().unwrap_or_default().to_owned()
}

/// The only line of a list that is about `name`.
fn line_of(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(name));
    lines.next().unwrap().to_owned()
}

#[test]
fn models_are_listed_in_a_table_that_fits_a_terminal() {
    let (verdict, text) = remuda("list --host @icx");
    assert_eq!(verdict, Ok(Verdict::Yes));
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(text.starts_with("MODEL  "), "{text}");
    assert!(line_of(&text, "Icelake-Server-v4").ends_with("  yes"), "{text}");
    assert!(
        line_of(&text, "Icelake-Server").ends_with("  is Icelake-Server-v1"),
        "{text}"
    );
    let lacking = line_of(&text, "SapphireRapids-v1");
    assert!(
        lacking.contains("  no   ") && lacking.contains(": ") && lacking.ends_with(')'),
        "{lacking}"
    );
    let (_, features) = remuda("list --host @icx --features");
    assert!(features.lines().all(|line| line.len() <= 80), "{features}");
    let about = features
        .split("SapphireRapids-v1 does not run on icx\n")
        .nth(1)
        .unwrap();
    assert!(
        about.starts_with("  missing: ") && about.contains("amx-tile"),
        "{about}"
    );
}

#[test]
fn a_list_tells_clients_how_each_model_fares_on_each_host() {
    let (_, list) = json_of("list --host @icx --host @rome");
    let of = |name: &str| {
        list.as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name)
            .unwrap()
    };
    let there = &of("EPYC-Rome-v5")["accelerators"];
    assert_eq!(
        (&there[0]["name"], &there[0]["runnable"]),
        (&json!("icx"), &json!(false))
    );
    assert_eq!(
        (&there[1]["name"], &there[1]["runnable"]),
        (&json!("rome"), &json!(true))
    );
    assert_eq!(
        there[0]["unavailable-features"],
        of("EPYC-Rome-v5")["unavailable-features"]
    );
    assert_eq!(of("qemu64")["accelerators"][0]["default"], json!(true));
    assert_eq!(of("EPYC")["accelerators"][0]["default"], json!(false));
    let (_, text) = remuda("list --host @icx --host @rome --host @genoa");
    assert!(text.starts_with("  1  icx\n  2  rome\n  3  genoa\n"), "{text}");
    let cells = line_of(&text, "EPYC-Rome-v5")
        .split_whitespace()
        .skip(1)
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert_eq!(cells, ["no", "yes", "yes"]);
}

#[test]
fn a_model_is_shown_with_its_features() {
    let (_, text) = remuda("show Nehalem,-sse4_2 --target x86_64");
    assert!(text.starts_with("Nehalem\nis Nehalem-v1\n"), "{text}");
    assert!(
        text.contains("\nmodel-id Intel Core i7 9xx (Nehalem Class Core i7)\n"),
        "{text}"
    );
    let on: Vec<&str> = text.split("\non\n").nth(1).unwrap().split_whitespace().collect();
    assert!(on.contains(&"sse4.1") && !on.contains(&"sse4.2"), "{on:?}");
    let (_, full) = json_of("show Nehalem --full --target x86_64");
    assert_eq!(full["model"]["props"]["level-func7"], json!(0));
    let (_, own) = json_of("show @rome");
    assert_eq!(own["model"]["props"]["family"], json!(23));
}

#[test]
fn models_and_hosts_are_compared_by_their_features() {
    let (_, text) = remuda("compare Nehalem-v1 Nehalem --target x86_64");
    assert_eq!(text, "identical\n");
    let (_, text) = remuda("compare Nehalem-v1 Nehalem-v2 --target x86_64");
    assert_eq!(text, "subset\n  only the second has spec-ctrl\n");
    let (_, answer) = json_of("compare @icx @clx");
    assert!(
        ["superset", "incompatible"].contains(&answer["result"].as_str().unwrap()),
        "{answer}"
    );
    let (_, text) = remuda("compare @rome @genoa @rome");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(5)
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    assert_eq!(rows[0], ["identical", "incompatible", "identical"], "{text}");
    assert_eq!(rows[1], ["incompatible", "identical", "incompatible"], "{text}");
}

#[test]
fn comparing_a_host_with_a_model_says_whether_it_runs() {
    for host in ["icx", "rome"] {
        let (_, list) = json_of(&format!("list --host @{host}"));
        for entry in list.as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            if name == "host" {
                continue;
            }
            let (_, answer) = json_of(&format!("compare @{host} {name}"));
            let has_all = ["identical", "superset"].contains(&answer["result"].as_str().unwrap());
            assert_eq!(
                json!(has_all),
                entry["accelerators"][0]["runnable"],
                "{host} {name}: {answer}"
            );
        }
    }
}

const INTEL: [&str; 3] = ["clx", "icx", "spr"];
const AMD: [&str; 2] = ["rome", "genoa"];

/// All sets of one, two or three hosts of a vendor.
fn fleets() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all = Vec::new();
    for (vendor, hosts) in [("GenuineIntel", INTEL.as_slice()), ("AuthenticAMD", AMD.as_slice())] {
        for set in 1..1_usize << hosts.len() {
            let chosen = hosts.iter().enumerate().filter(|(place, _)| set >> place & 1 != 0);
            all.push((vendor, chosen.map(|(_, host)| *host).collect()));
        }
    }
    all
}

#[test]
fn a_baseline_runs_on_all_hosts_and_is_of_their_vendor() {
    for (vendor, hosts) in fleets() {
        let files: Vec<String> = hosts.iter().map(|host| format!("@{host}")).collect();
        let (verdict, text) = remuda(&format!("baseline {}", files.join(" ")));
        assert_eq!(verdict, Ok(Verdict::Yes));
        let name = text.split([',', '\n']).next().unwrap();
        let model = Model::find(name, MachineCompat::newest()).unwrap();
        assert_eq!(model.vendor(), Some(vendor), "{hosts:?}: {text}");
        for host in files {
            let (verdict, why) = remuda(&format!("explain {} --host {host}", text.trim()));
            assert_eq!(verdict, Ok(Verdict::Yes), "{text}: {why}");
        }
    }
}

/// What libvirt 9.0 makes of the same hosts (`virsh cpu-baseline`), where it comes to a model of this age: the sets of `clx`
/// and `rome` alone. It has no model as new as the others; for every set with `icx`, `spr` or `genoa` in it the expectation
/// is our own, and not libvirt's.
const OF_LIBVIRT: [(&[&str], &str); 9] = [
    (&["clx"], "Cascadelake-Server"),
    (&["icx"], "Icelake-Server-noTSX"),
    (&["spr"], "SapphireRapids"),
    (&["rome"], "EPYC-Rome"),
    (&["genoa"], "EPYC-Genoa"),
    (&["rome", "genoa"], "EPYC-Rome"),
    (&["clx", "icx"], "Cascadelake-Server-noTSX"),
    (&["icx", "spr"], "Icelake-Server-noTSX"),
    (&["clx", "icx", "spr"], "Cascadelake-Server-noTSX"),
];

#[test]
fn a_baseline_is_no_worse_than_libvirts() {
    for (hosts, libvirts) in OF_LIBVIRT {
        let files: Vec<String> = hosts.iter().map(|host| format!("@{host}")).collect();
        let (_, text) = remuda(&format!("baseline {}", files.join(" ")));
        let (_, answer) = json_of(&format!("compare {} {libvirts} --target x86_64", text.trim()));
        let (_, list) = json_of(&format!("list --host {}", files.join(" --host ")));
        let entry = list
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == libvirts)
            .unwrap();
        let there = entry["accelerators"].as_array().unwrap();
        let nowhere = |name: &Value| {
            let missing = there
                .iter()
                .map(|host| host["unavailable-features"].as_array().unwrap());
            missing.into_iter().any(|missing| missing.contains(name))
        };
        let (_, spelt_out) = json_of(&format!("show {} --host {}", text.trim(), files[0]));
        let lacking = answer["responsible-properties"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|name| spelt_out["model"]["props"][name.as_str().unwrap()] == json!(false) && !nowhere(name));
        // What every named model leaves off under KVM is no loss.
        let lost: Vec<&Value> = lacking
            .filter(|name| !["svm", "monitor"].contains(&name.as_str().unwrap()))
            .collect();
        assert!(
            lost.is_empty(),
            "{hosts:?}: {} lacks {lost:?} of {libvirts}",
            text.trim()
        );
    }
}

#[test]
fn hosts_of_different_vendors_have_no_baseline() {
    let (verdict, _) = remuda("baseline @icx @rome");
    assert_eq!(
        verdict.unwrap_err().to_string(),
        "no model is right on processors of different vendors: icx is GenuineIntel, rome is AuthenticAMD"
    );
}

#[test]
fn a_baseline_comes_as_libvirt_takes_it() {
    let (_, xml) = remuda("baseline @rome --xml");
    assert!(
        xml.starts_with("<cpu mode='custom' match='exact' check='full'>\n  <model fallback='forbid'>EPYC-Rome"),
        "{xml}"
    );
    let folder = std::env::temp_dir();
    let path = folder.join(format!("remuda-baseline-{}.xml", std::process::id()));
    std::fs::write(&path, &xml).unwrap();
    let (verdict, why) = remuda(&format!("explain {} --host @rome", path.display()));
    let (_, relation) = remuda(&format!("compare @rome {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(verdict, Ok(Verdict::Yes), "{why}");
    assert!(
        relation.starts_with("superset\n") || relation.starts_with("identical\n"),
        "{relation}"
    );
}

#[test]
fn what_is_in_the_way_is_named_with_its_place() {
    let (verdict, text) = remuda("explain SapphireRapids --host @icx");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.starts_with("SapphireRapids does not run on icx, which lacks\n"),
        "{text}"
    );
    assert!(
        text.contains("  amx-tile: CPUID[eax=07h,ecx=00h].EDX.amx-tile [bit 24]\n"),
        "{text}"
    );
    assert!(
        text.ends_with('\n') && text.contains("the nearest model that runs is Icelake-Server"),
        "{text}"
    );
    let (_, answer) = json_of("explain SapphireRapids --host @icx");
    let tile = json!({"kind": "feature", "name": "amx-tile", "leaf": 7, "subleaf": 0, "register": "EDX", "bit": 24,
        "text": "amx-tile: CPUID[eax=07h,ecx=00h].EDX.amx-tile [bit 24]"});
    assert!(answer["obstacles"].as_array().unwrap().contains(&tile), "{answer}");
    let (verdict, answer) = json_of("explain Icelake-Server-v4 --host @icx");
    assert_eq!(verdict, Ok(Verdict::Yes));
    assert_eq!(answer, json!({"runnable": true, "obstacles": [], "nearest": null}));
    let (verdict, text) = remuda("explain EPYC-Rome-v5 --host @rome --host @icx");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.starts_with("EPYC-Rome-v5 runs on rome\nEPYC-Rome-v5 does not run on icx, which lacks\n"),
        "{text}"
    );
}

#[test]
fn a_guest_moves_where_its_features_are() {
    assert_eq!(
        first_line("migratable --from @icx --to @spr --cpu Icelake-Server-v4"),
        "yes: Icelake-Server-v4 moves from icx to spr"
    );
    assert_eq!(
        first_line("migratable --from @icx --to @spr"),
        "yes: qemu64 moves from icx to spr"
    );
    let (verdict, text) = remuda("migratable --from @spr --to @icx --cpu host");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.starts_with("no: host does not move from spr to icx\n") && text.contains("amx-tile"),
        "{text}"
    );
    let (verdict, answer) = json_of("migratable --from @rome --to @icx --cpu qemu64");
    assert_eq!(verdict, Ok(Verdict::No));
    let obstacles = answer["obstacles"].as_array().unwrap();
    assert!(
        obstacles.iter().any(|obstacle| obstacle["kind"] == "vendor"),
        "{answer}"
    );
}

#[test]
fn a_guest_that_runs_at_neither_end_does_not_move() {
    let (verdict, text) = remuda("migratable --from @clx --to @clx --cpu SapphireRapids");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.starts_with("no: SapphireRapids does not run on clx, where it is to come from\n  "),
        "{text}"
    );
    let (_, answer) = json_of("migratable --from @clx --to @clx --cpu SapphireRapids");
    assert_eq!(answer["blocked-at"], json!("from"));
}

#[test]
fn moves_within_a_fleet_make_a_matrix() {
    let (verdict, text) = remuda("migratable --from @icx --from @spr --to @icx --to @spr --cpu Snowridge-v4");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(text.starts_with("  1  icx\n  2  spr\n"), "{text}");
    let cells = |row: &str| {
        let line = text.lines().find(|line| line.starts_with(row)).unwrap();
        line.split_whitespace().skip(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(cells("from icx to"), ["no", "no"]);
    assert_eq!(cells("from spr to"), ["no", "yes"]);
    assert!(
        text.contains("\nno: Snowridge-v4 does not move from spr to icx\n"),
        "{text}"
    );
    let (_, list) = json_of("migratable --from @icx --to @icx --to @spr --cpu Icelake-Server-v4");
    assert_eq!(
        (&list[1]["from"], &list[1]["to"], &list[1]["migratable"]),
        (&json!("icx"), &json!("spr"), &json!(true))
    );
}

#[test]
fn a_question_about_nothing_is_refused() {
    let refusal = |text: &str| remuda(text).0.unwrap_err().to_string();
    assert_eq!(
        refusal("show z13 --target x86_64"),
        "unable to find CPU model 'z13' for x86_64: it is one of s390x (--target s390x)"
    );
    assert_eq!(refusal("show z99 --target x86_64"), "unable to find CPU model 'z99'");
    assert_eq!(
        refusal("show EPYC --target s390x"),
        "unable to find CPU model 'EPYC' for s390x: it is one of x86_64 (--target x86_64)"
    );
    assert_eq!(
        refusal("list --host @icx --machine s390-ccw-virtio"),
        "'s390-ccw-virtio' is not a machine type of x86_64"
    );
}
