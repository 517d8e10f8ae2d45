//! Whole guests: their sections are QEMU's, and they come back.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::machine::config::MachineConfig;
use crate::machine::pc::Resources;
use crate::machine::pc::testing::{config, notices, skip_without_kvm};
use crate::vmstate::recorded::STREAMS;

/// A guest of QEMU's minimal command line with a serial port; `also` changes it.
fn guest(also: impl FnOnce(&mut MachineConfig)) -> Vm {
    let mut config = config();
    also(&mut config);
    let (notifier, _) = notices();
    Vm::new(&config, Resources::default(), &notifier).unwrap()
}

fn device(config: &mut MachineConfig, entry: &serde_json::Value) {
    config.devices.push(entry.as_object().unwrap().clone());
}

/// Names, instances and versions of a recorded stream's sections, but for devices that are no part of the machine.
fn recorded(stream: &str) -> Vec<(String, u32, u32)> {
    let (_, lines) = STREAMS.iter().find(|(name, _)| *name == stream).unwrap();
    let sections = lines.lines().skip(1).map(|line| {
        let section: crate::vmstate::recorded::Section = serde_json::from_str(line).unwrap();
        (section.name, section.instance, section.version)
    });
    sections.collect()
}

fn names(sections: &[SavedSection]) -> Vec<(String, u32, u32)> {
    let key = |one: &SavedSection| (one.name.clone(), one.instance, one.version);
    sections.iter().map(key).collect()
}

#[test]
fn a_minimal_guest_has_qemus_sections_in_qemus_order() {
    if skip_without_kvm("a_minimal_guest_has_qemus_sections_in_qemus_order") {
        return;
    }
    let vm = guest(|config| device(config, &json!({ "driver": "isa-serial" })));
    assert_eq!(
        names(&vm.save_sections("prelaunch").unwrap()),
        recorded("q35-10.2-bare")
    );
    let vm = guest(|config| {
        for (name, value) in [("hpet", "off"), ("vmport", "off"), ("smbus", "off"), ("sata", "off")] {
            config.machine_props.push((name.to_owned(), value.to_owned()));
        }
    });
    let absent = [
        "hpet",
        "vmmouse",
        "0000:00:1f.2/ich9_ahci",
        "i2c_bus",
        "0000:00:1f.3/ich9_smb",
        "serial",
    ];
    let mut expected = recorded("q35-10.2-bare");
    expected.retain(|(name, ..)| !absent.contains(&name.as_str()));
    assert_eq!(names(&vm.save_sections("prelaunch").unwrap()), expected);
}

#[test]
fn ports_and_vcpus_have_sections_of_their_own() {
    if skip_without_kvm("ports_and_vcpus_have_sections_of_their_own") {
        return;
    }
    let vm = guest(|config| {
        (config.smp.cpus, config.smp.max_cpus, config.smp.sockets) = (2, 2, 2);
        for slot in [2, 3] {
            let port = json!({ "driver": "pcie-root-port", "id": format!("p{slot}"), "chassis": slot, "addr": format!("{slot}") });
            device(config, &port);
        }
        device(config, &json!({ "driver": "isa-serial" }));
        device(config, &json!({ "driver": "isa-serial" }));
    });
    let saved = vm.save_sections("prelaunch").unwrap();
    let mut instances = BTreeMap::<&str, Vec<u32>>::new();
    for section in &saved {
        instances.entry(&section.name).or_default().push(section.instance);
    }
    for (name, expected) in [
        ("cpu", vec![0, 1]),
        ("apic", vec![0, 1]),
        ("PCIBUS", vec![0, 1, 2]),
        ("serial", vec![0, 1]),
        ("0000:00:02.0/pcie-root-port", vec![0]),
        ("0000:00:03.0/pcie-root-port", vec![0]),
    ] {
        assert_eq!(instances[name], expected, "{name}");
    }
}

/// Sections whose content is of the moment, or of this host, model or machine's firmware.
const OF_THE_MOMENT: [&str; 7] = [
    "cpu",
    "apic",
    "kvmclock",
    "mc146818rtc",
    "fw_cfg",
    "0000:00:00.0/mch",
    "i8254",
];

#[test]
fn a_guest_that_never_ran_is_as_in_qemu() {
    if skip_without_kvm("a_guest_that_never_ran_is_as_in_qemu") {
        return;
    }
    let vm = guest(|config| device(config, &json!({ "driver": "isa-serial" })));
    let (_, lines) = STREAMS.iter().find(|(name, _)| *name == "q35-10.2-bare").unwrap();
    let recorded = lines.lines().skip(1);
    for (ours, line) in vm.save_sections("prelaunch").unwrap().iter().zip(recorded) {
        let section: crate::vmstate::recorded::Section = serde_json::from_str(line).unwrap();
        if !OF_THE_MOMENT.contains(&ours.name.as_str()) {
            assert_eq!(ours.saved.bytes, section.bytes(), "{}", ours.name);
        }
        assert_eq!(ours.saved.bytes.len(), section.bytes().len(), "{}", ours.name);
    }
}

/// Saves, restores into another guest, and saves that: nothing may be lost.
fn check_move(name: &str, also: impl Fn(&mut MachineConfig)) {
    let one = guest(&also);
    let mut before = one.save_sections("running").unwrap();
    let other = guest(&also);
    let mut loader = Box::new(other.loader().unwrap());
    for section in &before {
        let received = ReceivedSection {
            name: &section.name,
            instance: section.instance,
            version: section.version,
            bytes: &section.saved.bytes,
        };
        assert_eq!(loader.measure(&received).unwrap(), section.saved.bytes.len());
        loader.load(&received).unwrap();
    }
    assert_eq!(loader.finish().unwrap(), "running");
    let mut after = other.save_sections("running").unwrap();
    // Time stamp counters run on.
    for sections in [&mut before, &mut after] {
        sections.retain(|section| section.name != "cpu");
    }
    for (after, before) in after.iter().zip(&before) {
        if !["mc146818rtc", "i8254", "acpi_build"].contains(&before.name.as_str()) {
            assert_eq!(after, before, "{name}");
        }
    }
    assert_eq!(names(&after), names(&before), "{name}");
}

#[test]
fn a_moved_guest_is_the_same() {
    if skip_without_kvm("a_moved_guest_is_the_same") {
        return;
    }
    check_move("in the kernel", |config| {
        device(config, &json!({ "driver": "isa-serial" }));
        device(config, &json!({ "driver": "pcie-root-port", "id": "p", "chassis": 1 }));
    });
    check_move("split", |config| {
        config
            .machine_props
            .push(("kernel-irqchip".to_owned(), "split".to_owned()));
    });
}

#[test]
fn a_section_that_is_not_the_guests_is_named() {
    if skip_without_kvm("a_section_that_is_not_the_guests_is_named") {
        return;
    }
    let vm = guest(|_| {});
    let mut section = ReceivedSection {
        name: "serial",
        instance: 0,
        version: 3,
        bytes: &[0; 11],
    };
    let mut loader = vm.loader().unwrap();
    let error = loader.load(&section).unwrap_err().to_string();
    assert!(error.starts_with("Unknown section or instance 'serial' 0."), "{error}");
    (section.name, section.version) = ("port92", 1);
    let error = loader.load(&section).unwrap_err().to_string();
    assert_eq!(error, "port92: 10 bytes are left over");
}
