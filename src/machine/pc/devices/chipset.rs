//! What every q35 machine has, whatever the command line says.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::fixture::{Chipset, Numbers};
use super::instance::Instance;
use super::{Assembly, LpcParts, Surroundings};
use crate::devices::absent::{
    Absent, AhciState, DmaState, HpetState, I2cBusState, SmbusState, VapicState, VmMouseState,
};
use crate::devices::i8042::{self, I8042};
use crate::devices::pci::{Lpc, Mch};
use crate::devices::pit::Pit;
use crate::devices::pm::{Pm, PmConfig};
use crate::devices::port92::Port92;
use crate::devices::ports;
use crate::devices::rtc::{PORT as RTC_PORT, Rtc};
use crate::devices::{AcpiDevice, SharedDevice};
use crate::machine::pc::acpi::{PM_BASE, SCI};
use crate::machine::pc::board::Board;
use crate::machine::pc::pci::{ConfigPorts, MmConfig, RootComplex};
use crate::machine::pc::resources::Resources;
use crate::machine::pc::rtc::{self, BootOrder, TimedRtc};
use crate::machine::pc::timed::Timed;
use crate::machine::pci::{Devfn, Placement};
use crate::machine::streams::Streams;
use crate::mem::{Access, Mapping, Region};
use crate::qapi::Error;

/// Name of the root bus.
const ROOT_BUS: &str = "pcie.0";
/// Hard disk, floppy, CD-ROM.
const DEFAULT_BOOT_ORDER: &str = "cad";
/// Interrupt of the timer.
const TIMER_IRQ: u8 = 0;
/// Interrupt of the keyboard.
const KEYBOARD_IRQ: u8 = 1;
/// Interrupt of the mouse.
const MOUSE_IRQ: u8 = 12;
/// Interrupt of the real-time clock.
const RTC_IRQ: u8 = 8;

impl<'a> Assembly<'a> {
    /// A machine with its chipset and nothing plugged in.
    pub(super) fn new(with: &'a Surroundings<'a>, resources: Resources) -> Result<(Self, Chipset), Error> {
        let (board, notifier) = (with.board, with.board.notifier());
        let wiring = with.wiring(resources.entropy, resources.networks, resources.graph);
        let sci = wiring.line(SCI)?;
        let pm_config = PmConfig {
            disable_s3: with.options.disable_s3,
            disable_s4: with.options.disable_s4,
            pci_hotplug: with.options.acpi_hotplug,
            possible_cpus: with.config.smp.max_cpus as usize,
        };
        let pm = Pm::new(pm_config, sci, Arc::clone(&notifier), Arc::clone(with.clock) as _);
        let line = wiring.line(RTC_IRQ)?;
        let now = rtc::now(&with.config.rtc, with.clock)?;
        let boot = &with.config.boot;
        let order = |letters| BootOrder::new(letters, with.options.checks_floppies);
        let usual = order(boot.order.as_deref().unwrap_or(DEFAULT_BOOT_ORDER))?;
        let once = boot.once.as_deref().map(order).transpose()?;
        let cmos = rtc::cmos(with.split, with.cpus, once.unwrap_or(usual));
        let clock = Rtc::new(line, Arc::clone(&notifier), now, cmos);
        let clock = TimedRtc::new(Timed::new(clock, with.io, with.clock), once.map(|_| usual));
        let pci = RootComplex::new(board, ROOT_BUS);
        let pm = Arc::new(Mutex::new(Timed::new(pm, with.io, with.clock)));
        let lpc = LpcParts {
            path: String::new(),
            lpc: Arc::new(Mutex::new(Lpc::new(with.direct_boot.then_some(PM_BASE)))),
            pm: Arc::clone(&pm),
            ports: Arc::new(Mutex::new(ConfigPorts::new(Arc::clone(&pci), Arc::clone(&notifier)))),
        };
        let mut assembly = Assembly {
            with,
            numbers: Numbers::new(with.cpus),
            wiring,
            streams: Streams::new(with.io),
            chardevs: resources.chardevs,
            all: Vec::new(),
            instances: Vec::new(),
            pci,
            pm,
            rtc: Arc::new(Mutex::new(clock)),
            lpc,
            mappings: Vec::new(),
        };
        let config_ports = Arc::clone(&assembly.lpc.ports) as SharedDevice;
        assembly.all.push(Arc::clone(&config_ports));
        let region = ports("pci-conf", ConfigPorts::LEN, Access::UP_TO_FOUR, &config_ports, 0);
        assembly.map_ports(ConfigPorts::PORT, &region)?;
        let rtc = Arc::clone(&assembly.rtc) as SharedDevice;
        assembly.map_ports(RTC_PORT, &ports("rtc", 2, Access::BYTES, &rtc, 0))?;
        assembly.all.push(Arc::clone(&rtc));
        let keyboard = match with.options.i8042 {
            true => Some(assembly.add_keyboard()?),
            false => None,
        };
        let port92 = assembly.keep(Port92::new(notifier)) as SharedDevice;
        assembly.map_ports(Port92::PORT, &ports("port92", 1, Access::BYTES, &port92, 0))?;
        let pm = Arc::clone(&assembly.pm) as SharedDevice;
        assembly.all.push(Arc::clone(&pm));
        let apm = ports("apm-io", Pm::APM_LEN, Access::BYTES, &pm, Pm::APM_BIAS);
        assembly.map_ports(Pm::APM_PORT, &apm)?;
        if with.options.acpi_hotplug {
            let slots = ports(
                "acpi-pci-hotplug",
                Pm::HOTPLUG_LEN,
                Access::UP_TO_FOUR,
                &pm,
                Pm::HOTPLUG_BIAS,
            );
            assembly.map_ports(Pm::HOTPLUG_PORT, &slots)?;
        }
        let chipset = Chipset {
            mch: assembly.add_host_bridge()?,
            lpc: assembly.add_lpc_bridge(&pm)?,
            rtc,
            keyboard,
            port92,
            split: None,
            serials: 0,
        };
        Ok((assembly, chipset))
    }

