//! Recorded answers about x86_64 CPU models: what KVM was told, and what QMP said, on several hosts.
//!
//! `tests/vectors/x86/README.md` tells what the files hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use remuda::accel::hostfile::x86;
use remuda::cpu::x86::tables::Level;
use remuda::cpu::x86::{
    Accel, Arguments, CacheLevels, CpuidEntry, Cpus, Error, Expansion, ExpansionInfo, Host, IrqChip, MachineCompat,
    Model, Processor, RealizedVcpu, Topology, Warning,
};
use serde_json::{Map, Value, json};

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/x86")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(name: &str) -> Vec<Value> {
    read(name)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn host(name: &str) -> Host {
    let value = serde_json::from_str(&read(&format!("hosts/{name}.json"))).unwrap();
    x86::parse(&value).unwrap()
}

fn accel(host: &Host) -> Accel<'_> {
    Accel {
        host,
        irqchip: IrqChip::Kernel,
        cpu_pm: false,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).unwrap()
}

/// `-smp`, completed as machine types since 6.2 do, or as older ones did.
fn smp(text: &str, machine: &str) -> (u32, Topology) {
    let (mut cpus, mut parts) = (0, HashMap::new());
    for item in text.split(',').filter(|item| !item.is_empty()) {
        match item.split_once('=') {
            Some((key, value)) => drop(parts.insert(key, value.parse::<u32>().unwrap())),
            None => cpus = item.parse().unwrap(),
        }
    }
    let given = |key| parts.get(key).copied();
    let old = machine == "pc-q35-6.0" || machine == "pc-q35-4.0";
    let (dies, modules, threads) = (
        given("dies").unwrap_or(1),
        given("modules").unwrap_or(1),
        given("threads").unwrap_or(1),
    );
    let rest = cpus / (dies * modules * threads);
    let cores = given("cores")
        .unwrap_or(if old { 1 } else { rest / given("sockets").unwrap_or(1) })
        .max(1);
    let sockets = given("sockets").unwrap_or((rest / cores).max(1));
    let cpus = if cpus == 0 {
        sockets * dies * modules * cores * threads
    } else {
        cpus
    };
    (
        cpus,
        Topology {
            dies,
            modules,
            cores,
            threads,
            caches: CacheLevels::default(),
        },
    )
}

fn cache_levels(options: &str) -> CacheLevels {
    let mut levels = CacheLevels::default();
    let value = |key: String| options.split(',').find_map(|item| item.strip_prefix(key.as_str()));
    for place in 0..4 {
        let Some(cache) = value(format!("smp-cache.{place}.cache=")) else {
            break;
        };
        let level = match value(format!("smp-cache.{place}.topology=")) {
            Some("module") => Level::Module,
            Some("die") => Level::Die,
            Some("socket") => Level::Socket,
            other => panic!("{other:?}"),
        };
        match cache {
            "l2" => levels.l2 = Some(level),
            "l3" => levels.l3 = Some(level),
            other => panic!("{other}"),
        }
    }
    levels
}

/// What a command line leads to, and what is printed on the way.
fn realize(case: &Value, host: &Host, printed: &mut Vec<String>) -> Result<(u32, Processor), Error> {
    let machine = text(case, "machine");
    let compat = MachineCompat::of_machine(machine).unwrap();
    let (cpus, mut topology) = smp(text(case, "smp"), machine);
    topology.caches = cache_levels(text(case, "machine-options"));
    let (model, arguments) = Arguments::parse(text(case, "cpu"), compat)?;
    let mut warnings: Vec<Warning> = arguments.warnings().to_vec();
    printed.extend(warnings.drain(..).map(|warning| format!("warning: {warning}")));
    let result = Cpus::new(compat, Some(accel(host)))
        .with_arguments(arguments)
        .realize(model, topology, &mut warnings);
    for index in 0..cpus {
        let repeated = warnings
            .iter()
            .filter(|warning| index == 0 || (result.is_ok() && warning.repeats()));
        printed.extend(repeated.map(|warning| format!("warning: {warning}")));
    }
    if let Err(error) = &result {
        printed.push(error.to_string());
    }
    Ok((cpus, result?))
}

