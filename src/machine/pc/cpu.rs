//! The guest's processors: realised for this host, and shown as objects.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    accel::x86_64::AccelVm,
    cpu::x86::{self, Cpu, Processor, PropValue, WordValue, tables::feature},
    machine::{config::MachineConfig, numa::Numa, pc::layout::Split, processor::ProcessorRequest},
    qapi::Error,
    qom::{
        Object,
        tree::{not_found, not_writable},
    },
    report,
};

/// Makes the processor that the command line asks for, and warns about what it does not get.
pub(super) fn realize(vm: &dyn AccelVm, config: &MachineConfig, numa: &Numa, split: Split) -> Result<Processor, Error> {
    let request = ProcessorRequest::new(config)?;
    for warning in request.arguments.warnings() {
        report::warning(warning.to_string());
    }
    let host = vm.host()?;
    let mut warnings = Vec::new();
    let result = request
        .cpus(Some(&host))
        .realize(request.model, request.topology, &mut warnings);
    // Every vCPU is realised, and says what it lacks, until one fails.
    let vcpus = if result.is_ok() { config.smp.cpus.max(1) } else { 1 };
    for index in 0..vcpus {
        if let Ok(processor) = &result {
            let node = numa.node_of_cpu(index).unwrap_or_default();
            processor.check_place(index, node)?;
        }
        let repeated = warnings.iter().filter(|warning| index == 0 || warning.repeats());
        repeated.for_each(|warning| report::warning(warning.to_string()));
    }
    let processor = result?;
    check_addresses(processor.cpu(), config, split)?;
    Ok(processor)
}

/// Checks that the processor reaches the machine's last address: that of the window for PCI devices' large registers, or
/// that of memory where the processor has no long mode and firmware leaves the window out.
fn check_addresses(cpu: &Cpu, config: &MachineConfig, split: Split) -> Result<(), Error> {
    let number = |name: &str| match cpu.get(name) {
        Some(PropValue::Uint(number)) => number,
        _ => 0,
    };
    let memory_end = split.memory_end(&config.memory);
    let end = match cpu.features().has(feature::LM) {
        true => split.pci_hole64(memory_end).end,
        false => memory_end,
    };
    let bits = number("phys-bits");
    let (last, limit) = (
        end - 1,
        1_u64
            .checked_shl(u32::try_from(bits).unwrap_or(64))
            .map_or(u64::MAX, |end| end - 1),
    );
    if limit < last {
        return Err(Error::generic(format!(
            "Address space limit 0x{limit:x} < 0x{last:x} phys-bits too low ({bits})"
        )));
    }
    Ok(())
}

/// A vCPU in the tree of objects. What it shows is computed when asked for: a big guest has many vCPUs, each with some
/// hundred properties.
pub(super) struct CpuObject {
    processor: Arc<Processor>,
    index: u32,
}

impl CpuObject {
    /// The vCPU with this index.
    pub(super) fn new(processor: &Arc<Processor>, index: u32) -> Self {
        Self {
            processor: Arc::clone(processor),
            index,
        }
    }

    fn cpu(&self) -> Cpu {
        self.processor.cpu_at(self.index)
    }
}

/// What a vCPU is as a device: names, types, values.
const DEVICE: [(&str, &str, bool); 3] = [
    ("realized", "bool", true),
    ("hotplugged", "bool", false),
    ("hotpluggable", "bool", false),
];

impl Object for CpuObject {
    fn type_name(&self) -> &str {
        self.processor.cpu().model().typename()
    }

    fn properties(&self) -> Vec<(String, String)> {
        let of_device = DEVICE
            .iter()
            .map(|(name, kind, _)| ((*name).to_owned(), (*kind).to_owned()));
        let declared = x86::properties(self.processor.cpu().model()).into_iter();
        declared
            .map(|property| (property.name.to_owned(), property.kind.type_name().into_owned()))
            .chain(of_device)
            .chain([("parent_bus".to_owned(), "link<bus>".to_owned())])
            .collect()
    }