    /// The keyboard controller, with keyboard and mouse.
    fn add_keyboard(&mut self) -> Result<SharedDevice, Error> {
        let lines = i8042::Lines {
            keyboard: self.wiring.line(KEYBOARD_IRQ)?,
            mouse: self.wiring.line(MOUSE_IRQ)?,
        };
        let keyboard = self.keep(I8042::new(lines, self.with.board.notifier(), self.with.direct_boot)) as SharedDevice;
        self.map_ports(i8042::DATA_PORT, &ports("i8042-data", 1, Access::BYTES, &keyboard, 0))?;
        let command = ports("i8042-cmd", 1, Access::BYTES, &keyboard, i8042::COMMAND_OFFSET);
        self.map_ports(i8042::DATA_PORT + i8042::COMMAND_OFFSET, &command)?;
        Ok(keyboard)
    }

    /// The timer, unless the kernel has it.
    pub(super) fn add_timer(&mut self) -> Result<Option<SharedDevice>, Error> {
        if self.with.chips.is_none() {
            return Ok(None);
        }
        let line = self.wiring.line(TIMER_IRQ)?;
        let pit = Pit::new(line, Arc::clone(self.with.clock) as _);
        let pit = self.keep(Timed::new(pit, self.with.io, self.with.clock));
        let device = Arc::clone(&pit) as SharedDevice;
        self.map_ports(Pit::PORT, &ports("pit", Pit::LEN, Access::BYTES, &device, 0))?;
        let speaker = ports("pcspk", 1, Access::BYTES, &device, Pit::SPEAKER_OFFSET);
        self.map_ports(Pit::SPEAKER_PORT, &speaker)?;
        Ok(Some(device))
    }

    /// Tells firmware, by a register of the bridge, which serial ports there are.
    pub(super) fn tell_serial_ports(&self) {
        let has = |wanted: u16| {
            let mut told = self.instances.iter().filter_map(Instance::acpi);
            told.any(|device| matches!(device, AcpiDevice::SerialPort(port, _) if port == wanted))
        };
        let mut lpc = self.lpc.lpc.lock().unwrap_or_else(PoisonError::into_inner);
        lpc.set_serial_ports(has(0x3f8), has(0x2f8));
    }

