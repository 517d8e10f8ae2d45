//! What the bytes of a state are: the JSON that QEMU puts at the end of a stream.

use serde::Serialize;

/// A section, struct or subsection and its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// QEMU's name of the section or struct.
    pub vmsd_name: &'static str,
    /// Its version.
    pub version: u32,
    /// The fields, in stream order.
    pub fields: Vec<FieldDescription>,
    /// The subsections that are there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subsections: Vec<Description>,
}

/// A field, or an array of fields that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDescription {
    /// QEMU's name of the field.
    pub name: &'static str,
    /// Number of elements, if this is an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array_len: Option<usize>,
    /// QEMU's name of the type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What a struct consists of.
    #[serde(rename = "struct", skip_serializing_if = "Option::is_none")]
    pub structure: Option<Description>,
    /// The fields of a helper that lie here in place.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Description>,
    /// Bytes of one element.
    pub size: usize,
}

impl FieldDescription {
    /// A field that is neither array nor struct.
    pub(super) fn plain(name: &'static str, kind: &'static str, size: usize) -> Self {
        Self {
            name,
            array_len: None,
            kind,
            structure: None,
            helper: None,
            size,
        }
    }
}
