//! The ICH9's power management: ACPI fixed hardware and the APM ports (ICH9 datasheet 13.8; ACPI 6.5, 4.8).

mod hotplug;
mod state;

use std::sync::Arc;

pub use hotplug::HotplugSlot;
pub use state::{CpuHotplugState, PciHotplugState, PmState, PossibleCpuState, SlotsState, TcoState};

use super::{Clock, Device, IrqLine, Notice, Notifier, PioDevice, ResetKind};
use crate::vmstate::{StateError, Stateful, Visitor};

/// Frequency of the power management timer in Hz.
const TIMER_HZ: u128 = 3_579_545;
const SECOND: u128 = 1_000_000_000;

/// Offsets of the registers.
const PM1_STATUS: u16 = 0x00;
const PM1_ENABLE: u16 = 0x02;
const PM1_CONTROL: u16 = 0x04;
const TIMER: u16 = 0x08;
const GPE0: u16 = 0x20;
const GPE0_LEN: u16 = 16;
const SMI_ENABLE: u16 = 0x30;
const SMI_STATUS: u16 = 0x34;
/// Where the second range, the APM ports, starts; see [`Pm::APM_BIAS`].
const APM_CONTROL: u16 = 0x100;
const APM_STATUS: u16 = 0x101;

/// PM1 status and enable.
const TIMER_CARRY: u16 = 1;
const GLOBAL: u16 = 1 << 5;
const POWER_BUTTON: u16 = 1 << 8;
const SLEEP_BUTTON: u16 = 1 << 9;
const RTC_ALARM: u16 = 1 << 10;
const WAKE: u16 = 1 << 15;
/// Bits of the enable register.
const ENABLE_MASK: u16 = TIMER_CARRY | GLOBAL | POWER_BUTTON | SLEEP_BUTTON | RTC_ALARM;
/// Bits of the status register that are cleared by writing ones.
const STATUS_MASK: u16 = ENABLE_MASK | 1 << 4 | WAKE;

/// PM1 control.
/// ACPI mode, which is on for good: without system management mode nobody could switch it on.
const SCI_ENABLE: u16 = 1;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// Bits that stay as written.
const CONTROL_MASK: u16 = SCI_ENABLE | 1 << 1 | 7 << SLEEP_TYPE_SHIFT;

/// SMI enable: writes to the APM port raise an SMI. Set from the start, it tells firmware that system management mode
/// has been dealt with, so that it does not wait for an interrupt that never comes.
const APM_SMI: u32 = 1 << 5;

/// How a PM block starts and what it can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PmConfig {
    /// Sleep state S3 is left out.
    pub disable_s3: bool,
    /// Sleep state S4 is left out.
    pub disable_s4: bool,
    /// vCPUs there may ever be.
    pub possible_cpus: usize,
    /// Devices come into the slots of ports by ACPI.
    pub pci_hotplug: bool,
}

/// Why a sleeping guest wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// The power button.
    PowerButton,
    /// The clock's alarm.
    RtcAlarm,
    /// Anything else.
    Other,
}

/// Parts of the block that are as after a reset until somebody uses them, or as they came.
#[derive(Clone, Default)]
struct Kept {
    memory_selector: u32,
    tco: TcoState,
    cpus: Option<CpuHotplugState>,
    pci: Option<Box<PciHotplugState>>,
}

/// The power management block.
pub struct Pm {
    config: PmConfig,
    sci: Arc<dyn IrqLine>,
    notifier: Notifier,
    clock: Arc<dyn Clock>,
    status: u16,
    enable: u16,
    control: u16,
    gpe: [u8; GPE0_LEN as usize],
    smi_enable: u32,
    smi_status: u32,
    apm: [u8; 2],
    /// The timer's value from which on its carry is set.
    overflow: u64,
    /// What most machines never use.
    kept: Kept,
    /// Slots whose devices the guest has let go of.
    ejected: Vec<HotplugSlot>,
}

impl Pm {
    /// Ports of the block.
    pub const LEN: u16 = 0x80;
    /// The port of the APM pair.
    pub const APM_PORT: u16 = 0xb2;
    /// Ports of the APM pair.
    pub const APM_LEN: u16 = 2;
    /// What the offsets of the APM pair count from.
    pub const APM_BIAS: u16 = APM_CONTROL;

    /// A block that interrupts through `sci`.
    #[must_use]
    pub fn new(config: PmConfig, sci: Arc<dyn IrqLine>, notifier: Notifier, clock: Arc<dyn Clock>) -> Self {
        let mut pm = Self {
            config,
            sci,
            notifier,
            clock,
            status: 0,
            enable: 0,
            control: 0,
            gpe: [0; GPE0_LEN as usize],
            smi_enable: 0,
            smi_status: 0,
            apm: [0; 2],
            overflow: 0,
            kept: Kept::default(),
            ejected: Vec::new(),
        };
        pm.reset();
        pm
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.update_sci();
    }

