//! What the properties of one object are set to: defaults, those of an older machine, then `-global`, then what was given.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::PropertyError;
use super::registry::Registry;
use super::types::{PropertyInfo, PropertyKind};
use crate::qapi::text;

/// A switch that may be left to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOffAuto {
    /// As we think fit.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl OnOffAuto {
    /// On or off, `auto` taken for `default`.
    #[must_use]
    pub const fn resolve(self, default: bool) -> bool {
        match self {
            Self::Auto => default,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// Where a device sits on a PCI bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddr {
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

impl PciAddr {
    /// Slot and function in one byte, as in configuration addresses.
    #[must_use]
    pub const fn devfn(self) -> u8 {
        self.slot << 3 | self.function
    }
}

/// The values of one object's properties, in the form QMP shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    values: BTreeMap<&'static str, Value>,
    given: Vec<&'static str>,
}

/// Keys of `-device` and `-object` that are no properties.
const NOT_PROPERTIES: [&str; 4] = ["driver", "bus", "id", "qom-type"];

/// A value for a property of every object of a type, as `-global` gives it: type, property, value.
pub type GlobalValue<'a> = (&'a str, &'a str, &'a str);

impl Registry {
    /// Values for an object of `type_name`: defaults, then what older machines have instead
    /// ([`Registry::set_compat`]), then `globals` in order, then `given`, whose values may be texts
    /// or JSON values whatever the type of the property. The keys `driver`, `bus`, `id` and `qom-type` are skipped.
    ///
    /// # Errors
    /// Names the property that does not exist, cannot be set or does not take the value.
    pub fn values<'a>(
        &self,
        type_name: &str,
        given: &Map<String, Value>,
        globals: impl IntoIterator<Item = GlobalValue<'a>>,
    ) -> Result<Values, PropertyError> {
        let mut values = Values::default();
        for property in self.properties(type_name) {
            if let Some(default) = property.default.to_json() {
                values.values.insert(property.name, default);
            }
        }
        for (driver, name, text) in self.compat() {
            if self.is_a(type_name, driver) {
                self.assign(&mut values, type_name, name, &json!(text))?;
            }
        }
        // What older machines start from is nobody's wish.
        values.given.clear();
        for (driver, name, text) in globals {
            if self.is_a(type_name, driver) {
                self.assign(&mut values, type_name, name, &json!(text))
                    .map_err(|error| PropertyError::Global {
                        driver: driver.to_owned(),
                        property: name.to_owned(),
                        value: text.to_owned(),
                        cause: Box::new(in_a_global(error)),
                    })?;
            }
        }
        for (name, value) in given {
            if !NOT_PROPERTIES.contains(&name.as_str()) {
                self.assign(&mut values, type_name, name, value)?;
            }
        }
        Ok(values)
    }

    fn assign(&self, values: &mut Values, type_name: &str, name: &str, value: &Value) -> Result<(), PropertyError> {
        let property = match self.property(type_name, name) {
            Some(property) => property,
            None if self.is_a(type_name, "user-creatable") => {
                return Err(PropertyError::Unexpected(name.to_owned()));
            }
            None => return Err(PropertyError::not_found(type_name, name)),
        };
        if !property.settable {
            return Err(PropertyError::not_writable(type_name, name));
        }
        let value = parse(type_name, property, value)?;
        values.values.insert(property.name, value);
        values.given.push(property.name);
        Ok(())
    }

    /// What to tell the user of `-global` for types that are no devices, which it does nothing to.
    #[must_use]
    pub fn check_globals<'a>(&self, globals: impl IntoIterator<Item = GlobalValue<'a>>) -> Vec<String> {
        globals
            .into_iter()
            .filter(|(driver, ..)| !self.is_a(driver, "device"))
            .map(|(driver, name, _)| format!("global {driver}.{name} has invalid class name"))
            .collect()
    }
}

