//! A guest as the command line describes it, before anything is opened or created.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::accel::hostfile;
use crate::net::NetdevConfig;
use crate::qapi::Error;
use crate::qapi::qmp::BlockdevOptions;
use crate::qom::GlobalValue;
use crate::qom::objects::is_memory_backend;
use crate::target::Target;

/// Where firmware lies when only its name is given, after the folders of `-L`.
pub const FIRMWARE_FOLDERS: [&str; 6] = [
    "/usr/share/seabios",
    "/usr/share/qemu",
    "/usr/share/qemu-kvm",
    "/usr/share/ovmf",
    "/usr/local/share/qemu",
    "/usr/share/seavgabios",
];

/// A machine and everything plugged into it at start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineConfig {
    /// `-machine` type name, aliases not yet resolved; none means the target's default.
    pub machine_type: Option<String>,
    /// `-machine` properties in the order given, type and accelerator left out.
    pub machine_props: Vec<(String, String)>,
    /// Accelerators to try, in order, with the properties of `-accel NAME,prop=value`.
    pub accels: Vec<AccelConfig>,
    /// The `-cpu` text, not yet parsed.
    pub cpu: Option<String>,
    /// `-smp`, completed by the rules of the machine.
    pub smp: SmpConfig,
    /// `-m`.
    pub memory: MemoryConfig,
    /// `-numa` in the order given.
    pub numa: Vec<Entry>,
    /// `-object` in the order given; every entry has `qom-type` and `id`.
    pub objects: Vec<Map<String, Value>>,
    /// `-blockdev` in the order given.
    pub blockdevs: Vec<Blockdev>,
    /// `-device` in the order given; every entry has `driver`.
    pub devices: Vec<Map<String, Value>>,
    /// `-netdev` in the order given.
    pub netdevs: Vec<NetdevOption>,
    /// `-serial` in the order given: ids of character devices, or `none` for a port left out.
    pub serials: Vec<String>,
    /// `-debugcon`, as `-device` would say it.
    pub debugcon: Option<Entry>,
    /// `-global driver.property=value` in the order given.
    pub globals: Vec<Global>,
    /// `-kernel`, `-initrd`, `-append`.
    pub kernel: Option<KernelConfig>,
    /// `-bios`.
    pub bios: Option<PathBuf>,
    /// `-L`: where to look for firmware, before the built-in places.
    pub data_dirs: Vec<PathBuf>,
    /// `-fw_cfg` in the order given.
    pub fw_cfg: Vec<Entry>,
    /// `-smbios` in the order given.
    pub smbios: Vec<Entry>,
    /// `-boot`.
    pub boot: BootConfig,
    /// `-rtc`.
    pub rtc: RtcConfig,
    /// `-uuid`, sixteen bytes in the order of the text form.
    pub uuid: Option<[u8; 16]>,
    /// `-name guest=`.
    pub name: Option<String>,
    /// `-name debug-threads=on`: threads carry their role in their name.
    pub debug_threads: bool,
    /// `-overcommit mem-lock=on`.
    pub mem_lock: bool,
    /// All memory backends are filled at once, by so many threads, unless they say otherwise (`-mem-prealloc`).
    pub mem_prealloc: Option<u64>,
    /// `-overcommit cpu-pm=on`.
    pub cpu_pm: bool,
    /// `-nodefaults`: no default devices.
    pub no_defaults: bool,
}

impl MachineConfig {
    /// Whether a CPU model `host` means anything: KVM is built in, or a host is described.
    #[must_use]
    pub fn has_host_cpu(&self, target: Target) -> bool {
        target.is_native() || self.accels.iter().any(|accel| accel.name == hostfile::NAME)
    }

