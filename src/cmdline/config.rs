//! What a command line says, as a plain value: nothing is opened, created or looked up yet.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::option::OptionInfo;
use crate::machine::config::MachineConfig;
use crate::qapi::qmp::{MigrationAddress, PanicAction, RebootAction, ShutdownAction, WatchdogAction};
use crate::qapi::session::Compat;
use crate::target::Target;

/// What the parser makes of a command line.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// Run with this.
    Run(Box<Config>),
    /// Print this and end with status 0.
    Help(HelpRequest),
}

/// Something to print instead of running.
#[derive(Clone, Debug)]
pub enum HelpRequest {
    /// `-help`.
    Usage,
    /// `-version`.
    Version,
    /// `-machine help`.
    Machines,
    /// `-machine NAME,help`.
    Machine(Option<String>),
    /// `-cpu help`.
    Cpus,
    /// `-accel help`.
    Accels,
    /// `-accel NAME,help`.
    Accel(String),
    /// `-audiodev help`.
    AudioDrivers,
    /// `-netdev help`.
    Netdevs,
    /// `-L help`, with the folders given before.
    DataDirs(Vec<PathBuf>),
    /// `-trace help`.
    TraceEvents,
    /// `-device help`.
    Devices,
    /// `-device NAME,help`.
    Device(String),
    /// `-object help`.
    Objects,
    /// `-object NAME,help`.
    Object(String),
    /// `-chardev help`.
    Chardevs,
    /// `-display help`.
    Displays,
    /// `-vga help`.
    Vgas,
    /// `-d help`.
    LogItems,
    /// `-OPTION help` where the group's parameters are all there is to tell.
    Parameters(&'static OptionInfo),
}

/// Where a guest's state comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// `migrate-incoming` will say.
    Deferred,
    /// From there.
    From(MigrationAddress),
}

/// Everything one command line asks for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The architecture of the binary that was started.
    pub target: Target,
    /// The guest.
    pub machine: MachineConfig,
    /// `-probe`: find out what this host can do, with every accelerator there is, and run no guest.
    pub probe: bool,
    /// `-S`: vCPUs wait for `cont`.
    pub stopped: bool,
    /// `-incoming`: the guest's state comes from elsewhere.
    pub incoming: Option<Incoming>,
    /// `-only-migratable`: refuse devices that cannot migrate.
    pub only_migratable: bool,
    /// `-daemonize`.
    pub daemonize: bool,
    /// `-pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `-name process=`: what `ps` shows.
    pub process_name: Option<String>,
    /// `-action`, `-no-reboot`, `-no-shutdown`, `-watchdog-action`.
    pub actions: Actions,
    /// `-chardev` and the character devices that `-serial`, `-debugcon`, `-qmp`, `-monitor` and `-gdb` describe. Every id occurs once.
    pub chardevs: Vec<ChardevConfig>,
    /// `-mon`, `-qmp`, `-qmp-pretty`, `-monitor`, in order.
    pub monitors: Vec<MonitorConfig>,
    /// `-gdb`, `-s`: the id of the character device on which gdb may connect.
    pub debugger: Option<String>,
    /// `-add-fd` in order.
    pub fds: Vec<AddFd>,
    /// `-sandbox`.
    pub sandbox: Sandbox,
    /// `-compat`: what QMP clients are to do without.
    pub compat: Compat,
    /// `-D`, `-d`, `-trace`, `-msg`.
    pub log: LogConfig,
    /// What to tell the user although nothing is wrong.
    pub warnings: Vec<Warning>,
}

/// Something the user should know although nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The option it is about, as it was given; none when no single one is.
    pub location: Option<String>,
    /// What to know.
    pub text: String,
}

impl From<String> for Warning {
    fn from(text: String) -> Self {
        Self { location: None, text }
    }
}

/// A character device.
#[derive(Clone, Debug, PartialEq)]
pub struct ChardevConfig {
    /// The option that asks for it, such as `-serial pty`.
    pub location: String,
    /// `id`, `backend` and the parameters of the backend, all as texts.
    pub options: Map<String, Value>,
    /// What cannot be had if the device cannot be made, as a line of its own.
    pub consequence: Option<String>,
}

impl ChardevConfig {
    /// The lines that say why the device cannot be made, and what follows.
    #[must_use]
    pub fn complaint(&self, reason: &str) -> String {
        let location = &self.location;
        match &self.consequence {
            Some(consequence) => format!("{location}: {reason}\n{location}: {consequence}"),
            None => format!("{location}: {reason}"),
        }
    }
}

