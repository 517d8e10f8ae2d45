//! The description of an S390 host.
//!
//! Either as KVM tells it, from which the host model follows:
//!
//! ```json
//! {"target": "s390x",
//!  "machine": {"cpuid": "0xff12345629648000", "ibc": "0x00010032",
//!              "fac_mask_words": {"0": "0xf3fffffbfcfdfc7c"}},
//!  "machine_feat_bits": [0],
//!  "machine_subfunc": {"plo": "ffffff00"},
//!  "capabilities": ["KVM_CAP_S390_BPB"],
//!  "attributes": {"cmma": true, "apie": true, "uv_feat_guest": null}}
//! ```
//!
//! `machine` has the values of the attribute `KVM_S390_VM_CPU_MACHINE`: the facility mask as words (`fac_mask_words`) or numbers
//! (`fac_mask_bits`), or instead of it what the machine itself stores (`stfle_bits`), of which the kernel's rules
//! then leave what a guest can get. Words may be left out where they are zero.
//!
//! Or as a model, the way an expansion names it:
//!
//! ```json
//! {"target": "s390x", "accelerator": "tcg", "model": "gen15a", "features": ["esan3", "zarch", "plo"]}
//! ```
//!
//! `accelerator` is `kvm` (there is a model `host`) or `tcg` (there is none; `qemu` is the default). `cpuid` and `ibc` may
//! be given beside it. Without `model` and `features` the host knows no CPU models. [`describe`] writes this form.

use serde_json::{Map, Value, json};

use super::{NAME, Problem};
use crate::cpu::s390x::feature::{Capability, blocks};
use crate::cpu::s390x::{
    FEAT_WORDS, FacilityList, FeatureSet, Host, HostKind, HostModel, Identity, MachineProps, Subfunctions, Variant,
    definitions, named,
};

/// Members that say where a description comes from or what is expected of it, and describe nothing.
const NOTES: [&str; 6] = [
    "label",
    "derived_from",
    "synthetic_fields",
    "qemu_version",
    "expect_static",
    "expect_extra_with_newest_rules",
];

/// Understands the description of an S390 host.
///
/// # Errors
/// Names the member that is wrong.
pub fn parse(value: &Value) -> Result<Host, Problem> {
    let members = value
        .as_object()
        .ok_or_else(|| Problem::new("description", "is not an object"))?;
    let kind = match members.get("accelerator").map(|name| name.as_str()) {
        None | Some(Some("kvm")) => HostKind::Hardware,
        Some(Some("tcg")) => HostKind::Emulated,
        Some(_) => return Err(Problem::new("accelerator", "must be \"kvm\" or \"tcg\"")),
    };
    let model = if members.contains_key("machine") {
        let props = machine_props(members)?;
        let unknown = || Problem::new("machine", "has too few facilities for any known model");
        Some(props.host_model().ok_or_else(unknown)?)
    } else {
        model(members)?
    };
    Ok(Host {
        accelerator: NAME.to_owned(),
        kind,
        model,
    })
}

/// Describes a host as its model, so that [`parse`] gives it back, the accelerator's name left out.
#[must_use]
pub fn describe(host: &Host) -> Value {
    let accelerator = match host.kind {
        HostKind::Hardware => "kvm",
        HostKind::Emulated => "tcg",
    };
    let Some(model) = &host.model else {
        return json!({"target": "s390x", "accelerator": accelerator});
    };
    json!({
        "target": "s390x",
        "accelerator": accelerator,
        "model": model.definition.name,
        "features": model.features.fold(),
        "cpuid": format!("{:#018x}", model.model(Variant::Host).cpuid(&model.identity)),
        "ibc": format!("{:#010x}", model.identity.ibc()),
    })
}

