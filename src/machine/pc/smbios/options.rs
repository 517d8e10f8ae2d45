//! What `-smbios` asks for: fields of structures, structures of their own, and ready-made ones from files.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value};

use super::error::SmbiosError;
use crate::machine::config::Entry;
use crate::machine::fields::Fields;
use crate::qapi::{Error, text};

/// Types up to this one may be described by fields; larger ones are a manufacturer's own (DSP0134, 6.2).
const LAST_STANDARD_TYPE: u8 = 127;
/// Bytes that every structure begins with: type, length, handle.
const HEADER_SIZE: usize = 4;
/// Type 4, which there is one of for each socket.
const PROCESSOR: u8 = 4;

/// All of `-smbios`.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    fields: BTreeMap<u8, BTreeMap<String, String>>,
    files: Vec<Vec<u8>>,
    /// Type 11, `value=` and `path=` in order.
    pub(super) oem_strings: Vec<String>,
    /// Type 8.
    pub(super) connectors: Vec<Connector>,
    /// Type 9.
    pub(super) slots: Vec<Slot>,
    /// Type 41.
    pub(super) onboard: Vec<Onboard>,
}

/// A port connector.
#[derive(Clone, Debug, Default)]
pub(super) struct Connector {
    pub(super) internal: String,
    pub(super) external: String,
    pub(super) kind: u8,
    pub(super) port: u8,
}

/// A slot for a card.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) designation: String,
    pub(super) kind: u8,
    pub(super) width: u8,
    pub(super) usage: u8,
    pub(super) length: u8,
    pub(super) id: u16,
    pub(super) characteristics: [u8; 2],
    /// Id of the device that sits in it.
    pub(super) pcidev: Option<String>,
}

/// A device on the main board.
#[derive(Clone, Debug, Default)]
pub(super) struct Onboard {
    pub(super) designation: String,
    pub(super) kind: u8,
    pub(super) instance: u8,
    /// Id of the device that it is.
    pub(super) pcidev: Option<String>,
}

/// `kind=` of type 41, numbered from 1 (7.42.2).
const ONBOARD_KINDS: [&str; 10] = [
    "other",
    "unknown",
    "video",
    "scsi",
    "ethernet",
    "tokenring",
    "sound",
    "pata",
    "sata",
    "sas",
];

impl Requests {
    /// Reads the options in order, and the files they name.
    pub(super) fn new(entries: &[Entry]) -> Result<Self, Error> {
        let mut requests = Self::default();
        for entry in entries {
            let added = requests.add(&entry.parameters);
            added.map_err(|error| entry.blame(error))?;
        }
        Ok(requests)
    }

    /// The structures from files, as they are.
    pub(super) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Vec::as_slice)
    }

    /// Whether structures of this type come from files; there are no others of it then.
    pub(super) fn is_from_file(&self, kind: u8) -> bool {
        self.files.iter().any(|file| file.first() == Some(&kind))
    }

    /// Processors from files.
    pub(super) fn processors(&self) -> usize {
        self.files
            .iter()
            .filter(|file| file.first() == Some(&PROCESSOR))
            .count()
    }

    /// The fields given for a type, if there are any.
    pub(super) fn fields(&self, kind: u8) -> Option<&BTreeMap<String, String>> {
        self.fields.get(&kind)
    }

    /// The text given for a field; empty if there is none.
    pub(super) fn text(&self, kind: u8, name: &str) -> &str {
        let text = self.fields(kind).and_then(|fields| fields.get(name));
        text.map(String::as_str).unwrap_or_default()
    }

    /// The number given for a field, whose form was checked when it was read.
    pub(super) fn number(&self, kind: u8, name: &str) -> Option<u64> {
        text::parse_uint(self.text(kind, name)).ok()
    }

    fn add(&mut self, parameters: &Map<String, Value>) -> Result<(), SmbiosError> {
        let fields = Fields::new(parameters);
        if let Some(path) = fields.text("file") {
            return self.load(path);
        }
        let kind: u8 = fields.required_number("type", "uint8_t")?;
        if self.is_from_file(kind) {
            return Err(SmbiosError::FieldsAfterFile);
        }
        let texts = self.fields.entry(kind).or_default();
        for (name, _) in parameters.iter().filter(|(name, _)| *name != "type") {
            // Options for one type add up; of one field, the last text counts.
            texts.insert(name.clone(), fields.text(name).unwrap_or_default().to_owned());
        }
        match kind {
            0 => fields.text("release").map_or(Ok([0; 2]), release).map(drop),
            4 => check_processor(fields),
            8 => connector(fields).map(|connector| self.connectors.push(connector)),
            9 => slot(fields).map(|slot| self.slots.push(slot)),
            11 => self.add_oem_strings(parameters),
            17 => Ok(fields.number::<u16>("speed", "uint16_t").map(drop)?),
            41 => onboard(fields).map(|onboard| self.onboard.push(onboard)),
            _ => Ok(()),
        }
    }

    fn load(&mut self, path: &str) -> Result<(), SmbiosError> {
        let file = fs::read(path).map_err(|error| SmbiosError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let kind = *file
            .first()
            .filter(|_| file.len() >= HEADER_SIZE)
            .ok_or_else(|| SmbiosError::TooShort(path.to_owned()))?;
        if kind <= LAST_STANDARD_TYPE && self.fields.contains_key(&kind) {
            return Err(SmbiosError::FileAfterFields(kind));
        }
        self.files.push(file);
        Ok(())
    }

    fn add_oem_strings(&mut self, parameters: &Map<String, Value>) -> Result<(), SmbiosError> {
        let fields = Fields::new(parameters);
        // The parameters keep their order only within one name; values come first, as they are the usual form.
        self.oem_strings.extend(fields.texts("value").map(str::to_owned));
        for path in fields.texts("path") {
            let bytes = fs::read(path).map_err(|error| SmbiosError::UnreadableText {
                path: path.to_owned(),
                error,
            })?;
            let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| SmbiosError::NoText(path.to_owned()))?;
            self.oem_strings.push(text);
        }
        match u8::try_from(self.oem_strings.len()) {
            Ok(_) => Ok(()),
            Err(_) => Err(SmbiosError::TooManyStrings),
        }
    }
}