impl Values {
    /// The value as QMP shows it; none if there is neither a value nor a default.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Whether somebody set the property.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// A switch; off if there is no value.
    #[must_use]
    pub fn boolean(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An unsigned number or size.
    #[must_use]
    pub fn uint(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    /// A signed number.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    /// A text, an id, or the name of an enumeration value.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A list of numbers; empty if there is no value.
    pub fn uints(&self, name: &str) -> impl Iterator<Item = u64> {
        self.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
    }

    /// A switch that may be left to us.
    #[must_use]
    pub fn on_off_auto(&self, name: &str) -> OnOffAuto {
        match self.text(name) {
            Some("on") => OnOffAuto::On,
            Some("off") => OnOffAuto::Off,
            _ => OnOffAuto::Auto,
        }
    }

    /// A PCI address; none for the next free slot.
    #[must_use]
    pub fn pci_addr(&self, name: &str) -> Option<PciAddr> {
        let devfn = self.int(name).and_then(|devfn| u8::try_from(devfn).ok())?;
        Some(PciAddr {
            slot: devfn >> 3,
            function: devfn & 7,
        })
    }

    /// Names of the properties that have a value.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.values.keys().copied()
    }
}

/// The value in the form QMP shows it.
fn parse(type_name: &str, property: &PropertyInfo, value: &Value) -> Result<Value, PropertyError> {
    let name = property.name;
    match property.kind {
        PropertyKind::Bool => parse_bool(name, value),
        PropertyKind::Str | PropertyKind::String | PropertyKind::Chardev | PropertyKind::Link(_) => match value {
            Value::String(_) => Ok(value.clone()),
            _ => Err(PropertyError::wrong_type(name, "string")),
        },
        PropertyKind::Uint8 => parse_uint(name, value, u8::MAX.into(), "uint8_t"),
        PropertyKind::Uint16 => parse_uint(name, value, u16::MAX.into(), "uint16_t"),
        PropertyKind::Uint32 => parse_uint(name, value, u32::MAX.into(), "uint32_t"),
        PropertyKind::Uint64 => parse_uint(name, value, u64::MAX, "uint64"),
        PropertyKind::Int32 => parse_int(name, value, i32::MIN.into()..=i32::MAX.into(), "int32_t"),
        PropertyKind::Int => parse_int(name, value, i64::MIN..=i64::MAX, "int64"),
        PropertyKind::Size => parse_size(name, value, "size"),
        PropertyKind::ByteSize => parse_size(name, value, "a size value"),
        PropertyKind::Uint16List => parse_list(name, value),
        PropertyKind::Enum(_, values) => parse_enum(name, value, values),
        PropertyKind::OnOffAuto => match value {
            Value::Bool(on) => Ok(json!(if *on { "on" } else { "off" })),
            _ => parse_enum(name, value, &["auto", "on", "off"]),
        },
        PropertyKind::PciAddr => parse_pci_addr(type_name, name, value),
        PropertyKind::Other(_) => Err(PropertyError::not_writable(type_name, name)),
    }
}

/// QEMU reads what `-global` gives with the reader for values that have a type.
fn in_a_global(error: PropertyError) -> PropertyError {
    match error {
        PropertyError::Expects { name, what: "integer" } => PropertyError::Expects { name, what: "uint64" },
        other => other,
    }
}

fn parse_bool(name: &str, value: &Value) -> Result<Value, PropertyError> {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match text::parse_bool(text) {
            Some(on) => Ok(json!(on)),
            None => Err(PropertyError::expects(name, "'on' or 'off'")),
        },
        _ => Err(PropertyError::wrong_type(name, "boolean")),
    }
}

fn parse_uint(name: &str, value: &Value, max: u64, kind: &'static str) -> Result<Value, PropertyError> {
    let number = match value {
        Value::String(text) => text::parse_uint(text).map_err(|_| PropertyError::expects(name, "integer"))?,
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number,
            (None, Some(negative)) => negative as u64,
            (None, None) => return Err(PropertyError::expects(name, "uint64")),
        },
        _ => return Err(PropertyError::expects(name, "uint64")),
    };
    match number <= max {
        true => Ok(json!(number)),
        false => Err(PropertyError::expects(name, kind)),
    }
}

fn parse_int(
    name: &str,
    value: &Value,
    range: std::ops::RangeInclusive<i64>,
    kind: &'static str,
) -> Result<Value, PropertyError> {
    let number = match value {
        Value::String(text) => text::parse_int(text).map_err(|_| PropertyError::expects(name, "integer"))?,
        _ => value
            .as_i64()
            .ok_or_else(|| PropertyError::wrong_type(name, "integer"))?,
    };
    match range.contains(&number) {
        true => Ok(json!(number)),
        false => Err(PropertyError::expects(name, kind)),
    }
}

fn parse_size(name: &str, value: &Value, what: &'static str) -> Result<Value, PropertyError> {
    match value {
        Value::String(text) => match text::parse_size(text, 1) {
            Ok(size) => Ok(json!(size)),
            Err(_) => Err(PropertyError::expects(name, what)),
        },
        _ => value
            .as_u64()
            .map(|size| json!(size))
            .ok_or_else(|| PropertyError::expects(name, "uint64")),
    }
}