    /// `-global`, as the registry of types takes it.
    pub fn global_values(&self) -> impl Iterator<Item = GlobalValue<'_>> + Clone {
        self.globals.iter().map(Global::as_value)
    }

    /// Lets an object that is asked for be filled at once where that holds for all memory backends and it is one.
    pub fn preallocate(&self, object: &mut Map<String, Value>) {
        let Some(threads) = self.mem_prealloc else {
            return;
        };
        let id = object.get("id").and_then(Value::as_str);
        if id.is_some_and(|id| is_memory_backend(object, id)) {
            object.entry("prealloc").or_insert(json!(true));
            object.entry("prealloc-threads").or_insert(json!(threads));
        }
    }
}

/// A back end of a network card.
#[derive(Clone, Debug, PartialEq)]
pub struct NetdevOption {
    /// The option as it was given: what messages about it begin with.
    pub location: String,
    /// What it says.
    pub config: NetdevConfig,
}

/// A node that the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Blockdev {
    /// The option as it was given: what messages about it begin with.
    pub location: String,
    /// The node.
    pub options: BlockdevOptions,
}

/// One use of an option that may be given several times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// The option as it was given, such as `-numa node,memdev=m0`: what messages about it begin with.
    pub location: String,
    /// Its parameters as texts; one given more than once has an array of them.
    pub parameters: Map<String, Value>,
}

impl Entry {
    /// `error` with the option in front.
    #[must_use]
    pub fn blame(&self, error: impl Into<Error>) -> Error {
        let error = error.into();
        Error {
            class: error.class,
            desc: format!("{}: {}", self.location, error.desc),
        }
    }
}

/// One accelerator to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccelConfig {
    /// `kvm`, `hostfile`, `tcg`, ...
    pub name: String,
    /// Its properties.
    pub props: Vec<(String, String)>,
}

/// Processor topology. Every field is at least one once completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmpConfig {
    /// vCPUs present at start.
    pub cpus: u32,
    /// vCPUs there may ever be.
    pub max_cpus: u32,
    /// s390x drawers.
    pub drawers: u32,
    /// s390x books.
    pub books: u32,
    /// Sockets.
    pub sockets: u32,
    /// Dies in a socket.
    pub dies: u32,
    /// Clusters in a die (not on x86 or s390x).
    pub clusters: u32,
    /// Modules in a die.
    pub modules: u32,
    /// Cores in a module.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// `-m`: sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Memory present at start.
    pub size: u64,
    /// Slots for hot-plugged memory.
    pub slots: u64,
    /// Memory there may ever be.
    pub max_size: u64,
}

/// A default for a property of every object of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Type name.
    pub driver: String,
    /// Property name.
    pub property: String,
    /// Value as text.
    pub value: String,
}

impl Global {
    /// Type, property and value, as a registry takes them.
    #[must_use]
    pub fn as_value(&self) -> GlobalValue<'_> {
        (&self.driver, &self.property, &self.value)
    }
}

/// Direct kernel boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig {
    /// `-kernel`.
    pub kernel: PathBuf,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`.
    pub append: String,
}

/// `-boot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    /// Boot order letters.
    pub order: Option<String>,
    /// Order for the first boot only.
    pub once: Option<String>,
    /// Show the firmware's boot menu.
    pub menu: Option<bool>,
    /// Picture for the boot menu.
    pub splash: Option<String>,
    /// How long the picture shows, in milliseconds.
    pub splash_time: Option<u64>,
    /// Milliseconds after a failed boot before a reboot; -1 for never.
    pub reboot_timeout: Option<i64>,
    /// Boot only from devices with a `bootindex`.
    pub strict: bool,
}

/// `-rtc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtcConfig {
    /// What the clock starts from.
    pub base: RtcBase,
    /// Which host clock drives it.
    pub clock: RtcClock,
    /// `driftfix=slew`: lost ticks are made up for.
    pub driftfix_slew: bool,
}

/// `-rtc base=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcBase {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time.
    Localtime,
    /// A fixed date: seconds since 1970-01-01 00:00:00 universal time.
    Date(i64),
}

/// `-rtc clock=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's wall clock.
    #[default]
    Host,
    /// The host's monotonic clock, not adjusted by the host's administrator.
    Rt,
    /// Guest time, which stands still while the guest is stopped.
    Vm,
}