/// The two numbers of `release=`, as C's `%hhu.%hhu` reads them: what follows is not looked at, and of large numbers the
/// low eight bits count.
pub(super) fn release(text: &str) -> Result<[u8; 2], SmbiosError> {
    let (major, rest) = leading_number(text).ok_or(SmbiosError::Release)?;
    let (minor, _) = rest
        .strip_prefix('.')
        .and_then(leading_number)
        .ok_or(SmbiosError::Release)?;
    Ok([major, minor])
}

fn leading_number(text: &str) -> Option<(u8, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number: u64 = digits.parse().ok()?;
    Some((number.to_le_bytes()[0], rest))
}

fn check_processor(fields: Fields<'_>) -> Result<(), SmbiosError> {
    for name in ["max-speed", "current-speed"] {
        let speed: Option<u64> = fields.number(name, "uint64")?;
        if speed.is_some_and(|speed| u16::try_from(speed).is_err()) {
            return Err(SmbiosError::Speed);
        }
    }
    fields.number::<u64>("processor-id", "uint64")?;
    fields.number::<u16>("processor-family", "uint16_t")?;
    Ok(())
}

fn text_of(fields: Fields<'_>, name: &str) -> String {
    fields.text(name).unwrap_or_default().to_owned()
}

fn byte_of(fields: Fields<'_>, name: &'static str) -> Result<u8, SmbiosError> {
    Ok(fields.number(name, "uint8_t")?.unwrap_or_default())
}

fn connector(fields: Fields<'_>) -> Result<Connector, SmbiosError> {
    Ok(Connector {
        internal: text_of(fields, "internal_reference"),
        external: text_of(fields, "external_reference"),
        kind: byte_of(fields, "connector_type")?,
        port: byte_of(fields, "port_type")?,
    })
}

fn slot(fields: Fields<'_>) -> Result<Slot, SmbiosError> {
    Ok(Slot {
        designation: text_of(fields, "slot_designation"),
        kind: byte_of(fields, "slot_type")?,
        width: byte_of(fields, "slot_data_bus_width")?,
        usage: byte_of(fields, "current_usage")?,
        length: byte_of(fields, "slot_length")?,
        id: fields.number("slot_id", "uint16_t")?.unwrap_or_default(),
        characteristics: [
            byte_of(fields, "slot_characteristics1")?,
            byte_of(fields, "slot_characteristics2")?,
        ],
        pcidev: fields.text("pcidev").map(str::to_owned),
    })
}

fn onboard(fields: Fields<'_>) -> Result<Onboard, SmbiosError> {
    let kind = match fields.text("kind") {
        None => 0,
        Some(given) => {
            let number = (1..).zip(ONBOARD_KINDS).find(|(_, kind)| *kind == given);
            let (number, _) = number.ok_or_else(|| SmbiosError::OnboardKind(given.to_owned()))?;
            number
        }
    };
    Ok(Onboard {
        designation: text_of(fields, "designation"),
        kind,
        instance: byte_of(fields, "instance")?,
        pcidev: fields.text("pcidev").map(str::to_owned),
    })
}