impl Config {
    /// A configuration in which nothing was asked for.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            machine: MachineConfig::default(),
            probe: false,
            stopped: false,
            incoming: None,
            only_migratable: false,
            daemonize: false,
            pidfile: None,
            process_name: None,
            actions: Actions::default(),
            chardevs: Vec::new(),
            monitors: Vec::new(),
            debugger: None,
            fds: Vec::new(),
            sandbox: Sandbox::default(),
            compat: Compat::default(),
            log: LogConfig::default(),
            warnings: Vec::new(),
        }
    }

    /// The numbers of the inherited descriptors that belong to the monitor: those of character devices, of fd sets and of
    /// back ends of network cards. Where a guest comes from elsewhere, it may be any.
    #[must_use]
    pub fn monitor_fds(&self) -> Vec<i32> {
        let chardevs = self
            .chardevs
            .iter()
            .filter_map(|chardev| chardev.options.get("fd")?.as_str()?.parse().ok());
        let netdevs = self.machine.netdevs.iter();
        let netdevs = netdevs.flat_map(|netdev| netdev.config.descriptors());
        let netdevs = netdevs.filter_map(|text| text.parse().ok());
        self.fds
            .iter()
            .map(|add| add.fd)
            .chain(chardevs)
            .chain(netdevs)
            .collect()
    }

    /// The character devices of monitors that are servers on a listening socket which was handed down.
    pub fn inherited_monitors(&self) -> impl Iterator<Item = &str> {
        let is_inherited = |id: &str| {
            let chardev = self
                .chardevs
                .iter()
                .find(|chardev| chardev.options.get("id").is_some_and(|own| own == id));
            let option = |name| chardev.and_then(|chardev| chardev.options.get(name));
            option("fd").is_some() && option("server").is_some_and(|server| server == true || server == "on")
        };
        let monitors = self.monitors.iter().map(|monitor| monitor.chardev.as_str());
        monitors.filter(move |id| is_inherited(id))
    }

    /// Whether no guest will run: `-probe`, or `-machine none` as libvirt does it.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe || self.machine.machine_type.as_deref() == Some("none")
    }
}

/// A monitor on a character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    /// `-mon id=`.
    pub id: Option<String>,
    /// Id of the character device.
    pub chardev: String,
    /// What is spoken on it.
    pub mode: MonitorMode,
    /// Whether JSON replies are laid out for people.
    pub pretty: bool,
}

/// What a monitor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorMode {
    /// QMP.
    Control,
    /// The human monitor.
    Readline,
}

/// What happens to the process when the guest stops running by itself; `set-action` changes it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// When the guest resets.
    pub reboot: RebootAction,
    /// When the guest powers off.
    pub shutdown: ShutdownAction,
    /// When the guest panics.
    pub panic: PanicAction,
    /// When a watchdog expires.
    pub watchdog: WatchdogAction,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            reboot: RebootAction::Reset,
            shutdown: ShutdownAction::Poweroff,
            panic: PanicAction::Shutdown,
            watchdog: WatchdogAction::Reset,
        }
    }
}

/// `-add-fd`: an inherited descriptor for an fd set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddFd {
    /// The option, such as `-add-fd fd=3,set=1`.
    pub location: String,
    /// The descriptor's number in this process.
    pub fd: i32,
    /// The set it joins.
    pub set: u64,
    /// A text that `query-fdsets` shows.
    pub opaque: Option<String>,
}

/// `-sandbox`: what the process may no longer do once it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether there is one.
    pub enabled: bool,
    /// Obsolete system calls are denied.
    pub deny_obsolete: bool,
    /// How privileges may be gained.
    pub elevate_privileges: ElevatePrivileges,
    /// fork and execve are denied.
    pub deny_spawn: bool,
    /// Changing affinity and priority is denied.
    pub deny_resource_control: bool,
}

/// `-sandbox elevateprivileges=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ElevatePrivileges {
    /// As the host allows.
    #[default]
    Allow,
    /// Not at all.
    Deny,
    /// Only by child processes.
    Children,
}

/// What is logged, where and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// `-D`, or `-trace file=`: instead of standard error.
    pub file: Option<PathBuf>,
    /// `-d`: names from [`ITEMS`](crate::logging::items::ITEMS).
    pub items: Vec<String>,
    /// `-trace enable=` and `-d trace:`: patterns of event names, such as `devices_serial` or `devices_*`. One that
    /// starts with `-` takes events out again.
    pub events: Vec<String>,
    /// `-msg timestamp=on`: messages carry the time.
    pub timestamp: bool,
    /// `-msg guest-name=on`: messages carry the guest's name.
    pub guest_name: bool,
}

impl LogConfig {
    /// Whether `-D`, `-d` or `-trace` was given.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.file.is_some() || !self.items.is_empty() || !self.events.is_empty()
    }
}
