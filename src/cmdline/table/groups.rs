//! The groups of parameters.

use crate::cmdline::option::{Group, Parameter};

/// `-machine`. Its parameters are the properties of the machine types.
pub(super) const MACHINE: Group = open("machine", "type");
/// `-accel`. Its parameters are the properties of the accelerators.
pub(super) const ACCEL: Group = open("accel", "accel");
/// `-object`. Its parameters are the properties of the objects.
pub(super) const OBJECT: Group = open("object", "qom-type");
/// `-device`. Its parameters are the properties of the devices.
pub(super) const DEVICE: Group = open("device", "driver");
/// `-smbios`. Its parameters depend on the structure.
pub(super) const SMBIOS: Group = Group {
    name: "smbios",
    implied: None,
    parameters: &[],
};
/// `-blockdev`. Its parameters are those of `blockdev-add`.
pub(super) const BLOCKDEV: Group = open("blockdev", "driver");
/// `-audiodev`.
pub(super) const AUDIODEV: Group = open("audiodev", "driver");

/// `-netdev`. Its parameters depend on the kind of back end.
pub(super) const NETDEV: Group = open("netdev", "type");

const fn open(name: &'static str, implied: &'static str) -> Group {
    Group {
        name,
        implied: Some(implied),
        parameters: &[],
    }
}

/// `-smp`.
pub(super) const SMP: Group = Group {
    name: "smp-opts",
    implied: Some("cpus"),
    parameters: &[
        Parameter::number("cpus", "vCPUs at start"),
        Parameter::number("maxcpus", "vCPUs there may ever be"),
        Parameter::number("drawers", "drawers (s390x)"),
        Parameter::number("books", "books in a drawer (s390x)"),
        Parameter::number("sockets", "sockets"),
        Parameter::number("dies", "dies in a socket (x86)"),
        Parameter::number("clusters", "clusters in a die (none of the machines here)"),
        Parameter::number("modules", "modules in a die (x86)"),
        Parameter::number("cores", "cores in a module or socket"),
        Parameter::number("threads", "threads in a core"),
    ],
};

/// `-m`.
pub(super) const MEMORY: Group = Group {
    name: "memory",
    implied: Some("size"),
    parameters: &[
        Parameter::size("size", "memory at start, in MiB unless a suffix says otherwise"),
        Parameter::number("slots", "slots for memory plugged in later"),
        Parameter::size("maxmem", "memory there may ever be"),
    ],
};

/// `-boot`.
pub(super) const BOOT: Group = Group {
    name: "boot-opts",
    implied: Some("order"),
    parameters: &[
        Parameter::string("order", "drive letters in the order to try"),
        Parameter::string("once", "order for the first boot only"),
        Parameter::boolean("menu", "offer the firmware's boot menu"),
        Parameter::string("splash", "picture for the boot menu"),
        Parameter::number("splash-time", "milliseconds the picture is shown"),
        Parameter::number(
            "reboot-timeout",
            "milliseconds until a reboot after no device booted, -1 for never",
        ),
        Parameter::boolean("strict", "only boot from devices with a boot index"),
    ],
};

/// `-rtc`.
pub(super) const RTC: Group = Group {
    name: "rtc",
    implied: None,
    parameters: &[
        Parameter::string("base", "utc, localtime or a date"),
        Parameter::string("clock", "host, rt or vm"),
        Parameter::string("driftfix", "none or slew"),
    ],
};

/// `-name`.
pub(super) const NAME: Group = Group {
    name: "name",
    implied: Some("guest"),
    parameters: &[
        Parameter::string("guest", "name of the guest"),
        Parameter::string("process", "name of the process"),
        Parameter::boolean("debug-threads", "name threads by what they do"),
    ],
};

/// `-numa`.
pub(super) const NUMA: Group = Group {
    name: "numa",
    implied: Some("type"),
    parameters: &[],
};

/// `-overcommit`.
pub(super) const OVERCOMMIT: Group = Group {
    name: "overcommit",
    implied: None,
    parameters: &[
        Parameter::boolean("mem-lock", "lock guest memory in host memory"),
        Parameter::boolean("cpu-pm", "let the guest put host processors to sleep"),
    ],
};

/// `-fw_cfg`.
pub(super) const FW_CFG: Group = Group {
    name: "fw_cfg",
    implied: Some("name"),
    parameters: &[
        Parameter::string("name", "name of the item, opt/... by convention"),
        Parameter::string("file", "file with the content"),
        Parameter::string("string", "the content"),
        Parameter::string("gen_id", "id of the object that makes the content"),
    ],
};