    /// Notes why the guest wakes from sleep.
    pub fn wake(&mut self, reason: WakeReason) {
        self.status |= WAKE
            | match reason {
                WakeReason::PowerButton => POWER_BUTTON,
                WakeReason::RtcAlarm => RTC_ALARM,
                WakeReason::Other => 0,
            };
        self.update_sci();
    }

    /// Nanoseconds of guest time until the timer's carry interrupts; none while it is not to, or has done so.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.enable & TIMER_CARRY == 0 || self.current_status() & TIMER_CARRY != 0 {
            return None;
        }
        let at = (u128::from(self.overflow) * SECOND).div_ceil(TIMER_HZ);
        Some(
            u64::try_from(at)
                .unwrap_or(u64::MAX)
                .saturating_sub(self.clock.nanoseconds()),
        )
    }

    /// Raises the interrupt that is due.
    pub fn expire(&mut self) {
        self.update_sci();
    }

    /// Whether a write at `offset` may change [`Self::deadline`].
    #[must_use]
    pub const fn moves_deadline(offset: u16) -> bool {
        offset < PM1_CONTROL
    }

    fn ticks(&self) -> u64 {
        let ticks = u128::from(self.clock.nanoseconds()) * TIMER_HZ / SECOND;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Status with the carry, which is set whenever the timer's highest bit changes, and after a reset. The timer has 24
    /// bits.
    fn current_status(&self) -> u16 {
        let carried = self.ticks() >= self.overflow;
        self.status | if carried { TIMER_CARRY } else { 0 }
    }

    /// Whether the interrupt is asserted.
    #[must_use]
    pub fn sci_level(&self) -> bool {
        let fixed = self.current_status() & self.enable & ENABLE_MASK != 0;
        let (status, enable) = self.gpe.split_at(usize::from(GPE0_LEN) / 2);
        let general = status.iter().zip(enable).any(|(status, enable)| status & enable != 0);
        self.control & SCI_ENABLE != 0 && (fixed || general)
    }

    /// APM control and status.
    #[must_use]
    pub fn apm(&self) -> [u8; 2] {
        self.apm
    }

    /// Sets APM control and status, which has no effect now.
    pub fn set_apm(&mut self, apm: [u8; 2]) {
        self.apm = apm;
    }

    fn update_sci(&self) {
        self.sci.set(self.sci_level());
    }

    fn write_control(&mut self, value: u16) {
        self.control = value & CONTROL_MASK | SCI_ENABLE;
        self.update_sci();
        if value & SLEEP_ENABLE == 0 {
            return;
        }
        let notice = match value >> SLEEP_TYPE_SHIFT & 7 {
            0 => Notice::ShutdownRequest,
            1 if !self.config.disable_s3 => Notice::SuspendRequest,
            2 if !self.config.disable_s4 => Notice::HibernateRequest,
            other => return tracing::warn!(sleep_type = other, "the guest asked for a sleep state there is none of"),
        };
        (self.notifier)(notice);
    }

    fn read_byte(&self, offset: u16) -> u8 {
        let of = |value: u64, base: u16| {
            value
                .to_le_bytes()
                .get(usize::from(offset - base))
                .copied()
                .unwrap_or(0)
        };
        match offset {
            PM1_STATUS..PM1_ENABLE => of(self.current_status().into(), PM1_STATUS),
            PM1_ENABLE..PM1_CONTROL => of(self.enable.into(), PM1_ENABLE),
            PM1_CONTROL..0x06 => of(self.control.into(), PM1_CONTROL),
            TIMER..0x0c => of(self.ticks() & 0xff_ffff, TIMER),
            GPE0..0x30 => self.gpe[usize::from(offset - GPE0)],
            SMI_ENABLE..SMI_STATUS => of(self.smi_enable.into(), SMI_ENABLE),
            APM_CONTROL => self.apm[0],
            APM_STATUS => self.apm[1],
            _ => 0,
        }
    }

    fn write_byte(&mut self, offset: u16, byte: u8) {
        let shift = 8 * (offset & 1);
        let (half, mask) = (u16::from(byte) << shift, 0xff_u16 << shift);
        match offset {
            PM1_STATUS..PM1_ENABLE => {
                if half & TIMER_CARRY != 0 {
                    self.overflow = ((self.ticks() >> 23) + 1) << 23;
                }
                self.status &= !(half & STATUS_MASK);
            }
            PM1_ENABLE..PM1_CONTROL => self.enable = (self.enable & !mask | half) & ENABLE_MASK,
            GPE0..0x28 => self.gpe[usize::from(offset - GPE0)] &= !byte,
            0x28..0x30 => self.gpe[usize::from(offset - GPE0)] = byte,
            SMI_ENABLE..SMI_STATUS => {
                let shift = 8 * u32::from(offset - SMI_ENABLE);
                self.smi_enable = self.smi_enable & !(0xff << shift) | u32::from(byte) << shift | APM_SMI;
            }
            APM_STATUS => self.apm[1] = byte,
            _ => {}
        }
        self.update_sci();
    }
}

