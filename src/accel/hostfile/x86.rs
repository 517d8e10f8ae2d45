//! Descriptions of x86_64 hosts.
//!
//! | member | what |
//! |---|---|
//! | `target` | `"x86_64"` |
//! | `native_cpuid` | what the CPUID instruction says on the host |
//! | `kvm_supported_cpuid` | KVM_GET_SUPPORTED_CPUID |
//! | `kvm_supported_hv_cpuid` | KVM_GET_SUPPORTED_HV_CPUID; may be left out |
//! | `feature_msrs` | object: feature register to value, or null where the kernel refuses to tell |
//! | `msr_index_list` | KVM_GET_MSR_INDEX_LIST |
//! | `mce_cap_supported` | KVM_X86_GET_MCE_CAP_SUPPORTED; may be left out |
//! | `xcomp_guest_supp` | KVM_X86_XCOMP_GUEST_SUPP, or null; may be left out |
//! | `tsc_khz` | rate of the time stamp counter; may be left out |
//! | `caps` | object: capability to what KVM_CHECK_EXTENSION answers |
//!
//! A CPUID entry is an object with `function`, `index`, `flags`, `eax`, `ebx`, `ecx` and `edx`. Every number may be a
//! JSON number or a text in hexadecimal, `"0x1f"`. Other members are ignored.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Problem;
use crate::cpu::x86::{CpuidEntry, Host};

/// Understands the description of a host.
///
/// # Errors
/// Names the member that is wrong.
pub fn parse(value: &Value) -> Result<Host, Problem> {
    let members = value.as_object().ok_or_else(|| Problem::new("", "must be an object"))?;
    Ok(Host {
        native: required(members, "native_cpuid", entries)?,
        supported: required(members, "kvm_supported_cpuid", entries)?,
        hyperv: optional(members, "kvm_supported_hv_cpuid", entries)?.unwrap_or_default(),
        feature_msrs: required(members, "feature_msrs", registers)?,
        msr_indices: required(members, "msr_index_list", indices)?,
        mce_cap: optional(members, "mce_cap_supported", number)?.unwrap_or_default(),
        xcomp_guest_supp: optional(members, "xcomp_guest_supp", number)?,
        tsc_khz: optional(members, "tsc_khz", rate)?.unwrap_or_default(),
        caps: required(members, "caps", caps)?,
    })
}

/// The description of a host, which [`parse`] understands.
#[must_use]
pub fn describe(host: &Host) -> Value {
    let list = |entries: &[CpuidEntry]| entries.iter().map(entry_json).collect::<Vec<Value>>();
    let msrs: Map<String, Value> =
        host.feature_msrs.iter().map(|(index, value)| (hex(*index), json!(hex(*value)))).collect();
    json!({
        "target": "x86_64",
        "native_cpuid": list(&host.native),
        "kvm_supported_cpuid": list(&host.supported),
        "kvm_supported_hv_cpuid": list(&host.hyperv),
        "feature_msrs": msrs,
        "msr_index_list": host.msr_indices.iter().map(|index| hex(*index)).collect::<Vec<String>>(),
        "mce_cap_supported": hex(host.mce_cap),
        "xcomp_guest_supp": host.xcomp_guest_supp.map(hex),
        "tsc_khz": host.tsc_khz,
        "caps": host.caps,
    })
}

fn hex(number: impl Into<u64>) -> String {
    format!("0x{:x}", number.into())
}

fn entry_json(entry: &CpuidEntry) -> Value {
    json!({
        "function": hex(entry.function),
        "index": entry.index,
        "flags": entry.flags,
        "eax": hex(entry.eax),
        "ebx": hex(entry.ebx),
        "ecx": hex(entry.ecx),
        "edx": hex(entry.edx),
    })
}

fn required<T>(
    members: &Map<String, Value>,
    name: &str,
    read: impl Fn(&str, &Value) -> Result<T, Problem>,
) -> Result<T, Problem> {
    read(name, members.get(name).ok_or_else(|| Problem::new(name, "is missing"))?)
}

fn optional<T>(
    members: &Map<String, Value>,
    name: &str,
    read: impl Fn(&str, &Value) -> Result<T, Problem>,
) -> Result<Option<T>, Problem> {
    members.get(name).filter(|value| !value.is_null()).map(|value| read(name, value)).transpose()
}

