//! The description of an x86_64 host.
//!
//! ```json
//! {"target": "x86_64",
//!  "native_cpuid": [
//!    {"function": "0x7", "index": 0, "flags": 1, "eax": "0x0", "ebx": "0xf1bf07ab", "ecx": "0x415f4e", "edx": "0xac000410"}],
//!  "kvm_supported_cpuid": [],
//!  "kvm_supported_hv_cpuid": [],
//!  "feature_msrs": {"0x10a": "0x2e56b"},
//!  "msr_index_list": ["0x10", "0x10a"],
//!  "mce_cap_supported": "0x9000100",
//!  "xcomp_guest_supp": "0x2e7",
//!  "tsc_khz": 2500000,
//!  "caps": {"KVM_CAP_MCE": 32, "KVM_CAP_TSC_DEADLINE_TIMER": 1}}
//! ```
//!
//! `native_cpuid` is what the CPUID instruction says, in the form of KVM's entries; bit 0 of `flags` tells that `index`
//! matters. The others are what KVM answers: KVM_GET_SUPPORTED_CPUID, KVM_GET_SUPPORTED_HV_CPUID, KVM_GET_MSRS for
//! KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSR_INDEX_LIST, KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_X86_XCOMP_GUEST_SUPP,
//! KVM_GET_TSC_KHZ and KVM_CHECK_EXTENSION by the capability's name. Only `native_cpuid` and `kvm_supported_cpuid` must
//! be there. Numbers are texts of `0x` and hexadecimal digits, or plain numbers; null stands for what KVM did not tell.
//! `kvm_emulated_cpuid` (KVM_GET_EMULATED_CPUID) may be there, but no CPU model depends on it; so may be `synthetic`,
//! `name`, `based_on_model`, `plus` and `minus`, which tell people where a description comes from. [`describe`] writes
//! this form.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Problem;
use crate::cpu::x86::{CpuidEntry, Host};

const MEMBERS: [&str; 11] = [
    "target",
    "native_cpuid",
    "kvm_supported_cpuid",
    "kvm_supported_hv_cpuid",
    "kvm_emulated_cpuid",
    "feature_msrs",
    "msr_index_list",
    "mce_cap_supported",
    "xcomp_guest_supp",
    "tsc_khz",
    "caps",
];

/// Members that say where a description comes from, and describe nothing.
const NOTES: [&str; 5] = ["synthetic", "name", "based_on_model", "plus", "minus"];

/// Understands the description of an x86_64 host.
///
/// # Errors
/// Names the member that is wrong.
pub fn parse(value: &Value) -> Result<Host, Problem> {
    let members = value
        .as_object()
        .ok_or_else(|| Problem::new("description", "is not an object"))?;
    if let Some(stranger) = members
        .keys()
        .find(|name| ![&MEMBERS[..], &NOTES[..]].concat().contains(&name.as_str()))
    {
        return Err(Problem::new(
            stranger,
            "is not part of the description of an x86_64 host",
        ));
    }
    for needed in ["native_cpuid", "kvm_supported_cpuid"] {
        if !members.contains_key(needed) {
            return Err(Problem::new(needed, "is missing"));
        }
    }
    let msrs = list(members, "msr_index_list")?.iter().enumerate();
    let tsc_khz = members.get("tsc_khz").unwrap_or(&Value::Null);
    Ok(Host {
        native: entries(members, "native_cpuid")?,
        supported: entries(members, "kvm_supported_cpuid")?,
        hyperv: entries(members, "kvm_supported_hv_cpuid")?,
        feature_msrs: feature_msrs(members)?,
        msr_indices: msrs
            .map(|(place, index)| half(index, || format!("msr_index_list[{place}]")))
            .collect::<Result<_, _>>()?,
        mce_cap: optional(members, "mce_cap_supported")?.unwrap_or_default(),
        xcomp_guest_supp: optional(members, "xcomp_guest_supp")?,
        tsc_khz: match tsc_khz {
            Value::Null => 0,
            rate => half(rate, || "tsc_khz".to_owned())?,
        },
        caps: caps(members)?,
    })
}

/// Describes a host, so that [`parse`] gives it back.
#[must_use]
pub fn describe(host: &Host) -> Value {
    let list = |entries: &[CpuidEntry]| entries.iter().map(show).collect::<Vec<Value>>();
    let msrs = host.feature_msrs.iter();
    let mut members = json!({
        "target": "x86_64",
        "native_cpuid": list(&host.native),
        "kvm_supported_cpuid": list(&host.supported),
        "kvm_supported_hv_cpuid": list(&host.hyperv),
        "feature_msrs": msrs.map(|(index, value)| (format!("{index:#x}"), json!(format!("{value:#x}")))).collect::<Map<_, _>>(),
        "msr_index_list": host.msr_indices.iter().map(|index| format!("{index:#x}")).collect::<Vec<_>>(),
        "mce_cap_supported": format!("{:#x}", host.mce_cap),
        "tsc_khz": host.tsc_khz,
        "caps": host.caps,
    });
    if let Some(components) = host.xcomp_guest_supp {
        members["xcomp_guest_supp"] = json!(format!("{components:#x}"));
    }
    members
}

