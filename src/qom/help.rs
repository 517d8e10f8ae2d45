//! The lists that `-device help`, `-object help` and their kin print.

use std::fmt::Write;

use super::error::{PropertyError, TypeError};
use super::registry::Registry;
use super::types::{Default, PropertyInfo};

impl Registry {
    /// What `-device help` prints: devices that users may create.
    #[must_use]
    pub fn devices_help(&self) -> String {
        let mut text = String::new();
        for device in self
            .types()
            .filter(|device| device.user_creatable && !device.is_abstract)
        {
            if !self.is_a(&device.name, "device") {
                continue;
            }
            // Writing to a string cannot fail, here and below.
            let _ = write!(text, "name \"{}\"", device.name);
            if let Some(bus) = self.bus(&device.name) {
                let _ = write!(text, ", bus {bus}");
            }
            if !device.description.is_empty() {
                let _ = write!(text, ", desc \"{}\"", device.description);
            }
            text.push('\n');
        }
        text
    }

    /// What `-device NAME,help` prints.
    ///
    /// # Errors
    /// As for `device-list-properties`.
    pub fn device_help(&self, type_name: &str) -> Result<String, TypeError> {
        Ok(table(type_name, self.device_properties(type_name)?))
    }

    /// What `-object help` prints: objects that users may create.
    #[must_use]
    pub fn objects_help(&self) -> String {
        let mut text = "List of user creatable objects:\n".to_owned();
        for object in self.types().filter(|object| !object.is_abstract) {
            if self.is_a(&object.name, "user-creatable") {
                let _ = writeln!(text, "  {}", object.name);
            }
        }
        text
    }

    /// What `-object NAME,help` prints.
    ///
    /// # Errors
    /// Says that users cannot create an object of this type.
    pub fn object_help(&self, type_name: &str) -> Result<String, PropertyError> {
        self.check_object_type(type_name)?;
        Ok(table(type_name, self.settable_properties(type_name)))
    }

    /// What `-machine NAME,help` prints, for the type that the name stands for.
    #[must_use]
    pub fn machine_help(&self, type_name: &str) -> String {
        table(type_name, self.settable_properties(type_name))
    }

    /// Whether `-object` and `object-add` may make an object of this type.
    ///
    /// # Errors
    /// Says that they may not.
    pub fn check_object_type(&self, type_name: &str) -> Result<(), PropertyError> {
        let creatable = self
            .get(type_name)
            .is_some_and(|object| !object.is_abstract && self.is_a(type_name, "user-creatable"));
        match creatable {
            true => Ok(()),
            false => Err(PropertyError::NotCreatable(type_name.to_owned())),
        }
    }

    fn settable_properties(&self, type_name: &str) -> Vec<&PropertyInfo> {
        let mut properties = self.properties(type_name);
        properties.retain(|property| property.settable);
        properties
    }
}

fn table(type_name: &str, mut properties: Vec<&PropertyInfo>) -> String {
    if properties.is_empty() {
        return format!("There are no options for {type_name}.\n");
    }
    properties.sort_by_key(|property| property.name);
    let mut text = format!("{type_name} options:\n");
    for property in properties {
        let head = format!("  {}=<{}>", property.name, property.kind.type_name());
        let default = match property.default {
            Default::None => String::new(),
            Default::Bool(on) => format!(" (default: {on})"),
            Default::Uint(number) => format!(" (default: {number})"),
            Default::Int(number) => format!(" (default: {number})"),
            Default::Str(name) => format!(" (default: \"{name}\")"),
        };
        let _ = match property.description.is_empty() && default.is_empty() {
            true => writeln!(text, "{head}"),
            false => writeln!(text, "{head:24} - {}{default}", property.description),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::registry;

    #[test]
    fn lists_of_types() {
        let registry = registry();
        assert_eq!(
            registry.devices_help(),
            "name \"test-port\", bus PCI, desc \"A port\"\nname \"test-serial\", bus ISA\n"
        );
        assert_eq!(
            registry.objects_help(),
            "List of user creatable objects:\n  iothread\n  memory-backend-file\n  memory-backend-memfd\n  \
             memory-backend-ram\n  rng-builtin\n  rng-random\n  secret\n"
        );
    }

    #[test]
    fn properties_of_a_type() {
        let registry = registry();
        assert_eq!(
            registry
                .device_help("test-serial")
                .unwrap()
                .lines()
                .take(3)
                .collect::<Vec<_>>(),
            [
                "test-serial options:",
                "  chardev=<str>          - ID of a chardev to use as a backend",
                "  index=<uint32>         - which port (default: 4294967295)",
            ]
        );
        assert_eq!(
            registry.device_help("nope").unwrap_err().to_string(),
            "Device 'nope' not found"
        );
        assert_eq!(
            registry.object_help("test-serial").unwrap_err().to_string(),
            "Parameter 'qom-type' does not accept value 'test-serial'"
        );
        assert!(
            registry
                .object_help("secret")
                .unwrap()
                .contains("\n  format=<QCryptoSecretFormat>")
        );
    }
}
