//! Every command of the human monitor: names, arguments, help, and what it runs.

/// A command, or a topic of `info`.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name, and shorter ones.
    pub(super) names: &'static [&'static str],
    /// Its arguments as help shows them.
    pub(super) usage: &'static str,
    /// Its arguments in order.
    pub(super) arguments: &'static [Argument],
    /// One line.
    pub(super) help: &'static str,
    pub(super) run: Run,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument {
    /// Its name; for [`Run::Qmp`] the name in QMP.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) optional: bool,
}

/// How an argument is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A word or a quoted text.
    Word,
    /// The same, for a file.
    File,
    /// All that is left of the line.
    Rest,
    /// An integer expression.
    Number,
    /// `on` or `off`.
    Switch,
    /// `-x`.
    Flag(char),
    /// `/x`.
    Format,
    /// `.N` right after a number.
    Index,
}

/// What a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// The QMP command of that name, with the same arguments. It prints nothing.
    Qmp(&'static str),
    Help,
    Info,
    Cpu,
    QomList,
    QomGet,
    QomSet,
    ObjectAdd,
    DeviceAdd,
    ChardevAdd,
    NetdevAdd,
    SetLink,
    ShowNetwork,
    ChardevChange,
    RingbufRead,
    Memsave,
    BootSet,
    SendKey,
    Log,
    LogFile,
    TraceEvent,
    Gdbserver,
    Print,
    DumpPhysical,
    DumpVirtual,
    Sum,
    ToHost,
    ToPhysical,
    PortRead,
    PortWrite,
    ShowBlock,
    ShowBlockStats,
    ShowChardev,
    ShowCpus,
    ShowHotpluggableCpus,
    ShowIothreads,
    ShowKvm,
    ShowMappings,
    ShowLocalApic,
    ShowMemdev,
    ShowMemoryDevices,
    ShowMemorySize,
    ShowMemoryTree,
    ShowMigration,
    ShowName,
    ShowNuma,
    ShowPic,
    ShowPci,
    ShowQdm,
    ShowQomTree,
    ShowDeviceTree,
    ShowRamBlocks,
    ShowRegisters,
    ShowRoms,
    ShowStats,
    ShowStatus,
    ShowTlb,
    ShowTraceEvents,
    ShowUuid,
    ShowVersion,
}

/// The command of that name.
pub(super) fn find(table: &'static [Command], name: &str) -> Option<&'static Command> {
    table.iter().find(|command| command.names.contains(&name))
}

/// The help of all commands of a table.
pub(super) fn help_all(table: &[Command], prefix: &str) -> String {
    table.iter().map(|command| help(command, prefix)).collect()
}

/// One command's line of help.
pub(super) fn help(command: &Command, prefix: &str) -> String {
    format!(
        "{prefix}{} {} -- {}\n",
        command.names.join("|"),
        command.usage,
        command.help
    )
}

const FORMAT: Argument = Argument {
    name: "format",
    kind: Kind::Format,
    optional: true,
};

const fn word(name: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::Word,
        optional: false,
    }
}

const fn rest(name: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::Rest,
        optional: false,
    }
}

const fn number(name: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::Number,
        optional: false,
    }
}

const fn file(name: &'static str) -> Argument {
    Argument {
        name,
        kind: Kind::File,
        optional: false,
    }
}

const fn optional(argument: Argument) -> Argument {
    Argument {
        optional: true,
        ..argument
    }
}

const fn plain(names: &'static [&'static str], help: &'static str, run: Run) -> Command {
    Command {
        names,
        usage: "",
        arguments: &[],
        help,
        run,
    }
}

