//! Options that describe the guest.

use super::groups;
use crate::cmdline::option::{OptionInfo, Section};
use crate::cmdline::{absent, accel, boot, machine, memory, netdev, process, rtc, smbios};
use crate::target::Target;

/// Standard, display, x86 and boot options.
pub(super) static OPTIONS: &[OptionInfo] = &[
    OptionInfo::flag("h", Section::Standard, "the same as -help", process::apply_help).in_probe(),
    OptionInfo::flag(
        "help",
        Section::Standard,
        "print this text and end",
        process::apply_help,
    )
    .in_probe(),
    OptionInfo::flag(
        "version",
        Section::Standard,
        "print the version and end",
        process::apply_version,
    )
    .in_probe(),
    OptionInfo::keyval(
        "machine",
        "[type=]name[,prop[=value][,...]]",
        Section::Standard,
        "choose a machine type and set its properties; -machine help lists the types,\n\
         -machine name,help the properties",
        &groups::MACHINE,
        machine::apply,
    )
    .in_probe(),
    OptionInfo::keyval(
        "M",
        "name[,...]",
        Section::Standard,
        "the same as -machine",
        &groups::MACHINE,
        machine::apply,
    )
    .in_probe(),
    OptionInfo::text(
        "cpu",
        "model[,feature=on|off][,...]",
        Section::Standard,
        "choose a CPU model and its features; -cpu help lists them",
        machine::apply_cpu,
    ),
    OptionInfo::opts(
        "accel",
        "[accel=]name[,prop=value][,...]",
        Section::Standard,
        "choose an accelerator; may be given several times, the first that works is used",
        &groups::ACCEL,
        accel::apply,
    )
    .with_own_help()
    .in_probe(),
    OptionInfo::keyval(
        "smp",
        "[cpus=]n[,maxcpus=n][,sockets=n][,dies=n][,modules=n][,cores=n][,threads=n]",
        Section::Standard,
        "set the number of vCPUs and their topology; what is left out is computed",
        &groups::SMP,
        machine::apply_smp,
    ),
    OptionInfo::opts(
        "numa",
        "node[,nodeid=n][,cpus=first[-last]][,memdev=id] | dist,src=n,dst=n,val=n | cpu,node-id=n[,...]",
        Section::Standard,
        "describe the guest's NUMA nodes",
        &groups::NUMA,
        machine::apply_numa,
    ),
    OptionInfo::opts(
        "m",
        "[size=]n[,slots=n,maxmem=n]",
        Section::Standard,
        "set the size of memory (default: 128 MiB)",
        &groups::MEMORY,
        memory::apply,
    ),
    OptionInfo::text(
        "mem-path",
        "path",
        Section::Standard,
        "take guest memory from this file, or from a file in this directory",
        memory::apply_path,
    ),
    OptionInfo::flag(
        "mem-prealloc",
        Section::Standard,
        "allocate all guest memory at start",
        memory::apply_prealloc,
    ),
    OptionInfo::opts(
        "overcommit",
        "[mem-lock=on|off][,cpu-pm=on|off]",
        Section::Standard,
        "say what the host need not promise to others",
        &groups::OVERCOMMIT,
        machine::apply_overcommit,
    ),
    OptionInfo::keyval(
        "boot",
        "[order=letters][,once=letters][,menu=on|off][,splash=file][,splash-time=ms][,reboot-timeout=ms]\
         [,strict=on|off]",
        Section::Standard,
        "say what the firmware boots from",
        &groups::BOOT,
        boot::apply,
    ),
    OptionInfo::opts(
        "name",
        "[guest=]name[,process=name][,debug-threads=on|off]",
        Section::Standard,
        "name the guest, the process and its threads",
        &groups::NAME,
        machine::apply_name,
    )
    .in_probe(),
    OptionInfo::text(
        "uuid",
        "uuid",
        Section::Standard,
        "set the guest's UUID",
        machine::apply_uuid,
    ),
    OptionInfo::flag(
        "usb",
        Section::Standard,
        "the same as -machine usb=on",
        machine::apply_usb,
    ),
    OptionInfo::text(
        "display",
        "none",
        Section::Display,
        "show nothing; there is no display here",
        absent::apply_display,
    )
    .in_probe(),
    OptionInfo::flag(
        "nographic",
        Section::Display,
        "connect serial port and monitor to the terminal unless they go elsewhere",
        crate::cmdline::character::apply_nographic,
    )
    .in_probe(),
    OptionInfo::text(
        "vga",
        "none",
        Section::Display,
        "add no display adapter",
        absent::apply_vga,
    ),
    OptionInfo::text(
        "vnc",
        "none",
        Section::Display,
        "start no VNC server",
        absent::apply_vnc,
    )
    .in_probe(),
    OptionInfo::text(
        "net",
        "none",
        Section::Standard,
        "add no network card",
        absent::apply_network,
    ),
    OptionInfo::text(
        "nic",
        "none",
        Section::Standard,
        "add no network card",
        absent::apply_network,
    ),
    OptionInfo::keyval(
        "netdev",
        "[type=]tap|socket|stream|dgram,id=id[,prop=value][,...] | {json}",
        Section::Standard,
        "add a back end for a network card, which names it with netdev=id\n\
         tap: fd=n | fds=n:n... | ifname=name,script=no,downscript=no[,queues=n]; [,vnet_hdr=on|off][,sndbuf=n]\n\
         stream: addr.type=unix|inet|fd,addr...[,server=on|off][,reconnect-ms=n]\n\
         dgram: local.type=unix|inet|fd,local...[,remote.type=unix|inet,remote...]\n\
         socket: fd=n | listen=[host]:port | connect=host:port | mcast=group:port | udp=host:port,localaddr=host:port",
        &groups::NETDEV,
        netdev::apply,
    )
    .or_json(),
    OptionInfo::keyval(
        "audiodev",
        "[driver=]none,id=id",
        Section::Standard,
        "declare a sink for sound that goes nowhere",
        &groups::AUDIODEV,
        absent::apply_audiodev,
    )
    .or_json(),
    OptionInfo::flag(
        "enable-kvm",
        Section::Standard,
        "the same as -machine accel=kvm",
        accel::apply_enable_kvm,
    )
    .in_probe(),
    OptionInfo::opts(
        "rtc",
        "[base=utc|localtime|date][,clock=host|rt|vm][,driftfix=none|slew]",
        Section::Standard,
        "set what the guest's clock starts from and what drives it",
        &groups::RTC,
        rtc::apply,
    ),
    OptionInfo::flag(
        "no-acpi",
        Section::X86,
        "the same as -machine acpi=off",
        machine::apply_no_acpi,
    )
    .only(Target::X86_64),
    OptionInfo::flag(
        "no-hpet",
        Section::X86,
        "the same as -machine hpet=off",
        machine::apply_no_hpet,
    )
    .only(Target::X86_64),
    OptionInfo::opts(
        "smbios",
        "file=path | type=n[,field=value][,...]",
        Section::X86,
        "add an SMBIOS structure, or set fields of one",
        &groups::SMBIOS,
        smbios::apply,
    )
    .only(Target::X86_64),
    OptionInfo::text(
        "bios",
        "file",
        Section::Boot,
        "set the firmware image",
        boot::apply_bios,
    ),
    OptionInfo::text(
        "kernel",
        "file",
        Section::Boot,
        "boot this Linux kernel or PVH image",
        boot::apply_kernel,
    ),
    OptionInfo::text(
        "initrd",
        "file",
        Section::Boot,
        "give the kernel this initial RAM disk",
        boot::apply_initrd,
    ),
    OptionInfo::text(
        "append",
        "text",
        Section::Boot,
        "give the kernel this command line",
        boot::apply_append,
    ),
    OptionInfo::opts(
        "fw_cfg",
        "[name=]name,file=path | [name=]name,string=text",
        Section::Boot,
        "offer the guest an item of firmware configuration",
        &groups::FW_CFG,
        boot::apply_fw_cfg,
    ),
    OptionInfo::text(
        "L",
        "path",
        Section::Boot,
        "look for firmware here first",
        boot::apply_data_dir,
    )
    .in_probe(),
];
