//! The reply of `query-qmp-schema` for a client that is told nothing that will go away.

use serde_json::Value;

use crate::qapi::Error;
use crate::qapi::visit::encoded;

/// What marks it.
const DEPRECATED: &str = "deprecated";

/// Leaves out commands, events and members that are deprecated, and `values` of enumerations, which `members` tells better.
/// As in QEMU, a deprecated value of an enumeration stays.
///
/// # Errors
/// The schema is not what the compiler makes.
pub(super) fn without_deprecated(schema: &[u8]) -> Result<Vec<u8>, Error> {
    let schema = serde_json::from_slice(schema).map_err(|error| Error::generic(format!("the schema: {error}")))?;
    let Value::Array(mut entries) = schema else {
        return Err(Error::generic("the schema is no list"));
    };
    entries.retain(|entry| !is_deprecated(entry));
    for entry in &mut entries {
        let is_object = entry["meta-type"] == "object";
        let Some(entry) = entry.as_object_mut() else { continue };
        entry.shift_remove("values");
        if let Some(Value::Array(members)) = entry.get_mut("members").filter(|_| is_object) {
            members.retain(|member| !is_deprecated(member));
        }
    }
    Ok(encoded(&Value::Array(entries)))
}

fn is_deprecated(entry: &Value) -> bool {
    let features = entry["features"].as_array();
    features.is_some_and(|features| features.iter().any(|feature| feature == DEPRECATED))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_away_is_left_out() {
        let schema = json!([
            {"name": "old", "meta-type": "command", "features": ["deprecated"]},
            {"name": "OLD", "meta-type": "event", "features": ["deprecated"]},
            {"name": "new", "meta-type": "command", "features": ["unstable"]},
            {"name": "0", "meta-type": "object", "members": [
                {"name": "a", "type": "int", "features": ["unstable", "deprecated"]},
                {"name": "b", "type": "int"}]},
            {"name": "1", "meta-type": "enum", "values": ["x"], "members": [{"name": "x", "features": ["deprecated"]}]},
        ]);
        let left = json!([
            {"name": "new", "meta-type": "command", "features": ["unstable"]},
            {"name": "0", "meta-type": "object", "members": [{"name": "b", "type": "int"}]},
            {"name": "1", "meta-type": "enum", "members": [{"name": "x", "features": ["deprecated"]}]},
        ]);
        let told = without_deprecated(schema.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&told).unwrap(), left);
        assert!(without_deprecated(b"{}").is_err());
    }
}