/// Reads a description that gives KVM's attributes.
///
/// # Errors
/// Names the member that is wrong.
pub fn machine_props(members: &Map<String, Value>) -> Result<MachineProps, Problem> {
    only(
        members,
        "",
        &[
            "target",
            "accelerator",
            "machine",
            "machine_feat_bits",
            "machine_subfunc",
            "capabilities",
            "attributes",
        ],
    )?;
    let machine = object(members, "machine")?;
    only(
        machine,
        "machine.",
        &["cpuid", "ibc", "fac_mask_words", "fac_mask_bits", "stfle_bits"],
    )?;
    let capabilities = capabilities(members)?;
    let cpuid = hex(machine, "machine.", "cpuid")?;
    let (fac_mask, fac_list) = facilities(machine, cpuid, &capabilities)?;
    let mut props = MachineProps {
        cpuid,
        ibc: half(machine, "machine.", "ibc")?,
        fac_mask,
        fac_list,
        capabilities,
        ..MachineProps::default()
    };
    if members.contains_key("machine_feat_bits") {
        for bit in numbers(members, "", "machine_feat_bits")? {
            let word = props.feat.get_mut(usize::from(bit / 64));
            let too_big = || {
                Problem::new(
                    "machine_feat_bits",
                    format!("has {bit}, beyond the last bit {}", FEAT_WORDS * 64 - 1),
                )
            };
            *word.ok_or_else(too_big)? |= 1 << (63 - bit % 64);
        }
    }
    if members.contains_key("machine_subfunc") {
        props.subfunctions = subfunctions(object(members, "machine_subfunc")?)?;
    }
    if members.contains_key("attributes") {
        let attributes = object(members, "attributes")?;
        only(attributes, "attributes.", &["cmma", "apie", "uv_feat_guest"])?;
        props.cmma = flag(attributes, "attributes.", "cmma")?;
        props.apie = flag(attributes, "attributes.", "apie")?;
        props.uv_feat = match attributes.get("uv_feat_guest") {
            None | Some(Value::Null) => 0,
            Some(word) => {
                let problem = || Problem::new("attributes.uv_feat_guest", "is neither null nor a number");
                word.as_u64().ok_or_else(problem)?
            }
        };
    }
    Ok(props)
}

/// The facility mask, and the machine's own list.
fn facilities(
    machine: &Map<String, Value>,
    cpuid: u64,
    capabilities: &[Capability],
) -> Result<(FacilityList, FacilityList), Problem> {
    if machine.contains_key("stfle_bits") {
        if let Some(other) = ["fac_mask_words", "fac_mask_bits"]
            .into_iter()
            .find(|other| machine.contains_key(*other))
        {
            return Err(Problem::new(
                format!("machine.{other}"),
                "cannot stand beside 'machine.stfle_bits'",
            ));
        }
        let list: FacilityList = numbers(machine, "machine.", "stfle_bits")?.into_iter().collect();
        let machine_type = (cpuid >> 16) as u16;
        let hmfai = definitions()
            .iter()
            .find(|definition| definition.machine_type == machine_type)
            .map_or(0, |found| found.hmfai);
        return Ok((FacilityList::kvm_mask(&list, hmfai, capabilities), list));
    }
    let by_number = match machine.contains_key("fac_mask_bits") {
        true => Some(
            numbers(machine, "machine.", "fac_mask_bits")?
                .into_iter()
                .collect::<FacilityList>(),
        ),
        false => None,
    };
    if !machine.contains_key("fac_mask_words") {
        let mask = by_number.ok_or_else(|| Problem::new("machine.fac_mask_words", "is missing"))?;
        return Ok((mask.clone(), mask));
    }
    let mut mask = FacilityList::default();
    let words = machine.get("fac_mask_words").and_then(Value::as_object);
    let words = words.ok_or_else(|| Problem::new("machine.fac_mask_words", "is not an object"))?;
    for place in words.keys() {
        let word = place.parse().ok().and_then(|place: usize| mask.0.get_mut(place));
        let word =
            word.ok_or_else(|| Problem::new(format!("machine.fac_mask_words.{place}"), "is not a word of the list"))?;
        *word = hex(words, "machine.fac_mask_words.", place)?;
    }
    if by_number.is_some_and(|by_number| by_number != mask) {
        return Err(Problem::new(
            "machine.fac_mask_bits",
            "does not agree with 'machine.fac_mask_words'",
        ));
    }
    Ok((mask.clone(), mask))
}

fn capabilities(members: &Map<String, Value>) -> Result<Vec<Capability>, Problem> {
    let Some(names) = members.get("capabilities") else {
        return Ok(Vec::new());
    };
    let names = names
        .as_array()
        .ok_or_else(|| Problem::new("capabilities", "is not an array"))?;
    let strange = names
        .iter()
        .find(|name| !Capability::ALL.iter().any(|(_, known)| name.as_str() == Some(known)));
    if let Some(name) = strange {
        return Err(Problem::new(
            "capabilities",
            format!("has {name}, which no CPU model depends on"),
        ));
    }
    let has = |name: &str| names.iter().any(|given| given.as_str() == Some(name));
    Ok(Capability::ALL
        .into_iter()
        .filter(|(_, name)| has(name))
        .map(|(capability, _)| capability)
        .collect())
}