fn show(entry: &CpuidEntry) -> Value {
    let register = |value: u32| format!("{value:#010x}");
    json!({
        "function": format!("{:#x}", entry.function),
        "index": entry.index,
        "flags": entry.flags,
        "eax": register(entry.eax),
        "ebx": register(entry.ebx),
        "ecx": register(entry.ecx),
        "edx": register(entry.edx),
    })
}

fn entries(members: &Map<String, Value>, key: &str) -> Result<Vec<CpuidEntry>, Problem> {
    let entries = list(members, key)?.iter().enumerate();
    entries
        .map(|(place, entry)| {
            let field = |name: &str| {
                let what = || format!("{key}[{place}].{name}");
                let value = entry.get(name).ok_or_else(|| Problem::new(what(), "is missing"))?;
                half(value, what)
            };
            Ok(CpuidEntry {
                function: field("function")?,
                index: field("index")?,
                flags: field("flags")?,
                eax: field("eax")?,
                ebx: field("ebx")?,
                ecx: field("ecx")?,
                edx: field("edx")?,
            })
        })
        .collect()
}

fn feature_msrs(members: &Map<String, Value>) -> Result<BTreeMap<u32, u64>, Problem> {
    let msrs = object(members, "feature_msrs")?.into_iter().flatten();
    let told = msrs.filter(|(_, value)| !value.is_null());
    told.map(|(index, value)| {
        let what = || format!("feature_msrs.{index}");
        let place = half(&Value::String(index.clone()), what)?;
        Ok((place, word(value, what)?))
    })
    .collect()
}

fn caps(members: &Map<String, Value>) -> Result<BTreeMap<String, i64>, Problem> {
    let caps = object(members, "caps")?.into_iter().flatten();
    caps.map(|(name, value)| {
        let wrong = || Problem::new(format!("caps.{name}"), "is not a number");
        Ok((name.clone(), value.as_i64().ok_or_else(wrong)?))
    })
    .collect()
}

/// A list; an empty one where the member is not there.
fn list<'a>(members: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], Problem> {
    let Some(value) = members.get(key) else {
        return Ok(&[]);
    };
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| Problem::new(key, "is not an array"))
}

fn object<'a>(members: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, Problem> {
    let Some(value) = members.get(key) else {
        return Ok(None);
    };
    value
        .as_object()
        .map(Some)
        .ok_or_else(|| Problem::new(key, "is not an object"))
}

fn optional(members: &Map<String, Value>, key: &str) -> Result<Option<u64>, Problem> {
    let value = members.get(key).filter(|value| !value.is_null());
    value.map(|value| word(value, || key.to_owned())).transpose()
}

fn half(value: &Value, what: impl Fn() -> String) -> Result<u32, Problem> {
    let number = word(value, &what)?;
    u32::try_from(number).map_err(|_| Problem::new(what(), "has more than 32 bits"))
}

fn word(value: &Value, what: impl Fn() -> String) -> Result<u64, Problem> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let number = match text {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.as_u64(),
    };
    number.ok_or_else(|| {
        Problem::new(
            what(),
            "is neither a number nor a text of 0x and up to 16 hexadecimal digits",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_described_so_that_it_is_understood() {
        let entry = CpuidEntry {
            function: 7,
            index: 1,
            flags: CpuidEntry::INDEX_MATTERS,
            eax: 0x0040_1c30,
            ..CpuidEntry::default()
        };
        let host = Host {
            native: vec![entry],
            supported: vec![entry, CpuidEntry::default()],
            feature_msrs: [(0x10a, u64::MAX)].into(),
            msr_indices: [0x10, 0x4b56_4d00].into(),
            mce_cap: 0x900_0100,
            xcomp_guest_supp: Some(0x2e7),
            tsc_khz: 2_500_000,
            caps: [("KVM_CAP_MCE".to_owned(), 32)].into(),
            ..Host::default()
        };
        assert_eq!(parse(&describe(&host)).unwrap(), host);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |members: Value| {
            let mut description = json!({"native_cpuid": [], "kvm_supported_cpuid": []});
            for (name, value) in members.as_object().unwrap() {
                description[name] = value.clone();
            }
            parse(&description).unwrap_err().to_string()
        };
        assert_eq!(
            problem(json!({"native_cpuid": [{"function": "0x1"}]})),
            "'native_cpuid[0].index' is missing"
        );
        assert_eq!(
            problem(json!({"feature_msrs": {"0x10a": "many"}})),
            "'feature_msrs.0x10a' is neither a number nor a text of 0x and up to 16 hexadecimal digits"
        );
        assert_eq!(
            problem(json!({"tsc_khz": "0x100000000"})),
            "'tsc_khz' has more than 32 bits"
        );
        assert_eq!(problem(json!({"caps": []})), "'caps' is not an object");
        assert_eq!(
            problem(json!({"cpuid": []})),
            "'cpuid' is not part of the description of an x86_64 host"
        );
    }
}
