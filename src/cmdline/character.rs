//! `-chardev`, `-mon` and the options that make a character device on the way: `-serial`, `-debugcon`, `-monitor`, `-qmp`.

use serde_json::{Map, Value, json};

use super::builder::{Builder, Placed};
use super::config::{ChardevConfig, Config, HelpRequest, MonitorConfig, MonitorMode};
use super::debugger;
use super::error::Error;
use super::legacy_chardev::{self, Legacy};
use super::opts::Opts;
use crate::machine::config::Entry;
use crate::qapi::text;

/// `-chardev`.
pub(super) fn apply_chardev(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let backend = opts.get("backend");
    if backend.is_some_and(text::is_help) {
        builder.request_help(HelpRequest::Chardevs);
        return Ok(());
    }
    let id = opts.get("id").ok_or_else(|| Error::new("chardev: no id specified"))?;
    if backend.is_none() {
        return Err(Error::new(format!("chardev: \"{id}\" missing backend")));
    }
    add_chardev(builder, opts.to_map(), None)
}

/// `-mon`.
pub(super) fn apply_mon(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let mode = |name: &str| match name {
        "control" => Some(MonitorMode::Control),
        "readline" => Some(MonitorMode::Readline),
        _ => None,
    };
    let mode = opts.choice("mode", mode)?.unwrap_or(MonitorMode::Readline);
    let pretty = opts.boolean("pretty").unwrap_or(false);
    if pretty && mode == MonitorMode::Readline {
        return Err(Error::new("'pretty' is not compatible with HMP monitors"));
    }
    let chardev = opts.get("chardev").ok_or_else(|| Error::missing("chardev"))?;
    let reference = builder.placed(chardev);
    builder.references.push(reference);
    builder.add_monitor(MonitorConfig {
        id: opts.get("id").map(str::to_owned),
        chardev: chardev.to_owned(),
        mode,
        pretty,
    });
    Ok(())
}

/// `-monitor`.
pub(super) fn apply_monitor(builder: &mut Builder, text: &str) -> Result<(), Error> {
    builder.monitor_given = true;
    match text {
        "none" => Ok(()),
        _ => legacy_monitor(builder, text, MonitorMode::Readline, false),
    }
}

/// `-qmp`.
pub(super) fn apply_qmp(builder: &mut Builder, text: &str) -> Result<(), Error> {
    legacy_monitor(builder, text, MonitorMode::Control, false)
}

/// `-qmp-pretty`.
pub(super) fn apply_qmp_pretty(builder: &mut Builder, text: &str) -> Result<(), Error> {
    legacy_monitor(builder, text, MonitorMode::Control, true)
}

/// `-serial`.
pub(super) fn apply_serial(builder: &mut Builder, text: &str) -> Result<(), Error> {
    builder.monitor_given |= text.starts_with(legacy_chardev::WITH_MONITOR);
    push_serial(builder, text);
    Ok(())
}

/// `-debugcon`.
pub(super) fn apply_debugcon(builder: &mut Builder, text: &str) -> Result<(), Error> {
    builder.monitor_given |= text.starts_with(legacy_chardev::WITH_MONITOR);
    let console = builder.placed(text);
    builder.debugcons.push(console);
    Ok(())
}

/// `-parallel`.
pub(super) fn apply_parallel(_: &mut Builder, text: &str) -> Result<(), Error> {
    match text {
        "none" => Ok(()),
        _ => Err(Error::new("parallel ports are not supported")),
    }
}

/// `-nographic`.
pub(super) fn apply_nographic(builder: &mut Builder) -> Result<(), Error> {
    builder.nographic = true;
    Ok(())
}

fn legacy_monitor(builder: &mut Builder, text: &str, mode: MonitorMode, pretty: bool) -> Result<(), Error> {
    let label = (0u32..)
        .map(|index| format!("compat_monitor{index}"))
        .find(|label| !has_chardev(&builder.config, label))
        .unwrap_or_default();
    let malformed = |error: Error| error.with_consequence(Some(format!("parse error: {text}")));
    let chardev = match legacy_chardev::parse(&label, text, false).map_err(malformed)? {
        Legacy::Reference(id) => {
            let reference = builder.placed(&id);
            builder.references.push(reference);
            id
        }
        Legacy::Device { map, warnings, .. } => {
            warnings.iter().for_each(|warning| builder.warn(warning));
            add_chardev(builder, map, None)?;
            label
        }
    };
    builder.add_monitor(MonitorConfig {
        id: None,
        chardev,
        mode,
        pretty,
    });
    Ok(())
}