/// The commands, in the order of their names.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        names: &["boot_set"],
        usage: "bootdevice",
        arguments: &[word("bootdevice")],
        help: "set the order in which firmware looks for what to boot, written as for -boot order=",
        run: Run::BootSet,
    },
    Command {
        names: &["chardev-add"],
        usage: "args",
        arguments: &[rest("args")],
        help: "add a character device, written as for -chardev",
        run: Run::ChardevAdd,
    },
    Command {
        names: &["chardev-change"],
        usage: "id args",
        arguments: &[word("id"), rest("args")],
        help: "give a character device another back end, written as for -chardev without id",
        run: Run::ChardevChange,
    },
    Command {
        names: &["chardev-remove"],
        usage: "id",
        arguments: &[word("id")],
        help: "remove a character device",
        run: Run::Qmp("chardev-remove"),
    },
    Command {
        names: &["chardev-send-break"],
        usage: "id",
        arguments: &[word("id")],
        help: "send a break condition through a character device",
        run: Run::Qmp("chardev-send-break"),
    },
    Command {
        names: &["closefd"],
        usage: "fdname",
        arguments: &[word("fdname")],
        help: "close a descriptor that was passed under a name",
        run: Run::Qmp("closefd"),
    },
    plain(&["cont", "c"], "let the guest run on", Run::Qmp("cont")),
    Command {
        names: &["cpu"],
        usage: "index",
        arguments: &[number("index")],
        help: "choose the vCPU that other commands mean",
        run: Run::Cpu,
    },
    Command {
        names: &["device_add"],
        usage: "driver[,prop=value][,...]",
        arguments: &[optional(rest("args"))],
        help: "plug in a device, written as for -device",
        run: Run::DeviceAdd,
    },
    Command {
        names: &["device_del"],
        usage: "device",
        arguments: &[word("id")],
        help: "unplug a device, named by its id or path",
        run: Run::Qmp("device_del"),
    },
    Command {
        names: &["gdbserver"],
        usage: "[device]",
        arguments: &[optional(word("device"))],
        help: "wait for gdb on a device, written as for -gdb (tcp::1234 unless given); none ends that",
        run: Run::Gdbserver,
    },
    Command {
        names: &["gpa2hva"],
        usage: "addr",
        arguments: &[number("addr")],
        help: "show where this process has the memory behind a guest-physical address",
        run: Run::ToHost,
    },
    Command {
        names: &["gva2gpa"],
        usage: "addr",
        arguments: &[number("addr")],
        help: "show the guest-physical address behind a virtual one of the vCPU",
        run: Run::ToPhysical,
    },
    Command {
        names: &["help", "?"],
        usage: "[cmd]",
        arguments: &[optional(rest("name"))],
        help: "explain one command, or list all",
        run: Run::Help,
    },
    Command {
        names: &["i"],
        usage: "/fmt addr[.index]",
        arguments: &[
            FORMAT,
            number("addr"),
            Argument {
                name: "index",
                kind: Kind::Index,
                optional: true,
            },
        ],
        help: "read a port; fmt is b, h or w; with an index, that is written before, and the next port read",
        run: Run::PortRead,
    },
    Command {
        names: &["info"],
        usage: "[subcommand]",
        arguments: &[],
        help: "show something about the guest; without a subcommand list them",
        run: Run::Info,
    },
    Command {
        names: &["log"],
        usage: "item1[,...]",
        arguments: &[word("items")],
        help: "log these items and no others, written as for -d; none ends that, help lists them",
        run: Run::Log,
    },
    Command {
        names: &["logfile"],
        usage: "filename",
        arguments: &[file("filename")],
        help: "log to the end of a file",
        run: Run::LogFile,
    },
    Command {
        names: &["memsave"],
        usage: "addr size file",
        arguments: &[number("val"), number("size"), file("filename")],
        help: "write size bytes of the vCPU's virtual memory at addr to a file",
        run: Run::Memsave,
    },
    Command {
        names: &["netdev_add"],
        usage: "[type=]tap|socket|stream|dgram,id=str[,prop=value][,...]",
        arguments: &[rest("args")],
        help: "add a back end for a network card, written as for -netdev",
        run: Run::NetdevAdd,
    },
    Command {
        names: &["netdev_del"],
        usage: "id",
        arguments: &[word("id")],
        help: "remove a back end of a network card",
        run: Run::Qmp("netdev_del"),
    },
    plain(&["nmi"], "inject a non-maskable interrupt", Run::Qmp("inject-nmi")),
    Command {
        names: &["o"],
        usage: "/fmt addr value",
        arguments: &[FORMAT, number("addr"), number("val")],
        help: "write to a port; fmt is b, h or w",
        run: Run::PortWrite,
    },
    Command {
        names: &["object_add"],
        usage: "[qom-type=]type,id=str[,prop=value][,...]",
        arguments: &[rest("args")],
        help: "make an object, written as for -object",
        run: Run::ObjectAdd,
    },
    Command {
        names: &["object_del"],
        usage: "id",
        arguments: &[word("id")],
        help: "remove an object",
        run: Run::Qmp("object-del"),
    },
    Command {
        names: &["pmemsave"],
        usage: "addr size file",
        arguments: &[number("val"), number("size"), file("filename")],
        help: "write size bytes of guest-physical memory at addr to a file",
        run: Run::Qmp("pmemsave"),
    },
    Command {
        names: &["print", "p"],
        usage: "/fmt expr",
        arguments: &[FORMAT, number("value")],
        help: "evaluate an expression, in which $pc and the like are registers; fmt is x, o, d, u or c",
        run: Run::Print,
    },
    Command {
        names: &["qom-get"],
        usage: "path property",
        arguments: &[word("path"), word("property")],
        help: "show a property of an object",
        run: Run::QomGet,
    },
    Command {
        names: &["qom-list"],
        usage: "path",
        arguments: &[optional(word("path"))],
        help: "list the properties of an object",
        run: Run::QomList,
    },
    Command {
        names: &["qom-set"],
        usage: "[-j] path property value",
        arguments: &[
            Argument {
                name: "json",
                kind: Kind::Flag('j'),
                optional: true,
            },
            word("path"),
            word("property"),
            rest("value"),
        ],
        help: "set a property of an object; -j takes the value as JSON",
        run: Run::QomSet,
    },
    plain(&["quit", "q"], "end the emulator", Run::Qmp("quit")),
    Command {
        names: &["ringbuf_read"],
        usage: "device size",
        arguments: &[word("device"), number("size")],
        help: "take bytes from a ring buffer",
        run: Run::RingbufRead,
    },
    Command {
        names: &["ringbuf_write"],
        usage: "device data",
        arguments: &[word("device"), word("data")],
        help: "put bytes into a ring buffer",
        run: Run::Qmp("ringbuf-write"),
    },
    Command {
        names: &["sendkey"],
        usage: "keys [hold-time]",
        arguments: &[word("keys"), optional(number("hold-time"))],
        help: "press keys, such as ctrl-alt-f1, and let them go; hold-time is in milliseconds",
        run: Run::SendKey,
    },
    Command {
        names: &["set_link"],
        usage: "name on|off",
        arguments: &[word("name"), word("up")],
        help: "plug the cable of a network card or back end in or out",
        run: Run::SetLink,
    },
    plain(&["stop", "s"], "halt the guest", Run::Qmp("stop")),
    Command {
        names: &["sum"],
        usage: "addr size",
        arguments: &[number("start"), number("size")],
        help: "show the BSD checksum of guest-physical memory",
        run: Run::Sum,
    },
    plain(
        &["system_powerdown"],
        "ask the guest to shut down",
        Run::Qmp("system_powerdown"),
    ),
    plain(&["system_reset"], "reset the guest", Run::Qmp("system_reset")),
    plain(
        &["system_wakeup"],
        "wake the guest from sleep",
        Run::Qmp("system_wakeup"),
    ),
    Command {
        names: &["trace-event"],
        usage: "name on|off",
        arguments: &[
            word("name"),
            Argument {
                name: "option",
                kind: Kind::Switch,
                optional: false,
            },
        ],
        help: "log an event, or those that fit a pattern with *, or do so no longer",
        run: Run::TraceEvent,
    },
    Command {
        names: &["watchdog_action"],
        usage: "action",
        arguments: &[word("action")],
        help: "set what happens when the watchdog fires",
        run: Run::Qmp("watchdog-set-action"),
    },
    Command {
        names: &["x"],
        usage: "/fmt addr",
        arguments: &[FORMAT, number("addr")],
        help: "show memory as the vCPU sees it; fmt is a count, x, o, d, u or c, and b, h, w or g",
        run: Run::DumpVirtual,
    },
    Command {
        names: &["xp"],
        usage: "/fmt addr",
        arguments: &[FORMAT, number("addr")],
        help: "show guest-physical memory, as x does",
        run: Run::DumpPhysical,
    },
];