    fn get(&self, property: &str) -> Result<Value, Error> {
        let cpu = self.cpu();
        if let Some(value) = cpu.get(property) {
            return Ok(value.to_json());
        }
        Ok(match property {
            "unavailable-features" => json!(cpu.unavailable_features()),
            "feature-words" => words(&cpu.feature_words()),
            "filtered-features" => words(&cpu.filtered_words()),
            "memory" => json!("/machine/unattached/system[0]"),
            "parent_bus" => json!(""),
            "crash-information" => return Err(Error::generic("No crash occurred")),
            "legacy-memory" => {
                let (type_name, name) = (self.type_name(), property);
                return Err(Error::generic(format!("Property '{type_name}.{name}' is not readable")));
            }
            other => {
                let known = DEVICE.iter().find(|(name, _, _)| *name == other);
                let (_, _, value) = known.ok_or_else(|| not_found(self.type_name(), other))?;
                json!(value)
            }
        })
    }

    fn set(&self, property: &str, _value: &Value) -> Result<(), Error> {
        if self.cpu().get(property).is_some() {
            return Err(Error::generic(format!(
                "Attempt to set property '{property}' on anonymous device (type '{}') after it was realized",
                self.type_name()
            )));
        }
        self.get(property)?;
        Err(not_writable(self.type_name(), property))
    }
}

/// Feature words as QMP shows them.
fn words(words: &[WordValue]) -> Value {
    let shown = words.iter().map(|word| {
        let mut value = json!({
            "features": word.features,
            "cpuid-register": word.register.name(),
            "cpuid-input-eax": word.leaf,
        });
        if let Some(subleaf) = word.subleaf {
            value["cpuid-input-ecx"] = json!(subleaf);
        }
        value
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::config::SmpConfig;

    fn object(text: &str, index: u32) -> CpuObject {
        let config = MachineConfig {
            cpu: Some(text.to_owned()),
            smp: SmpConfig {
                cores: 2,
                threads: 2,
                ..SmpConfig::default()
            },
            ..MachineConfig::default()
        };
        let request = ProcessorRequest::new(&config).unwrap();
        let host = x86::Host::default();
        let processor = request
            .cpus(Some(&host))
            .realize(request.model, request.topology, &mut Vec::new());
        CpuObject::new(&Arc::new(processor.unwrap()), index)
    }

    #[test]
    fn every_property_that_is_listed_can_be_asked_for() {
        let cpu = object("Nehalem,-sse4_2", 3);
        let listed = cpu.properties();
        assert!(listed.len() > 400);
        for (name, _) in listed {
            let refused = matches!(name.as_str(), "crash-information" | "legacy-memory");
            assert_eq!(cpu.get(&name).is_err(), refused, "{name}");
        }
    }

    #[test]
    fn a_vcpu_knows_its_place_and_what_it_lacks() {
        let cpu = object("Nehalem", 3);
        assert_eq!(cpu.type_name(), "Nehalem-x86_64-cpu");
        assert_eq!(
            (cpu.get("core-id").unwrap(), cpu.get("thread-id").unwrap()),
            (json!(1), json!(1))
        );
        let lacking = cpu.get("unavailable-features").unwrap();
        assert!(lacking.as_array().unwrap().contains(&json!("sse4.2")));
        assert_eq!(cpu.get("realized").unwrap(), json!(true));
    }

    #[test]
    fn a_vcpu_cannot_be_changed() {
        let cpu = object("qemu64", 0);
        let refusal = |name| cpu.set(name, &json!(true)).unwrap_err().desc;
        assert_eq!(
            refusal("avx"),
            "Attempt to set property 'avx' on anonymous device (type 'qemu64-x86_64-cpu') after it was realized"
        );
        assert_eq!(
            refusal("feature-words"),
            "Property 'qemu64-x86_64-cpu.feature-words' is not writable"
        );
        assert_eq!(refusal("vx"), "Property 'qemu64-x86_64-cpu.vx' not found");
    }
}
