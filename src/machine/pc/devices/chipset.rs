//! What every q35 machine has, whatever the command line says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Map;

use super::{Assembly, Surroundings};
use crate::devices::i8042::{self, I8042};
use crate::devices::pci::{Lpc, Mch};
use crate::devices::pit::Pit;
use crate::devices::pm::{Pm, PmConfig};
use crate::devices::port92::Port92;
use crate::devices::rtc::{PORT as RTC_PORT, Rtc};
use crate::machine::bus::SharedDevice;
use crate::machine::pc::acpi::{PM_BASE, SCI};
use crate::machine::pc::board::Board;
use crate::machine::pc::pci::{ConfigPorts, MmConfig, RootComplex};
use crate::machine::pc::resources::Resources;
use crate::machine::pc::rtc::{self, BootOrder, TimedRtc};
use crate::machine::pc::timed::Timed;
use crate::machine::pci::{Devfn, Placement};
use crate::machine::streams::StreamsBuilder;
use crate::qapi::Error;

/// Name of the root bus.
const ROOT_BUS: &str = "pcie.0";
/// Hard disk, floppy, CD-ROM.
const DEFAULT_BOOT_ORDER: &str = "cad";
/// Interrupt of the timer.
const TIMER_IRQ: u8 = 0;
/// Interrupt of the keyboard.
const KEYBOARD_IRQ: u8 = 1;
/// Interrupt of the real-time clock.
const RTC_IRQ: u8 = 8;

impl<'a> Assembly<'a> {
    /// A machine with its chipset and nothing plugged in.
    pub(super) fn new(with: &'a Surroundings<'a>, resources: Resources) -> Result<Self, Error> {
        let streams = StreamsBuilder::new().map_err(|error| Error::generic(format!("eventfd: {error}")))?;
        let (board, notifier) = (with.board, with.board.notifier());
        let sci = with.lines.driver(SCI)?;
        let pm_config = PmConfig {
            acpi_at_reset: with.direct_boot,
            disable_s3: with.options.disable_s3,
            disable_s4: with.options.disable_s4,
        };
        let pm = Pm::new(pm_config, sci, Arc::clone(&notifier), Arc::clone(with.clock) as _);
        let line = with.lines.driver(RTC_IRQ)?;
        let now = rtc::now(&with.config.rtc, with.clock)?;
        let boot = &with.config.boot;
        let order = |letters| BootOrder::new(letters, with.options.checks_floppies);
        let usual = order(boot.order.as_deref().unwrap_or(DEFAULT_BOOT_ORDER))?;
        let once = boot.once.as_deref().map(order).transpose()?;
        let cmos = rtc::cmos(with.split, with.cpus, once.unwrap_or(usual));
        let clock = TimedRtc::new(Rtc::new(line, Arc::clone(&notifier), now, cmos), once.map(|_| usual));
        let mut assembly = Assembly {
            with,
            streams,
            chardevs: resources.chardevs,
            all: Vec::new(),
            infos: Vec::new(),
            pci: RootComplex::new(board, ROOT_BUS),
            pm: Arc::new(Mutex::new(Timed::new(pm))),
            rtc: Arc::new(Mutex::new(clock)),
            serials: Vec::new(),
            pvpanic: None,
            slots: BTreeSet::new(),
            acpi_indices: BTreeSet::new(),
            filled_in: Map::new(),
        };
        let config_ports = ConfigPorts::new(Arc::clone(&assembly.pci), Arc::clone(&notifier));
        let config_ports = assembly.keep(config_ports) as SharedDevice;
        assembly.map_ports(ConfigPorts::PORT, ConfigPorts::LEN, &config_ports)?;
        let rtc = Arc::clone(&assembly.rtc) as SharedDevice;
        assembly.map_ports(RTC_PORT, 2, &rtc)?;
        assembly.all.push(rtc);
        if with.options.i8042 {
            assembly.add_keyboard()?;
        }
        let port92 = assembly.keep(Port92::new(notifier)) as SharedDevice;
        assembly.map_ports(Port92::PORT, 1, &port92)?;
        let pm = Arc::clone(&assembly.pm) as SharedDevice;
        assembly.all.push(Arc::clone(&pm));
        let apm = board.space.map_ports(Pm::APM_PORT, Pm::APM_LEN, &pm, Pm::APM_BIAS);
        apm.map_err(|error| Error::generic(error.to_string()))?;
        assembly.add_host_bridge()?;
        assembly.add_lpc_bridge(&pm)?;
        Ok(assembly)
    }

