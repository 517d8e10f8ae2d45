//! `-smbios`: which fields the structures have, and of what form.

use super::builder::Builder;
use super::error::Error;
use super::option::{Group, Parameter};
use super::opts::Opts;
use crate::qapi::text;

/// `-smbios`. Files are read, and numbers held against their fields, when the machine is made.
pub(super) fn apply(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    check(opts)?;
    let entry = builder.entry(opts);
    builder.config.machine.smbios.push(entry);
    Ok(())
}

fn check(opts: &Opts) -> Result<(), Error> {
    if opts.get("file").is_some() {
        return match opts.pairs().iter().find(|(key, _)| key != "file") {
            Some((key, _)) => Err(Error::invalid_parameter(key)),
            None => Ok(()),
        };
    }
    let kind = opts
        .get("type")
        .ok_or_else(|| Error::new("Must specify type= or file="))?;
    let kind = text::parse_uint(kind).map_err(|_| Error::expects("type", "a number"))?;
    if kind > LAST_TYPE {
        return Err(Error::new("out of range!"));
    }
    let (_, group) = STRUCTURES
        .iter()
        .find(|(known, _)| *known == kind)
        .ok_or_else(|| Error::new(format!("Don't know how to build fields for SMBIOS type {kind}")))?;
    let mut fields = opts.pairs().to_vec();
    fields.retain(|(key, _)| key != "type");
    let fields = Opts::from_pairs(fields, group)?;
    match fields.get("uuid") {
        Some(uuid) if text::parse_uuid(uuid).is_none() => Err(Error::new("Invalid UUID")),
        _ => Ok(()),
    }
}

/// The largest number of a structure that the standard has or may have (DMTF DSP0134, 6.2).
const LAST_TYPE: u64 = 127;

/// Fields of the structures that can be filled in.
const STRUCTURES: &[(u64, Group)] = &[
    (
        0,
        group(&[
            Parameter::string("vendor", "who made the firmware"),
            Parameter::string("version", "its version"),
            Parameter::string("date", "its date"),
            Parameter::string("release", "its release, major.minor"),
            Parameter::boolean("uefi", "it is UEFI"),
        ]),
    ),
    (
        1,
        group(&[
            Parameter::string("manufacturer", "who made the system"),
            Parameter::string("product", "its name"),
            Parameter::string("version", "its version"),
            Parameter::string("serial", "its serial number"),
            Parameter::string("uuid", "its UUID"),
            Parameter::string("sku", "its number in a catalogue"),
            Parameter::string("family", "its family"),
        ]),
    ),
    (
        2,
        group(&[
            Parameter::string("manufacturer", "who made the board"),
            Parameter::string("product", "its name"),
            Parameter::string("version", "its version"),
            Parameter::string("serial", "its serial number"),
            Parameter::string("asset", "its number in an inventory"),
            Parameter::string("location", "where in the chassis it is"),
        ]),
    ),
    (
        3,
        group(&[
            Parameter::string("manufacturer", "who made the chassis"),
            Parameter::string("version", "its version"),
            Parameter::string("serial", "its serial number"),
            Parameter::string("asset", "its number in an inventory"),
            Parameter::string("sku", "its number in a catalogue"),
        ]),
    ),
    (
        4,
        group(&[
            Parameter::string("sock_pfx", "what sockets are called, before their numbers"),
            Parameter::string("manufacturer", "who made the processor"),
            Parameter::string("version", "its version"),
            Parameter::string("serial", "its serial number"),
            Parameter::string("asset", "its number in an inventory"),
            Parameter::string("part", "its part number"),
            Parameter::number("max-speed", "MHz it may run at"),
            Parameter::number("current-speed", "MHz it runs at"),
            Parameter::number("processor-id", "CPUID leaf 1, EAX and EDX"),
            Parameter::number("processor-family", "its family"),
        ]),
    ),
    (
        8,
        group(&[
            Parameter::string("internal_reference", "what the board calls the port"),
            Parameter::string("external_reference", "what the chassis calls it"),
            Parameter::number("connector_type", "the kind of connector"),
            Parameter::number("port_type", "the kind of port"),
        ]),
    ),
    (
        9,
        group(&[
            Parameter::string("slot_designation", "what the board calls the slot"),
            Parameter::number("slot_type", "its kind"),
            Parameter::number("slot_data_bus_width", "the width of its bus"),
            Parameter::number("current_usage", "whether it is in use"),
            Parameter::number("slot_length", "its length"),
            Parameter::number("slot_id", "its number"),
            Parameter::number("slot_characteristics1", "what it has"),
            Parameter::number("slot_characteristics2", "what else it has"),
            Parameter::string("pcidev", "id of the device in it"),
        ]),
    ),
    (
        11,
        group(&[
            Parameter::string("value", "a text"),
            Parameter::string("path", "a file that holds a text"),
        ]),
    ),
    (
        17,
        group(&[
            Parameter::string("loc_pfx", "what modules are called, before their numbers"),
            Parameter::string("bank", "their bank"),
            Parameter::string("manufacturer", "who made them"),
            Parameter::string("serial", "their serial number"),
            Parameter::string("asset", "their number in an inventory"),
            Parameter::string("part", "their part number"),
            Parameter::number("speed", "MT/s"),
        ]),
    ),
    (
        41,
        group(&[
            Parameter::string("designation", "what the board calls the device"),
            Parameter::string("kind", "its kind"),
            Parameter::number("instance", "its number among those of its kind"),
            Parameter::string("pcidev", "id of the device that it is"),
        ]),
    ),
];

const fn group(parameters: &'static [Parameter]) -> Group {
    Group {
        name: "smbios",
        implied: None,
        parameters,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cmdline::tests::{config, message};

    #[test]
    fn fields_belong_to_their_type() {
        let smbios = config(&["-smbios", "type=11,value=a,value=b", "-smbios", "file=/t"])
            .machine
            .smbios;
        assert_eq!(smbios[0].parameters["value"], json!(["a", "b"]));
        assert_eq!(smbios[1].location, "-smbios file=/t");
        for (argument, complaint) in [
            ("type=1,asset=2", "Invalid parameter 'asset'"),
            ("type=1,uuid=x", "Invalid UUID"),
            ("type=99", "Don't know how to build fields for SMBIOS type 99"),
            ("type=300", "out of range!"),
            ("type=x", "Parameter 'type' expects a number"),
            ("type=17,speed=x", "Parameter 'speed' expects a number"),
            ("type=0,uefi=maybe", "Parameter 'uefi' expects 'on' or 'off'"),
            ("file=/t,foo=1", "Invalid parameter 'foo'"),
            ("type=1,file=/t", "Invalid parameter 'type'"),
            ("", "Must specify type= or file="),
        ] {
            assert_eq!(
                message(&["-smbios", argument]),
                format!("-smbios {argument}: {complaint}")
            );
        }
    }
}
