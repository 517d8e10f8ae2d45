//! Options about the process: monitors, character devices, running, logging, confining.

use super::groups;
use crate::cmdline::option::{OptionInfo, Section};
use crate::cmdline::{character, compat, debugger, machine, objects, process, readconfig, run_with};
use crate::target::Target;

/// Character device, run, log and debug options.
pub(super) static OPTIONS: &[OptionInfo] = &[
    OptionInfo::opts(
        "chardev",
        "backend,id=id[,mux=on|off][,logfile=path][,logappend=on|off][,...]",
        Section::Character,
        "make a character device; -chardev help lists the back ends",
        &groups::CHARDEV,
        character::apply_chardev,
    )
    .in_probe(),
    OptionInfo::text(
        "serial",
        "device",
        Section::Character,
        "connect the next serial port to pty, stdio, mon:stdio, null, none, file:path, unix:path, tcp:host:port,\n\
         chardev:id, ...",
        character::apply_serial,
    ),
    OptionInfo::text(
        "debugcon",
        "device",
        Section::X86,
        "add a debug console at port 0xe9, on a device as for -serial",
        character::apply_debugcon,
    )
    .only(Target::X86_64),
    OptionInfo::text(
        "parallel",
        "none",
        Section::Character,
        "add no parallel port",
        character::apply_parallel,
    ),
    OptionInfo::text(
        "monitor",
        "device",
        Section::Character,
        "offer the human monitor on a device as for -serial",
        character::apply_monitor,
    )
    .in_probe(),
    OptionInfo::text(
        "qmp",
        "device",
        Section::Character,
        "offer QMP on a device as for -serial",
        character::apply_qmp,
    )
    .in_probe(),
    OptionInfo::text(
        "qmp-pretty",
        "device",
        Section::Character,
        "the same as -qmp, laid out for people",
        character::apply_qmp_pretty,
    )
    .in_probe(),
    OptionInfo::opts(
        "mon",
        "[chardev=]id[,mode=readline|control][,pretty=on|off]",
        Section::Character,
        "offer a monitor on a character device",
        &groups::MON,
        character::apply_mon,
    )
    .in_probe(),
    OptionInfo::flag(
        "probe",
        Section::Debug,
        "run no guest: find out over QMP what this host can do with each accelerator there is",
        process::apply_probe,
    )
    .in_probe(),
    OptionInfo::flag(
        "S",
        Section::Debug,
        "do not run the guest until told to",
        process::apply_stopped,
    )
    .in_probe(),
    OptionInfo::text(
        "gdb",
        "device",
        Section::Debug,
        "wait for gdb on a device as for -serial; none for no gdb",
        debugger::apply_gdb,
    ),
    OptionInfo::flag("s", Section::Debug, "the same as -gdb tcp::1234", debugger::apply_s),
    OptionInfo::flag(
        "no-reboot",
        Section::Debug,
        "the same as -action reboot=shutdown",
        process::apply_no_reboot,
    ),
    OptionInfo::flag(
        "no-shutdown",
        Section::Debug,
        "the same as -action shutdown=pause",
        process::apply_no_shutdown,
    ),
    OptionInfo::opts(
        "action",
        "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=...][,watchdog=...]",
        Section::Debug,
        "say what happens when the guest reboots, powers off, panics or hangs",
        &groups::ACTION,
        process::apply_action,
    ),
    OptionInfo::text(
        "watchdog-action",
        "reset|shutdown|poweroff|inject-nmi|pause|debug|none",
        Section::Debug,
        "the same as -action watchdog=...",
        process::apply_watchdog_action,
    ),
    OptionInfo::flag(
        "daemonize",
        Section::Debug,
        "go to the background once ready",
        process::apply_daemonize,
    )
    .in_probe(),
    OptionInfo::text(
        "pidfile",
        "file",
        Section::Debug,
        "write the process id to a file",
        process::apply_pidfile,
    )
    .in_probe(),
    OptionInfo::opts(
        "add-fd",
        "fd=n,set=n[,opaque=text]",
        Section::Debug,
        "add an inherited descriptor to a set, which opens as /dev/fdset/n",
        &groups::ADD_FD,
        process::apply_add_fd,
    )
    .in_probe(),
    OptionInfo::opts(
        "run-with",
        "[async-teardown=off]",
        Section::Debug,
        "say how the process lives; what its starter can do as well is left to it",
        &groups::RUN_WITH,
        run_with::apply,
    )
    .in_probe(),
    OptionInfo::opts(
        "sandbox",
        "on|off[,obsolete=allow|deny][,elevateprivileges=allow|deny|children][,spawn=allow|deny]\
         [,resourcecontrol=allow|deny]",
        Section::Debug,
        "confine the process with seccomp",
        &groups::SANDBOX,
        process::apply_sandbox,
    )
    .in_probe(),
    OptionInfo::opts(
        "msg",
        "[timestamp=on|off][,guest-name=on|off]",
        Section::Debug,
        "say what messages start with",
        &groups::MSG,
        process::apply_msg,
    )
    .in_probe(),
    OptionInfo::text(
        "compat",
        "[deprecated-input=accept|reject|crash][,deprecated-output=accept|hide][,unstable-input=accept|reject|crash]\
         [,unstable-output=accept|hide]",
        Section::Debug,
        "say what QMP clients may use and are told of what will go away or may change",
        compat::apply,
    )
    .in_probe(),
    OptionInfo::text(
        "d",
        "item[,...]",
        Section::Debug,
        "log these items; -d help lists them",
        process::apply_log_items,
    )
    .in_probe(),
    OptionInfo::text("D", "file", Section::Debug, "log to a file", process::apply_log_file).in_probe(),
    OptionInfo::opts(
        "trace",
        "[enable=]pattern[,file=path]",
        Section::Debug,
        "log the events whose names match, such as devices_serial or accel_kvm_*",
        &groups::TRACE,
        process::apply_trace,
    )
    .in_probe(),
    OptionInfo::text(
        "incoming",
        "defer|tcp:[host]:port|unix:path|fd:fd|exec:command|file:filename[,offset=offset]",
        Section::Debug,
        "take over a guest that comes from there; with defer, from where migrate-incoming says",
        process::apply_incoming,
    ),
    OptionInfo::flag(
        "only-migratable",
        Section::Debug,
        "refuse devices that cannot migrate",
        process::apply_only_migratable,
    ),
    OptionInfo::flag(
        "nodefaults",
        Section::Debug,
        "add no default devices",
        machine::apply_nodefaults,
    )
    .in_probe(),
    OptionInfo::flag(
        "no-user-config",
        Section::Debug,
        "read no configuration but what is named here; there is none",
        process::apply_no_user_config,
    )
    .in_probe(),
    OptionInfo::text(
        "readconfig",
        "file",
        Section::Debug,
        "read options from a file",
        readconfig::apply,
    )
    .in_probe(),
    OptionInfo::text(
        "set",
        "group.id.key=value",
        Section::Debug,
        "change a parameter of a device, object or chardev given before",
        objects::apply_set,
    ),
];