/// Adds a character device; `consequence` is what cannot be had if it cannot be made.
pub(super) fn add_chardev(
    builder: &mut Builder,
    map: Map<String, Value>,
    consequence: Option<String>,
) -> Result<(), Error> {
    let chardevs = &mut builder.config.chardevs;
    if let Some(id) = map
        .get("id")
        .filter(|id| chardevs.iter().any(|other| other.options.get("id") == Some(id)))
    {
        let id = id.as_str().unwrap_or_default();
        return Err(Error::new(format!("Duplicate ID '{id}' for chardev")));
    }
    chardevs.push(ChardevConfig {
        location: builder.location.clone(),
        options: map,
        consequence,
    });
    Ok(())
}

/// Adds the default serial port and monitor, and looks up what refers to a character device.
pub(super) fn finish(builder: &mut Builder) -> Result<(), Error> {
    add_defaults(builder)?;
    for (index, serial) in std::mem::take(&mut builder.serials).into_iter().enumerate() {
        builder.location = serial.location;
        let id = match serial.text.as_str() {
            "none" => serial.text,
            text => add_device(builder, &format!("serial{index}"), text, no_port(text))?,
        };
        builder.config.machine.serials.push(id);
    }
    for console in std::mem::take(&mut builder.debugcons) {
        builder.location = console.location;
        add_debugcon(builder, &console.text)?;
    }
    debugger::finish(builder)?;
    for Placed { location, text } in &builder.references {
        if !has_chardev(&builder.config, text) {
            return Err(Error::new(format!("chardev \"{text}\" not found")).at(location));
        }
    }
    check_stdio(&builder.config)
}

/// The terminal can be used once, and not by a process that leaves it.
fn check_stdio(config: &Config) -> Result<(), Error> {
    let (users, complaint) = match config.daemonize {
        true => (0, "cannot use stdio with -daemonize"),
        false => (1, "cannot use stdio by multiple character devices"),
    };
    let chardevs = config.chardevs.iter();
    let mut chardevs = chardevs.filter(|chardev| chardev.options["backend"] == "stdio");
    match chardevs.nth(users) {
        Some(chardev) => Err(Error::new(complaint)
            .at(&chardev.location)
            .with_consequence(chardev.consequence.clone())),
        None => Ok(()),
    }
}

fn add_defaults(builder: &mut Builder) -> Result<(), Error> {
    let wanted = !builder.config.machine.no_defaults && !builder.config.probe;
    let has_device = |name| {
        builder
            .config
            .machine
            .devices
            .iter()
            .any(|device| device["driver"] == name)
    };
    let has_port = has_device("isa-serial") || has_device("sclpconsole");
    let serial = wanted && builder.serials.is_empty() && !has_port;
    let monitor = wanted && !builder.monitor_given;
    if builder.nographic && builder.config.daemonize && (serial || monitor) {
        return Err(Error::new("-nographic cannot be used with -daemonize"));
    }
    builder.location = "-nographic".to_owned();
    match (builder.nographic, serial, monitor) {
        (true, true, true) => push_serial(builder, "mon:stdio"),
        (true, true, false) => push_serial(builder, "stdio"),
        (true, false, true) => legacy_monitor(builder, "stdio", MonitorMode::Readline, false)?,
        // Without a display there is no virtual console to show the port on.
        (false, true, _) => push_serial(builder, "null"),
        (_, false, _) => {}
    }
    Ok(())
}

fn push_serial(builder: &mut Builder, text: &str) {
    let serial = builder.placed(text);
    builder.serials.push(serial);
}

/// The device and the character device of `-debugcon`.
const DEBUGCON_ID: &str = "debugcon";

fn no_port(text: &str) -> String {
    format!("could not connect serial device to character backend '{text}'")
}

fn no_console(text: &str) -> String {
    format!("invalid character backend '{text}'")
}

