//! The sections of a guest in QEMU's order.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::parts::{Parts, visit_held};
use crate::devices::pci::LpcState;
use crate::devices::pit::SpeakerState;
use crate::machine::pc::Vm;
use crate::machine::pc::devices::LpcParts;
use crate::vmstate::pc::PciBusState;
use crate::vmstate::{Section, StateError, Stateful, section};

/// Called with name, instance and section.
type Visit<'a> = dyn FnMut(&str, u32, &mut dyn Section) -> Result<(), StateError> + 'a;

/// Sections that come before all others, since later ones lean on them: ports, which buses are behind.
const PORT: &str = "pcie-root-port";

/// Numbers sections of the same name.
#[derive(Default)]
struct Numbers(BTreeMap<String, u32>);

impl Numbers {
    fn next(&mut self, name: &str) -> u32 {
        let next = self.0.entry(name.to_owned()).or_default();
        let number = *next;
        *next += 1;
        number
    }
}

impl Vm {
    /// Visits all sections of the guest.
    pub(super) fn visit_sections(&self, parts: &mut Parts, visit: &mut Visit<'_>) -> Result<(), StateError> {
        let mut walk = Walk {
            vm: self,
            numbers: Numbers::default(),
            visit,
        };
        walk.processors_first(parts)?;
        walk.plugged(|name| name == PORT)?;
        walk.processors(parts)?;
        walk.board(parts)?;
        walk.timers(parts)?;
        walk.rest_of_board()?;
        walk.buses_behind_ports()?;
        walk.plugged(|name| name != PORT)?;
        visit_held(&mut parts.acpi, |section| (walk.visit)("acpi_build", 0, section))?;
        visit_held(&mut parts.global, |section| (walk.visit)("globalstate", 0, section))
    }
}

struct Walk<'a, 'v> {
    vm: &'a Vm,
    numbers: Numbers,
    visit: &'a mut Visit<'v>,
}

impl Walk<'_, '_> {
    /// The local APICs.
    fn processors_first(&mut self, parts: &mut Parts) -> Result<(), StateError> {
        for (index, vcpu) in (0..).zip(&mut parts.vcpus) {
            let id = self.vm.apic_id(index);
            visit_held(&mut vcpu.apic, |section| (self.visit)("apic", id, section))?;
        }
        Ok(())
    }

    fn processors(&mut self, parts: &mut Parts) -> Result<(), StateError> {
        visit_held(&mut parts.timer, |section| (self.visit)("timer", 0, section))?;
        for (index, vcpu) in (0..).zip(&mut parts.vcpus) {
            visit_held(&mut vcpu.common, |section| (self.visit)("cpu_common", index, section))?;
            visit_held(&mut vcpu.cpu, |section| (self.visit)("cpu", index, section))?;
        }
        self.device("kvmvapic")?;
        if self.vm.has_paravirtual_clock() {
            visit_held(&mut parts.kvmclock, |section| (self.visit)("kvmclock", 0, section))?;
        }
        self.device("fw_cfg_io")
    }

    fn board(&mut self, parts: &mut Parts) -> Result<(), StateError> {
        self.device("mch")?;
        self.device("q35-pcihost")?;
        self.bus(&mut parts.root_bus)?;
        self.device("i8257")?;
        self.device("mc146818rtc")?;
        let mut lpc = self.vm.devices.lpc_parts();
        let path = lpc.path.clone();
        let mut bridge = section::<LpcState>(&mut lpc);
        let name = format!("{path}/{}", bridge.layout().name);
        (self.visit)(&name, 0, &mut bridge)
    }

    /// Interrupt controllers and timers.
    fn timers(&mut self, parts: &mut Parts) -> Result<(), StateError> {
        let Some(chips) = &mut parts.chips else {
            self.device("isa-i8259")?;
            self.device("ioapic")?;
            self.device("hpet")?;
            return self.device("isa-pit");
        };
        for (index, pic) in (0..).zip(&mut chips.pics) {
            visit_held(pic, |section| (self.visit)("i8259", index, section))?;
        }
        visit_held(&mut chips.ioapic, |section| (self.visit)("ioapic", 0, section))?;
        self.device("hpet")?;
        visit_held(&mut chips.pit, |section| (self.visit)("i8254", 0, section))?;
        let mut speaker = SpeakerState {
            data_on: chips.speaker_on,
            dummy_refresh_clock: 0,
        };
        visit_held(&mut speaker, |section| (self.visit)("pcspk", 0, section))?;
        chips.speaker_on = speaker.data_on;
        Ok(())
    }

    fn rest_of_board(&mut self) -> Result<(), StateError> {
        for type_name in ["i8042", "vmmouse", "port92", "ich9-ahci", "i2c-bus", "ICH9-SMB"] {
            self.device(type_name)?;
        }
        Ok(())
    }

    fn buses_behind_ports(&mut self) -> Result<(), StateError> {
        for _ in 0..self.vm.devices.buses_behind_ports() {
            self.bus(&mut PciBusState::default())?;
        }
        Ok(())
    }

    fn bus(&mut self, bus: &mut PciBusState) -> Result<(), StateError> {
        let number = self.numbers.next("PCIBUS");
        visit_held(bus, |section| (self.visit)("PCIBUS", number, section))
    }

    /// All devices of the machine's own of this type.
    fn device(&mut self, type_name: &str) -> Result<(), StateError> {
        for (path, device) in self.vm.devices.built_in(type_name) {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            let (numbers, visit) = (&mut self.numbers, &mut *self.visit);
            device.sections(&mut |section| {
                let name = full_name(path.as_deref(), section);
                let number = numbers.next(&name);
                visit(&name, number, section)
            })?;
        }
        Ok(())
    }

    /// Sections, of those with a name that `wanted` likes, of the devices that users plugged in.
    fn plugged(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(), StateError> {
        for (path, device) in self.vm.devices.plugged_in() {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            let (numbers, visit) = (&mut self.numbers, &mut *self.visit);
            device.sections(&mut |section| {
                if !wanted(section.layout().name) {
                    return Ok(());
                }
                let name = full_name(path.as_deref(), section);
                let number = numbers.next(&name);
                visit(&name, number, section)
            })?;
        }
        Ok(())
    }
}

/// The name of a section in a stream.
fn full_name(path: Option<&str>, section: &dyn Section) -> String {
    let name = section.layout().name;
    path.map_or_else(|| name.to_owned(), |path| format!("{path}/{name}"))
}

impl Stateful<LpcState> for LpcParts {
    fn state(&self) -> LpcState {
        let part = self.lpc.lock().unwrap_or_else(PoisonError::into_inner).part();
        let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
        let (apm, sci_level, pm) = pm.with(|pm| (pm.apm(), pm.sci_level(), pm.state()));
        LpcState {
            pci: part.pci,
            apm,
            pm,
            chip_config: part.chip_config,
            sci_level,
            rst_cnt: self
                .ports
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .reset_control(),
            smi: part.smi,
        }
    }

    fn set_state(&mut self, state: LpcState) -> Result<(), StateError> {
        let part = crate::devices::pci::LpcPart {
            pci: state.pci,
            chip_config: state.chip_config,
            smi: state.smi,
        };
        self.lpc.lock().unwrap_or_else(PoisonError::into_inner).set_part(part)?;
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.set_reset_control(state.rst_cnt);
        let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
        pm.with(|pm| {
            pm.set_apm(state.apm);
            pm.set_state(state.pm)
        })
    }
}