/// `-chardev`.
pub(in crate::cmdline) const CHARDEV: Group = Group {
    name: "chardev",
    implied: Some("backend"),
    parameters: &[
        Parameter::string("backend", "kind of device"),
        Parameter::string("path", "file, pipe, serial line or UNIX socket"),
        Parameter::string("input-path", "file that input comes from"),
        Parameter::string("host", "host to listen on or connect to"),
        Parameter::string("port", "TCP or UDP port"),
        Parameter::string("to", "last port to try when listening"),
        Parameter::string("fd", "inherited descriptor, by number or by name"),
        Parameter::string("localaddr", "local address for UDP"),
        Parameter::string("localport", "local port for UDP"),
        Parameter::boolean("ipv4", "use IPv4"),
        Parameter::boolean("ipv6", "use IPv6"),
        Parameter::boolean("abstract", "the UNIX socket is in the abstract namespace"),
        Parameter::boolean("tight", "the abstract name is not padded"),
        Parameter::boolean("server", "listen instead of connecting"),
        Parameter::boolean("wait", "wait for a client before the guest runs"),
        Parameter::boolean("delay", "let the kernel gather small packets"),
        Parameter::boolean("nodelay", "do not let the kernel gather small packets"),
        Parameter::number("reconnect", "seconds between attempts to connect again"),
        Parameter::number("reconnect-ms", "milliseconds between attempts to connect again"),
        Parameter::boolean("telnet", "speak the telnet protocol"),
        Parameter::boolean("tn3270", "speak the TN3270 protocol"),
        Parameter::boolean("websocket", "speak the WebSocket protocol"),
        Parameter::string("tls-creds", "id of TLS credentials"),
        Parameter::string("tls-authz", "id of an authorization object"),
        Parameter::number("width", "width in pixels"),
        Parameter::number("height", "height in pixels"),
        Parameter::number("cols", "width in characters"),
        Parameter::number("rows", "height in characters"),
        Parameter::boolean("mux", "several users share the device"),
        Parameter::boolean("signal", "control characters send signals to this process"),
        Parameter::string("name", "name of the channel"),
        Parameter::size("size", "bytes to keep"),
        Parameter::string("chardev", "id of the device to share"),
        Parameter::boolean("append", "write at the end of the file"),
        Parameter::string("logfile", "file that all output is also written to"),
        Parameter::boolean("logappend", "write at the end of the log file"),
    ],
};

/// `-mon`.
pub(super) const MON: Group = Group {
    name: "mon",
    implied: Some("chardev"),
    parameters: &[
        Parameter::string("mode", "control for QMP, readline for people"),
        Parameter::string("chardev", "id of the character device"),
        Parameter::boolean("pretty", "lay QMP replies out for people"),
    ],
};

/// `-global`.
pub(in crate::cmdline) const GLOBAL: Group = Group {
    name: "global",
    implied: None,
    parameters: &[
        Parameter::string("driver", "type of the objects"),
        Parameter::string("property", "their property"),
        Parameter::string("value", "its value unless given otherwise"),
    ],
};

/// `-action`.
pub(super) const ACTION: Group = Group {
    name: "action",
    implied: None,
    parameters: &[
        Parameter::string("reboot", "reset or shutdown"),
        Parameter::string("shutdown", "poweroff or pause"),
        Parameter::string("panic", "pause, shutdown, exit-failure or none"),
        Parameter::string(
            "watchdog",
            "reset, shutdown, poweroff, inject-nmi, pause, debug or none",
        ),
    ],
};

/// `-add-fd`.
pub(super) const ADD_FD: Group = Group {
    name: "add-fd",
    implied: None,
    parameters: &[
        Parameter::number("fd", "the inherited descriptor"),
        Parameter::number("set", "the set it joins"),
        Parameter::string("opaque", "a text to recognise it by"),
    ],
};

/// `-run-with`.
pub(super) const RUN_WITH: Group = Group {
    name: "run-with",
    implied: None,
    parameters: &[
        Parameter::boolean("async-teardown", "free memory in a process of its own at the end"),
        Parameter::string("chroot", "root directory"),
        Parameter::string("user", "user to become"),
    ],
};

/// `-sandbox`.
pub(super) const SANDBOX: Group = Group {
    name: "sandbox",
    implied: Some("enable"),
    parameters: &[
        Parameter::boolean("enable", "confine the process"),
        Parameter::string("obsolete", "allow or deny obsolete system calls"),
        Parameter::string(
            "elevateprivileges",
            "allow or deny gaining privileges, or allow it to children only",
        ),
        Parameter::string("spawn", "allow or deny fork and execve"),
        Parameter::string("resourcecontrol", "allow or deny changes of affinity and priority"),
    ],
};

/// `-msg`.
pub(super) const MSG: Group = Group {
    name: "msg",
    implied: None,
    parameters: &[
        Parameter::boolean("timestamp", "messages carry the time"),
        Parameter::boolean("guest-name", "messages carry the guest's name"),
    ],
};

/// `-trace`.
pub(super) const TRACE: Group = Group {
    name: "trace",
    implied: Some("enable"),
    parameters: &[
        Parameter::string("enable", "pattern of event names"),
        Parameter::string("file", "file to write to"),
    ],
};
