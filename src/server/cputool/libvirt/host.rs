//! A host made of libvirt's host model. What libvirt does not tell is what every KVM of its age has.

use super::{Cpu, PhysBits};
use crate::accel::hostfile::HostDescription;
use crate::cpu::s390x::{Compat, Cpus, HostKind, HostModel, Identity};
use crate::cpu::x86::tables::{KVM_DEFAULTS, Location, Register, WORDS, feature, word};
use crate::cpu::x86::{Arguments, Cpu as X86Cpu, CpuidEntry, Features, Host, MachineCompat, Model, PropValue};
use crate::target::Target;
use crate::{accel::hostfile, cpu};

/// The controls of VMX whose registers tell in the upper half what may be on.
const VMX_CONTROLS: [u32; 5] = [0x48b, 0x48d, 0x48e, 0x48f, 0x490];
/// Bits of a physical address where libvirt does not tell: what processors with long mode have at least.
const PHYS_BITS: u32 = 40;
/// The machine check registers of KVM: 32 banks, and capabilities that all processors have.
const MCE_BANKS: i64 = 32;
const MCE_CAP: u64 = 0x0100_0100;

/// The host that has what the host model has.
///
/// # Errors
/// When the host model is none that this program knows.
pub(super) fn of_host_model(target: Target, host_model: &Cpu) -> Result<HostDescription, String> {
    match target {
        Target::X86_64 => x86(host_model).map(Box::new).map(HostDescription::X86),
        Target::S390x => s390x(host_model).map(HostDescription::S390x),
    }
}

fn s390x(host_model: &Cpu) -> Result<cpu::s390x::Host, String> {
    let compat = Compat::newest();
    let model = Cpus::new(compat, None).parse(Some(&host_model.text()));
    let model = model.map_err(|error| error.to_string())?;
    Ok(cpu::s390x::Host {
        accelerator: hostfile::NAME.to_owned(),
        kind: HostKind::Hardware,
        model: Some(HostModel {
            definition: model.definition,
            features: model.features,
            identity: Identity::default(),
        }),
    })
}

fn x86(host_model: &Cpu) -> Result<Host, String> {
    let named = Cpu {
        phys_bits: None,
        ..host_model.clone()
    };
    let compat = MachineCompat::newest();
    let (model, arguments) = Arguments::parse(&named.text(), compat).map_err(|error| error.to_string())?;
    if model.is_max() {
        return Err(format!("<model>: '{}' is not a model of its own", model.name()));
    }
    let cpus = cpu::x86::Cpus::new(compat, None).with_arguments(arguments);
    let cpu = cpus.expanded(model).map_err(|error| error.to_string())?;
    let mut features = *cpu.features();
    for (feature, on) in KVM_DEFAULTS {
        if on {
            features.set(feature);
        }
    }
    let bits = match host_model.phys_bits {
        Some(PhysBits::Exactly(bits) | PhysBits::OfTheHost(Some(bits))) => bits,
        Some(PhysBits::OfTheHost(None)) | None => PHYS_BITS,
    };
    Ok(described(model, &cpu, &features, bits))
}