/// A JSON list of numbers, or texts that are numbers or ranges `first-last`.
fn parse_list(name: &str, value: &Value) -> Result<Value, PropertyError> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        Value::String(_) => std::slice::from_ref(value),
        _ => return Err(PropertyError::wrong_type(name, "array")),
    };
    let mut list: Vec<u16> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let range = match item {
            Value::String(text) => {
                range(text).ok_or_else(|| PropertyError::expects(name, "a uint64 value or range"))?
            }
            _ => item
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .map(|number| number..=number)
                .ok_or_else(|| PropertyError::expects(&format!("{name}[{index}]"), "uint16"))?,
        };
        list.extend(range);
    }
    list.sort_unstable();
    list.dedup();
    Ok(json!(list))
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| u16::try_from(text::parse_uint(text).ok()?).ok();
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

fn parse_enum(name: &str, value: &Value, values: &[&str]) -> Result<Value, PropertyError> {
    match value {
        Value::String(text) if values.contains(&text.as_str()) => Ok(value.clone()),
        Value::String(text) => Err(PropertyError::NoSuchValue {
            name: name.to_owned(),
            value: text.clone(),
        }),
        _ => Err(PropertyError::wrong_type(name, "string")),
    }
}

/// `slot[.function]` in hexadecimal, or both in one number; -1 for the next free slot.
fn parse_pci_addr(type_name: &str, name: &str, value: &Value) -> Result<Value, PropertyError> {
    match value {
        Value::String(text) => match pci_addr(text) {
            Some(addr) => Ok(json!(addr.devfn())),
            None => Err(PropertyError::Meaningless {
                type_name: type_name.to_owned(),
                property: name.to_owned(),
                value: text.clone(),
            }),
        },
        Value::Number(number) => match number.as_i64() {
            Some(devfn) if (-1..=255).contains(&devfn) => Ok(json!(devfn)),
            _ => Err(PropertyError::expects(name, "a value between -1 and 255")),
        },
        _ => Err(PropertyError::NoAddress(name.to_owned())),
    }
}