fn subfunctions(given: &Map<String, Value>) -> Result<Subfunctions, Problem> {
    let mut all = Subfunctions::default();
    for (name, digits) in given {
        let problem = |what: &str| Problem::new(format!("machine_subfunc.{name}"), what);
        let block = blocks()
            .iter()
            .find(|block| block.name == name)
            .ok_or_else(|| problem("is not an instruction with functions"))?;
        let digits = digits
            .as_str()
            .ok_or_else(|| problem("is not a text of hexadecimal digits"))?;
        if digits.len() > block.bytes * 2
            || digits.len() % 2 != 0
            || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        {
            return Err(problem(&format!(
                "is not a text of two hexadecimal digits for each of up to {} bytes",
                block.bytes
            )));
        }
        for (byte, pair) in all.0[block.offset..].iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
            *byte = value(pair[0]) << 4 | value(pair[1]);
        }
    }
    Ok(all)
}

/// Reads a description that gives a model and its features, or neither.
fn model(members: &Map<String, Value>) -> Result<Option<HostModel>, Problem> {
    only(
        members,
        "",
        &["target", "accelerator", "model", "features", "cpuid", "ibc"],
    )?;
    if !members.contains_key("model") && !members.contains_key("features") {
        return Ok(None);
    }
    let name = members.get("model").and_then(Value::as_str);
    let name = name.ok_or_else(|| Problem::new("model", "is missing or not a text"))?;
    let named = named(name).ok_or_else(|| Problem::new("model", format!("'{name}' is not a known model")))?;
    let list = members.get("features").and_then(Value::as_array);
    let list = list.ok_or_else(|| Problem::new("features", "is missing or not an array"))?;
    let not_text = |name: &Value| Problem::new("features", format!("has {name}, which is not a text"));
    let names = list.iter().map(|name| name.as_str().ok_or_else(|| not_text(name)));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let unknown = |name: &str| Problem::new("features", format!("has the unknown feature '{name}'"));
    let cpuid = match members.contains_key("cpuid") {
        true => hex(members, "", "cpuid")?,
        false => 0xff << 56,
    };
    let ibc = match members.contains_key("ibc") {
        true => half(members, "", "ibc")?,
        false => 0,
    };
    Ok(Some(HostModel {
        definition: named.definition,
        features: FeatureSet::from_names(names).map_err(unknown)?,
        identity: Identity::of_machine(cpuid, ibc),
    }))
}

/// Refuses members that mean nothing: most likely they are misspelt.
fn only(members: &Map<String, Value>, around: &str, known: &[&str]) -> Result<(), Problem> {
    let stranger = members.keys().find(|name| {
        let name = name.as_str();
        !(known.contains(&name) || around.is_empty() && NOTES.contains(&name))
    });
    match stranger {
        Some(name) => Err(Problem::new(
            format!("{around}{name}"),
            "is not part of the description of an S390 host",
        )),
        None => Ok(()),
    }
}

fn object<'a>(members: &'a Map<String, Value>, key: &str) -> Result<&'a Map<String, Value>, Problem> {
    members
        .get(key)
        .and_then(Value::as_object)
        .ok_or_else(|| Problem::new(key, "is missing or not an object"))
}

fn flag(members: &Map<String, Value>, around: &str, key: &str) -> Result<bool, Problem> {
    let value = members.get(key).unwrap_or(&Value::Bool(false));
    value
        .as_bool()
        .ok_or_else(|| Problem::new(format!("{around}{key}"), "is neither true nor false"))
}

fn hex(members: &Map<String, Value>, around: &str, key: &str) -> Result<u64, Problem> {
    let digits = members
        .get(key)
        .and_then(Value::as_str)
        .and_then(|text| text.strip_prefix("0x"));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| {
        Problem::new(
            format!("{around}{key}"),
            "is not a text of 0x and up to 16 hexadecimal digits",
        )
    })
}

fn half(members: &Map<String, Value>, around: &str, key: &str) -> Result<u32, Problem> {
    let too_long = |_| Problem::new(format!("{around}{key}"), "has more than 32 bits");
    u32::try_from(hex(members, around, key)?).map_err(too_long)
}