fn show(entry: &CpuidEntry) -> String {
    let CpuidEntry {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
    } = entry;
    let index = if flags & 1 != 0 {
        format!(".{index:x}")
    } else {
        String::new()
    };
    format!("{function:x}{index} {eax:x} {ebx:x} {ecx:x} {edx:x}")
}

/// What the guest sees at a place: the registers of the first entry for it, or zeroes.
fn seen<'a>(entries: &'a [String], function: &str, index: &str) -> &'a str {
    let is_it = |entry: &&String| {
        let place = entry.split(' ').next().unwrap();
        place == function || place.split_once('.') == Some((function, index))
    };
    entries
        .iter()
        .find(is_it)
        .map_or("0 0 0 0", |entry| entry.split_once(' ').unwrap().1)
}

/// The places where a guest sees a difference.
fn visible_differences(made: &[String], wanted: &[String]) -> Vec<String> {
    let places: BTreeSet<&str> = made
        .iter()
        .chain(wanted)
        .map(|entry| entry.split(' ').next().unwrap())
        .collect();
    let different = places.into_iter().filter_map(|place| {
        let (function, index) = place.split_once('.').unwrap_or((place, "0"));
        let (ours, theirs) = (seen(made, function, index), seen(wanted, function, index));
        (ours != theirs).then(|| format!("{place}: {ours}, wanted {theirs}"))
    });
    different.collect()
}

