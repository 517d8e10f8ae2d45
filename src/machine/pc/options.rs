//! `-machine` properties and `-global` values of a PC.

use serde_json::Map;

use super::acpi::Oem;
use super::devices::built_in_values;
use super::layout::{FOUR_GIB, ONE_MIB};
use crate::{
    accel::x86_64::LostTickPolicy,
    cpu::x86::IrqChip,
    machine::{
        backend::BackendDefaults,
        config::MachineConfig,
        processor::SMP_CACHE,
        types::{self, MachineType},
    },
    qapi::{QmpError, text},
    qom::{PropertyError, Registry},
};

/// A property of the machine or of the accelerator that is not to be had, in QEMU's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    /// `-global` or the table of machine types gives a property what it does not take.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The value is not of the form that the property has.
    #[error("Parameter '{name}' expects {what}")]
    Expects {
        /// The property.
        name: String,
        /// The form.
        what: &'static str,
    },
    /// The property does not take this value.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NoSuchValue {
        /// The property.
        name: String,
        /// What was given.
        value: String,
    },
    /// A PC has it, this one does not; the text names property and value.
    #[error("{0}")]
    Unsupported(&'static str),
    /// There are no block devices.
    #[error("{name}={value}: block devices are not supported")]
    BlockDevice {
        /// The property.
        name: String,
        /// What was given.
        value: String,
    },
    /// All interrupt controllers are to be outside the kernel.
    #[error("{0}=off: interrupt controllers outside the kernel are not supported")]
    NoKernelIrqchip(String),
    /// KVM would not take a ring of that size.
    #[error("dirty-ring-size must be a power of two.")]
    OddDirtyRing,
    /// Pages that were written to are found by bitmaps.
    #[error("dirty-ring-size={0}: dirty rings are not supported")]
    DirtyRing(u32),
    /// More memory below 4 GiB than there are addresses.
    #[error("Machine option 'max-ram-below-4g={0}' expects size less than or equal to 4G")]
    LowRamTooLarge(u64),
    /// Memory below 4 GiB that is not made of pages, or has no room for a PC's own.
    #[error("Machine option 'max-ram-below-4g={0}' expects a multiple of 4 KiB from 1 MiB on")]
    OddLowRam(u64),
    /// Firmware of that size would lie where the chipset is.
    #[error(
        "User specified max allowed firmware size {0} is greater than 16MiB. If combined firmware size exceeds 16MiB the \
         system may not boot, or experience intermittent stability issues."
    )]
    FirmwareTooLarge(u64),
    /// The ACPI tables have no room for such an id.
    #[error("User specified {name} value is bigger than {limit} bytes in size")]
    LongId {
        /// The property.
        name: String,
        /// Its bytes at the most.
        limit: usize,
    },
}

impl QmpError for OptionError {}

impl OptionError {
    fn expects(name: &str, what: &'static str) -> Self {
        Self::Expects {
            name: name.to_owned(),
            what,
        }
    }

    fn not_found(type_name: &str, property: &str) -> Self {
        Self::Property(PropertyError::NotFound {
            type_name: type_name.to_owned(),
            property: property.to_owned(),
        })
    }
}

/// What `-machine` and `-global` ask for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) irqchip: IrqChip,
    pub(crate) lost_ticks: LostTickPolicy,
    /// `kvm-shadow-mem`, in bytes.
    pub(crate) shadow_memory: Option<u64>,
    pub(crate) memory_backend: Option<String>,
    pub(crate) backends: BackendDefaults,
    pub(crate) acpi: bool,
    pub(crate) smbios_entry_point: EntryPoint,
    /// There is a keyboard controller.
    pub(crate) i8042: bool,
    /// Most RAM below 4 GiB, in bytes.
    pub(crate) max_low_ram: u64,
    /// Most bytes of firmware.
    pub(crate) max_firmware: u64,
    /// Firmware looks for a signature on floppies.
    pub(crate) checks_floppies: bool,
    /// Ids in ACPI table headers.
    pub(crate) oem: Oem,
    /// Devices come into slots by ACPI, not by the registers of ports (`ICH9-LPC.acpi-pci-hotplug-with-bridge-support`).
    pub(crate) acpi_hotplug: bool,
    /// ACPI S3 is left out (`ICH9-LPC.disable_s3`).
    pub(crate) disable_s3: bool,
    /// ACPI S4 is left out (`ICH9-LPC.disable_s4`).
    pub(crate) disable_s4: bool,
    /// What QEMU's machine does not have either.
    pub(crate) left_out: LeftOut,
}