fn entries(name: &str, value: &Value) -> Result<Vec<CpuidEntry>, Problem> {
    let list = value.as_array().ok_or_else(|| Problem::new(name, "must be a list of CPUID entries"))?;
    list.iter().enumerate().map(|(place, value)| entry(&format!("{name}[{place}]"), value)).collect()
}

fn entry(name: &str, value: &Value) -> Result<CpuidEntry, Problem> {
    let members = value.as_object().ok_or_else(|| Problem::new(name, "must be an object"))?;
    let part = |part: &str| -> Result<u32, Problem> {
        let name = format!("{name}.{part}");
        small(&name, members.get(part).ok_or_else(|| Problem::new(&name, "is missing"))?)
    };
    Ok(CpuidEntry {
        function: part("function")?,
        index: part("index")?,
        flags: part("flags")?,
        eax: part("eax")?,
        ebx: part("ebx")?,
        ecx: part("ecx")?,
        edx: part("edx")?,
    })
}

fn registers(name: &str, value: &Value) -> Result<BTreeMap<u32, u64>, Problem> {
    let members = value.as_object().ok_or_else(|| Problem::new(name, "must be an object"))?;
    let told = members.iter().filter(|(_, value)| !value.is_null());
    told.map(|(index, value)| {
        let place = format!("{name}.{index}");
        Ok((small(&place, &json!(index))?, number(&place, value)?))
    })
    .collect()
}

fn indices(name: &str, value: &Value) -> Result<BTreeSet<u32>, Problem> {
    let list = value.as_array().ok_or_else(|| Problem::new(name, "must be a list of registers"))?;
    list.iter().enumerate().map(|(place, value)| small(&format!("{name}[{place}]"), value)).collect()
}

fn caps(name: &str, value: &Value) -> Result<BTreeMap<String, i64>, Problem> {
    let members = value.as_object().ok_or_else(|| Problem::new(name, "must be an object"))?;
    let cap = |(cap, value): (&String, &Value)| {
        let value = value.as_i64().ok_or_else(|| Problem::new(format!("{name}.{cap}"), "must be a number"))?;
        Ok((cap.clone(), value))
    };
    members.iter().map(cap).collect()
}

/// A rate in kHz; below zero where it is not known.
fn rate(name: &str, value: &Value) -> Result<u32, Problem> {
    if value.as_i64().is_some_and(|rate| rate < 0) {
        return Ok(0);
    }
    small(name, value)
}

fn small(name: &str, value: &Value) -> Result<u32, Problem> {
    u32::try_from(number(name, value)?).map_err(|_| Problem::new(name, "must fit 32 bits"))
}

fn number(name: &str, value: &Value) -> Result<u64, Problem> {
    let number = match value {
        Value::String(text) => text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()),
        _ => value.as_u64(),
    };
    number.ok_or_else(|| Problem::new(name, "must be a number, or one in hexadecimal as a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        json!({
            "target": "x86_64",
            "native_cpuid": [
                {"function": "0x0", "index": 0, "flags": 0, "eax": "0x1", "ebx": "0x756e6547", "ecx": "0x6c65746e", "edx": "0x49656e69"}
            ],
            "kvm_supported_cpuid": [],
            "feature_msrs": {"0x10a": "0x2b", "0x345": null},
            "msr_index_list": ["0x10a"],
            "caps": {"KVM_CAP_MCE": 32},
        })
    }

    #[test]
    fn a_description_survives_being_written() {
        let host = parse(&sample()).unwrap();
        assert_eq!(&host.vendor(), b"GenuineIntel");
        assert_eq!((host.feature_msrs.len(), host.cap("KVM_CAP_MCE"), host.tsc_khz), (1, 32, 0));
        assert_eq!(parse(&describe(&host)).unwrap(), host);
    }

    #[test]
    fn errors_name_the_member() {
        let problem = |change: fn(&mut Value)| {
            let mut value = sample();
            change(&mut value);
            parse(&value).unwrap_err().to_string()
        };
        assert_eq!(problem(|value| value["caps"] = Value::Null), "'caps' must be an object");
        assert_eq!(
            problem(|value| value["native_cpuid"][0]["ebx"] = json!("0x123456789")),
            "'native_cpuid[0].ebx' must fit 32 bits"
        );
        assert_eq!(
            problem(|value| value["msr_index_list"] = json!(["x"])),
            "'msr_index_list[0]' must be a number, or one in hexadecimal as a text"
        );
        assert_eq!(problem(|value| drop(value.as_object_mut().unwrap().remove("caps"))), "'caps' is missing");
    }
}
