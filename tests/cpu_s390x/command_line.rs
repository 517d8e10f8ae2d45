//! `-cpu` and what comes of it: warnings, errors, the type of the CPUs.

use remuda::cpu::s390x::{Compat, Cpus, Error};
use serde_json::Value;

use super::common::{emulated_host, json_lines, vectors};

#[test]
fn recorded_command_lines_end_the_same() {
    let host = emulated_host();
    let cpus = Cpus {
        kvm_built_in: false,
        ..Cpus::new(Compat::newest(), Some(&host))
    };
    let mut checked = 0;
    for case in json_lines(&vectors().join("cli/11.1.3.jsonl")) {
        let args: Vec<&str> = case["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let Some(text) = args.iter().position(|arg| *arg == "-cpu").map(|place| args[place + 1]) else {
            continue;
        };
        // This name means something to us.
        if text == "2817-ga2" {
            continue;
        }
        let only_migratable = args.contains(&"-only-migratable");
        let (said, typename) = start(&cpus, text, only_migratable);
        let recorded: Vec<&str> = case["stderr"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(said, recorded, "{text}");
        assert_eq!(typename, case["cpu0_type"][0].as_str(), "{text}");
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

/// What QEMU would print, and the type of the CPU if there is one.
fn start(cpus: &Cpus<'_>, text: &str, only_migratable: bool) -> (Vec<String>, Option<&'static str>) {
    let created = cpus
        .parse(Some(text))
        .and_then(|model| Ok((model.typename(), cpus.check_creation(&model, only_migratable)?)));
    match created {
        Ok((typename, warnings)) => (
            warnings.iter().map(|warning| format!("warning: {warning}")).collect(),
            Some(typename),
        ),
        Err(error) => (lines(&error), None),
    }
}

fn lines(error: &Error) -> Vec<String> {
    std::iter::once(error.to_string())
        .chain(error.hint().map(str::to_owned))
        .collect()
}