/// Parts of QEMU's machine, none of which is here, that the command line leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) hpet: bool,
    pub(crate) vmport: bool,
    pub(crate) smbus: bool,
    pub(crate) sata: bool,
}

/// `smbios-entry-point-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EntryPoint {
    /// The 32-bit form unless the structures are too long for it.
    #[default]
    Auto,
    /// SMBIOS 2.x, `_SM_`.
    Bits32,
    /// SMBIOS 3.x, `_SM3_`.
    Bits64,
}

impl Options {
    /// Reads the properties in the order given.
    pub(crate) fn new(machine: &MachineType, config: &MachineConfig, registry: &Registry) -> Result<Self, OptionError> {
        let usual = registry.values(machine.qom_type.name, &Map::new(), [])?;
        let mut options = Self {
            irqchip: IrqChip::Kernel,
            lost_ticks: LostTickPolicy::Delay,
            shadow_memory: None,
            memory_backend: None,
            backends: BackendDefaults {
                merge: true,
                dump: true,
            },
            acpi: true,
            smbios_entry_point: entry_point(usual.text("smbios-entry-point-type").unwrap_or_default())
                .unwrap_or_default(),
            i8042: true,
            max_low_ram: FOUR_GIB,
            max_firmware: types::MAX_FIRMWARE,
            checks_floppies: true,
            oem: Oem::default(),
            acpi_hotplug: true,
            disable_s3: false,
            disable_s4: false,
            left_out: LeftOut::default(),
        };
        let accel_props = config
            .accels
            .iter()
            .filter(|accel| accel.name == "kvm")
            .flat_map(|accel| &accel.props);
        for (name, value) in accel_props {
            options.accelerator_property(name, value)?;
        }
        for (name, value) in &config.machine_props {
            options.machine_property(machine, name, value)?;
        }
        options.built_in_devices(registry, config)?;
        Ok(options)
    }

    fn accelerator_property(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        match name {
            "kernel-irqchip" => self.set_irqchip(name, value),
            "kvm-shadow-mem" => {
                let bytes = text::parse_int(value).map_err(|_| OptionError::expects(name, "int64"))?;
                // -1 leaves it to the kernel.
                self.shadow_memory = u64::try_from(bytes).ok();
                Ok(())
            }
            "dirty-ring-size" => check_dirty_ring(value),
            other => Err(OptionError::not_found("kvm-accel", other)),
        }
    }