/// What KVM would say on a host with these features.
fn described(model: Model, cpu: &X86Cpu, features: &Features, phys_bits: u32) -> Host {
    let number = |name: &str| match cpu.get(name) {
        Some(PropValue::Uint(number)) => u32::try_from(number).unwrap_or(u32::MAX),
        _ => 0,
    };
    let mut host = Host {
        mce_cap: MCE_CAP,
        xcomp_guest_supp: Some(
            u64::from(features.register(word::XCR0_HI)) << 32 | u64::from(features.register(word::XCR0_LO)),
        ),
        ..Host::default()
    };
    let has_deadline = features.has(feature::TSC_DEADLINE);
    host.caps = [
        ("KVM_CAP_MCE", MCE_BANKS),
        ("KVM_CAP_NESTED_STATE", 1),
        ("KVM_CAP_TSC_DEADLINE_TIMER", i64::from(has_deadline)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (place, info) in WORDS.iter().enumerate() {
        let value = features.0[place];
        match info.location {
            Location::Cpuid {
                leaf,
                subleaf,
                register,
            } => {
                set(&mut host.supported, leaf, subleaf, register, value);
                set(&mut host.native, leaf, subleaf, register, value);
            }
            Location::Msr(index) => {
                let is_control = VMX_CONTROLS.contains(&index);
                host.feature_msrs
                    .insert(index, if is_control { value << 32 } else { value });
                host.msr_indices.insert(index);
            }
        }
    }
    let vendor = model.vendor().unwrap_or_default();
    let part = |at: usize| {
        let bytes = vendor
            .as_bytes()
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u64::from(bytes.map_or(0, u32::from_le_bytes))
    };
    let registers = [
        (0, Register::Eax, number("min-level").into()),
        (0, Register::Ebx, part(0)),
        (0, Register::Edx, part(4)),
        (0, Register::Ecx, part(8)),
        (1, Register::Eax, cpu.signature().into()),
        (
            0x8000_0000,
            Register::Eax,
            u64::from(number("min-xlevel").max(0x8000_0008)),
        ),
        (0x8000_0008, Register::Eax, phys_bits.into()),
    ];
    for (leaf, register, value) in registers {
        set(&mut host.native, leaf, None, register, value);
        set(&mut host.supported, leaf, None, register, value);
    }
    set(
        &mut host.supported,
        0x24,
        None,
        Register::Ebx,
        number("avx10-version").into(),
    );
    host
}

fn set(entries: &mut Vec<CpuidEntry>, leaf: u32, subleaf: Option<u32>, register: Register, value: u64) {
    let index = subleaf.unwrap_or(0);
    let place = entries
        .iter()
        .position(|entry| (entry.function, entry.index) == (leaf, index));
    let place = place.unwrap_or_else(|| {
        entries.push(CpuidEntry {
            function: leaf,
            index,
            flags: u32::from(subleaf.is_some()),
            ..CpuidEntry::default()
        });
        entries.len() - 1
    });
    let entry = &mut entries[place];
    let [low, _] = [value & 0xffff_ffff, value >> 32].map(|half| u32::try_from(half).unwrap_or_default());
    let field = match register {
        Register::Eax => &mut entry.eax,
        Register::Ebx => &mut entry.ebx,
        Register::Ecx => &mut entry.ecx,
        Register::Edx => &mut entry.edx,
    };
    *field |= low;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::x86::{Accel, Cpus, IrqChip};

    #[test]
    fn a_host_runs_its_host_model() {
        for model in ["EPYC-Rome", "Icelake-Server-v4", "SapphireRapids", "Nehalem", "qemu64"] {
            let host_model = Cpu {
                model: model.to_owned(),
                features: vec![("aes".to_owned(), true), ("sse4a".to_owned(), false)],
                phys_bits: Some(PhysBits::OfTheHost(Some(46))),
            };
            let host = x86(&host_model).unwrap();
            assert_eq!(host.phys_bits(), 46);
            let accel = Accel {
                host: &host,
                irqchip: IrqChip::Kernel,
                cpu_pm: false,
            };
            let compat = MachineCompat::newest();
            let text = host_model.text().replace("host-phys-bits=on,", "");
            let (model, arguments) = Arguments::parse(&text, compat).unwrap();
            let cpus = Cpus::new(compat, Some(accel)).with_arguments(arguments);
            assert_eq!(cpus.unavailable_features(model), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn a_host_of_another_kind_is_refused() {
        let host_model = |model: &str| Cpu {
            model: model.to_owned(),
            features: Vec::new(),
            phys_bits: None,
        };
        assert_eq!(
            x86(&host_model("host")).unwrap_err(),
            "<model>: 'host' is not a model of its own"
        );
        assert!(x86(&host_model("z15")).unwrap_err().contains("'z15'"));
        assert!(s390x(&host_model("gen15a-base")).unwrap().model.is_some());
    }
}
