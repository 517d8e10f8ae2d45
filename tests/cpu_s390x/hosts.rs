//! Hosts that libvirt's developers recorded, and the rule that finds a machine's model.
//!
//! `hosts/VERSION/sim_host.json` describes a real host as KVM would; beside it is what QEMU of that version said there.

use std::path::Path;

use remuda::accel::hostfile;
use remuda::cpu::s390x::{
    Compat, Cpus, DefinitionInfo, Expansion, FacilityList, Host, MachineProps, ModelArgument, Subfunctions,
};
use serde_json::{Value, json};

use super::common::{entries, json_lines, model_json, vectors};

#[test]
fn a_recorded_host_has_the_recorded_model() {
    for folder in entries(&vectors().join("hosts")) {
        let host = read(&folder);
        let cpus = Cpus::new(Compat::newest(), Some(&host));
        let description: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("sim_host.json")).unwrap()).unwrap();
        let mut expected = description["expect_static"].clone();
        for name in description["expect_extra_with_newest_rules"].as_array().unwrap() {
            expected["props"][name.as_str().unwrap()] = json!(true);
        }
        for name in ["host", "max"] {
            let info = cpus.expand(Expansion::Static, argument(name)).unwrap();
            assert_eq!(model_json(&info.model), expected, "{} {name}", folder.display());
        }
    }
}

#[test]
fn a_recorded_host_runs_the_recorded_models() {
    for folder in entries(&vectors().join("hosts")) {
        let host = read(&folder);
        let cpus = Cpus::new(Compat::newest(), Some(&host));
        let ours = cpus.definitions(std::slice::from_ref(&host));
        for recorded in json_lines(&folder.join("definitions.jsonl")) {
            let name = recorded["name"].as_str().unwrap();
            let place = format!("{} {name}", folder.display());
            let info = ours
                .iter()
                .find(|info| info.name == name)
                .unwrap_or_else(|| panic!("{place} is not listed"));
            assert_eq!(json!(info.typename), recorded["typename"], "{place}");
            assert_eq!(json!(info.is_static), recorded["static"], "{place}");
            assert_eq!(json!(info.migration_safe), recorded["migration-safe"], "{place}");
            assert_eq!(
                json!(info.unavailable_features),
                recorded["unavailable-features"],
                "{place}"
            );
            let runnable = recorded["unavailable-features"] == json!([]);
            assert_eq!(info.accelerators[0].runnable, runnable, "{place}");
        }
        let defaults: Vec<&DefinitionInfo> = ours.iter().filter(|info| info.accelerators[0].default).collect();
        assert_eq!(defaults.len(), 1);
        assert_eq!(defaults[0].alias_of, Some(host.model.unwrap().definition.name));
    }
}

#[test]
fn a_recorded_full_expansion_comes_back() {
    let folder = vectors().join("hosts/9.2.0");
    let host = read(&folder);
    let info = Cpus::new(Compat::newest(), Some(&host))
        .expand(Expansion::Full, argument("host"))
        .unwrap();
    let text = std::fs::read_to_string(folder.join("expansion-full.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json!(info.deprecated_props), recorded["return"]["deprecated-props"]);
    let ours = model_json(&info.model);
    assert_eq!(ours["name"], recorded["return"]["model"]["name"]);
    for (name, on) in recorded["return"]["model"]["props"].as_object().unwrap() {
        assert_eq!(&ours["props"][name], on, "{name}");
    }
}

#[test]
fn machine_type_and_blocking_control_give_the_model() {
    let text = std::fs::read_to_string(vectors().join("host_detect.txt")).unwrap();
    let mut checked = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split_whitespace();
        let mut next = || columns.next().unwrap();
        let machine_type = u64::from_str_radix(next(), 16).unwrap();
        let unblocked = u32::from_str_radix(next().trim_start_matches("0x"), 16).unwrap();
        let lowest = u32::from(next() == "yes");
        let props = MachineProps {
            cpuid: machine_type << 16,
            ibc: lowest << 16 | unblocked,
            fac_mask: FacilityList([u64::MAX; 256]),
            feat: [u64::MAX; 16],
            subfunctions: Subfunctions(Box::new([u8::MAX; 2048])),
            ..MachineProps::default()
        };
        assert_eq!(props.host_model().unwrap().definition.name, next(), "{line}");
        checked += 1;
    }
    assert_eq!(checked, 644);
}

fn read(folder: &Path) -> Host {
    hostfile::read(&folder.join("sim_host.json"))
        .unwrap()
        .into_s390x()
        .unwrap()
}

fn argument(name: &str) -> ModelArgument<'_> {
    ModelArgument {
        name,
        props: None,
        argument: "model",
    }
}
