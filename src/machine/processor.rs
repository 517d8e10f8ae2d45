//! The processor of an x86_64 guest, as a command line asks for it.
//!
//! The worker makes vCPUs of it; the monitor answers questions about CPU models with the same machine type, interrupt
//! controllers and `-cpu` text.

use super::config::{MachineConfig, SmpConfig};
use crate::cpu;
use crate::cpu::x86::tables::Level;
use crate::cpu::x86::{
    Accel, Arguments, CacheLevels, Cpus, DEFAULT_MODEL, Host, IrqChip, MachineCompat, Model, Topology,
};
use crate::qapi::QmpError;

/// The machine property that says who shares caches, and its members: `smp-cache.0.cache=l2,smp-cache.0.topology=core`.
pub const SMP_CACHE: &str = "smp-cache.";

/// What a command line says about processors.
#[derive(Clone, Debug)]
pub struct ProcessorRequest {
    /// The model; that of the machine if there is no `-cpu`.
    pub model: Model,
    /// Where vCPUs are.
    pub topology: Topology,
    /// What is said about all CPUs, and what is odd about it.
    pub arguments: Arguments,
    compat: MachineCompat,
    irqchip: IrqChip,
    cpu_pm: bool,
}

/// What is said about processors and cannot be followed, in QEMU's words.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// `-cpu` names no model.
    #[error(transparent)]
    Model(#[from] cpu::x86::Error),
    /// A member of `smp-cache` must be given.
    #[error("Parameter '{0}' is missing")]
    Missing(String),
    /// `smp-cache` has no such member.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// A member of `smp-cache` does not take this value.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NoSuchValue {
        /// The member.
        name: String,
        /// What was given.
        value: String,
    },
    /// A cache is to be shared at a level that a PC does not have.
    #[error("Invalid topology level: {0}. The topology level is not supported by this machine")]
    NoLevel(String),
}

impl QmpError for ProcessorError {}

impl ProcessorRequest {
    /// Understands `-cpu`, and what `-machine`, `-accel`, `-smp`, `-overcommit` and `-global` say about processors.
    ///
    /// # Errors
    /// When there is no such model, or a cache is shared at a level that the machine does not have.
    pub fn new(config: &MachineConfig) -> Result<Self, ProcessorError> {
        let machine = config.machine_type.as_deref().unwrap_or("none");
        let compat = MachineCompat::of_machine(machine).unwrap_or_else(MachineCompat::newest);
        let text = config.cpu.as_deref().unwrap_or(DEFAULT_MODEL);
        let (model, mut arguments) = Arguments::parse(text, compat)?;
        for global in &config.globals {
            arguments.add_global(&global.driver, &global.property, &global.value);
        }
        Ok(Self {
            model,
            topology: Topology {
                caches: cache_levels(&config.machine_props)?,
                ..topology(&config.smp)
            },
            arguments,
            compat,
            irqchip: irqchip(config),
            cpu_pm: config.cpu_pm,
        })
    }

    /// All models, on a host or without one.
    #[must_use]
    pub fn cpus<'a>(&self, host: Option<&'a Host>) -> Cpus<'a> {
        let accel = host.map(|host| Accel {
            host,
            irqchip: self.irqchip,
            cpu_pm: self.cpu_pm,
        });
        Cpus::new(self.compat, accel).with_arguments(self.arguments.clone())
    }
}

/// The counts of `-smp` that make an APIC id.
#[must_use]
pub fn topology(smp: &SmpConfig) -> Topology {
    Topology {
        dies: smp.dies.max(1),
        modules: smp.modules.max(1),
        cores: smp.cores.max(1),
        threads: smp.threads.max(1),
        caches: CacheLevels::default(),
    }
}

/// The last word of `-machine` and `-accel kvm` about interrupt controllers; the machine checks that it can.
fn irqchip(config: &MachineConfig) -> IrqChip {
    let of_accel = config
        .accels
        .iter()
        .filter(|accel| accel.name == "kvm")
        .flat_map(|accel| &accel.props);
    let mut said = of_accel
        .chain(&config.machine_props)
        .filter(|(name, _)| name.replace('_', "-") == "kernel-irqchip");
    match said.next_back() {
        Some((_, value)) if value == "split" => IrqChip::Split,
        _ => IrqChip::Kernel,
    }
}

