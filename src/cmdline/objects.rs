//! `-object`, `-device`, `-global` and `-set`.

use serde_json::{Map, Value, json};

use super::builder::Builder;
use super::character;
use super::config::HelpRequest;
use super::error::Error;
use super::opts::Opts;
use super::table::GLOBAL;
use crate::machine::config::{Blockdev, Global};
use crate::qapi::qmp::BlockdevOptions;
use crate::qapi::text;
use crate::qapi::visit::{Policy, decode_arguments, decode_keyval};
use crate::qom;
use crate::qom::objects::Form;

/// `-object`.
pub(super) fn apply_object(builder: &mut Builder, mut map: Map<String, Value>) -> Result<(), Error> {
    if let Some(request) = help_on_type(&mut map, "qom-type", HelpRequest::Objects, HelpRequest::Object)? {
        builder.request_help(request);
        return Ok(());
    }
    let id = required_text(&map, "id")?;
    if !text::is_well_formed_id(id) {
        return Err(Error::malformed_id());
    }
    if has_id(&builder.config.machine.objects, id) {
        return Err(Error::new(format!("Duplicate ID '{id}' for object")));
    }
    let form = if is_json(builder) { Form::Json } else { Form::Text };
    qom::objects::check(required_text(&map, "qom-type")?, &map, form).map_err(|error| Error::new(error.to_string()))?;
    builder.config.machine.objects.push(map);
    Ok(())
}

/// `-device`.
pub(super) fn apply_device(builder: &mut Builder, mut map: Map<String, Value>) -> Result<(), Error> {
    if let Some(request) = help_on_type(&mut map, "driver", HelpRequest::Devices, HelpRequest::Device)? {
        builder.request_help(request);
        return Ok(());
    }
    if map.contains_key("id") {
        let id = required_text(&map, "id")?;
        if !text::is_well_formed_id(id) {
            return Err(Error::malformed_id());
        }
        if has_id(&builder.config.machine.devices, id) {
            // QEMU keeps what is not JSON in a list of its own, with a complaint of its own.
            return Err(Error::new(match is_json(builder) {
                true => format!("Duplicate device ID '{id}'"),
                false => format!("Duplicate ID '{id}' for device"),
            }));
        }
    }
    builder.config.machine.devices.push(map);
    Ok(())
}

/// Whether the option being read has its argument in JSON.
pub(super) fn is_json(builder: &Builder) -> bool {
    builder
        .location
        .split_once(' ')
        .is_some_and(|(_, argument)| argument.starts_with('{'))
}

/// The help that an entry asks for: `all` for a list of types, `one` for the type that its `key` names.
fn help_on_type(
    map: &mut Map<String, Value>,
    key: &str,
    all: HelpRequest,
    one: fn(String) -> HelpRequest,
) -> Result<Option<HelpRequest>, Error> {
    let wants_help = map.remove("help").is_some();
    match required_text(map, key) {
        Ok(name) if text::is_help(name) => Ok(Some(all)),
        Ok(name) if wants_help => Ok(Some(one(name.to_owned()))),
        Ok(_) => Ok(None),
        Err(_) if wants_help => Ok(Some(all)),
        Err(error) => Err(error),
    }
}

/// `-blockdev`.
pub(super) fn apply_blockdev(builder: &mut Builder, map: Map<String, Value>) -> Result<(), Error> {
    let options: Result<BlockdevOptions, _> = match is_json(builder) {
        true => decode_arguments(map, Policy::ACCEPT_ALL),
        false => decode_keyval(map),
    };
    let blockdev = Blockdev {
        location: builder.location.clone(),
        options: options.map_err(|error| Error::new(error.desc))?,
    };
    builder.config.machine.blockdevs.push(blockdev);
    Ok(())
}

