//! Displays, sound and network cards: there are none, so that their options can ask for nothing only.
//!
//! What QEMU knows and this emulator lacks is refused by name; what neither knows gets QEMU's text for a value that
//! does not exist.

use serde_json::{Map, Value};

use super::builder::Builder;
use super::config::HelpRequest;
use super::error::Error;
use super::objects::required_text;
use crate::qapi::text;

/// What `-display` takes in QEMU.
const DISPLAYS: [&str; 8] = [
    "cocoa",
    "curses",
    "dbus",
    "default",
    "egl-headless",
    "gtk",
    "sdl",
    "spice-app",
];

/// Display adapters that `-vga` names in QEMU, and what QEMU calls them.
const VGAS: [(&str, &str); 8] = [
    ("cg3", "CG3 framebuffer"),
    ("cirrus", "Cirrus VGA"),
    ("qxl", "QXL VGA"),
    ("std", "standard VGA"),
    ("tcx", "TCX framebuffer"),
    ("virtio", "Virtio VGA"),
    ("vmware", "VMWare SVGA"),
    ("xenfb", "Xen paravirtualized framebuffer"),
];

/// Network back ends of QEMU 10.2.
const NETWORKS: [&str; 16] = [
    "af-xdp",
    "bridge",
    "dgram",
    "hubport",
    "l2tpv3",
    "netmap",
    "passt",
    "socket",
    "stream",
    "tap",
    "user",
    "vde",
    "vhost-user",
    "vhost-vdpa",
    "vmnet-bridged",
    "vmnet-shared",
];

/// Sound back ends of QEMU 10.2.
const AUDIO_DRIVERS: [&str; 11] = [
    "alsa",
    "coreaudio",
    "dbus",
    "dsound",
    "jack",
    "oss",
    "pa",
    "pipewire",
    "sdl",
    "sndio",
    "spice",
];

/// `-display`.
pub(super) fn apply_display(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    match kind(argument) {
        "none" => none_takes_no_parameters(argument),
        name if text::is_help(name) => {
            builder.request_help(HelpRequest::Displays);
            Ok(())
        }
        name if DISPLAYS.contains(&name) => Err(Error::new(format!("Display '{name}' is not available."))),
        name => Err(Error::invalid_value("type", name)),
    }
}

/// `-vga`.
pub(super) fn apply_vga(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    match argument {
        "none" => Ok(()),
        _ if text::is_help(argument) => {
            builder.request_help(HelpRequest::Vgas);
            Ok(())
        }
        _ => Err(match VGAS.iter().find(|(name, _)| *name == argument) {
            Some((_, title)) => Error::new(format!("{title} not available")),
            None => Error::new(format!("unknown vga type: {argument}")),
        }),
    }
}

/// `-vnc`.
pub(super) fn apply_vnc(_: &mut Builder, argument: &str) -> Result<(), Error> {
    match argument {
        "none" => Ok(()),
        _ => Err(Error::new("VNC support is disabled")),
    }
}

/// `-nic` and `-net`.
pub(super) fn apply_network(_: &mut Builder, argument: &str) -> Result<(), Error> {
    match kind(argument) {
        "none" => none_takes_no_parameters(argument),
        // A card of `-net`; the list of models of `-nic model=help` is empty.
        name if name == "nic" || name.contains('=') || text::is_help(name) => {
            Err(Error::new("network devices are not supported"))
        }
        name if NETWORKS.contains(&name) => Err(Error::new(format!(
            "network backend '{name}' is not compiled into this binary"
        ))),
        name => Err(Error::invalid_value("type", name)),
    }
}

/// `-audiodev`: a sink that nothing is connected to may be declared, as libvirt does for every guest.
pub(super) fn apply_audiodev(builder: &mut Builder, mut map: Map<String, Value>) -> Result<(), Error> {
    let driver = map.get("driver").and_then(Value::as_str);
    if map.contains_key("help") || driver.is_some_and(text::is_help) {
        builder.request_help(HelpRequest::AudioDrivers);
        return Ok(());
    }
    required_text(&map, "id")?;
    match required_text(&map, "driver")? {
        "none" => {}
        name if AUDIO_DRIVERS.contains(&name) => {
            return Err(Error::new(format!("audio driver '{name}' is not available")));
        }
        name => return Err(Error::invalid_value("driver", name)),
    }
    map.retain(|key, _| key != "id" && key != "driver");
    match map.keys().next() {
        Some(key) => Err(Error::new(format!("Parameter '{key}' is unexpected"))),
        None => Ok(()),
    }
}

/// The first word, which says what is wanted.
fn kind(argument: &str) -> &str {
    let first = argument.split(',').next().unwrap_or_default();
    first.strip_prefix("type=").unwrap_or(first)
}

fn none_takes_no_parameters(argument: &str) -> Result<(), Error> {
    match argument.split_once(',') {
        Some((_, rest)) => {
            let key = rest.split(['=', ',']).next().unwrap_or_default();
            Err(Error::new(format!("Parameter '{key}' is unexpected")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::cmdline::HelpRequest;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn only_nothing_is_shown_or_heard() {
        config(&[
            "-display",
            "none",
            "-vga",
            "none",
            "-vnc",
            "none",
            "-net",
            "none",
            "-nic",
            "type=none",
            "-audiodev",
            r#"{"id":"a","driver":"none"}"#,
        ]);
        assert!(matches!(help(&["-audiodev", "help"]), HelpRequest::AudioDrivers));
        assert!(matches!(help(&["-display", "?"]), HelpRequest::Displays));
        assert!(matches!(help(&["-vga", "help"]), HelpRequest::Vgas));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (option, argument, complaint) in [
            ("-display", "gtk,gl=on", "Display 'gtk' is not available."),
            ("-display", "foo", "Parameter 'type' does not accept value 'foo'"),
            ("-display", "none,gl=on", "Parameter 'gl' is unexpected"),
            ("-vnc", ":0", "VNC support is disabled"),
            ("-vga", "std", "standard VGA not available"),
            ("-vga", "foo", "unknown vga type: foo"),
            (
                "-nic",
                "user",
                "network backend 'user' is not compiled into this binary",
            ),
            (
                "-nic",
                "type=tap,ifname=t",
                "network backend 'tap' is not compiled into this binary",
            ),
            ("-nic", "model=e1000", "network devices are not supported"),
            ("-nic", "foo", "Parameter 'type' does not accept value 'foo'"),
            ("-net", "nic,model=e1000", "network devices are not supported"),
            (
                "-net",
                "user",
                "network backend 'user' is not compiled into this binary",
            ),
            ("-audiodev", "none", "Parameter 'id' is missing"),
            ("-audiodev", "alsa,id=a", "audio driver 'alsa' is not available"),
            (
                "-audiodev",
                "foo,id=a",
                "Parameter 'driver' does not accept value 'foo'",
            ),
            ("-audiodev", "none,id=a,foo=1", "Parameter 'foo' is unexpected"),
        ] {
            assert_eq!(
                message(&[option, argument]),
                format!("{option} {argument}: {complaint}")
            );
        }
    }
}
