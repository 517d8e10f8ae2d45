//! Section `ICH9LPC`: the bridge, and with it power management and the reset control register.

use crate::devices::pci::PciState;
use crate::devices::pm::PmState;
use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Bytes of the root complex registers.
const CHIP_CONFIG: usize = 0x4000;
/// Which interrupt pins and lines the functions of the chipset have (ICH9 datasheet, sections 10.1.44 to 10.1.57): bridge to
/// PCI, audio, and the four groups of the rest.
const INTERRUPT_ROUTES: [usize; 6] = [0x3140, 0x3144, 0x3146, 0x3148, 0x314c, 0x3150];
/// Pins A to D on lines A to D.
const STRAIGHT: [u8; 2] = [0x10, 0x32];

/// The bridge with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LpcState {
    /// Configuration space.
    pub pci: PciState,
    /// APM control and status.
    pub apm: [u8; 2],
    /// Power management.
    pub pm: PmState,
    /// Root complex registers.
    pub chip_config: ChipConfig,
    /// The power management interrupt is asserted.
    pub sci_level: bool,
    /// The reset control register.
    pub rst_cnt: u8,
    /// What firmware and machine agreed on about system management interrupts.
    pub smi: SmiFeatures,
}

impl VmState for LpcState {
    fn layout(&self) -> Layout {
        Layout::new("ICH9LPC", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("d", &mut self.pci)?;
        fields.structure("apm", &mut Apm(&mut self.apm))?;
        fields.structure("pm", &mut self.pm)?;
        fields.ints("chip_config", self.chip_config.0.as_mut_slice())?;
        fields.flag::<u32>("sci_level", &mut self.sci_level)
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let reset = &mut self.rst_cnt;
        all.section(Layout::new("ICH9LPC/rst_cnt", 1), *reset != 0, |fields| {
            fields.int("rst_cnt", reset)
        })?;
        let smi = &mut self.smi;
        let needed = *smi != SmiFeatures::default();
        all.section(Layout::new("ICH9LPC/smi_feat", 1), needed, |fields| {
            fields.ints("smi_guest_features_le", &mut smi.requested)?;
            fields.int("smi_features_ok", &mut smi.agreed)?;
            fields.int("smi_negotiated_features", &mut smi.negotiated)
        })
    }
}

struct Apm<'a>(&'a mut [u8; 2]);

impl VmState for Apm<'_> {
    fn layout(&self) -> Layout {
        Layout::new("APM State", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let [control, status] = self.0;
        fields.int("apmc", control)?;
        fields.int("apms", status)
    }
}

/// The root complex registers. Nothing here looks at them: they are as after a reset, or as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipConfig(Box<[u8; CHIP_CONFIG]>);

impl Default for ChipConfig {
    fn default() -> Self {
        let mut bytes = Box::new([0; CHIP_CONFIG]);
        for at in INTERRUPT_ROUTES {
            bytes[at..at + 2].copy_from_slice(&STRAIGHT);
        }
        Self(bytes)
    }
}

/// Features of system management interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmiFeatures {
    /// What the guest wants, a little-endian number.
    pub requested: [u8; 8],
    /// The guest asked whether it gets that.
    pub agreed: u8,
    /// What it got.
    pub negotiated: u64,
}