/// `-global driver.property=value`, or the three as parameters.
pub(super) fn apply_global(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    let global = match short_global(argument) {
        Some(global) => global,
        None => {
            let opts = Opts::parse(argument, &GLOBAL)?;
            return apply_global_opts(builder, &opts);
        }
    };
    builder.config.machine.globals.push(global);
    Ok(())
}

/// `-global` with its parameters one by one.
pub(super) fn apply_global_opts(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let (Some(driver), Some(property), Some(value)) = (opts.get("driver"), opts.get("property"), opts.get("value"))
    else {
        return Err(Error::new("options 'driver', 'property', and 'value' are required"));
    };
    builder.config.machine.globals.push(Global {
        driver: driver.to_owned(),
        property: property.to_owned(),
        value: value.to_owned(),
    });
    Ok(())
}

fn short_global(argument: &str) -> Option<Global> {
    let (name, value) = argument.split_once('=')?;
    let (driver, property) = name.split_once('.')?;
    (!driver.is_empty() && !property.is_empty()).then(|| Global {
        driver: driver.to_owned(),
        property: property.to_owned(),
        value: value.to_owned(),
    })
}

/// `-set group.id.key=value`.
pub(super) fn apply_set(builder: &mut Builder, argument: &str) -> Result<(), Error> {
    let malformed = || Error::new(format!("can't parse: \"{argument}\""));
    let (path, value) = argument.split_once('=').ok_or_else(malformed)?;
    let (group, rest) = path.split_once('.').ok_or_else(malformed)?;
    let (id, key) = rest.rsplit_once('.').ok_or_else(malformed)?;
    let config = &mut builder.config;
    let entries: Vec<_> = match group {
        "device" => config.machine.devices.iter_mut().collect(),
        "object" => config.machine.objects.iter_mut().collect(),
        "chardev" => config.chardevs.iter_mut().map(|chardev| &mut chardev.options).collect(),
        _ => return Err(Error::new(format!("There is no option group '{group}'"))),
    };
    let entry = entries
        .into_iter()
        .find(|entry| entry.get("id").is_some_and(|name| name == id));
    let entry = entry.ok_or_else(|| Error::new(format!("there is no {group} \"{id}\" defined")))?;
    if group == "chardev" {
        return character::set_parameter(entry, key, value);
    }
    entry.insert(key.to_owned(), json!(value));
    Ok(())
}

pub(super) fn required_text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str, Error> {
    match map.get(key) {
        None => Err(Error::missing(key)),
        Some(Value::String(text)) if text.is_empty() => Err(Error::missing(key)),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::new(format!(
            "Invalid parameter type for '{key}', expected: string"
        ))),
    }
}

