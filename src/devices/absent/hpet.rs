//! Section `hpet`.

use super::AbsentState;
use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Comparators of a PC's.
const TIMERS: usize = 3;
/// General configuration: it counts.
const ENABLED: u64 = 1;
/// A comparator's configuration: inputs of the I/O APIC that it may be routed to; periodic mode, and 64 bits.
const TIMER_CONFIG: u64 = 0x00ff_0104_0000_0030;

/// A high precision event timer (IA-PC HPET Specification 1.0a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpetState {
    /// General configuration.
    pub config: u64,
    /// General interrupt status.
    pub isr: u64,
    /// Main counter.
    pub counter: u64,
    /// Comparators.
    pub timers: [HpetTimer; TIMERS],
    /// The interrupt of the clock, which the timer stands in for, is asserted.
    pub rtc_irq_level: bool,
    /// What the counter is ahead of the guest's clock, while it counts.
    pub offset: Option<u64>,
}

/// A comparator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HpetTimer {
    /// Configuration.
    pub config: u64,
    /// What it compares with.
    pub comparator: u64,
    /// Interrupt as a message.
    pub fsb: u64,
    /// What is added after each interrupt.
    pub period: u64,
    /// The counter is to wrap before it matches.
    pub wrap_flag: bool,
    /// When it interrupts.
    pub timer: Option<u64>,
}

impl VmState for HpetState {
    fn layout(&self) -> Layout {
        Layout::new("hpet", 2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("config", &mut self.config)?;
        fields.int("isr", &mut self.isr)?;
        fields.int("hpet_counter", &mut self.counter)?;
        fields.equal("num_timers_save", TIMERS as u8, "uint8")?;
        let [a, b, c] = &mut self.timers;
        fields.structures("timer", &mut [Numbered(0, a), Numbered(1, b), Numbered(2, c)])
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let level = &mut self.rtc_irq_level;
        all.section(Layout::new("hpet/rtc_irq_level", 1), *level, |fields| {
            fields.flag::<u8>("rtc_irq_level", level)
        })?;
        let offset = &mut self.offset;
        all.section(Layout::new("hpet/offset", 1), offset.is_some(), |fields| {
            fields.int("hpet_offset", offset.get_or_insert_default())
        })
    }
}

struct Numbered<'a>(u8, &'a mut HpetTimer);

impl VmState for Numbered<'_> {
    fn layout(&self) -> Layout {
        Layout::new("hpet_timer", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.equal("tn", self.0, "uint8")?;
        fields.int("config", &mut self.1.config)?;
        fields.int("cmp", &mut self.1.comparator)?;
        fields.int("fsb", &mut self.1.fsb)?;
        fields.int("period", &mut self.1.period)?;
        fields.flag::<u8>("wrap_flag", &mut self.1.wrap_flag)?;
        fields.timer("qemu_timer", &mut self.1.timer)
    }
}

impl AbsentState for HpetState {
    const TYPE: &'static str = "hpet";

    fn at_reset() -> Self {
        let timer = HpetTimer {
            config: TIMER_CONFIG,
            comparator: u64::MAX,
            ..HpetTimer::default()
        };
        Self {
            config: 0,
            isr: 0,
            counter: 0,
            timers: [timer; TIMERS],
            rtc_irq_level: false,
            offset: None,
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        (self.config & ENABLED != 0).then_some("the guest uses the HPET, and there is none")
    }
}