/// Who shares which cache by `smp-cache`.
fn cache_levels(machine_props: &[(String, String)]) -> Result<CacheLevels, ProcessorError> {
    let mut levels = CacheLevels::default();
    let members = |number: &str, key: &str| {
        let name = format!("{SMP_CACHE}{number}.{key}");
        let mut found = machine_props.iter().rev();
        let value = found.find(|(given, _)| *given == name).map(|(_, value)| value.as_str());
        value.ok_or_else(|| ProcessorError::Missing(name.clone()))
    };
    for (name, _) in machine_props {
        let Some(member) = name.strip_prefix(SMP_CACHE) else {
            continue;
        };
        let (number, key) = member.split_once('.').unwrap_or((member, ""));
        if !matches!(key, "cache" | "topology") {
            return Err(ProcessorError::Unexpected(name.clone()));
        }
        let (cache, level) = (members(number, "cache")?, members(number, "topology")?);
        let level = sharing(&format!("{SMP_CACHE}{number}.topology"), level)?;
        match cache {
            "l1d" => levels.l1d = level,
            "l1i" => levels.l1i = level,
            "l2" => levels.l2 = level,
            "l3" => levels.l3 = level,
            other => {
                return Err(ProcessorError::NoSuchValue {
                    name: format!("{SMP_CACHE}{number}.cache"),
                    value: other.to_owned(),
                });
            }
        }
    }
    Ok(levels)
}

fn sharing(parameter: &str, level: &str) -> Result<Option<Level>, ProcessorError> {
    Ok(Some(match level {
        "default" => return Ok(None),
        "thread" => Level::Thread,
        "core" => Level::Core,
        "module" => Level::Module,
        "die" => Level::Die,
        "socket" => Level::Socket,
        "cluster" | "book" | "drawer" => {
            return Err(ProcessorError::NoLevel(level.to_owned()));
        }
        _ => {
            return Err(ProcessorError::NoSuchValue {
                name: parameter.to_owned(),
                value: level.to_owned(),
            });
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::config::{AccelConfig, Global};

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn request(config: &MachineConfig) -> Result<ProcessorRequest, String> {
        ProcessorRequest::new(config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_line_without_cpu_gets_the_machines_model() {
        let request = request(&MachineConfig::default()).unwrap();
        assert_eq!(request.model.name(), "qemu64");
        assert_eq!(request.irqchip, IrqChip::Kernel);
    }

    #[test]
    fn unknown_models_are_refused() {
        let config = MachineConfig {
            cpu: Some("z13".to_owned()),
            ..MachineConfig::default()
        };
        assert_eq!(request(&config).unwrap_err(), "unable to find CPU model 'z13'");
    }

    #[test]
    fn the_cpu_text_has_the_last_word() {
        let config = MachineConfig {
            cpu: Some("qemu64,family=7".to_owned()),
            globals: vec![Global {
                driver: "qemu64-x86_64-cpu".to_owned(),
                property: "family".to_owned(),
                value: "9".to_owned(),
            }],
            accels: vec![AccelConfig {
                name: "kvm".to_owned(),
                props: vec![pair("kernel-irqchip", "split")],
            }],
            ..MachineConfig::default()
        };
        let request = request(&config).unwrap();
        assert_eq!(request.irqchip, IrqChip::Split);
        let cpu = request.cpus(None).expanded(request.model).unwrap();
        assert_eq!(cpu.get("family").unwrap().to_json(), 7);
    }

    #[test]
    fn caches_are_shared_where_the_machine_says() {
        let mut config = MachineConfig {
            machine_props: vec![pair("smp-cache.0.cache", "l3"), pair("smp-cache.0.topology", "die")],
            ..MachineConfig::default()
        };
        let levels = request(&config).unwrap().topology.caches;
        assert_eq!((levels.l3, levels.l2), (Some(Level::Die), None));
        config.machine_props[1].1 = "book".to_owned();
        assert_eq!(
            request(&config).unwrap_err(),
            "Invalid topology level: book. The topology level is not supported by this machine"
        );
        config.machine_props.pop();
        assert_eq!(
            request(&config).unwrap_err(),
            "Parameter 'smp-cache.0.topology' is missing"
        );
    }
}