fn has_id(list: &[Map<String, Value>], id: &str) -> bool {
    list.iter()
        .any(|entry| entry.get("id").is_some_and(|other| other == id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn objects_in_both_spellings() {
        let machine = config(&[
            "-object",
            r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":268435456}"#,
            "-object",
            "memory-backend-memfd,id=m1,size=1M,host-nodes=0,host-nodes=2-3,policy=bind",
        ])
        .machine;
        assert_eq!(machine.objects[0]["size"], 268_435_456);
        assert_eq!(machine.objects[1]["host-nodes"], json!(["0", "2-3"]));
        assert_eq!(
            message(&["-object", "secret"]),
            "-object secret: Parameter 'id' is missing"
        );
        assert_eq!(
            message(&["-object", "{}"]),
            "-object {}: Parameter 'qom-type' is missing"
        );
        assert_eq!(message(&["-object", ""]), "-object : Parameter 'qom-type' is missing");
        assert_eq!(
            message(&["-object", "iothread,id=a", "-object", "iothread,id=a"]),
            "-object iothread,id=a: Duplicate ID 'a' for object"
        );
        for (argument, complaint) in [
            ("frob,id=a", "Parameter 'qom-type' does not accept value 'frob'"),
            ("memory-backend-ram,id=a", "Parameter 'size' is missing"),
            (
                "memory-backend-ram,id=a,size=x",
                "Parameter 'size' expects a size value",
            ),
            ("iothread,id=a,frob=on", "Invalid parameter 'frob'"),
            (
                "iothread,id=a,poll-max-ns=x",
                "Parameter 'poll-max-ns' expects an int64 value",
            ),
            (
                "memory-backend-ram,id=a,size=1M,prealloc-threads=x",
                "Parameter 'prealloc-threads' expects a uint64 value",
            ),
            (
                r#"{"qom-type":"iothread","id":"a","poll-max-ns":"x"}"#,
                "Invalid parameter type for 'poll-max-ns', expected: integer",
            ),
            (
                r#"{"qom-type":"memory-backend-ram","id":"a","size":"x"}"#,
                "Parameter 'size' expects uint64",
            ),
            (
                r#"{"qom-type":"iothread","id":"a","frob":true}"#,
                "Parameter 'frob' is unexpected",
            ),
        ] {
            assert_eq!(
                message(&["-object", argument]),
                format!("-object {argument}: {complaint}")
            );
        }
        assert!(message(&["-object", "{"]).starts_with("-object {: JSON parse error, "));
    }

    #[test]
    fn devices_in_both_spellings() {
        let machine = config(&[
            "-device",
            r#"{"driver":"pcie-root-port","port":16,"id":"pci.1","multifunction":true,"addr":"0x2"}"#,
            "-device",
            "isa-serial,chardev=c,,d,id=s0",
            "-set",
            "device.pci.1.addr=0x3",
        ])
        .machine;
        assert_eq!(machine.devices[0]["multifunction"], true);
        assert_eq!(machine.devices[0]["addr"], "0x3");
        assert_eq!(machine.devices[1]["chardev"], "c,d");
        assert_eq!(
            message(&["-device", "id=a"]),
            "-device id=a: Parameter 'driver' is missing"
        );
        assert_eq!(
            message(&["-device", "x,id=a", "-device", "y,id=a"]),
            "-device y,id=a: Duplicate ID 'a' for device"
        );
        assert_eq!(
            message(&["-device", "x,id=a", "-device", r#"{"driver":"y","id":"a"}"#]),
            r#"-device {"driver":"y","id":"a"}: Duplicate device ID 'a'"#
        );
        assert_eq!(
            message(&["-device", r#"{"driver":5}"#]),
            r#"-device {"driver":5}: Invalid parameter type for 'driver', expected: string"#
        );
        assert_eq!(message(&["-set", "foo"]), "-set foo: can't parse: \"foo\"");
        assert_eq!(
            message(&["-set", "device.x.y=z"]),
            "-set device.x.y=z: there is no device \"x\" defined"
        );
    }

    #[test]
    fn help_on_types() {
        assert!(matches!(help(&["-device", "help"]), HelpRequest::Devices));
        assert!(matches!(help(&["-device", "isa-serial,help"]), HelpRequest::Device(name) if name == "isa-serial"));
        assert!(matches!(help(&["-object", "?"]), HelpRequest::Objects));
        assert!(matches!(help(&["-object", "secret,help"]), HelpRequest::Object(name) if name == "secret"));
    }

    #[test]
    fn globals_in_both_spellings() {
        let globals = config(&[
            "-global",
            "ICH9-LPC.disable_s3=1",
            "-global",
            "driver=a,property=b,value=c",
        ]);
        let globals: Vec<_> = globals
            .machine
            .globals
            .iter()
            .map(|g| format!("{}/{}/{}", g.driver, g.property, g.value))
            .collect();
        assert_eq!(globals, ["ICH9-LPC/disable_s3/1", "a/b/c"]);
        assert_eq!(
            message(&["-global", "driver=a"]),
            "-global driver=a: options 'driver', 'property', and 'value' are required"
        );
        assert_eq!(message(&["-global", "foo"]), "-global foo: Invalid parameter 'foo'");
    }
}
