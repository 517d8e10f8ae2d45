//! `sendkey`.

use serde_json::{Map, Value, json};

use super::commands::text;
use super::{Failure, HmpHost};
use crate::qapi::qmp::QKeyCode;

/// `sendkey`: keys joined by `-`, by name or by number.
pub(super) async fn send(host: &impl HmpHost, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let keys = text(arguments, "keys").split('-').map(|word| {
        let invalid = || Failure::Usage(format!("invalid parameter: {word}\n"));
        key(word).ok_or_else(invalid)
    });
    let mut properties = Map::from_iter([("keys".to_owned(), keys.collect::<Result<Value, _>>()?)]);
    if let Some(hold) = arguments.get("hold-time") {
        properties.insert("hold-time".to_owned(), hold.clone());
    }
    host.qmp("send-key", properties).await?;
    Ok(String::new())
}

/// A key as QMP has it; `<` stands for the key that has it.
fn key(word: &str) -> Option<Value> {
    if let Some(digits) = word.strip_prefix("0x") {
        let number = i32::from_str_radix(digits, 16).ok().filter(|number| *number >= 0)?;
        return Some(json!({"type": "number", "data": number}));
    }
    let name = if word == "<" { "less" } else { word };
    let code = QKeyCode::from_wire(name)?;
    Some(json!({"type": "qcode", "data": code.as_str()}))
}
