//! Declarations: what a type is called, what it inherits from and which properties it has.

use std::borrow::Cow;

use serde_json::{Value, json};

/// The type of a property's value, as QMP names it and as it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// `bool`: JSON booleans, or on/off, yes/no, true/false, y/n on the command line.
    Bool,
    /// `str`: any text.
    Str,
    /// `uint8`.
    Uint8,
    /// `uint16`.
    Uint16,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `int32`.
    Int32,
    /// `int` (64 bits).
    Int,
    /// `size`: bytes, with a suffix K, M, G, T, P, E allowed on the command line.
    Size,
    /// Any text, of a property that is not a device's: QMP calls the type `string`.
    String,
    /// Bytes, as `Size`, of a property that is not a device's: QMP calls the type `int`.
    ByteSize,
    /// A list of `uint16`, on the command line given by repetition and ranges `first-last`: QMP calls the type `int`.
    Uint16List,
    /// An enumeration by this QAPI name, with these values.
    Enum(&'static str, &'static [&'static str]),
    /// `OnOffAuto`.
    OnOffAuto,
    /// A reference by id to an object of this type: `link<TYPE>`.
    Link(&'static str),
    /// A reference by id to a character device; QMP calls the type `str`.
    Chardev,
    /// A PCI address `slot[.function]`; QMP calls the type `str`.
    PciAddr,
    /// Anything else that QMP shows under this type name, and that is never parsed from text.
    Other(&'static str),
}

impl PropertyKind {
    /// The type's name in QMP.
    #[must_use]
    pub fn type_name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Bool => "bool",
            Self::Str | Self::Chardev | Self::PciAddr => "str",
            Self::String => "string",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Int32 => "int32",
            Self::Int | Self::ByteSize | Self::Uint16List => "int",
            Self::Size => "size",
            Self::OnOffAuto => "OnOffAuto",
            Self::Enum(name, _) | Self::Other(name) => name,
            Self::Link(target) => return Cow::Owned(format!("link<{target}>")),
        })
    }
}

/// What a property holds when nobody set it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// There is no default worth telling.
    None,
    /// A boolean.
    Bool(bool),
    /// A number.
    Uint(u64),
    /// A signed number.
    Int(i64),
    /// A text, also the name of an enumeration value.
    Str(&'static str),
}

impl Default {
    /// The value as QMP tells it; none when there is none.
    #[must_use]
    pub fn to_json(self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Bool(on) => Some(json!(on)),
            Self::Uint(number) => Some(json!(number)),
            Self::Int(number) => Some(json!(number)),
            Self::Str(text) => Some(json!(text)),
        }
    }
}

/// One property of a type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PropertyInfo {
    /// Its name on the command line and in QMP.
    pub name: &'static str,
    /// The type of its value.
    pub kind: PropertyKind,
    /// What it is for, in one line; may be empty.
    pub description: &'static str,
    /// Its value when nobody set it.
    pub default: Default,
    /// Whether it may be given on the command line or in `device_add`/`object-add`.
    pub settable: bool,
}

impl PropertyInfo {
    /// A settable property.
    #[must_use]
    pub const fn new(name: &'static str, kind: PropertyKind, default: Default, description: &'static str) -> Self {
        Self {
            name,
            kind,
            description,
            default,
            settable: true,
        }
    }

    /// A property that can be read only.
    #[must_use]
    pub const fn read_only(name: &'static str, kind: PropertyKind, description: &'static str) -> Self {
        Self {
            name,
            kind,
            description,
            default: Default::None,
            settable: false,
        }
    }
}

/// One type: a node in the tree of types.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// Its name, unique.
    pub name: &'static str,
    /// The type it inherits from; none for `object` and `interface`.
    pub parent: Option<&'static str>,
    /// Whether it only serves as a parent.
    pub is_abstract: bool,
    /// Interfaces it implements.
    pub interfaces: &'static [&'static str],
    /// For devices: the bus they plug into, such as `PCI`.
    pub bus: Option<&'static str>,
    /// For devices: whether `-device` may create it.
    pub user_creatable: bool,
    /// For devices: whether `device_add` may create it on a running guest.
    pub hotpluggable: bool,
    /// What it is, in one line, for help texts.
    pub description: &'static str,
    /// The properties it adds to those of its parent.
    pub properties: &'static [PropertyInfo],
}
