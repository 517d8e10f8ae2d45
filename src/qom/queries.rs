//! The replies to `qom-list-types`, `qom-list-properties` and `device-list-properties`.

use serde_json::{Value, json};

use super::error::TypeError;
use super::registry::{Registry, Type};
use super::types::PropertyInfo;

impl Registry {
    /// `qom-list-types`: types that are, inherit from or implement `implements`, abstract ones only on demand. An array
    /// of QAPI's `ObjectTypeInfo`.
    #[must_use]
    pub fn list_types(&self, implements: Option<&str>, with_abstract: bool) -> Vec<Value> {
        self.types()
            .filter(|entry| with_abstract || !entry.is_abstract)
            .filter(|entry| implements.is_none_or(|ancestor| self.is_a(&entry.name, ancestor)))
            .map(type_info)
            .collect()
    }

    /// `qom-list-properties`: an array of QAPI's `ObjectPropertyInfo`, inherited properties included.
    ///
    /// # Errors
    /// Class `DeviceNotFound` if there is no such type; `GenericError` for interfaces, which have no objects.
    pub fn list_properties(&self, type_name: &str) -> Result<Vec<Value>, TypeError> {
        if self.get(type_name).is_none() {
            return Err(TypeError::NoType(type_name.to_owned()));
        }
        if self.lineage(type_name).any(|link| link.name == "interface") {
            return Err(TypeError::Interface);
        }
        Ok(self.properties(type_name).into_iter().map(property_info).collect())
    }

    /// `device-list-properties`: an array of QAPI's `ObjectPropertyInfo`, without what all devices have.
    ///
    /// # Errors
    /// Class `DeviceNotFound` if there is no such type; `GenericError` if it is abstract or no device.
    pub fn list_device_properties(&self, type_name: &str) -> Result<Vec<Value>, TypeError> {
        let properties = self.device_properties(type_name)?;
        Ok(properties.into_iter().map(property_info).collect())
    }

    /// The properties that make one device type different from others; QEMU keeps those called `legacy-` to itself.
    pub(super) fn device_properties(&self, type_name: &str) -> Result<Vec<&PropertyInfo>, TypeError> {
        let entry = self
            .get(type_name)
            .ok_or_else(|| TypeError::NoDevice(type_name.to_owned()))?;
        if entry.is_abstract || !self.is_a(type_name, "device") {
            return Err(TypeError::NotADevice);
        }
        let common = self.properties("device");
        let mut properties = self.properties(type_name);
        properties.retain(|property| !common.contains(property) && !property.name.starts_with("legacy-"));
        Ok(properties)
    }
}

fn type_info(entry: &Type) -> Value {
    let mut info = json!({"name": entry.name});
    if entry.is_abstract {
        info["abstract"] = json!(true);
    }
    if let Some(parent) = &entry.parent {
        info["parent"] = json!(parent);
    }
    info
}

fn property_info(property: &PropertyInfo) -> Value {
    let mut info = json!({"name": property.name, "type": property.kind.type_name()});
    if !property.description.is_empty() {
        info["description"] = json!(property.description);
    }
    if let Some(default) = property.default.to_json() {
        info["default-value"] = default;
    }
    info
}

#[cfg(test)]
mod tests {
    use super::super::testing::registry;
    use super::*;
    use crate::qapi::{ErrorClass, QmpError};

    #[test]
    fn types_by_what_they_are() {
        let registry = registry();
        assert_eq!(
            registry.list_types(Some("isa-device"), true),
            [
                json!({"name": "isa-device", "abstract": true, "parent": "device"}),
                json!({"name": "test-serial", "parent": "isa-device"})
            ]
        );
        let backends = registry.list_types(Some("memory-backend"), false);
        assert_eq!(backends.len(), 3);
        assert_eq!(registry.list_types(Some("nope"), true), [Value::Null; 0]);
        let all = registry.list_types(None, false);
        assert!(all.contains(&json!({"name": "object"})));
        assert!(!all.iter().any(|entry| entry["name"] == "device"));
    }

    #[test]
    fn properties_of_devices() {
        let properties = registry().list_device_properties("test-serial").unwrap();
        assert_eq!(
            properties[0],
            json!({"name": "index", "type": "uint32", "description": "which port", "default-value": 4_294_967_295_u32})
        );
        assert!(!properties.iter().any(|property| property["name"] == "realized"));
        let error = registry().list_device_properties("nope").unwrap_err();
        assert_eq!(
            (error.class(), error.to_string().as_str()),
            (ErrorClass::DeviceNotFound, "Device 'nope' not found")
        );
        for wrong in ["isa-device", "iothread", "conventional-pci-device"] {
            let error = registry().list_device_properties(wrong).unwrap_err();
            assert_eq!(error.class(), ErrorClass::GenericError);
            assert_eq!(
                error.to_string(),
                "Parameter 'typename' expects a non-abstract device type"
            );
        }
    }

    #[test]
    fn properties_of_any_type() {
        let registry = registry();
        assert_eq!(
            registry.list_properties("object").unwrap(),
            [json!({"name": "type", "type": "string"})]
        );
        let names: Vec<Value> = registry
            .list_properties("iothread")
            .unwrap()
            .into_iter()
            .map(|p| p["name"].clone())
            .collect();
        assert_eq!(
            names,
            [
                "type",
                "aio-max-batch",
                "thread-pool-min",
                "thread-pool-max",
                "poll-max-ns",
                "poll-grow",
                "poll-shrink"
            ]
        );
        let error = registry.list_properties("nope").unwrap_err();
        assert_eq!(
            (error.class(), error.to_string().as_str()),
            (ErrorClass::DeviceNotFound, "Class 'nope' not found")
        );
        assert_eq!(
            registry.list_properties("user-creatable").unwrap_err().to_string(),
            "Parameter 'typename' expects a QOM type"
        );
    }
}
