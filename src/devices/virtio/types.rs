//! The types of each kind of virtio device, which differ in name, properties and in how they are made.

/// Declares the types of a kind: the device without its transport, what its functions over PCI have in common, and those
/// functions by the interfaces they have, as `CLASSES`. `$realize` makes a function: it takes the type, its interfaces, and
/// the values, the place and the site together.
macro_rules! device_types {
    ($name:literal, $device:ident: $properties:expr, $base:ident: $of_functions:expr, $realize:path) => {
        /// The device without its transport.
        pub static $device: TypeInfo = TypeInfo {
            name: concat!($name, "-device"),
            parent: Some("virtio-device"),
            interfaces: &[],
            user_creatable: false,
            hotpluggable: false,
            properties: $properties,
            ..FUNCTION
        };

        /// What the functions have in common.
        pub static $base: TypeInfo = TypeInfo {
            name: concat!($name, "-pci-base"),
            parent: Some("virtio-pci"),
            is_abstract: true,
            interfaces: &[],
            user_creatable: false,
            hotpluggable: false,
            properties: $of_functions,
            ..FUNCTION
        };

        const FUNCTION: TypeInfo = TypeInfo {
            name: concat!($name, "-pci"),
            parent: Some(concat!($name, "-pci-base")),
            is_abstract: false,
            interfaces: &["pci-express-device", "conventional-pci-device"],
            bus: None,
            user_creatable: true,
            hotpluggable: true,
            description: "",
            properties: &[],
        };
        static CHOSEN: TypeInfo = TypeInfo {
            properties: &pci::INTERFACES,
            ..FUNCTION
        };
        static TRANSITIONAL: TypeInfo = TypeInfo {
            name: concat!($name, "-pci-transitional"),
            ..FUNCTION
        };
        static NON_TRANSITIONAL: TypeInfo = TypeInfo {
            name: concat!($name, "-pci-non-transitional"),
            ..FUNCTION
        };

        /// The functions: by what their properties say of interfaces, with both, and with the modern one alone.
        pub static CLASSES: [DeviceClass; 3] = [
            DeviceClass {
                info: &CHOSEN,
                realize: Realize::Pci(|values, place, site| {
                    $realize(&CHOSEN, Interfaces::Chosen, (values, place, site))
                }),
            },
            DeviceClass {
                info: &TRANSITIONAL,
                realize: Realize::Pci(|values, place, site| {
                    $realize(&TRANSITIONAL, Interfaces::Transitional, (values, place, site))
                }),
            },
            DeviceClass {
                info: &NON_TRANSITIONAL,
                realize: Realize::Pci(|values, place, site| {
                    $realize(
                        &NON_TRANSITIONAL,
                        Interfaces::NonTransitional,
                        (values, place, site),
                    )
                }),
            },
        ];
    };
}

pub(super) use device_types;
