//! Whole command lines, and helpers for the tests of single options.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::target::Target;

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::Error::from_raw_os_error(2))
}

fn parse_on(target: Target, args: &[&str]) -> Result<Parsed, Error> {
    parse(target, args.iter().map(OsString::from), &no_files)
}

/// The configuration of exactly these arguments.
pub(super) fn raw(args: &[&str]) -> Result<Config, Error> {
    match parse_on(Target::X86_64, args)? {
        Parsed::Run(config) => Ok(*config),
        Parsed::Help(request) => panic!("{args:?} asked for help: {request:?}"),
    }
}

/// The configuration of arguments that are right, without default devices.
pub(super) fn config(args: &[&str]) -> Config {
    let args: Vec<&str> = args.iter().copied().chain(["-nodefaults"]).collect();
    raw(&args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// The message about arguments that are wrong.
pub(super) fn message(args: &[&str]) -> String {
    raw(args).expect_err("the arguments are wrong").to_string()
}

/// What arguments that ask for help ask for.
pub(super) fn help(args: &[&str]) -> HelpRequest {
    match parse_on(Target::X86_64, args) {
        Ok(Parsed::Help(request)) => request,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn libvirts_probe() {
    let config = raw(&[
        "-S",
        "-no-user-config",
        "-nodefaults",
        "-nographic",
        "-machine",
        "none,accel=kvm:tcg",
        "-qmp",
        "unix:/var/lib/libvirt/qemu/qmp-JAGIZ3/qmp.monitor,server=on,wait=off",
        "-pidfile",
        "/var/lib/libvirt/qemu/qmp-JAGIZ3/qmp.pid",
        "-daemonize",
    ])
    .unwrap();
    assert!(config.is_probe() && config.stopped && config.daemonize);
    assert_eq!(config.machine.accels.len(), 2);
    assert_eq!(config.monitors[0].chardev, "compat_monitor0");
    assert_eq!(
        config.chardevs[0].options["path"],
        "/var/lib/libvirt/qemu/qmp-JAGIZ3/qmp.monitor"
    );
    assert!(config.warnings.is_empty());
}

/// A q35 guest with a serial port, as libvirt 9.0 starts it.
const START: &[&str] = &[
    "-name",
    "guest=tq,debug-threads=on",
    "-S",
    "-object",
    r#"{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-34-tq/master-key.aes"}"#,
    "-machine",
    "pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram",
    "-accel",
    "kvm",
    "-cpu",
    "host,migratable=on",
    "-m",
    "256",
    "-object",
    r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":268435456}"#,
    "-overcommit",
    "mem-lock=off",
    "-smp",
    "2,maxcpus=4,sockets=4,cores=1,threads=1",
    "-uuid",
    "22222222-2222-4222-8222-222222222222",
    "-display",
    "none",
    "-no-user-config",
    "-nodefaults",
    "-chardev",
    "socket,id=charmonitor,fd=30,server=on,wait=off",
    "-mon",
    "chardev=charmonitor,id=monitor,mode=control",
    "-rtc",
    "base=utc,driftfix=slew",
    "-global",
    "kvm-pit.lost_tick_policy=delay",
    "-no-hpet",
    "-no-shutdown",
    "-no-acpi",
    "-global",
    "ICH9-LPC.disable_s3=1",
    "-boot",
    "strict=on",
    "-kernel",
    "/srv/guest/vmlinuz",
    "-initrd",
    "/srv/guest/ir.gz",
    "-append",
    "console=ttyS0 quiet panic=-1",
    "-add-fd",
    "set=0,fd=31,opaque=serial0-source",
    "-chardev",
    "file,id=charserial0,path=/dev/fdset/0,append=on",
    "-device",
    r#"{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}"#,
    "-audiodev",
    r#"{"id":"audio1","driver":"none"}"#,
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-msg",
    "timestamp=on",
];

#[test]
fn libvirts_start() {
    let config = raw(START).unwrap();
    let machine = &config.machine;
    assert_eq!(machine.machine_type.as_deref(), Some("pc-q35-7.2"));
    assert_eq!(machine.accels[0].name, "kvm");
    assert_eq!((machine.smp.cpus, machine.smp.max_cpus, machine.smp.sockets), (2, 4, 4));
    assert_eq!(machine.devices[0]["driver"], "isa-serial");
    assert_eq!(machine.globals[1].property, "disable_s3");
    assert_eq!(config.chardevs.len(), 2);
    assert!(config.sandbox.enabled && config.log.timestamp && !config.is_probe());
    assert!(machine.serials.is_empty());
}

#[test]
fn two_dashes_are_as_good_as_one() {
    let args: Vec<String> = START
        .iter()
        .map(|arg| {
            if arg.starts_with('-') {
                format!("-{arg}")
            } else {
                (*arg).to_owned()
            }
        })
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(raw(&args).unwrap().machine, raw(START).unwrap().machine);
}

#[test]
fn options_that_do_not_exist() {
    assert_eq!(message(&["-foo"]), "-foo: invalid option");
    assert_eq!(message(&["-nodefaults=x"]), "-nodefaults=x: invalid option");
    assert_eq!(message(&["-"]), "-: invalid option");
    assert_eq!(message(&["-m"]), "-m: requires an argument");
    assert_eq!(message(&["disk.img"]), "disk.img: disk images are not supported");
    assert_eq!(
        message(&["-drive", "file=x"]),
        "-drive file=x: not supported: disks are made with -blockdev and -device"
    );
    let error = parse_on(Target::S390x, &["-no-hpet"]).unwrap_err();
    assert_eq!(error.to_string(), "-no-hpet: Option not supported for this target");
}

#[test]
fn probing_takes_no_guest() {
    let config = raw(&["--probe", "-qmp", "stdio", "-S", "-nodefaults"]).unwrap();
    assert!(config.is_probe() && config.machine.accels.is_empty());
    assert_eq!(config.machine.machine_type.as_deref(), Some("none"));
    assert!(raw(&["-probe"]).unwrap().chardevs.is_empty());
    assert_eq!(
        message(&["-m", "1G", "-probe"]),
        "-m 1G: makes no sense with -probe, which runs no guest"
    );
    for argument in ["-no-reboot", "-no-shutdown", "-only-migratable"] {
        assert_eq!(
            message(&[argument, "--probe"]),
            format!("{argument}: makes no sense with -probe, which runs no guest")
        );
    }
    assert_eq!(
        message(&["-probe", "-M", "q35"]),
        "-probe runs no guest and needs no -machine"
    );
}

#[test]
fn every_option_stands_once_in_the_table() {
    let mut names: Vec<&str> = options().map(|option| option.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

fn word() -> impl Strategy<Value = String> {
    let names: Vec<String> = options().map(|option| format!("-{}", option.name)).collect();
    let words: Vec<String> = START.iter().map(|word| (*word).to_owned()).collect();
    prop_oneof![
        proptest::sample::select(names),
        proptest::sample::select(words),
        "[a-z0-9.,=:{}\"-]{0,24}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_command_line_panics(args in proptest::collection::vec(word(), 0..24)) {
        for target in [Target::X86_64, Target::S390x] {
            if let Err(error) = parse(target, args.iter().map(OsString::from), &|_| Ok(args.join("\n"))) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
