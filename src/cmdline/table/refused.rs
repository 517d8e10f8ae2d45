//! Options that QEMU has and this emulator turns down, so that the message says why.

use crate::cmdline::option::OptionInfo;

const NO_DRIVES: &str = "not supported: disks are made with -blockdev and -device";
const NO_DISPLAY: &str = "displays are not supported";
const NO_FILESYSTEMS: &str = "shared filesystems are not supported";
const NO_EMULATION: &str = "this is for emulated processors, which are not supported";
const NO_PRIVILEGES: &str = "start the process with the identity and root directory it shall have";
const NOT_HERE: &str = "Option not supported by this emulator";

/// Names, whether an argument follows, and the reason.
pub(super) static OPTIONS: &[OptionInfo] = &[
    OptionInfo::refused("drive", true, NO_DRIVES),
    OptionInfo::refused("hda", true, NO_DRIVES),
    OptionInfo::refused("hdb", true, NO_DRIVES),
    OptionInfo::refused("hdc", true, NO_DRIVES),
    OptionInfo::refused("hdd", true, NO_DRIVES),
    OptionInfo::refused("cdrom", true, NO_DRIVES),
    OptionInfo::refused("fda", true, NO_DRIVES),
    OptionInfo::refused("fdb", true, NO_DRIVES),
    OptionInfo::refused("sd", true, NO_DRIVES),
    OptionInfo::refused("mtdblock", true, NO_DRIVES),
    OptionInfo::refused("pflash", true, NO_DRIVES),
    OptionInfo::refused("snapshot", false, NO_DRIVES),
    OptionInfo::refused("loadvm", true, NO_DRIVES),
    OptionInfo::refused("iscsi", true, NO_DRIVES),
    OptionInfo::refused("fsdev", true, NO_FILESYSTEMS),
    OptionInfo::refused("virtfs", true, NO_FILESYSTEMS),
    OptionInfo::refused("spice", true, NO_DISPLAY),
    OptionInfo::refused("full-screen", false, NO_DISPLAY),
    OptionInfo::refused("g", true, NO_DISPLAY),
    OptionInfo::refused("k", true, NO_DISPLAY),
    OptionInfo::refused("audio", true, "sound is not supported"),
    OptionInfo::refused("usbdevice", true, "USB devices are not supported"),
    OptionInfo::refused("tpmdev", true, "TPM devices are not supported"),
    OptionInfo::refused("preconfig", false, "there is no phase before the machine is made"),
    OptionInfo::refused("dump-vmstate", true, NOT_HERE),
    OptionInfo::refused("icount", true, NO_EMULATION),
    OptionInfo::refused("semihosting", false, NO_EMULATION),
    OptionInfo::refused("semihosting-config", true, NO_EMULATION),
    OptionInfo::refused("plugin", true, NO_EMULATION),
    OptionInfo::refused("perfmap", false, NO_EMULATION),
    OptionInfo::refused("jitdump", false, NO_EMULATION),
    OptionInfo::refused("dfilter", true, NO_EMULATION),
    OptionInfo::refused("one-insn-per-tb", false, NO_EMULATION),
    OptionInfo::refused("seed", true, NO_EMULATION),
    OptionInfo::refused("enable-sync-profile", false, NOT_HERE),
    OptionInfo::refused("xen-domid", true, NOT_HERE),
    OptionInfo::refused("xen-attach", false, NOT_HERE),
    OptionInfo::refused("xen-domid-restrict", false, NOT_HERE),
    OptionInfo::refused("acpitable", true, "ACPI tables of your own are not supported"),
    OptionInfo::refused("dtb", true, "device trees are not supported"),
    OptionInfo::refused("shim", true, NOT_HERE),
    OptionInfo::refused("option-rom", true, "option ROMs are not supported"),
    OptionInfo::refused("runas", true, NO_PRIVILEGES),
    OptionInfo::refused("chroot", true, NO_PRIVILEGES),
    OptionInfo::refused("async-teardown", false, NOT_HERE),
    OptionInfo::refused("win2k-hack", false, NOT_HERE),
    OptionInfo::refused("no-fd-bootchk", false, NOT_HERE),
    OptionInfo::refused("echr", true, NOT_HERE),
];