impl Stateful<PmState> for Pm {
    fn state(&self) -> PmState {
        let (mut gpe_status, mut gpe_enable) = ([0; 16], [0; 16]);
        let (status, enable) = self.gpe.split_at(usize::from(GPE0_LEN) / 2);
        gpe_status[..status.len()].copy_from_slice(status);
        gpe_enable[..enable.len()].copy_from_slice(enable);
        let timer = u128::from(self.overflow) * SECOND / TIMER_HZ;
        let mut state = PmState::blank(self.config.possible_cpus);
        if let Some(cpus) = &self.kept.cpus {
            state.cpus = cpus.clone();
        }
        if let Some(pci) = &self.kept.pci {
            state.pci = (**pci).clone();
        }
        PmState {
            status: self.current_status(),
            enable: self.enable,
            control: self.control,
            timer: self.deadline().and_then(|_| u64::try_from(timer).ok()),
            // A tick of the timer comes every 279 ns of a clock that takes 64 bits.
            overflow_time: self.overflow as i64,
            gpe_status,
            gpe_enable,
            smi_enable: self.smi_enable,
            smi_status: self.smi_status,
            memory_selector: self.kept.memory_selector,
            tco: self.kept.tco,
            has_pci: self.config.pci_hotplug,
            ..state
        }
    }

    fn set_state(&mut self, state: PmState) -> Result<(), StateError> {
        let overflow = u64::try_from(state.overflow_time);
        self.overflow = overflow.map_err(|_| StateError::out_of_range("acpi_regs.tmr.overflow_time", u64::MAX))?;
        // The carry is told by `overflow_time`.
        self.status = state.status & STATUS_MASK & !TIMER_CARRY;
        self.enable = state.enable & ENABLE_MASK;
        self.control = state.control & CONTROL_MASK | SCI_ENABLE;
        let (status, enable) = self.gpe.split_at_mut(usize::from(GPE0_LEN) / 2);
        status.copy_from_slice(&state.gpe_status[..status.len()]);
        enable.copy_from_slice(&state.gpe_enable[..enable.len()]);
        self.smi_enable = state.smi_enable;
        self.smi_status = state.smi_status;
        self.kept = Kept {
            memory_selector: state.memory_selector,
            tco: state.tco,
            cpus: Some(state.cpus),
            pci: (state.pci != PciHotplugState::default()).then(|| Box::new(state.pci)),
        };
        self.update_sci();
        Ok(())
    }
}

