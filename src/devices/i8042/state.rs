//! Sections `ps2kbd`, `ps2mouse` and `pckbd`: keyboard, mouse, and the controller between them and the guest.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Room for bytes in a stream.
pub(super) const BUFFER: usize = 256;

/// What keyboard and mouse have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ps2State {
    /// The command whose argument comes next, else -1.
    pub write_cmd: i32,
    /// Where the next byte for the guest is read, and where the next one is written.
    pub read_at: i32,
    /// See `read_at`.
    pub write_at: i32,
    /// Bytes for the guest.
    pub count: i32,
    /// A ring of them.
    pub data: [u8; BUFFER],
}

impl Default for Ps2State {
    /// After a reset.
    fn default() -> Self {
        Self {
            write_cmd: -1,
            read_at: 0,
            write_at: 0,
            count: 0,
            data: [0; BUFFER],
        }
    }
}

impl VmState for Ps2State {
    fn layout(&self) -> Layout {
        Layout::new("PS2 Common State", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("write_cmd", &mut self.write_cmd)?;
        fields.int("queue.rptr", &mut self.read_at)?;
        fields.int("queue.wptr", &mut self.write_at)?;
        fields.int("queue.count", &mut self.count)?;
        fields.buffer("queue.data", &mut self.data)
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        let limits = [
            ("queue.rptr", self.read_at, 255),
            ("queue.wptr", self.write_at, 255),
            ("queue.count", self.count, 256),
        ];
        for (name, value, limit) in limits {
            if !(0..=limit).contains(&value) {
                return Err(StateError::out_of_range(name, u32::from_ne_bytes(value.to_ne_bytes())));
            }
        }
        Ok(())
    }
}

/// A keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyboardState {
    /// What it has in common with a mouse.
    pub common: Ps2State,
    /// Keys are told of.
    pub scan_enabled: bool,
    /// The controller translates scan codes to set 1.
    pub translate: bool,
    /// The set of scan codes: 1 to 3.
    pub scancode_set: i32,
    /// Lights.
    pub ledstate: i32,
    /// The second byte of a scan code has the high bit.
    pub need_high_bit: bool,
    /// Where the answer to a command ends in the queue, else -1.
    pub reply_end: i32,
}

impl Default for KeyboardState {
    /// After a reset.
    fn default() -> Self {
        Self {
            common: Ps2State::default(),
            scan_enabled: true,
            translate: false,
            scancode_set: 2,
            ledstate: 0,
            need_high_bit: false,
            reply_end: -1,
        }
    }
}

impl VmState for KeyboardState {
    fn layout(&self) -> Layout {
        Layout::new("ps2kbd", 3).since(2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("parent_obj", &mut self.common)?;
        fields.flag::<i32>("scan_enabled", &mut self.scan_enabled)?;
        fields.flag::<i32>("translate", &mut self.translate)?;
        if fields.version() >= 3 {
            fields.int("scancode_set", &mut self.scancode_set)?;
        }
        Ok(())
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let lights = &mut self.ledstate;
        all.section(Layout::new("ps2kbd/ledstate", 3), *lights != 0, |fields| {
            fields.int("ledstate", lights)
        })?;
        let high = &mut self.need_high_bit;
        all.section(Layout::new("ps2kbd/need_high_bit", 1), *high, |fields| {
            fields.int("need_high_bit", high)
        })?;
        let end = &mut self.reply_end;
        all.section(Layout::new("ps2kbd/command_reply_queue", 0), *end != -1, |fields| {
            fields.int("parent_obj.queue.cwptr", end)
        })
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        if !(1..=3).contains(&self.scancode_set) {
            let value = u32::from_ne_bytes(self.scancode_set.to_ne_bytes());
            return Err(StateError::out_of_range("scancode_set", value));
        }
        Ok(())
    }
}

/// A mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MouseState {
    /// What it has in common with a keyboard.
    pub common: Ps2State,
    /// Scaling, whether it is on, whether it waits to be asked.
    pub status: u8,
    /// Counts a millimetre, as a power of two.
    pub resolution: u8,
    /// Reports a second.
    pub sample_rate: u8,
    /// It sends back what it receives.
    pub wrap: u8,
    /// 0 for three buttons, 3 with a wheel, 4 with five buttons.
    pub kind: u8,
    /// How far a driver's question for the kind has come.
    pub detect_state: u8,
    /// Movement that has not been told.
    pub moved: [i32; 3],
    /// Buttons.
    pub buttons: u8,
}

