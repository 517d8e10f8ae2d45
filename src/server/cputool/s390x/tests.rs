use super::*;
use crate::server::cputool::run;

const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/s390x/hosts");

/// Exit status and output of `remuda cpu TEXT`; HOSTS stands for the folder of recorded hosts.
fn remuda(text: &str) -> (Result<Verdict, ToolError>, String) {
    let args: Vec<String> = text.split_whitespace().map(|arg| arg.replace("HOSTS", HOSTS)).collect();
    let mut out = Vec::new();
    let verdict = run(&args, &mut out);
    (verdict, String::from_utf8(out).unwrap())
}

const Z15: &str = "HOSTS/6.0.0/sim_host.json";
const Z15_RESTRICTED: &str = "HOSTS/8.1.0/sim_host.json";
const Z16: &str = "HOSTS/9.2.0/sim_host.json";

#[test]
fn a_guest_moves_up_but_not_down() {
    let (verdict, text) = remuda(&format!("migratable --from {Z15} --to {Z16} --cpu z14"));
    let wanted = format!("yes: z14 moves from {Z15} to {Z16}\n").replace("HOSTS", HOSTS);
    assert_eq!((verdict, text), (Ok(Verdict::Yes), wanted));
    let (verdict, text) = remuda(&format!("migratable --from {Z16} --to {Z15} --cpu gen16a"));
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.starts_with("no: gen16a does not move from ")
            && text.contains("\n  type: gen16a is of generation 16 GA 1, the host is a gen15a of generation 15 GA 1\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  nnpa: neural network processing assist, facility 165; the machine must have it\n"),
        "{text}"
    );
}

#[test]
fn the_hosts_own_model_moves_by_its_features() {
    let (verdict, text) = remuda(&format!("migratable --from {Z15} --to {Z15_RESTRICTED}"));
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(
        text.contains("\n  ri: runtime instrumentation, facility 64; the kernel must have KVM_CAP_S390_RI"),
        "{text}"
    );
    let (verdict, text) = remuda(&format!("migratable --from {Z15_RESTRICTED} --to {Z16}"));
    assert_eq!(verdict, Ok(Verdict::Yes), "{text}");
    assert!(text.contains("start the guest with -cpu gen15a-base,"), "{text}");
}

#[test]
fn a_baseline_of_hosts_runs_on_each() {
    let (verdict, text) = remuda(&format!("baseline {Z15} {Z15_RESTRICTED} {Z16}"));
    assert_eq!(verdict, Ok(Verdict::Yes));
    let model = text.trim();
    assert!(
        model.starts_with("gen15a-base,") && !model.contains(",ri=") && model.contains(",vx=on"),
        "{model}"
    );
    for host in [Z15, Z15_RESTRICTED, Z16] {
        let (verdict, text) = remuda(&format!("explain {model} --host {host}"));
        assert_eq!(
            (verdict, text.as_str()),
            (Ok(Verdict::Yes), format!("{model} runs on sim_host\n").as_str())
        );
    }
}

#[test]
fn models_are_shown_listed_and_compared() {
    let (_, text) = remuda("show 2066-ga1 --target s390x");
    assert_eq!(text.lines().next(), Some("z800-base"));
    assert!(
        text.contains("machine type 2066 GA 1, generation 7 GA 3, known as 2066-ga1"),
        "{text}"
    );
    let (_, text) = remuda("compare z13.2 2965-ga1 --target s390x");
    assert_eq!(text, "identical\n");
    let (_, text) = remuda(&format!("list --host {Z16}"));
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let words = |name: &str| {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words[0] == name).unwrap()
    };
    assert_eq!(words("z14"), ["z14", "yes"]);
    assert_eq!(words("2964-ga1"), ["2964-ga1", "yes", "is", "z13"]);
    let (_, text) = remuda(&format!("list --host {Z15} --json"));
    let list: Value = serde_json::from_str(&text).unwrap();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["alias-of"] == json!("gen16a"))
    );
}

#[test]
fn what_runs_instead_is_named() {
    let (verdict, text) = remuda(&format!("explain gen16a --host {Z15}"));
    assert_eq!(verdict, Ok(Verdict::No));
    assert!(text.ends_with("\nthe nearest model that runs is gen15a\n"), "{text}");
    let (verdict, text) = remuda(&format!("explain z14 --host {Z15_RESTRICTED} --json"));
    assert_eq!(verdict, Ok(Verdict::No));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["nearest"], "z14-base", "{answer}");
}

#[test]
fn a_question_about_nothing_is_refused() {
    let (verdict, _) = remuda("show z99 --target s390x");
    assert_eq!(
        verdict,
        Err(ToolError::Failed("unable to find CPU model 'z99'".to_owned()))
    );
    let (verdict, _) = remuda("list --host /no/such/file");
    let Err(ToolError::Failed(text)) = verdict else {
        panic!()
    };
    assert!(
        text.starts_with("/no/such/file: cannot read the host description: No such file"),
        "{text}"
    );
    let (verdict, _) = remuda("show z13 --target s390x --machine pc");
    assert_eq!(
        verdict,
        Err(ToolError::Failed("'pc' is not a machine type of s390x".to_owned()))
    );
}

#[test]
fn a_fleet_makes_a_matrix() {
    let (_, text) = remuda(&format!("list --host {Z15} --host {Z16}"));
    let legend = format!("  1  {Z15}\n  2  {Z16}\n").replace("HOSTS", HOSTS);
    assert!(text.starts_with(&legend), "{text}");
    let line = text.lines().find(|line| line.starts_with("gen16a ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["gen16a", "no", "yes"]);
    let (_, text) = remuda(&format!("list --host {Z15} --host {Z16} --json"));
    let list: Value = serde_json::from_str(&text).unwrap();
    let own = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["accelerators"][1]["default"] == json!(true));
    assert_eq!(own.count(), 1);
    let (verdict, text) = remuda(&format!(
        "migratable --from {Z15} --from {Z16} --to {Z15} --to {Z16} --cpu gen16a-base"
    ));
    assert_eq!(verdict, Ok(Verdict::No));
    assert_eq!(text.matches("no: gen16a-base does not ").count(), 3, "{text}");
    assert_eq!(text.matches("yes: gen16a-base moves ").count(), 1, "{text}");
}

#[test]
fn libvirts_xml_is_read_and_written() {
    let (_, text) = remuda(&format!("baseline {Z15} {Z15_RESTRICTED}"));
    let (_, xml) = remuda(&format!("baseline {Z15} {Z15_RESTRICTED} --xml"));
    let capabilities = format!(
        "<domainCapabilities><arch>s390x</arch><cpu><mode name='host-model' supported='yes'>{}</mode></cpu></domainCapabilities>",
        xml.split_once('\n').unwrap().1.trim_end().trim_end_matches("</cpu>")
    );
    let path = |name: &str| std::env::temp_dir().join(format!("remuda-{}-{name}.xml", std::process::id()));
    let (cpu, host) = (path("cpu"), path("host"));
    std::fs::write(&cpu, xml).unwrap();
    std::fs::write(&host, capabilities).unwrap();
    let (_, same) = remuda(&format!("compare {} {} --target s390x", cpu.display(), text.trim()));
    let (verdict, why) = remuda(&format!("explain {} --host {}", text.trim(), host.display()));
    let (newer, _) = remuda(&format!("explain gen16a --host {}", host.display()));
    std::fs::remove_file(&cpu).unwrap();
    std::fs::remove_file(&host).unwrap();
    assert_eq!(same, "identical\n");
    assert_eq!(verdict, Ok(Verdict::Yes), "{why}");
    assert_eq!(newer, Ok(Verdict::No));
}