    /// What QEMU's machine of the same command line has besides, of which saved states tell.
    pub(super) fn add_absent(&mut self) {
        let left_out = self.with.options.left_out;
        self.keep(Absent::<VapicState>::default());
        self.keep(Absent::<DmaState<0>>::default());
        self.keep(Absent::<DmaState<1>>::default());
        if !left_out.hpet {
            self.keep(Absent::<HpetState>::default());
        }
        if !left_out.vmport {
            self.keep(Absent::<VmMouseState>::default());
        }
        if !left_out.sata {
            self.keep(Absent::<AhciState>::default());
        }
        if !left_out.smbus {
            self.keep(Absent::<I2cBusState>::default());
            self.keep(Absent::<SmbusState>::default());
        }
    }

    /// The host bridge, which maps configuration space into memory, and ROM or RAM below 1 MiB.
    fn add_host_bridge(&mut self) -> Result<Arc<Mutex<Mch>>, Error> {
        let mch = Arc::new(Mutex::new(Mch::new(self.with.direct_boot)));
        let (mmconfig, bridge) = (Arc::new(MmConfig::new(Arc::clone(&self.pci))), Arc::clone(&mch));
        let shown = Mutex::new(None::<(Range<u64>, Mapping)>);
        let shadows = Arc::clone(self.with.shadows);
        let hook = move |board: &Board| {
            let (wanted, below) = {
                let bridge = bridge.lock().unwrap_or_else(PoisonError::into_inner);
                (bridge.mmconfig(), bridge.shadows())
            };
            shadows.follow(&board.map, below);
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if shown.as_ref().map(|(range, _)| range) == wanted.as_ref() {
                return;
            }
            *shown = None;
            let Some(range) = wanted else { return };
            let len = range.end - range.start;
            let region = Region::io("pcie-mmcfg-mmio", len, Access::UP_TO_FOUR, Arc::clone(&mmconfig) as _);
            match board.map.map_registers(range.start, &region) {
                Ok(mapping) => *shown = Some((range, mapping)),
                Err(error) => tracing::warn!(%error, "memory-mapped configuration space"),
            }
        };
        let want = fixed("mch", Devfn::new(0, 0), false);
        let place = self.pci.place(&want)?;
        self.pci
            .insert(place, &want, Arc::clone(&mch) as _, Some(Box::new(hook)));
        Ok(mch)
    }

    /// The LPC bridge, which maps the power management ports.
    fn add_lpc_bridge(&mut self, pm: &SharedDevice) -> Result<SharedDevice, Error> {
        let lpc = Arc::clone(&self.lpc.lpc);
        let bridge = Arc::clone(&lpc);
        let region = ports("acpi-pm", Pm::LEN, Access::UP_TO_FOUR, pm, 0);
        let shown = Mutex::new(None::<(u16, Mapping)>);
        let hook = move |board: &Board| {
            let wanted = bridge.lock().unwrap_or_else(PoisonError::into_inner).pm_base();
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if shown.as_ref().map(|(base, _)| *base) == wanted {
                return;
            }
            *shown = None;
            let Some(base) = wanted else { return };
            match board.map.map_ports(base, &region) {
                Ok(mapping) => *shown = Some((base, mapping)),
                Err(error) => tracing::warn!(%error, "power management ports"),
            }
        };
        let want = fixed("ICH9-LPC", Devfn::new(0x1f, 0), true);
        let place = self.pci.place(&want)?;
        self.pci
            .insert(place, &want, Arc::clone(&lpc) as _, Some(Box::new(hook)));
        self.lpc.path = self.pci.section_path(place);
        Ok(lpc)
    }
}

fn fixed(driver: &str, addr: Devfn, multifunction: bool) -> Placement<'_> {
    Placement {
        driver,
        id: None,
        bus: None,
        addr: Some(addr),
        multifunction,
        hotplugged: false,
    }
}