/// The id of the character device that `text` describes: `label` unless it is declared elsewhere. `consequence` is what
/// cannot be had without it.
fn add_device(builder: &mut Builder, label: &str, text: &str, consequence: String) -> Result<String, Error> {
    let location = builder.location.clone();
    let failed = |error: Error| error.at(&location).with_consequence(Some(consequence.clone()));
    match legacy_chardev::parse(label, text, true).map_err(failed)? {
        Legacy::Reference(id) if has_chardev(&builder.config, &id) => Ok(id),
        Legacy::Reference(_) => Err(Error::new(consequence).at(&location)),
        Legacy::Device {
            map,
            with_monitor,
            warnings,
        } => {
            warnings.iter().for_each(|warning| builder.warn(warning));
            add_chardev(builder, map, Some(consequence.clone())).map_err(failed)?;
            if with_monitor {
                builder.add_monitor(MonitorConfig {
                    id: None,
                    chardev: label.to_owned(),
                    mode: MonitorMode::Readline,
                    pretty: false,
                });
            }
            Ok(label.to_owned())
        }
    }
}

/// The console of `-debugcon`, of which there is one.
fn add_debugcon(builder: &mut Builder, text: &str) -> Result<(), Error> {
    let chardev = add_device(builder, DEBUGCON_ID, text, no_console(text))?;
    let location = builder.location.clone();
    let refused = |message: &str| Err(Error::new(message).at(&location));
    if builder.config.is_probe() {
        return refused("No 'ISA' bus found for device 'isa-debugcon'");
    }
    let machine = &mut builder.config.machine;
    let mut devices = machine.devices.iter();
    if machine.debugcon.is_some() || devices.any(|device| device.get("id").is_some_and(|id| id == DEBUGCON_ID)) {
        return refused("already have a debugcon device");
    }
    let parameters = [("driver", "isa-debugcon"), ("id", DEBUGCON_ID), ("chardev", &chardev)];
    let parameters = parameters.map(|(key, value)| (key.to_owned(), json!(value)));
    machine.debugcon = Some(Entry {
        location,
        parameters: Map::from_iter(parameters),
    });
    Ok(())
}

pub(super) fn has_chardev(config: &Config, id: &str) -> bool {
    let mut chardevs = config.chardevs.iter();
    chardevs.any(|chardev| chardev.options["id"] == id)
}

