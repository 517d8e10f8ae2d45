//! `-gdb`, `-s`, and the device of the human monitor's `gdbserver`.

use serde_json::{Map, Value};

use super::builder::{Builder, Placed};
use super::character::{add_chardev, has_chardev};
use super::error::Error;
use super::legacy_chardev::{self, Legacy};

/// The id of the character device that is made for gdb.
pub(crate) const CHARDEV_ID: &str = "gdb";
/// Where gdb connects unless something else was said.
pub(crate) const DEFAULT: &str = "tcp::1234";
/// The device that is none.
pub(crate) const NONE: &str = "none";
/// What QEMU says where there is nothing to debug.
pub(crate) const NO_CPU: &str = "gdbstub: meaningless to attach gdb to a machine without any CPU.";

/// `-gdb`.
pub(super) fn apply_gdb(builder: &mut Builder, text: &str) -> Result<(), Error> {
    let device = builder.placed(text);
    builder.debuggers.push(device);
    Ok(())
}

/// `-s`.
pub(super) fn apply_s(builder: &mut Builder) -> Result<(), Error> {
    apply_gdb(builder, DEFAULT)
}

/// Where gdb connects.
pub(crate) enum Device {
    /// To a character device of this id.
    Reference(String),
    /// To one of its own, with these options, and with advice to the user.
    Own(Map<String, Value>, Vec<String>),
}

/// Reads a device. A TCP port is always a server that waits for nobody, and sends what it has at once.
///
/// # Errors
/// Says that there is no such back end, or which parameter is wrong.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    let text = match text.starts_with("tcp:") {
        true => format!("{text},wait=off,nodelay=on,server=on"),
        false => text.to_owned(),
    };
    let parsed = legacy_chardev::parse(CHARDEV_ID, &text, false).map_err(|error| error.message)?;
    Ok(match parsed {
        Legacy::Reference(id) => Device::Reference(id),
        Legacy::Device { map, warnings, .. } => Device::Own(map, warnings),
    })
}

/// Adds the character device on which gdb may connect. There is one; `none` takes back what was said before.
pub(super) fn finish(builder: &mut Builder) -> Result<(), Error> {
    let mut chosen = None;
    for device in std::mem::take(&mut builder.debuggers) {
        let failed = |message: String| Err(Error::new(message).at(&device.location));
        if builder.config.is_probe() {
            return failed(NO_CPU.to_owned());
        }
        if device.text == NONE {
            chosen = None;
            continue;
        }
        if chosen.is_some() {
            return failed(format!("Duplicate ID '{CHARDEV_ID}' for chardev"));
        }
        chosen = Some(device);
    }
    let Some(Placed { location, text }) = chosen else {
        return Ok(());
    };
    builder.location.clone_from(&location);
    let failed = |message: String| Error::new(message).at(&location);
    let id = match device(&text).map_err(failed)? {
        Device::Reference(id) if has_chardev(&builder.config, &id) => id,
        Device::Reference(id) => return Err(failed(format!("chardev \"{id}\" not found"))),
        Device::Own(map, warnings) => {
            warnings.iter().for_each(|warning| builder.warn(warning));
            add_chardev(builder, map, None).map_err(|error| error.at(&location))?;
            CHARDEV_ID.to_owned()
        }
    };
    builder.config.debugger = Some(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cmdline::tests::{config, message};

    #[test]
    fn gdb_has_a_character_device_of_its_own() {
        let chosen = config(&["-s"]);
        assert_eq!(chosen.debugger.as_deref(), Some("gdb"));
        let options = json!({"id": "gdb", "backend": "socket", "host": "", "port": "1234", "wait": "off",
            "nodelay": "on", "server": "on"});
        assert_eq!(json!(chosen.chardevs[0].options), options);
        let chosen = config(&["-gdb", "chardev:c", "-chardev", "null,id=c"]);
        assert_eq!(chosen.debugger.as_deref(), Some("c"));
        let chosen = config(&["-gdb", "null", "-gdb", "none"]);
        assert!(chosen.debugger.is_none() && chosen.chardevs.is_empty());
        assert!(config(&["-gdb", "none", "-gdb", "null"]).debugger.is_some());
    }

    #[test]
    fn devices_that_gdb_cannot_have() {
        for (arguments, expected) in [
            (
                vec!["-s", "-gdb", "tcp::1235"],
                "-gdb tcp::1235: Duplicate ID 'gdb' for chardev",
            ),
            (vec!["-s", "-s"], "-s: Duplicate ID 'gdb' for chardev"),
            (
                vec!["-gdb", "null", "-chardev", "null,id=gdb"],
                "-gdb null: Duplicate ID 'gdb' for chardev",
            ),
            (
                vec!["-gdb", "nosuch"],
                "-gdb nosuch: 'nosuch' is not a valid char driver",
            ),
            (vec!["-gdb", "chardev:c"], "-gdb chardev:c: chardev \"c\" not found"),
            (
                vec!["-machine", "none", "-s"],
                "-s: gdbstub: meaningless to attach gdb to a machine without any CPU.",
            ),
        ] {
            assert_eq!(message(&arguments), expected);
        }
    }
}