impl Device for Pm {
    fn type_name(&self) -> &'static str {
        "ICH9-PM"
    }

    fn reset(&mut self) {
        self.status = 0;
        self.enable = 0;
        self.control = SCI_ENABLE;
        self.gpe = [0; GPE0_LEN as usize];
        self.smi_enable = APM_SMI;
        self.smi_status = 0;
        self.apm = [0; 2];
        self.overflow = 0;
        self.kept = Kept::default();
        self.ejected.clear();
        self.update_sci();
    }

    fn reset_exit(&mut self, kind: ResetKind) {
        if kind == ResetKind::Wakeup {
            self.wake(WakeReason::Other);
        }
    }

    // What it remembers is in the section of the LPC bridge, which the machine puts together.
    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl PioDevice for Pm {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        if let Some(register) = offset.checked_sub(Self::HOTPLUG_BIAS) {
            return match <&mut [u8; 4]>::try_from(&mut *data) {
                Ok(word) => *word = self.read_hotplug(register).to_le_bytes(),
                Err(_) => data.fill(0),
            };
        }
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = self.read_byte(at);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if let Some(register) = offset.checked_sub(Self::HOTPLUG_BIAS) {
            if let Ok(word) = <[u8; 4]>::try_from(data) {
                self.write_hotplug(register, u32::from_le_bytes(word));
            }
            return;
        }
        match (offset, data) {
            (APM_CONTROL, [command, ..]) => self.apm[0] = *command,
            (PM1_CONTROL, [low]) => self.write_control(self.control & 0xff00 | u16::from(*low)),
            (0x05, [high, ..]) => self.write_control(self.control & 0x00ff | u16::from(*high) << 8),
            (PM1_CONTROL, [low, high, ..]) => self.write_control(u16::from_le_bytes([*low, *high])),
            _ => {
                for (byte, at) in data.iter().zip(offset..) {
                    self.write_byte(at, *byte);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Host {
        sci: AtomicBool,
        now: AtomicU64,
    }

    impl IrqLine for Host {
        fn set(&self, level: bool) {
            self.sci.store(level, Ordering::Relaxed);
        }
    }

    impl Clock for Host {
        fn nanoseconds(&self) -> u64 {
            self.now.load(Ordering::Relaxed)
        }
    }

    fn pm(config: PmConfig) -> (Pm, Arc<Host>, Arc<Mutex<Vec<Notice>>>) {
        let (host, notices) = (Arc::new(Host::default()), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&notices);
        let notifier: Notifier = Arc::new(move |notice| seen.lock().unwrap().push(notice));
        let pm = Pm::new(config, Arc::clone(&host) as _, notifier, Arc::clone(&host) as _);
        (pm, host, notices)
    }

    #[test]
    fn the_power_button_interrupts_once_enabled_and_until_cleared() {
        let (mut pm, host, _) = pm(PmConfig::default());
        let high = || host.sci.load(Ordering::Relaxed);
        pm.press_power_button();
        assert!(!high());
        pm.pio_write(0x02, &[0x00, 0x01]);
        assert!(high());
        pm.pio_write(0x00, &[0x00, 0x01]);
        assert!(!high());
    }

    #[test]
    fn sleep_types_lead_to_notices() {
        let (mut pm, _, notices) = pm(PmConfig {
            disable_s4: true,
            ..PmConfig::default()
        });
        for kind in [0_u16, 1, 2] {
            pm.pio_write(0x04, &(kind << 10 | 1 << 13).to_le_bytes());
        }
        assert_eq!(
            *notices.lock().unwrap(),
            [Notice::ShutdownRequest, Notice::SuspendRequest]
        );
    }

    #[test]
    fn the_timer_runs_with_guest_time_and_carries() {
        let (mut pm, host, _) = pm(PmConfig::default());
        let read = |pm: &mut Pm, at, len: usize| {
            let mut data = [0; 4];
            pm.pio_read(at, &mut data[..len]);
            u32::from_le_bytes(data)
        };
        assert_eq!(read(&mut pm, 0x08, 4), 0);
        assert_eq!(read(&mut pm, 0x00, 2) & 1, 1, "the carry is set by a reset");
        pm.pio_write(0x00, &[1, 0]);
        host.now.store(1_000_000_000, Ordering::Relaxed);
        assert_eq!(read(&mut pm, 0x08, 4), 3_579_545);
        host.now.store(3_000_000_000, Ordering::Relaxed);
        assert_eq!(read(&mut pm, 0x00, 2) & 1, 1);
        pm.pio_write(0x00, &[1, 0]);
        assert_eq!(read(&mut pm, 0x00, 2) & 1, 0);
    }

    #[test]
    fn the_carry_interrupts_by_itself_when_its_time_has_come() {
        let (mut pm, host, _) = pm(PmConfig::default());
        assert_eq!(pm.deadline(), None);
        pm.pio_write(0x00, &[1, 0]);
        pm.pio_write(0x02, &[1, 0]);
        for _ in 0..3 {
            let wait = pm.deadline().unwrap();
            assert!((2_343_000_000..2_344_000_000).contains(&wait), "{wait}");
            host.now.fetch_add(wait - 300, Ordering::Relaxed);
            pm.expire();
            assert!(!host.sci.load(Ordering::Relaxed));
            host.now.fetch_add(300, Ordering::Relaxed);
            pm.expire();
            assert!(host.sci.load(Ordering::Relaxed));
            assert_eq!(pm.deadline(), None);
            pm.pio_write(0x00, &[1, 0]);
            assert!(!host.sci.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn acpi_mode_is_on_whatever_the_guest_writes() {
        let (mut pm, _, _) = pm(PmConfig::default());
        for command in [2, 3] {
            pm.pio_write(0x100, &[command]);
            pm.pio_write(0x04, &[0, 0]);
            let mut data = [0; 2];
            pm.pio_read(0x04, &mut data);
            assert_eq!(data, [1, 0]);
            let mut byte = [0];
            pm.pio_read(0x100, &mut byte);
            assert_eq!(byte, [command]);
        }
    }
}
