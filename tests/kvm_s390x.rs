//! The path of an S390 guest's CPU model through real ioctls, against the simulated `/dev/kvm` of `tests/s390x/kvmsim`.
//!
//! `tests/s390x/kvm.sh` builds it for the target and runs it once for each recorded host, with the simulation loaded.
#![cfg(all(test, target_arch = "s390x"))]

use std::fs;

use remuda::accel::hostfile;
use remuda::accel::kvm::s390x::{self as kvm, ControlError, Guest, GuestConfig, GuestError, System, VmControl};
use remuda::accel::s390x::S390Guest;
use remuda::cpu::s390x::{Compat, Cpus, Error, Expansion, FacilityList, Host, ModelArgument};

#[test]
fn what_the_kernel_tells_gives_the_described_host() {
    let described = described();
    let probed = kvm::probe().unwrap();
    assert_eq!(probed.accelerator, "kvm");
    for name in ["host", "max"] {
        assert_eq!(expansion(&probed, name), expansion(&described, name), "{name}");
    }
    let names = |host: &Host| {
        let list = Cpus::new(Compat::newest(), Some(host)).definitions(&[]);
        list.into_iter()
            .map(|info| (info.name, info.unavailable_features))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&probed), names(&described));
}

#[test]
fn a_guest_is_made_in_the_kernels_order() {
    for cpu in [
        None,
        Some("host"),
        Some("z13"),
        Some("gen15a-base"),
        Some("2964-ga1,te=off"),
        Some("gen17a"),
    ] {
        let described = described();
        let config = GuestConfig {
            compat: Compat::newest(),
            cpu,
            vcpus: 2,
            only_migratable: false,
            debug_threads: true,
        };
        let cpus = Cpus::new(Compat::newest(), Some(&described));
        let model = cpus.parse(cpu).unwrap();
        let start = log().len();
        let made = Guest::create(config);
        let lines = log().split_off(start);
        match cpus.check_creation(&model, false) {
            Err(refusal) => {
                assert!(
                    matches!(&made, Err(GuestError::Model(error)) if *error == refusal),
                    "{cpu:?}"
                );
                assert!(
                    !lines
                        .iter()
                        .any(|line| line.starts_with("set") || line.starts_with("create vcpu")),
                    "{lines:#?}"
                );
            }
            Ok(_) => {
                let guest = made.unwrap_or_else(|error| panic!("{cpu:?}: {error}"));
                check_log(
                    &lines,
                    &described,
                    &model.processor_props(&described.model.unwrap().identity),
                );
                assert_eq!(guest.thread_ids().len(), 2);
                let applied = guest.applied().unwrap();
                assert!(
                    !applied.is_clamped() && applied.ibc == model.definition.ibc,
                    "{applied:?}"
                );
                let refusal = guest.start().unwrap_err().to_string();
                assert!(refusal.contains("SCLP") && refusal.contains(model.name()), "{refusal}");
            }
        }
    }
}

#[test]
fn an_unknown_model_is_refused_before_the_kernel_hears_of_it() {
    let config = GuestConfig {
        compat: Compat::newest(),
        cpu: Some("z99"),
        vcpus: 1,
        only_migratable: false,
        debug_threads: false,
    };
    let refusal = Guest::create(config).err().unwrap();
    assert!(
        matches!(&refusal, GuestError::Model(Error::UnableToFind(name)) if name == "z99"),
        "{refusal}"
    );
}

#[test]
fn after_the_first_vcpu_the_kernel_refuses_a_model() {
    let vm = System::open().unwrap().create_vm().unwrap();
    let props = kvm::prepare(&vm).unwrap().unwrap();
    let host = props.host_model().unwrap();
    let model = host
        .model(remuda::cpu::s390x::Variant::Host)
        .processor_props(&host.identity);
    kvm::apply(&vm, &model).unwrap();
    vm.create_vcpu(0).unwrap();
    for refused in [kvm::apply(&vm, &model).err(), kvm::prepare(&vm).err()] {
        let Some(ControlError::Refused { source, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::EBUSY as i32));
    }
}

