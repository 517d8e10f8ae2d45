//! The machine `s390-ccw-virtio`, as far as CPUs go.
//!
//! A guest is made with its CPU model set and its vCPUs on their threads, and can be asked about them. It cannot run: how
//! much memory there is and which devices, a guest learns by SCLP and channel I/O, which this machine lacks.

use std::sync::Arc;

use serde_json::json;

use super::config::MachineConfig;
use super::guest::Guest;
use super::info::{EmptySlotInfo, MemdevInfo, MemoryRegionInfo, VcpuInfo};
use super::registry::{check_properties, registry};
use super::topology;
use crate::accel::s390x::{self, GuestConfig, GuestError, S390Guest};
use crate::accel::{StatValue, describe};
use crate::cpu::s390x::feature::{Switch, find};
use crate::cpu::s390x::{Compat, Error as ModelError, Model, Variant, types};
use crate::qapi::Error;
use crate::qom::tree::Simple;
use crate::qom::{Object, PropertyInfo};
use crate::report;
use crate::target::Target;

/// A guest of this machine.
pub(super) struct S390Ccw {
    guest: Box<dyn S390Guest>,
    config: MachineConfig,
}

impl S390Ccw {
    /// Makes the VM, sets the CPU model and makes the vCPUs.
    ///
    /// # Errors
    /// Names the model and what keeps the host from running it, or what the kernel refused.
    pub(super) fn new(config: &MachineConfig, only_migratable: bool) -> Result<Self, Error> {
        let machine = config.machine_type.as_deref().unwrap_or("s390-ccw-virtio");
        let compat =
            Compat::of_machine(machine).ok_or_else(|| Error::generic(format!("unknown machine '{machine}'")))?;
        refuse_unknown(config)?;
        let guest = s390x::create(GuestConfig {
            compat,
            cpu: config.cpu.as_deref(),
            vcpus: config.smp.cpus,
            only_migratable,
            debug_threads: config.debug_threads,
        });
        let guest = guest.map_err(|error| Error::generic(text(&error)))?;
        for odd in guest.inconsistencies() {
            report::warning(odd.to_string());
        }
        if let Some(applied) = guest.applied().filter(|applied| applied.is_clamped()) {
            report::warning(format!(
                "the host runs the guest at instruction level {:#05x}, not {:#05x}",
                applied.ibc, applied.ibc_asked
            ));
        }
        Ok(Self {
            guest,
            config: config.clone(),
        })
    }

    fn no_ram<T>(&self) -> Result<T, Error> {
        Err(Error::generic("the guest has no memory: it cannot run"))
    }
}

impl Guest for S390Ccw {
    fn start(&self) -> Result<(), Error> {
        self.guest.start().map_err(|error| Error::generic(error.to_string()))
    }

    fn pause(&self) -> Result<(), Error> {
        Ok(())
    }

    fn reset(&self) -> Result<(), Error> {
        Ok(())
    }

    fn press_power_button(&self) {}

    fn wake(&self) -> Result<(), Error> {
        Err(Error::generic("wake-up from suspend is not supported by this guest"))
    }

    fn inject_nmi(&self) -> Result<(), Error> {
        self.start()
    }

    fn vcpus(&self) -> Vec<VcpuInfo> {
        let threads = (0..).zip(self.guest.thread_ids());
        threads
            .map(|(index, thread_id)| VcpuInfo {
                index,
                thread_id,
                ids: topology::ids(index, &self.config.smp),
                node: None,
                qom_path: format!("/machine/unattached/device[{index}]"),
            })
            .collect()
    }

    fn empty_slots(&self) -> Vec<EmptySlotInfo> {
        let smp = &self.config.smp;
        (smp.cpus..smp.max_cpus)
            .map(|index| EmptySlotInfo {
                index,
                ids: topology::ids(index, smp),
                node: None,
            })
            .collect()
    }

    fn memory_regions(&self) -> Vec<MemoryRegionInfo> {
        Vec::new()
    }

    fn memdevs(&self) -> Vec<MemdevInfo> {
        Vec::new()
    }

    fn read_physical(&self, _addr: u64, _data: &mut [u8]) -> Result<(), Error> {
        self.no_ram()
    }

    fn read_virtual(&self, _index: u32, _addr: u64, _data: &mut [u8]) -> Result<(), Error> {
        self.no_ram()
    }

    fn vm_stats(&self) -> Result<Vec<StatValue>, Error> {
        Ok(Vec::new())
    }

    fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        Ok(self.guest.thread_ids().iter().map(|_| Vec::new()).collect())
    }

    fn dump_registers(&self, index: u32) -> Result<String, Error> {
        Err(Error::generic(format!(
            "the registers of CPU {index} are unknown: it has never run"
        )))
    }

    fn register_values(&self, index: u32) -> Result<Vec<(&'static str, u64)>, Error> {
        self.dump_registers(index).map(|_| Vec::new())
    }

    fn translate(&self, _index: u32, _addr: u64) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    fn is_backed(&self, _addr: u64, _len: u64) -> bool {
        false
    }

    fn host_address(&self, _addr: u64) -> Option<(String, u64)> {
        None
    }

    fn cpu_type(&self) -> String {
        self.guest.model().map_or(types::HOST, Model::typename).to_owned()
    }

    fn cpu_object(&self, index: u32) -> Arc<dyn Object> {
        Arc::new(cpu_object(self.guest.model(), index))
    }

    fn describe_host(&self) -> Result<Vec<u8>, Error> {
        describe::describe(Target::S390x, "kvm", &[]).map_err(Error::generic)
    }
}

/// Refuses what the machine does not have, so that nobody takes it for there.
fn refuse_unknown(config: &MachineConfig) -> Result<(), Error> {
    let machine = super::types::of(Target::S390x, config.machine_type.as_deref())?;
    let kvm = config.accels.iter().filter(|accel| accel.name == "kvm");
    if let Some((name, _)) = kvm.flat_map(|accel| &accel.props).next() {
        return Err(Error::generic(format!("Property 'kvm-accel.{name}' not found")));
    }
    check_properties(&registry(Target::S390x, true), machine, &config.machine_props)?;
    if let Some(global) = config.globals.first() {
        return Err(Error::generic(format!(
            "-global {}.{}: not supported by this machine",
            global.driver, global.property
        )));
    }
    if let Some(driver) = config.devices.first().and_then(|device| device.get("driver")) {
        return Err(Error::generic(format!(
            "-device {}: the machine has no channel subsystem to plug it into",
            driver.as_str().unwrap_or_default()
        )));
    }
    Ok(())
}

/// A vCPU in the tree of objects: its number, what its model is, and each feature and group on or off.
fn cpu_object(model: Option<&Model>, index: u32) -> Simple {
    let typename = model.map_or(types::HOST, Model::typename);
    let mut object =
        Simple::new(typename)
            .with("core-id", "uint32", json!(index))
            .with("realized", "bool", json!(true));
    let Some(model) = model else {
        return object;
    };
    let is_static = model.variant == Variant::Base;
    let moves = is_static || matches!(model.variant, Variant::Default | Variant::Qemu);
    object = object
        .with("static", "bool", json!(is_static))
        .with("migration-safe", "bool", json!(moves))
        .with("description", "string", json!(describe_model(model)));
    for PropertyInfo { name, .. } in types::cpu_types(true)
        .filter(|info| info.name == typename)
        .flat_map(|info| info.properties)
    {
        let on = match find(name) {
            Some(Switch::Feature(id)) => model.features.contains(id),
            Some(Switch::Group(group)) => group.members.is_subset(&model.features),
            None => continue,
        };
        let refusal = ModelError::AfterRealize {
            typename,
            name: (*name).to_owned(),
        };
        let refuse = move |_: &_| Err(Error::generic(refusal.to_string()));
        object = object.with_settable(name, "bool", move || json!(on), refuse);
    }
    object
}

/// What a model is made after.
fn describe_model(model: &Model) -> String {
    let definition = model.definition;
    format!(
        "machine type {:04x} GA{} ({})",
        definition.machine_type, definition.own_ga, definition.name
    )
}

/// An error as the command line shows it: with what led to it, and the hint if there is one.
fn text(error: &GuestError) -> String {
    match error {
        GuestError::Model(model) => match model.hint() {
            Some(hint) => format!("{model}\n{hint}"),
            None => model.to_string(),
        },
        other => report::with_causes(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::s390x::named;

    #[test]
    fn a_vcpu_tells_its_features_and_does_not_change_them() {
        let definition = named("z13").unwrap().definition;
        let model = Model {
            definition,
            variant: Variant::Default,
            features: definition.default,
        };
        let object = cpu_object(Some(&model), 3);
        assert_eq!(object.type_name(), "z13-s390x-cpu");
        for (name, value) in [
            ("core-id", json!(3)),
            ("vx", json!(true)),
            ("msa5", json!(true)),
            ("nnpa", json!(false)),
            ("static", json!(false)),
            ("migration-safe", json!(true)),
            ("description", json!("machine type 2964 GA1 (z13)")),
        ] {
            assert_eq!(object.get(name).unwrap(), value, "{name}");
        }
        let refusal = object.set("vx", &json!(false)).unwrap_err();
        assert_eq!(
            refusal.desc,
            "Attempt to set property 'vx' on 'z13-s390x-cpu' after it was realized"
        );
        assert!(object.get("nosuch").is_err());
    }

    #[test]
    fn a_refused_model_comes_with_its_hint() {
        let error = GuestError::Model(ModelError::GenerationTooNew("gen15a"));
        let lines: Vec<String> = text(&error).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("Selected CPU generation is too new."), "{lines:?}");
    }
}