/// The topics of `info`, in the order of their names.
pub(super) const TOPICS: &[Command] = &[
    plain(&["block"], "the block devices", Run::ShowBlock),
    plain(
        &["blockstats"],
        "what the block devices have read and written",
        Run::ShowBlockStats,
    ),
    plain(&["chardev"], "the character devices", Run::ShowChardev),
    plain(&["cpus"], "the vCPUs and their threads", Run::ShowCpus),
    plain(
        &["hotpluggable-cpus"],
        "the vCPUs there may be",
        Run::ShowHotpluggableCpus,
    ),
    plain(&["iothreads"], "the threads that serve devices", Run::ShowIothreads),
    plain(&["kvm"], "whether KVM is used", Run::ShowKvm),
    Command {
        names: &["lapic"],
        usage: "[vcpu]",
        arguments: &[optional(number("apic-id"))],
        help: "the local APIC of the vCPU, or of another",
        run: Run::ShowLocalApic,
    },
    plain(
        &["mem"],
        "the ranges of virtual memory that are mapped, and how they may be used",
        Run::ShowMappings,
    ),
    plain(&["memdev"], "the memory objects", Run::ShowMemdev),
    plain(
        &["memory-devices"],
        "memory that was plugged in",
        Run::ShowMemoryDevices,
    ),
    plain(
        &["memory_size_summary"],
        "how much memory the guest has",
        Run::ShowMemorySize,
    ),
    plain(&["migrate"], "whether the guest moves or could", Run::ShowMigration),
    plain(
        &["mtree"],
        "who answers at which address of memory and ports",
        Run::ShowMemoryTree,
    ),
    plain(&["name"], "the guest's name", Run::ShowName),
    plain(&["network"], "the network cards and their back ends", Run::ShowNetwork),
    plain(&["numa"], "the NUMA nodes, their CPUs and their memory", Run::ShowNuma),
    plain(&["pci"], "the PCI devices", Run::ShowPci),
    plain(&["pic"], "the interrupt controllers", Run::ShowPic),
    plain(&["qdm"], "the devices that can be made", Run::ShowQdm),
    Command {
        names: &["qom-tree"],
        usage: "[path]",
        arguments: &[optional(word("path"))],
        help: "the objects below a path",
        run: Run::ShowQomTree,
    },
    plain(&["qtree"], "the devices, bus by bus", Run::ShowDeviceTree),
    plain(&["ramblock"], "the blocks of memory", Run::ShowRamBlocks),
    Command {
        names: &["registers"],
        usage: "[-a|vcpu]",
        arguments: &[
            Argument {
                name: "cpustate_all",
                kind: Kind::Flag('a'),
                optional: true,
            },
            optional(number("vcpu")),
        ],
        help: "the registers of the vCPU, of another, or with -a of all",
        run: Run::ShowRegisters,
    },
    plain(&["roms"], "what the guest finds as ROM", Run::ShowRoms),
    Command {
        names: &["stats"],
        usage: "target [names] [provider]",
        arguments: &[word("target"), optional(word("names")), optional(word("provider"))],
        help: "statistics of the guest (vm) or the vCPU (vcpu); names are joined by commas, * is all",
        run: Run::ShowStats,
    },
    plain(&["status"], "whether the guest runs", Run::ShowStatus),
    plain(&["tlb"], "the pages of virtual memory that are mapped", Run::ShowTlb),
    Command {
        names: &["trace-events"],
        usage: "[name]",
        arguments: &[optional(word("name"))],
        help: "the events that -trace knows, or those that fit a pattern with *, and whether they are logged",
        run: Run::ShowTraceEvents,
    },
    plain(&["uuid"], "the guest's UUID", Run::ShowUuid),
    plain(&["version"], "the emulator's version", Run::ShowVersion),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::qmp::COMMANDS as QMP;

    #[test]
    fn what_is_run_exists_in_qmp() {
        for command in COMMANDS.iter().chain(TOPICS) {
            if let Run::Qmp(name) = command.run {
                assert!(QMP.iter().any(|spec| spec.name == name), "{name}");
            }
        }
    }

    #[test]
    fn names_are_sorted_and_unique() {
        for table in [COMMANDS, TOPICS] {
            assert!(table.is_sorted_by_key(|command| command.names[0]));
            let mut names: Vec<_> = table.iter().flat_map(|command| command.names).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