#[test]
fn the_kernel_refuses_features_the_machine_lacks() {
    let vm = System::open().unwrap().create_vm().unwrap();
    let props = kvm::prepare(&vm).unwrap().unwrap();
    let host = props.host_model().unwrap();
    let mut model = host
        .model(remuda::cpu::s390x::Variant::Host)
        .processor_props(&host.identity);
    model.feat[0] = u64::MAX;
    let Err(ControlError::Refused { source, .. }) = kvm::apply(&vm, &model) else {
        panic!("taken");
    };
    assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::EINVAL as i32));
    let short = vm.set_attr(kvm::uapi::attr::PROCESSOR, &[0; 2063]).unwrap_err();
    assert_eq!(short.kind(), std::io::ErrorKind::InvalidInput);
}

/// What the simulation must have been asked for a model, and in which order.
fn check_log(lines: &[String], described: &Host, props: &remuda::cpu::s390x::ProcessorProps) {
    let mut expected: Vec<String> = vec!["create vm".into()];
    let caps = |names: &[(&str, u32)]| -> Vec<String> {
        let offered = capabilities();
        let has = |name: &str| name.is_empty() || offered.iter().any(|given| given == name);
        names
            .iter()
            .filter(|(name, _)| has(name))
            .map(|(_, number)| format!("enable {number}"))
            .collect()
    };
    expected.extend(caps(&[
        ("", 106),
        ("KVM_CAP_S390_VECTOR_REGISTERS", 107),
        ("", 109),
        ("KVM_CAP_S390_CPU_TOPOLOGY", 222),
        ("KVM_CAP_S390_GS", 140),
        ("KVM_CAP_S390_RI", 124),
        ("KVM_CAP_S390_AIS", 141),
    ]));
    let ultravisor = described.model.unwrap().features.has("appv");
    expected.extend(["get 1", "get 3", "get 5"].map(str::to_owned));
    expected.extend(ultravisor.then(|| "get 7".to_owned()));
    let facilities: Vec<String> = props.fac_list.iter().map(|number| number.to_string()).collect();
    expected.push("set 3/0".into());
    expected.push(format!(
        "processor cpuid={:016x} ibc={1:03x}>{1:03x} facilities={2}",
        props.cpuid,
        props.ibc,
        facilities.join(",")
    ));
    expected.extend(["set 3/2", "set 3/4"].map(str::to_owned));
    expected.extend(props.cmma.then(|| "set 0/0".to_owned()));
    expected.extend(props.apie.then(|| "set 2/4".to_owned()));
    expected.extend((props.apie && ultravisor).then(|| "set 3/6".to_owned()));
    expected.extend(["get 0", "create vcpu 0", "create vcpu 1"].map(str::to_owned));
    assert_eq!(lines, expected);
    assert!(
        FacilityList::of_features(&described.model.unwrap().features)
            .iter()
            .count()
            > 0
    );
}

fn expansion(host: &Host, name: &str) -> Vec<(&'static str, bool)> {
    let argument = ModelArgument {
        name,
        props: None,
        argument: "model",
    };
    Cpus::new(Compat::newest(), Some(host))
        .expand(Expansion::Full, argument)
        .unwrap()
        .model
        .props
}

/// The host as its description has it.
fn described() -> Host {
    hostfile::read(env("KVMSIM_DESCRIPTION").as_ref())
        .unwrap()
        .into_s390x()
        .unwrap()
}

fn capabilities() -> Vec<String> {
    let text = fs::read_to_string(env("KVMSIM_DESCRIPTION")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names = value["capabilities"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// What the simulation was asked up to now.
fn log() -> Vec<String> {
    fs::read_to_string(env("KVMSIM_LOG"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/s390x/kvm.sh"))
}
