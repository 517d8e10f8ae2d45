//! Section `i8259`: one of the two interrupt controllers; instance 0 is the first.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// The registers of an 8259A. Bit n of a mask is input n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PicState {
    /// Levels of the inputs, as they were last seen.
    pub last_irr: u8,
    /// Requests.
    pub irr: u8,
    /// Masked inputs.
    pub imr: u8,
    /// Interrupts in service.
    pub isr: u8,
    /// The input with the highest priority, 0 to 7.
    pub priority_add: u8,
    /// The vector of input 0.
    pub irq_base: u8,
    /// The command port reads interrupts in service, not requests.
    pub read_reg_select: bool,
    /// The next read acknowledges an interrupt.
    pub poll: bool,
    /// Masked inputs do not block those of lower priority.
    pub special_mask: bool,
    /// The initialisation word that comes next: 1 to 3 for the second to the fourth, else 0.
    pub init_state: u8,
    /// Interrupts end by themselves.
    pub auto_eoi: bool,
    /// Interrupts that end by themselves rotate the priorities.
    pub rotate_on_auto_eoi: bool,
    /// Fully nested in spite of the cascade.
    pub special_fully_nested_mode: bool,
    /// A fourth initialisation word comes.
    pub init4: bool,
    /// There is one chip only.
    pub single_mode: bool,
    /// Inputs that are level-triggered.
    pub elcr: u8,
    /// All inputs are level-triggered, whatever `elcr` says.
    pub ltim: bool,
}

impl VmState for PicState {
    fn layout(&self) -> Layout {
        Layout::new("i8259", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("last_irr", &mut self.last_irr)?;
        fields.int("irr", &mut self.irr)?;
        fields.int("imr", &mut self.imr)?;
        fields.int("isr", &mut self.isr)?;
        fields.int("priority_add", &mut self.priority_add)?;
        fields.int("irq_base", &mut self.irq_base)?;
        fields.flag::<u8>("read_reg_select", &mut self.read_reg_select)?;
        fields.flag::<u8>("poll", &mut self.poll)?;
        fields.flag::<u8>("special_mask", &mut self.special_mask)?;
        fields.int("init_state", &mut self.init_state)?;
        fields.flag::<u8>("auto_eoi", &mut self.auto_eoi)?;
        fields.flag::<u8>("rotate_on_auto_eoi", &mut self.rotate_on_auto_eoi)?;
        fields.flag::<u8>("special_fully_nested_mode", &mut self.special_fully_nested_mode)?;
        fields.flag::<u8>("init4", &mut self.init4)?;
        fields.flag::<u8>("single_mode", &mut self.single_mode)?;
        fields.int("elcr", &mut self.elcr)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let ltim = &mut self.ltim;
        subsections.section(Layout::new("i8259/ltim", 1), *ltim, |fields| {
            fields.flag::<u8>("ltim", ltim)
        })
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if self.priority_add > 7 {
            return Err(StateError::out_of_range("priority_add", self.priority_add));
        }
        if self.init_state > 3 {
            return Err(StateError::out_of_range("init_state", self.init_state));
        }
        Ok(())
    }
}