fn pci_addr(text: &str) -> Option<PciAddr> {
    let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str, max: u8| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
        let number = u8::from_str_radix(digits, 16).ok()?;
        (is_hex && number <= max).then_some(number)
    };
    Some(PciAddr {
        slot: number(slot, 31)?,
        function: number(function, 7)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::registry;
    use super::*;

    fn values(type_name: &str, given: &Value) -> Result<Values, String> {
        let given = given.as_object().unwrap();
        registry()
            .values(type_name, given, [])
            .map_err(|error| error.to_string())
    }

    fn message(type_name: &str, given: &Value) -> String {
        values(type_name, given).unwrap_err()
    }

    #[test]
    fn texts_and_values_mean_the_same() {
        let text = values(
            "test-serial",
            &json!({"driver": "test-serial", "index": "0x1", "wakeup": "on"}),
        )
        .unwrap();
        let native = values("test-serial", &json!({"id": "a", "index": 1, "wakeup": true})).unwrap();
        assert_eq!(text, native);
        assert_eq!(
            (text.uint("index"), text.boolean("wakeup"), text.text("chardev")),
            (Some(1), true, None)
        );
        assert!(text.is_given("index") && !text.is_given("iobase"));
        assert_eq!(text.uint("iobase"), Some(0xffff_ffff));
    }

    #[test]
    fn wrong_values_in_qemus_words() {
        for (given, expected) in [
            (json!({"index": "x"}), "Parameter 'index' expects integer"),
            (json!({"index": true}), "Parameter 'index' expects uint64"),
            (json!({"index": 1.5}), "Parameter 'index' expects uint64"),
            (json!({"index": -1}), "Parameter 'index' expects uint32_t"),
            (json!({"index": "4294967296"}), "Parameter 'index' expects uint32_t"),
            (
                json!({"chardev": 5}),
                "Invalid parameter type for 'chardev', expected: string",
            ),
            (
                json!({"wakeup": 5}),
                "Invalid parameter type for 'wakeup', expected: boolean",
            ),
            (json!({"wakeup": "5"}), "Parameter 'wakeup' expects 'on' or 'off'"),
            (json!({"foo": 1}), "Property 'test-serial.foo' not found"),
            (
                json!({"realized": true}),
                "Property 'test-serial.realized' is not writable",
            ),
            (
                json!({"irq-mode": "maybe"}),
                "Parameter 'irq-mode' does not accept value 'maybe'",
            ),
        ] {
            assert_eq!(message("test-serial", &given), expected);
        }
        assert_eq!(message("iothread", &json!({"foo": 1})), "Parameter 'foo' is unexpected");
        assert_eq!(
            message("iothread", &json!({"poll-max-ns": true})),
            "Invalid parameter type for 'poll-max-ns', expected: integer"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[0-9a-fx.,-]{0,20}[kKMGTPE]?".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null),
        ];
        scalar.prop_recursive(2, 8, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(Value::from)
        })
    }

    proptest! {
        #[test]
        fn any_value_is_taken_or_refused(value in any_value()) {
            let registry = registry();
            for entry in registry.types() {
                for property in registry.properties(&entry.name) {
                    let given = [(property.name.to_owned(), value.clone())].into_iter().collect();
                    let Ok(values) = registry.values(&entry.name, &given, []) else {
                        continue;
                    };
                    // What was taken can be given back, as clients do with what qom-get told them.
                    let again = [(property.name.to_owned(), values.get(property.name).unwrap().clone())];
                    let again = registry.values(&entry.name, &again.into_iter().collect(), []);
                    prop_assert_eq!(again, Ok(values));
                }
            }
        }
    }

    #[test]
    fn pci_addresses() {
        let addr = |value: Value| values("test-port", &json!({"addr": value})).map(|values| values.pci_addr("addr"));
        assert_eq!(addr(json!("0x2.0x1")), Ok(Some(PciAddr { slot: 2, function: 1 })));
        assert_eq!(addr(json!("1f")), Ok(Some(PciAddr { slot: 31, function: 0 })));
        assert_eq!(addr(json!(17)), Ok(Some(PciAddr { slot: 2, function: 1 })));
        assert_eq!(addr(json!(-1)), Ok(None));
        assert_eq!(values("test-port", &json!({})).unwrap().pci_addr("addr"), None);
        for wrong in ["40", "1.8", "x", "1.2.3", "", "+1"] {
            let expected = format!("Property 'test-port.addr' doesn't take value '{wrong}'");
            assert_eq!(addr(json!(wrong)), Err(expected));
        }
        assert_eq!(
            addr(json!(300)),
            Err("Parameter 'addr' expects a value between -1 and 255".to_owned())
        );
        assert_eq!(
            addr(json!(true)),
            Err("Invalid parameter type for 'addr', expected int or str".to_owned())
        );
    }

    #[test]
    fn globals_come_before_what_is_given() {
        let given = json!({"index": 3});
        let globals = [
            ("isa-device", "index", "1"),
            ("test-serial", "iobase", "0x3f8"),
            ("iothread", "nope", "1"),
        ];
        let values = registry()
            .values("test-serial", given.as_object().unwrap(), globals)
            .unwrap();
        assert_eq!((values.uint("index"), values.uint("iobase")), (Some(3), Some(0x3f8)));
        let error = registry()
            .values("test-serial", &Map::new(), [("test-serial", "index", "x")])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't apply global test-serial.index=x: Parameter 'index' expects uint64"
        );
        let said = registry().check_globals([("nope", "foo", "x"), ("isa-device", "foo", "x"), ("iothread", "a", "b")]);
        assert_eq!(
            said,
            [
                "global nope.foo has invalid class name",
                "global iothread.a has invalid class name"
            ]
        );
    }

    #[test]
    fn lists_by_json_repetition_and_range() {
        let nodes = |value: Value| {
            values("memory-backend-ram", &json!({"host-nodes": value}))
                .map(|v| v.uints("host-nodes").collect::<Vec<_>>())
        };
        assert_eq!(nodes(json!([2, 0])), Ok(vec![0, 2]));
        assert_eq!(nodes(json!(["0-2", "7"])), Ok(vec![0, 1, 2, 7]));
        assert_eq!(nodes(json!("3")), Ok(vec![3]));
        assert_eq!(
            nodes(json!("x")),
            Err("Parameter 'host-nodes' expects a uint64 value or range".to_owned())
        );
        assert_eq!(
            nodes(json!([true])),
            Err("Parameter 'host-nodes[0]' expects uint16".to_owned())
        );
        assert_eq!(
            nodes(json!(5)),
            Err("Invalid parameter type for 'host-nodes', expected: array".to_owned())
        );
    }
}