    fn machine_property(&mut self, machine: &MachineType, name: &str, value: &str) -> Result<(), OptionError> {
        // The command line allows underscores wherever a name has hyphens.
        let canonical = name.replace('_', "-");
        match canonical.as_str() {
            "kernel-irqchip" => self.set_irqchip(name, value)?,
            // The processor's part of the command line reads and checks it.
            caches if caches.starts_with(SMP_CACHE) => {}
            "memory-backend" => self.memory_backend = Some(value.to_owned()),
            "mem-merge" => self.backends.merge = flag(name, value)?,
            "dump-guest-core" => self.backends.dump = flag(name, value)?,
            "acpi" => self.acpi = on_off_auto(name, value)?.unwrap_or(true),
            "smbus" => {
                refuse_on(
                    Some(flag(name, value)?),
                    "smbus=on: the machine has no System Management Bus",
                )?;
                self.left_out.smbus = true;
            }
            // There is no IOMMU that devices could bypass or not.
            "graphics" | "suppress-vmdesc" | "default-bus-bypass-iommu" => drop(flag(name, value)?),
            "smm" => refuse_on(
                on_off_auto(name, value)?,
                "smm=on: System Management Mode is not supported",
            )?,
            "vmport" => {
                let asked = on_off_auto(name, value)?;
                refuse_on(asked, "vmport=on: the VMware port is not supported")?;
                self.left_out.vmport = asked.is_some();
            }
            "i8042" => self.i8042 = flag(name, value)?,
            "fd-bootchk" => self.checks_floppies = flag(name, value)?,
            "max-ram-below-4g" => self.max_low_ram = low_ram(size(name, value)?)?,
            "max-fw-size" => self.max_firmware = firmware_size(size(name, value)?)?,
            "x-oem-id" => self.oem.id = padded(name, value)?,
            "x-oem-table-id" => self.oem.table_id = padded(name, value)?,
            "pic" => refuse_off(
                on_off_auto(name, value)?,
                "pic=off: the interrupt controllers cannot be left out",
            )?,
            "pit" => refuse_off(on_off_auto(name, value)?, "pit=off: the timer cannot be left out")?,
            "hmat" => refuse_on(
                Some(flag(name, value)?),
                "hmat=on: the ACPI table HMAT is not supported",
            )?,
            "nvdimm" => refuse_on(Some(flag(name, value)?), "nvdimm=on: NVDIMMs are not supported")?,
            "cxl" => refuse_on(Some(flag(name, value)?), "cxl=on: CXL is not supported")?,
            "hpet" => {
                refuse_on(Some(flag(name, value)?), "hpet=on: the HPET is not supported")?;
                self.left_out.hpet = true;
            }
            "pflash0" | "pflash1" => {
                return Err(OptionError::BlockDevice {
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
            "usb" => refuse_on(
                Some(flag(name, value)?),
                "usb=on: the machine has no USB controller of its own",
            )?,
            "sata" => {
                refuse_on(
                    Some(flag(name, value)?),
                    "sata=on: the machine has no SATA controller of its own",
                )?;
                self.left_out.sata = true;
            }
            "smbios-entry-point-type" => {
                self.smbios_entry_point = entry_point(value).ok_or_else(|| bad_value(name, value))?;
            }
            _ => {
                return Err(OptionError::not_found(machine.qom_type.name, name));
            }
        }
        Ok(())
    }

    /// What the machine's own devices are set to.
    fn built_in_devices(&mut self, registry: &Registry, config: &MachineConfig) -> Result<(), OptionError> {
        let timer = built_in_values(registry, config, "kvm-pit")?;
        self.lost_ticks = match timer.text("lost_tick_policy") {
            Some("discard") => LostTickPolicy::Discard,
            Some("slew") => return Err(bad_value("kvm-pit.lost_tick_policy", "slew")),
            _ => LostTickPolicy::Delay,
        };
        let bridge = built_in_values(registry, config, "ICH9-LPC")?;
        let is_set = |name| bridge.uint(name).is_some_and(|value| value != 0);
        self.acpi_hotplug = bridge.boolean("acpi-pci-hotplug-with-bridge-support");
        self.disable_s3 = is_set("disable_s3");
        self.disable_s4 = is_set("disable_s4");
        Ok(())
    }

    fn set_irqchip(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        self.irqchip = match value {
            "on" => IrqChip::Kernel,
            "split" => IrqChip::Split,
            "off" => {
                return Err(OptionError::NoKernelIrqchip(name.to_owned()));
            }
            _ => return Err(bad_value(name, value)),
        };
        Ok(())
    }
}

/// Pages that the guest has written to are found by bitmaps; rings of them are another way, which is not here.
fn check_dirty_ring(value: &str) -> Result<(), OptionError> {
    let size: u32 = text::parse_uint(value)
        .ok()
        .and_then(|size| size.try_into().ok())
        .ok_or_else(|| OptionError::expects("dirty-ring-size", "uint32"))?;
    match size {
        0 => Ok(()),
        _ if !size.is_power_of_two() => Err(OptionError::OddDirtyRing),
        _ => Err(OptionError::DirtyRing(size)),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, OptionError> {
    text::parse_bool(value).ok_or_else(|| OptionError::expects(name, "'on' or 'off'"))
}

fn entry_point(value: &str) -> Option<EntryPoint> {
    match value {
        "auto" => Some(EntryPoint::Auto),
        "32" => Some(EntryPoint::Bits32),
        "64" => Some(EntryPoint::Bits64),
        _ => None,
    }
}

fn on_off_auto(name: &str, value: &str) -> Result<Option<bool>, OptionError> {
    if value == "auto" {
        return Ok(None);
    }
    text::parse_bool(value).map(Some).ok_or_else(|| bad_value(name, value))
}

fn refuse_on(value: Option<bool>, why: &'static str) -> Result<(), OptionError> {
    if value == Some(true) {
        Err(OptionError::Unsupported(why))
    } else {
        Ok(())
    }
}

fn refuse_off(value: Option<bool>, why: &'static str) -> Result<(), OptionError> {
    refuse_on(value.map(|on| !on), why)
}

fn size(name: &str, value: &str) -> Result<u64, OptionError> {
    text::parse_size(value, 1).map_err(|_| OptionError::expects(name, "size"))
}

/// `max-ram-below-4g`: whole pages.
fn low_ram(size: u64) -> Result<u64, OptionError> {
    const PAGE: u64 = 4096;
    if size > FOUR_GIB {
        return Err(OptionError::LowRamTooLarge(size));
    }
    if size < ONE_MIB || size % PAGE != 0 {
        return Err(OptionError::OddLowRam(size));
    }
    Ok(size)
}

/// `max-fw-size`.
fn firmware_size(size: u64) -> Result<u64, OptionError> {
    const LIMIT: u64 = 16 << 20;
    if size > LIMIT {
        return Err(OptionError::FirmwareTooLarge(size));
    }
    Ok(size)
}

/// An id, filled up with blanks.
fn padded<const N: usize>(name: &str, value: &str) -> Result<[u8; N], OptionError> {
    let mut id = [b' '; N];
    let place = id.get_mut(..value.len());
    let place = place.ok_or_else(|| OptionError::LongId {
        name: name.to_owned(),
        limit: N,
    })?;
    place.copy_from_slice(value.as_bytes());
    Ok(id)
}

fn bad_value(name: &str, value: &str) -> OptionError {
    OptionError::NoSuchValue {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::pc::devices::registry;
    use crate::{
        machine::{config::Global, types},
        target::Target,
    };

    fn options(props: &[(&str, &str)]) -> Result<Options, OptionError> {
        let config = MachineConfig {
            machine_props: props
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            globals: vec![Global {
                driver: "ICH9-LPC".into(),
                property: "disable_s3".into(),
                value: "1".into(),
            }],
            ..MachineConfig::default()
        };
        let machine = types::find(Target::X86_64, "pc-q35-7.2").unwrap();
        Options::new(machine, &config, &registry(machine))
    }

    #[test]
    fn what_libvirt_writes_is_understood() {
        let props = [
            ("usb", "off"),
            ("dump-guest-core", "off"),
            ("memory-backend", "pc.ram"),
            ("kernel_irqchip", "on"),
        ];
        let options = options(&props).unwrap();
        assert_eq!(options.memory_backend.as_deref(), Some("pc.ram"));
        assert!(!options.backends.dump && options.disable_s3 && !options.disable_s4);
    }

    #[test]
    fn properties_of_the_accelerator() {
        let read = |name: &str, value: &str| {
            let config = MachineConfig {
                accels: vec![crate::machine::config::AccelConfig {
                    name: "kvm".into(),
                    props: vec![(name.into(), value.into())],
                }],
                ..MachineConfig::default()
            };
            let machine = types::find(Target::X86_64, "q35").unwrap();
            let options = Options::new(machine, &config, &registry(machine));
            options
                .map(|options| options.shadow_memory)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("kvm-shadow-mem", "16777216"), Ok(Some(16 << 20)));
        assert_eq!(read("kvm-shadow-mem", "-1"), Ok(None));
        assert_eq!(read("dirty-ring-size", "0"), Ok(None));
        for (name, value, complaint) in [
            ("kvm-shadow-mem", "x", "Parameter 'kvm-shadow-mem' expects int64"),
            ("dirty-ring-size", "3", "dirty-ring-size must be a power of two."),
            (
                "dirty-ring-size",
                "4096",
                "dirty-ring-size=4096: dirty rings are not supported",
            ),
            ("foo", "bar", "Property 'kvm-accel.foo' not found"),
        ] {
            assert_eq!(read(name, value), Err(complaint.to_owned()));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (name, value) in [
            ("hmat", "on"),
            ("nvdimm", "on"),
            ("cxl", "on"),
            ("pic", "off"),
            ("pit", "off"),
            ("smm", "on"),
            ("hpet", "on"),
            ("usb", "on"),
            ("kernel-irqchip", "off"),
        ] {
            let error = options(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: ")), "{error}");
        }
        assert_eq!(
            options(&[("nosuch", "1")]).unwrap_err().to_string(),
            "Property 'pc-q35-7.2-machine.nosuch' not found"
        );
        assert_eq!(
            options(&[("acpi", "maybe")]).unwrap_err().to_string(),
            "Parameter 'acpi' does not accept value 'maybe'"
        );
    }

    #[test]
    fn sizes_and_ids_are_checked() {
        let given = options(&[("max-ram-below-4g", "1G"), ("x-oem-id", "ABC"), ("i8042", "off")]).unwrap();
        assert_eq!(
            (given.max_low_ram, given.oem.id, given.i8042),
            (1 << 30, *b"ABC   ", false)
        );
        assert_eq!(given.oem.table_id, *b"BXPC    ");
        for (name, value, complaint) in [
            (
                "max-ram-below-4g",
                "5G",
                "Machine option 'max-ram-below-4g=5368709120' expects size less than or equal to 4G",
            ),
            ("max-ram-below-4g", "x", "Parameter 'max-ram-below-4g' expects size"),
            (
                "max-fw-size",
                "32M",
                "User specified max allowed firmware size 33554432 is greater than 16MiB.",
            ),
            (
                "x-oem-id",
                "TOOLONG",
                "User specified x-oem-id value is bigger than 6 bytes in size",
            ),
            ("pit", "x", "Parameter 'pit' does not accept value 'x'"),
        ] {
            let error = options(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}