impl VmState for MouseState {
    fn layout(&self) -> Layout {
        Layout::new("ps2mouse", 2)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("parent_obj", &mut self.common)?;
        fields.int("mouse_status", &mut self.status)?;
        fields.int("mouse_resolution", &mut self.resolution)?;
        fields.int("mouse_sample_rate", &mut self.sample_rate)?;
        fields.int("mouse_wrap", &mut self.wrap)?;
        fields.int("mouse_type", &mut self.kind)?;
        fields.int("mouse_detect_state", &mut self.detect_state)?;
        for (name, moved) in ["mouse_dx", "mouse_dy", "mouse_dz"].into_iter().zip(&mut self.moved) {
            fields.int(name, moved)?;
        }
        fields.int("mouse_buttons", &mut self.buttons)
    }
}

/// The controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerState {
    /// The command whose argument comes next at the data port, else 0.
    pub write_cmd: u8,
    /// The status port.
    pub status: u8,
    /// The command byte.
    pub mode: u8,
    /// Who has bytes to send: bits 2 and 3 the controller, as the keyboard or the mouse, bit 4 the keyboard, bit 5 the mouse.
    pub pending_tmp: u8,
    /// The output port.
    pub outport: u8,
    /// What follows is needed to go on; bit 0: a byte is held back for a moment.
    pub migration_flags: u32,
    /// Who the byte in the output buffer is from: 1 the keyboard, 2 the mouse, 4 the controller.
    pub output_source: u32,
    /// The byte that was read last.
    pub output_data: u8,
    /// The controller's byte that waits for the output buffer.
    pub controller_data: u8,
}

/// The output port after a reset.
pub(super) const OUTPUT_PORT: u8 = 0xcf;

impl Default for ControllerState {
    /// After a reset: both devices may interrupt, and the keyboard is not locked.
    fn default() -> Self {
        Self {
            write_cmd: 0,
            status: 0x18,
            mode: 0x03,
            pending_tmp: 0,
            outport: OUTPUT_PORT,
            migration_flags: 0,
            output_source: 0,
            output_data: 0,
            controller_data: 0,
        }
    }
}

impl VmState for ControllerState {
    fn layout(&self) -> Layout {
        Layout::new("pckbd", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("kbd", &mut Chip(self))
    }
}

/// The controller's chip, which is a struct of its own in the section.
struct Chip<'a>(&'a mut ControllerState);

impl VmState for Chip<'_> {
    fn layout(&self) -> Layout {
        Layout::new("pckbd", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        if fields.reading() {
            *self.0 = ControllerState::default();
        }
        fields.int("write_cmd", &mut self.0.write_cmd)?;
        fields.int("status", &mut self.0.status)?;
        fields.int("mode", &mut self.0.mode)?;
        fields.int("pending_tmp", &mut self.0.pending_tmp)
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let state = &mut *self.0;
        let outport = &mut state.outport;
        all.section(Layout::new("pckbd_outport", 1), *outport != OUTPUT_PORT, |fields| {
            fields.int("outport", outport)
        })?;
        all.section(Layout::new("pckbd/extended_state", 0), true, |fields| {
            fields.int("migration_flags", &mut state.migration_flags)?;
            fields.int("obsrc", &mut state.output_source)?;
            fields.int("obdata", &mut state.output_data)?;
            fields.int("cbdata", &mut state.controller_data)
        })
    }
}
