use super::super::run;
use super::*;

/// Exit status and output of `remuda cpu TEXT`; @HOST stands for the file of a recorded host.
fn remuda(text: &str) -> (Result<Verdict, ToolError>, String) {
    let file = |arg: &str| match arg.strip_prefix('@') {
        Some(host) => format!("{}/tests/vectors/x86/hosts/{host}.json", env!("CARGO_MANIFEST_DIR")),
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

#[test]
fn models_are_listed_with_what_they_lack() {
    let (verdict, text) = remuda("list --host @icx");
    assert_eq!(verdict, Ok(Verdict::Yes));
    let line = |name: &str| {
        let mut lines = text.lines();
        lines
            .find(|line| line.split(' ').next() == Some(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("Icelake-Server-v4").ends_with(" runs"),
        "{}",
        line("Icelake-Server-v4")
    );
    assert!(line("Icelake-Server").ends_with(" is Icelake-Server-v1"));
    assert!(line("SapphireRapids-v1").contains(" lacks ") && line("SapphireRapids-v1").contains("amx-tile"));
    let (_, list) = json_of("list --host @icx");
    assert_eq!(list.as_array().unwrap().len(), text.lines().count());
}

#[test]
fn a_model_is_shown_with_its_features() {
    let (_, text) = remuda("show Nehalem,-sse4_2 --target x86_64");
    assert!(text.starts_with("Nehalem\nis Nehalem-v1\n"), "{text}");
    assert!(
        text.contains("\nmodel-id Intel Core i7 9xx (Nehalem Class Core i7)\n"),
        "{text}"
    );
    let on = text.lines().find(|line| line.starts_with("on ")).unwrap();
    assert!(on.contains(" sse4.1 ") && !on.contains(" sse4.2 "), "{on}");
    let (_, full) = json_of("show Nehalem --full --target x86_64");
    assert_eq!(full["model"]["props"]["level-func7"], json!(0));
}

#[test]
fn models_and_hosts_are_compared_by_their_features() {
    let (_, text) = remuda("compare Nehalem-v1 Nehalem --target x86_64");
    assert_eq!(text, "identical\n");
    let (_, text) = remuda("compare Nehalem-v1 Nehalem-v2 --target x86_64");
    assert_eq!(text, "subset\nonly the second has spec-ctrl\n");
    let (_, answer) = json_of("compare @icx @clx");
    assert!(
        ["superset", "incompatible"].contains(&answer["result"].as_str().unwrap()),
        "{answer}"
    );
}

#[test]
fn a_baseline_runs_on_all_hosts() {
    let (verdict, text) = remuda("baseline @icx @clx");
    assert_eq!(verdict, Ok(Verdict::Yes));
    assert!(
        text.starts_with("Cascadelake-Server") || text.starts_with("Skylake-Server"),
        "{text}"
    );
    for host in ["@icx", "@clx"] {
        let (verdict, why) = remuda(&format!("explain {} --host {host}", text.trim()));
        assert_eq!(verdict, Ok(Verdict::Yes), "{text}: {why}");
    }
}

#[test]
fn what_is_in_the_way_is_named_with_its_place() {
    let (verdict, text) = remuda("explain SapphireRapids --host @icx");
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.contains("amx-tile: CPUID[eax=07h,ecx=00h].EDX.amx-tile [bit 24]\n"),
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
}

#[test]
fn a_guest_moves_where_its_features_are() {
    let (verdict, text) = remuda("migratable --from @icx --to @spr --cpu Icelake-Server");
    assert_eq!(
        (verdict, text.lines().next()),
        (Ok(Verdict::Yes), Some("yes")),
        "{text}"
    );
    let (verdict, text) = remuda("migratable --from @spr --to @icx --cpu host");
    assert_eq!((verdict, text.lines().next()), (Ok(Verdict::No), Some("no")), "{text}");
    assert!(text.contains("amx-tile"), "{text}");
    let (verdict, answer) = json_of("migratable --from @rome --to @icx --cpu EPYC");
    assert_eq!(verdict, Ok(Verdict::No));
    let obstacles = answer["obstacles"].as_array().unwrap();
    assert!(
        obstacles.iter().any(|obstacle| obstacle["kind"] == "vendor"),
        "{answer}"
    );
}

#[test]
fn a_question_about_nothing_is_refused() {
    let refusal = |text: &str| remuda(text).0.unwrap_err().to_string();
    assert_eq!(refusal("show z13 --target x86_64"), "unable to find CPU model 'z13'");
    assert_eq!(refusal("show host --target x86_64"), "CPU model 'host' not found");
    assert_eq!(
        refusal("list --host @icx --machine s390-ccw-virtio"),
        "'s390-ccw-virtio' is not a machine type of x86_64"
    );
}