/// Compares one vCPU with its record: entry by entry, or only what the guest sees of them.
fn compare_vcpu(vcpu: &RealizedVcpu, wanted: &Value, first: &Value, only_visible: bool, differences: &mut Vec<String>) {
    let mut cpuid: Vec<String> = match wanted["cpuid"].as_array().or(first["cpuid"].as_array()) {
        Some(list) => list.iter().map(|entry| entry.as_str().unwrap().to_owned()).collect(),
        None => Vec::new(),
    };
    for (place, entry) in wanted["differs"].as_object().into_iter().flatten() {
        entry
            .as_str()
            .unwrap()
            .clone_into(&mut cpuid[place.parse::<usize>().unwrap()]);
    }
    let made: Vec<String> = vcpu.cpuid.iter().map(show).collect();
    if only_visible {
        differences.extend(
            visible_differences(&made, &cpuid)
                .into_iter()
                .map(|place| format!("vCPU {}: {place}", vcpu.apic_id)),
        );
    } else if made != cpuid {
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (made.iter().collect(), cpuid.iter().collect());
        differences.extend(
            theirs
                .difference(&ours)
                .map(|entry| format!("vCPU {}: missing {entry}", vcpu.apic_id)),
        );
        differences.extend(
            ours.difference(&theirs)
                .map(|entry| format!("vCPU {}: surplus {entry}", vcpu.apic_id)),
        );
        if ours == theirs {
            differences.push("CPUID entries are in another order".to_owned());
        }
    }
    let msrs = wanted["msrs"].as_object().or(first["msrs"].as_object()).unwrap();
    let msrs: BTreeMap<u64, u64> = msrs
        .iter()
        .map(|(index, value)| (number(index), number(value.as_str().unwrap())))
        .collect();
    let made: BTreeMap<u64, u64> = vcpu
        .msrs
        .iter()
        .map(|(index, value)| (u64::from(*index), *value))
        .collect();
    if made != msrs {
        differences.push(format!("MSRs {made:x?}, wanted {msrs:x?}"));
    }
    let mcg = wanted["mcg"].as_str().or(first["mcg"].as_str()).map(number);
    if vcpu.mcg_cap != mcg {
        differences.push(format!("MCG_CAP {:x?}, wanted {mcg:x?}", vcpu.mcg_cap));
    }
    if Some(u64::from(vcpu.apic_id)) != wanted["id"].as_u64() {
        differences.push(format!("id {}, wanted {}", vcpu.apic_id, wanted["id"]));
    }
    let caps: Vec<u64> = wanted["caps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cap| cap[0].as_u64())
        .collect();
    let made = [
        (vcpu.hyperv_enforce_cpuid, 199),
        (vcpu.hyperv_synic == Some(false), 148),
        (vcpu.hyperv_synic == Some(true), 123),
        (vcpu.hyperv_evmcs, 163),
        (vcpu.enforce_pv_cpuid, 190),
    ];
    let made: Vec<u64> = made.into_iter().filter(|(on, _)| *on).map(|(_, cap)| cap).collect();
    if made != caps {
        differences.push(format!("capabilities {made:?}, wanted {caps:?}"));
    }
}

fn compare(case: &Value, host: &Host, texts: bool) -> Vec<String> {
    let mut printed = Vec::new();
    let result = realize(case, host, &mut printed);
    let mut differences = Vec::new();
    let wanted: Vec<&str> = case["stderr"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let fails = case["fails"] == json!(true);
    if texts && printed != wanted {
        differences.push(format!("printed {printed:#?}, wanted {wanted:#?}"));
    }
    match result {
        Ok(_) if fails => differences.push("succeeds".to_owned()),
        Ok((_, processor)) => {
            let vcpus = case["vcpus"].as_array().unwrap();
            for (index, wanted) in (0..).zip(vcpus) {
                compare_vcpu(&processor.vcpu(index), wanted, &vcpus[0], !texts, &mut differences);
            }
            let asked = processor.vm().xcomp_permission.map(u64::from);
            let wanted = case["arch_prctl"][0][1].as_u64();
            if asked != wanted {
                differences.push(format!("asks for component {asked:?}, wanted {wanted:?}"));
            }
        }
        Err(_) if fails => {}
        Err(error) => differences.push(format!("fails: {error}")),
    }
    differences
}

#[test]
fn kvm_is_told_what_was_recorded() {
    compare_all("cpuid-10.2.jsonl", true);
}

/// Records of an older QEMU, of machines and models that have not changed since: its texts and the order of its
/// entries have.
#[test]
fn an_old_machine_is_what_it_was() {
    compare_all("cpuid-7.2.jsonl", false);
}

fn compare_all(file: &str, texts: bool) {
    let mut hosts = HashMap::new();
    let (mut failed, mut count) = (Vec::new(), 0);
    for case in lines(file) {
        let host = hosts
            .entry(text(&case, "host").to_owned())
            .or_insert_with_key(|name| host(name));
        let differences = compare(&case, host, texts);
        count += 1;
        if !differences.is_empty() {
            failed.push(format!(
                "{}: {}\n{}",
                text(&case, "id"),
                text(&case, "cpu"),
                differences.join("\n")
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {count} differ:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn definitions_are_those_recorded() {
    for name in [
        "clx-kvm-none",
        "genoa-kvm-none",
        "genoa-kvm-q35",
        "icx-kvm-none",
        "real-kvm-none",
        "rome-kvm-none",
        "spr-kvm-none",
        "spr-kvm-q35",
    ] {
        let (host_name, machine) = name.split_once("-kvm-").unwrap();
        let host = host(host_name);
        let cpus = Cpus::new(MachineCompat::of_machine(machine).unwrap(), Some(accel(&host)));
        let made: Vec<String> = cpus
            .definitions()
            .iter()
            .map(|info| {
                let missing = info.unavailable_features.clone().unwrap_or_default().join(",");
                format!("{}={}:{missing}", info.name, info.alias_of.unwrap_or_default())
            })
            .collect();
        let wanted = read(&format!("definitions-{name}.txt"));
        for (made, wanted) in made.iter().zip(wanted.lines()) {
            assert_eq!(made, wanted, "{name}");
        }
        assert_eq!(made.len(), wanted.lines().count());
    }
}

/// The properties of a record: those that are on, those that are not booleans, and all others are off.
fn props(record: &Value, off: impl Iterator<Item = String>) -> BTreeMap<String, Value> {
    let mut props: BTreeMap<String, Value> = off.map(|name| (name, json!(false))).collect();
    props.extend(
        text(record, "on")
            .split_whitespace()
            .map(|name| (name.to_owned(), json!(true))),
    );
    let other: &Map<String, Value> = record["other"].as_object().unwrap();
    props.extend(other.iter().map(|(name, value)| (name.clone(), value.clone())));
    props
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

fn assert_props(what: &str, made: &BTreeMap<String, Value>, wanted: &BTreeMap<String, Value>) {
    let differences: Vec<String> = made
        .keys()
        .chain(wanted.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|name| made.get(*name) != wanted.get(*name))
        .map(|name| format!("{name}: {:?}, wanted {:?}", made.get(name), wanted.get(name)))
        .collect();
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

#[test]
fn expansions_are_those_recorded() {
    for (host_name, file, kind) in [
        ("spr", "spr-kvm-none.expansion-static.jsonl", Expansion::Static),
        ("genoa", "genoa-kvm-none.expansion-static.jsonl", Expansion::Static),
        ("spr", "spr-kvm-none.expansion-full-some.jsonl", Expansion::Full),
        ("genoa", "genoa-kvm-none.expansion-full-some.jsonl", Expansion::Full),
    ] {
        let host = host(host_name);
        let cpus = Cpus::new(MachineCompat::newest(), Some(accel(&host)));
        let records = lines(file);
        let (booleans, records) = records.split_first().unwrap();
        for record in records {
            let info = cpus.expand(kind, text(record, "of"), None).unwrap();
            assert_eq!(info.name, text(record, "name"));
            let made = made(&info);
            let off = words(text(booleans, "booleans")).chain(words(text(record, "more")));
            assert_props(&format!("{file}: {}", text(record, "of")), &made, &props(record, off));
        }
    }
}

/// The properties of an expansion.
fn made(info: &ExpansionInfo) -> BTreeMap<String, Value> {
    let mut props = BTreeMap::new();
    info.for_each_prop(|name, value| {
        props.insert(name.to_owned(), value.to_json());
    });
    props
}

#[test]
fn odd_requests_are_answered_as_recorded() {
    for host_name in ["spr", "real"] {
        let host = host(host_name);
        let cpus = Cpus::new(MachineCompat::newest(), Some(accel(&host)));
        for record in lines(&format!("{host_name}-kvm-none.special.jsonl")) {
            let (request, reply) = (&record["request"], &record["reply"]);
            let (model, kind) = (&request["arguments"]["model"], text(&request["arguments"], "type"));
            let kind = match kind {
                "static" => Expansion::Static,
                "full" => Expansion::Full,
                // Left to the schema: wrong or missing members.
                _ => continue,
            };
            let Some(name) = model["name"].as_str() else { continue };
            match cpus.expand(kind, name, model.get("props")) {
                Ok(info) => {
                    assert_eq!(info.name, text(reply, "name"), "{request}");
                    let made = made(&info);
                    assert_props(&request.to_string(), &made, &props(reply, words(text(reply, "off"))));
                }
                Err(error) => assert_eq!(json!(error.to_string()), reply["error"]["desc"], "{request}"),
            }
        }
    }
}

#[test]
fn a_live_cpu_has_the_properties_recorded() {
    for host_name in ["spr", "genoa"] {
        let host = host(host_name);
        for record in lines(&format!("{host_name}-kvm-q35.live-qom.jsonl")) {
            let (cpu, smp) = text(&record, "cpu")
                .split_once(" -smp ")
                .unwrap_or((text(&record, "cpu"), "1"));
            let case = json!({"machine": "q35", "cpu": cpu, "smp": smp});
            let (_, processor) = realize(&case, &host, &mut Vec::new()).unwrap();
            let cpu = processor.cpu_at(0);
            let mut wanted = props(&record, words(text(&record, "off")));
            for generic in [
                "crash-information",
                "hotpluggable",
                "hotplugged",
                "lapic",
                "legacy-memory",
                "memory",
                "parent_bus",
                "realized",
                "type",
            ] {
                wanted.remove(generic);
            }
            let missing = wanted.remove("unavailable-features").unwrap();
            assert_eq!(json!(cpu.unavailable_features()), missing, "{record}");
            let made = cpu
                .properties()
                .map(|(name, value)| (name.to_owned(), value.to_json()))
                .collect();
            assert_props(text(&record, "cpu"), &made, &wanted);
            for (key, words) in [
                ("feature-words", cpu.feature_words()),
                ("filtered-features", cpu.filtered_words()),
            ] {
                let made: Vec<Value> = words
                    .iter()
                    .map(|word| json!([word.leaf, word.subleaf, word.register.name(), word.features]))
                    .collect();
                assert_eq!(json!(made), record[key], "{key}");
            }
        }
    }
}

#[test]
fn every_model_of_the_record_is_found() {
    let compat = MachineCompat::newest();
    let known = Model::find("Skylake-Server-IBRS", compat).unwrap();
    assert_eq!(known.alias_of(compat), Some("Skylake-Server-v2"));
}