/// Changes one parameter of a character device declared before, for `-set`.
pub(super) fn set_parameter(chardev: &mut Map<String, Value>, key: &str, value: &str) -> Result<(), Error> {
    let pairs = vec![(key.to_owned(), value.to_owned())];
    Opts::from_pairs(pairs, &super::table::CHARDEV)?;
    chardev.insert(key.to_owned(), json!(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, help, message, raw};

    #[test]
    fn qmp_makes_its_own_chardev() {
        let config = config(&[
            "-qmp",
            "unix:/m,server=on,wait=off",
            "-qmp-pretty",
            "chardev:c",
            "-chardev",
            "null,id=c",
        ]);
        assert_eq!(
            Value::Object(config.chardevs[0].options.clone()),
            json!({"id": "compat_monitor0", "backend": "socket", "path": "/m", "server": "on", "wait": "off"})
        );
        let monitors: Vec<_> = config
            .monitors
            .iter()
            .map(|m| (m.chardev.as_str(), m.mode, m.pretty))
            .collect();
        assert_eq!(
            monitors,
            [
                ("compat_monitor0", MonitorMode::Control, false),
                ("c", MonitorMode::Control, true)
            ]
        );
    }

    #[test]
    fn monitors_on_chardevs() {
        let config = config(&[
            "-chardev",
            "socket,id=charmonitor,fd=30,server=on,wait=off",
            "-mon",
            "chardev=charmonitor,id=monitor,mode=control",
        ]);
        assert_eq!(config.chardevs[0].options["fd"], "30");
        assert_eq!(config.monitors[0].id.as_deref(), Some("monitor"));
        assert_eq!(message(&["-mon", "x"]), "-mon x: chardev \"x\" not found");
        assert_eq!(
            message(&["-mon", "a,mode=foo"]),
            "-mon a,mode=foo: Parameter 'mode' does not accept value 'foo'"
        );
    }

    #[test]
    fn faulty_chardevs() {
        assert_eq!(
            message(&["-chardev", "null"]),
            "-chardev null: chardev: no id specified"
        );
        assert_eq!(
            message(&["-chardev", "id=a"]),
            "-chardev id=a: chardev: \"a\" missing backend"
        );
        assert_eq!(
            message(&["-chardev", "null,id=a,foo=1"]),
            "-chardev null,id=a,foo=1: Invalid parameter 'foo'"
        );
        assert_eq!(
            message(&["-chardev", "null,id=a", "-chardev", "null,id=a"]),
            "-chardev null,id=a: Duplicate ID 'a' for chardev"
        );
        assert!(matches!(help(&["-chardev", "help"]), HelpRequest::Chardevs));
        assert_eq!(
            message(&["-serial", "foo"]),
            "-serial foo: 'foo' is not a valid char driver"
        );
        assert_eq!(
            message(&["-parallel", "pty"]),
            "-parallel pty: parallel ports are not supported"
        );
    }

    #[test]
    fn the_terminal_is_used_once() {
        assert_eq!(
            message(&["-qmp", "stdio", "-daemonize"]),
            "-qmp stdio: cannot use stdio with -daemonize"
        );
        assert_eq!(
            message(&["-serial", "stdio", "-monitor", "stdio"]),
            "-serial stdio: cannot use stdio by multiple character devices"
        );
    }

    #[test]
    fn what_follows_from_a_failure() {
        for (arguments, expected) in [
            (
                vec!["-serial", "none", "-serial", "foo"],
                vec![
                    "-serial foo: 'foo' is not a valid char driver",
                    "-serial foo: could not connect serial device to character backend 'foo'",
                ],
            ),
            (
                vec!["-serial", "chardev:c"],
                vec!["-serial chardev:c: could not connect serial device to character backend 'chardev:c'"],
            ),
            (
                vec!["-monitor", "foo"],
                vec![
                    "-monitor foo: 'foo' is not a valid char driver",
                    "-monitor foo: parse error: foo",
                ],
            ),
            (vec!["-mon", "c"], vec!["-mon c: chardev \"c\" not found"]),
            (
                vec!["-debugcon", "null", "-chardev", "null,id=debugcon"],
                vec![
                    "-debugcon null: Duplicate ID 'debugcon' for chardev",
                    "-debugcon null: invalid character backend 'null'",
                ],
            ),
            (
                vec!["-device", "pvpanic,id=debugcon", "-debugcon", "null"],
                vec!["-debugcon null: already have a debugcon device"],
            ),
            (
                vec!["-machine", "none", "-debugcon", "null"],
                vec!["-debugcon null: No 'ISA' bus found for device 'isa-debugcon'"],
            ),
        ] {
            let error = raw(&arguments).unwrap_err();
            let lines: Vec<String> = std::iter::successors(Some(error), Error::following)
                .map(|error| error.to_string())
                .collect();
            assert_eq!(lines, expected, "{arguments:?}");
        }
    }

    #[test]
    fn one_debug_console() {
        let config = config(&["-debugcon", "mon:stdio", "-chardev", "null,id=c"]);
        let console = config.machine.debugcon.unwrap();
        assert_eq!(console.location, "-debugcon mon:stdio");
        assert_eq!(console.parameters["chardev"], "debugcon");
        assert_eq!(config.monitors[0].chardev, "debugcon");
        let elsewhere = crate::cmdline::tests::config(&["-debugcon", "chardev:c", "-chardev", "null,id=c"]);
        assert_eq!(elsewhere.machine.debugcon.unwrap().parameters["chardev"], "c");
    }

    #[test]
    fn default_devices() {
        let nographic = raw(&["-nographic"]).unwrap();
        assert_eq!(nographic.machine.serials, ["serial0"]);
        assert_eq!(nographic.chardevs[0].options["backend"], "stdio");
        assert_eq!(nographic.monitors[0].mode, MonitorMode::Readline);
        let plain = raw(&[]).unwrap();
        assert_eq!(plain.chardevs[0].options["backend"], "null");
        assert!(plain.monitors.is_empty());
        assert!(
            raw(&["-nodefaults", "-nographic", "-daemonize"])
                .unwrap()
                .chardevs
                .is_empty()
        );
        assert_eq!(
            raw(&["-nographic", "-daemonize"]).unwrap_err().to_string(),
            "-nographic cannot be used with -daemonize"
        );
        let monitor_only = raw(&["-nographic", "-serial", "none"]).unwrap();
        assert_eq!(monitor_only.machine.serials, ["none"]);
        assert_eq!(monitor_only.monitors[0].chardev, "compat_monitor0");
        for option in ["-serial", "-debugcon"] {
            let shared = raw(&["-nographic", option, "mon:stdio", "-serial", "null"]).unwrap();
            assert_eq!(shared.monitors.len(), 1, "{option}");
        }
    }
}