fn numbers(members: &Map<String, Value>, around: &str, key: &str) -> Result<Vec<u16>, Problem> {
    let list = members.get(key).and_then(Value::as_array);
    let list = list.ok_or_else(|| Problem::new(format!("{around}{key}"), "is not an array"))?;
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number < 16384)
    };
    let number = |value| {
        number(value).ok_or_else(|| {
            Problem::new(
                format!("{around}{key}"),
                format!("has {value}, which is not a number below 16384"),
            )
        })
    };
    list.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_machine_is_recognised_by_its_type_and_blocking_control() {
        let host = parse(&json!({
            "machine": {"cpuid": "0xff12345629648000", "ibc": "0x00010032", "fac_mask_bits": [0, 1, 2, 7, 129]},
            "capabilities": ["KVM_CAP_S390_VECTOR_REGISTERS"],
        }));
        let model = host.unwrap().model.unwrap();
        assert_eq!(model.definition.name, "z13.2");
        assert_eq!(
            model.features.fold(),
            ["esan3", "zarch", "stfle", "zpci", "aen", "vx", "els", "dateh2"]
        );
        assert_eq!(
            (model.identity.version, model.identity.serial, model.identity.lowest_ibc),
            (0xff, 0x12_3456, 1)
        );
    }

    #[test]
    fn a_machine_newer_than_any_known_is_the_newest_of_its_type() {
        let machine = json!({"cpuid": "0xff12345629648000", "ibc": "0x00010fff", "fac_mask_bits": [0, 1, 2, 7]});
        let model = parse(&json!({"machine": machine})).unwrap().model.unwrap();
        assert_eq!(model.definition.name, "z13.2");
    }

    #[test]
    fn from_what_the_machine_stores_the_kernels_rules_follow() {
        let describe = |capabilities: Value| {
            parse(&json!({
                "machine": {"cpuid": "0xff12345629648000", "ibc": "0x00010031", "stfle_bits": [0, 1, 2, 7, 11, 129, 73]},
                "capabilities": capabilities,
            }))
        };
        let plain = describe(json!([])).unwrap().model.unwrap();
        assert!(plain.features.has("te") && plain.features.has("sthyi") && !plain.features.has("vx"));
        let wide = describe(json!(["KVM_CAP_S390_VECTOR_REGISTERS"]))
            .unwrap()
            .model
            .unwrap();
        assert!(wide.features.has("vx") && !wide.features.has("ctop"));
    }

    #[test]
    fn a_host_is_described_so_that_it_is_understood() {
        let described = json!({
            "machine": {"cpuid": "0xff12345629648000", "ibc": "0x00010032", "fac_mask_bits": [0, 1, 2, 7, 129, 76]},
            "machine_subfunc": {"kmac": "f0"},
        });
        let host = parse(&described).unwrap();
        let again = parse(&describe(&host)).unwrap();
        let (host, again) = (host.model.unwrap(), again.model.unwrap());
        assert_eq!(again.definition.name, host.definition.name);
        assert_eq!((again.features, again.identity), (host.features, host.identity));
        let mute = parse(&json!({"target": "s390x", "accelerator": "kvm"})).unwrap();
        assert!(mute.model.is_none() && parse(&describe(&mute)).unwrap().model.is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |value| parse(&value).unwrap_err().to_string();
        assert_eq!(
            problem(json!({"model": "z99", "features": []})),
            "'model' 'z99' is not a known model"
        );
        assert_eq!(
            problem(json!({"model": "z13", "features": ["vx", "vy"]})),
            "'features' has the unknown feature 'vy'"
        );
        assert_eq!(
            problem(json!({"machine": {"cpuid": 5}})),
            "'machine.cpuid' is not a text of 0x and up to 16 hexadecimal digits"
        );
        assert_eq!(
            problem(json!({"model": "z13", "features": [], "machina": {}})),
            "'machina' is not part of the description of an S390 host"
        );
        let machine = json!({"cpuid": "0x0", "ibc": "0x0", "fac_mask_words": {"256": "0x0"}});
        assert_eq!(
            problem(json!({"machine": machine})),
            "'machine.fac_mask_words.256' is not a word of the list"
        );
    }
    /// A value that a member may be replaced with.
    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(|number| json!(format!("{number:#x}"))),
            "[0-9a-fx]{0,20}".prop_map(Value::from),
            prop::collection::vec(any::<u32>(), 0..4).prop_map(Value::from),
            Just(json!({"0": "0x1", "plo": "zz"})),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_stands_in_a_description_is_understood_or_named(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4),
        ) {
            const RECORDED: &str = include_str!("../../../tests/vectors/s390x/hosts/9.2.0/sim_host.json");
            const PLACES: [&str; 9] = [
                "/machine", "/machine/cpuid", "/machine/ibc", "/machine/fac_mask_words", "/machine/fac_mask_bits",
                "/machine_feat_bits", "/machine_subfunc/plo", "/capabilities", "/attributes/uv_feat_guest",
            ];
            let mut description: Value = serde_json::from_str(RECORDED).unwrap();
            for (place, value) in changes {
                if let Some(member) = description.pointer_mut(PLACES[place.index(PLACES.len())]) {
                    *member = value;
                }
            }
            match parse(&description) {
                Ok(host) => prop_assert!(parse(&describe(&host)).is_ok()),
                Err(problem) => prop_assert!(!problem.member.is_empty() && !problem.what.is_empty()),
            }
        }
    }
}