    /// The keyboard controller.
    fn add_keyboard(&mut self) -> Result<(), Error> {
        let line = self.with.lines.driver(KEYBOARD_IRQ)?;
        let keyboard = self.keep(I8042::new(line, self.with.board.notifier())) as SharedDevice;
        self.map_ports(i8042::DATA_PORT, 1, &keyboard)?;
        let command_port = i8042::DATA_PORT + i8042::COMMAND_OFFSET;
        let space = &self.with.board.space;
        let mapped = space.map_ports(command_port, 1, &keyboard, i8042::COMMAND_OFFSET);
        mapped.map_err(|error| Error::generic(error.to_string()))
    }

    /// The timer, unless the kernel has it.
    pub(super) fn add_timer(&mut self) -> Result<Option<Arc<Mutex<Timed<Pit>>>>, Error> {
        if self.with.chips.is_none() {
            return Ok(None);
        }
        let line = self.with.lines.driver(TIMER_IRQ)?;
        let pit = self.keep(Timed::new(Pit::new(line, Arc::clone(self.with.clock) as _)));
        let device = Arc::clone(&pit) as SharedDevice;
        self.map_ports(Pit::PORT, Pit::LEN, &device)?;
        let space = &self.with.board.space;
        let mapped = space.map_ports(Pit::SPEAKER_PORT, 1, &device, Pit::SPEAKER_OFFSET);
        mapped.map_err(|error| Error::generic(error.to_string()))?;
        Ok(Some(pit))
    }

    /// The host bridge, which maps configuration space into memory.
    fn add_host_bridge(&mut self) -> Result<(), Error> {
        let mch = Arc::new(Mutex::new(Mch::new(self.with.direct_boot)));
        let (mmconfig, bridge) = (self.mmconfig(), Arc::clone(&mch));
        let mapped = Mutex::new(None);
        let hook = move |board: &Board| {
            let wanted = bridge.lock().unwrap_or_else(PoisonError::into_inner).mmconfig();
            let mut mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner);
            if *mapped == wanted {
                return;
            }
            if let Some(range) = mapped.take() {
                board.space.unmap_memory(range.start);
            }
            let Some(range) = wanted else { return };
            match board.space.map_memory(range.start, range.end - range.start, &mmconfig) {
                Ok(()) => *mapped = Some(range),
                Err(error) => tracing::warn!(%error, "memory-mapped configuration space"),
            }
        };
        let want = fixed("mch", Devfn::new(0, 0), false);
        let place = self.pci.place(&want)?;
        self.pci.insert(place, &want, mch, Some(Box::new(hook)));
        Ok(())
    }

    fn mmconfig(&self) -> SharedDevice {
        Arc::new(Mutex::new(MmConfig::new(Arc::clone(&self.pci))))
    }

    /// The LPC bridge, which maps the power management ports.
    fn add_lpc_bridge(&mut self, pm: &SharedDevice) -> Result<(), Error> {
        let lpc = Arc::new(Mutex::new(Lpc::new(self.with.direct_boot.then_some(PM_BASE))));
        let (bridge, pm) = (Arc::clone(&lpc), Arc::clone(pm));
        let mapped = Mutex::new(None);
        let hook = move |board: &Board| {
            let wanted = bridge.lock().unwrap_or_else(PoisonError::into_inner).pm_base();
            let mut mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner);
            if *mapped == wanted {
                return;
            }
            if let Some(base) = mapped.take() {
                board.space.unmap_ports(base);
            }
            let Some(base) = wanted else { return };
            match board.space.map_ports(base, Pm::LEN, &pm, 0) {
                Ok(()) => *mapped = Some(base),
                Err(error) => tracing::warn!(%error, "power management ports"),
            }
        };
        let want = fixed("ICH9-LPC", Devfn::new(0x1f, 0), true);
        let place = self.pci.place(&want)?;
        self.pci.insert(place, &want, lpc, Some(Box::new(hook)));
        Ok(())
    }
}

fn fixed(driver: &str, addr: Devfn, multifunction: bool) -> Placement<'_> {
    Placement {
        driver,
        id: None,
        bus: None,
        addr: Some(addr),
        multifunction,
    }
}
