//! What every PCI function offers.

use serde_json::{Value, json};

use super::ConfigSpace;
use crate::devices::Device;

/// A PCI function. What lies behind its base address registers is reached by register number and offset.
pub trait PciFunction: Device {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;
    /// Its configuration space, to be written by the guest.
    fn config_mut(&mut self) -> &mut ConfigSpace;
    /// The guest wrote `len` bytes of configuration space from `at` on, and it has taken what may change.
    fn config_written(&mut self, at: u16, len: usize) {
        let _ = (at, len);
    }
    /// A guest's read from what base address register `bar` maps.
    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]) {
        let _ = (bar, offset);
        data.fill(0xff);
    }
    /// A guest's write to what base address register `bar` maps.
    fn bar_write(&mut self, bar: usize, offset: u64, data: &[u8]) {
        let _ = (bar, offset, data);
    }
}

/// Configuration space as a saved field.
#[must_use]
pub fn config_state(config: &ConfigSpace) -> Value {
    let mut text = String::with_capacity(2 * config.bytes().len());
    for byte in config.bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    json!(text)
}

/// Takes back configuration space from the saved field `config`.
///
/// # Errors
/// When the field is missing or malformed, or belongs to another function.
pub fn restore_config(config: &mut ConfigSpace, fields: &Value) -> Result<(), String> {
    let text = fields
        .get("config")
        .and_then(Value::as_str)
        .ok_or("field 'config' is missing")?;
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    config.restore(&bytes.ok_or("field 'config' is not hexadecimal")?)
}
