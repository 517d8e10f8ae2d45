//! The keyboard controller (Intel 8042) with a PS/2 keyboard and a PS/2 mouse.

mod keyboard;
mod mouse;
mod queue;
mod state;

use std::sync::Arc;

use super::input::{InputDevice, InputEvent, InputKind};
use super::{Device, IrqLine, Notice, Notifier, PioDevice, built_in};
use crate::qom::TypeInfo;
use crate::vmstate::{StateError, Stateful, Visitor, section};

use keyboard::Keyboard;
use mouse::Mouse;
use state::OUTPUT_PORT;
pub use state::{ControllerState, KeyboardState, MouseState, Ps2State};

/// The QOM type.
pub static TYPE: TypeInfo = built_in("i8042", "isa-device", "Keyboard controller", &[]);

/// The data port; the status and command port is 4 above it.
pub const DATA_PORT: u16 = 0x60;
/// Offset of the status and command port.
pub const COMMAND_OFFSET: u16 = 4;

/// Status: the output buffer holds a byte for the guest.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the self-test has passed.
const SYSTEM: u8 = 1 << 2;
/// Status: that byte is the mouse's.
const FROM_MOUSE: u8 = 1 << 5;

/// Command byte: bytes of the keyboard and of the mouse raise their interrupts.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
const MOUSE_INTERRUPT: u8 = 1 << 1;
/// Command byte: the keyboard and the mouse cannot send.
const KEYBOARD_DISABLED: u8 = 1 << 4;
const MOUSE_DISABLED: u8 = 1 << 5;
/// Command byte: scan codes are translated to set 1.
const TRANSLATION: u8 = 1 << 6;
/// Command byte as firmware leaves it: interrupt of the keyboard, no mouse, translation.
const COMMAND_BYTE_OF_FIRMWARE: u8 = 0x61;

/// Who has a byte for the guest, in saved states: the controller, which sends as the keyboard or as the mouse, or one of them.
/// The latter two have the places of the bits of the command byte that disable them.
const CONTROLLER_WAITS: u8 = 1 << 2;
const CONTROLLER_WAITS_AS_MOUSE: u8 = 1 << 3;
const KEYBOARD_WAITS: u8 = KEYBOARD_DISABLED;
const MOUSE_WAITS: u8 = MOUSE_DISABLED;

/// Output port: the processor is not held in reset.
const NOT_RESET: u8 = 1 << 0;
/// Output port: the gate of address line 20 is open.
const A20: u8 = 1 << 1;
/// Output port: the interrupts of the keyboard and the mouse.
const KEYBOARD_FULL: u8 = 1 << 4;
const MOUSE_FULL: u8 = 1 << 5;

/// Who the byte in the output buffer is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Nobody,
    Keyboard,
    Mouse,
    Controller,
}

/// The interrupt lines of the two ports.
pub struct Lines {
    /// The keyboard's.
    pub keyboard: Arc<dyn IrqLine>,
    /// The mouse's.
    pub mouse: Arc<dyn IrqLine>,
}

/// The controller.
pub struct I8042 {
    lines: Lines,
    notifier: Notifier,
    firmware_ran: bool,
    keyboard: Keyboard,
    mouse: Mouse,
    /// The command whose argument comes next at the data port, else 0.
    write_cmd: u8,
    status: u8,
    command_byte: u8,
    output_port: u8,
    source: Source,
    /// What the guest read last from the data port.
    last_read: u8,
    /// The controller's own byte for the guest, and whether it waits ([`CONTROLLER_WAITS`], [`CONTROLLER_WAITS_AS_MOUSE`]).
    answer: u8,
    answer_waits: u8,
}

impl I8042 {
    /// A controller after power-on. `firmware_ran`: it starts as firmware leaves it.
    #[must_use]
    pub fn new(lines: Lines, notifier: Notifier, firmware_ran: bool) -> Self {
        let mut controller = Self {
            lines,
            notifier,
            firmware_ran,
            keyboard: Keyboard::new(),
            mouse: Mouse::new(),
            write_cmd: 0,
            status: 0,
            command_byte: 0,
            output_port: OUTPUT_PORT,
            source: Source::Nobody,
            last_read: 0,
            answer: 0,
            answer_waits: 0,
        };
        controller.reset();
        controller
    }

    fn command(&mut self, command: u8) {
        match command {
            0x20 => self.answer(self.command_byte, CONTROLLER_WAITS),
            // The command byte, the output port, a byte as if from either device, and one for the mouse: it follows.
            0x60 | 0xd1..=0xd4 => self.write_cmd = command,
            0xa7 => self.command_byte |= MOUSE_DISABLED,
            0xa8 => self.enable(MOUSE_DISABLED),
            // Self-test and the tests of the two ports.
            0xaa => {
                self.status |= SYSTEM;
                self.answer(0x55, CONTROLLER_WAITS);
            }
            0xa9 | 0xab => self.answer(0, CONTROLLER_WAITS),
            0xad => self.command_byte |= KEYBOARD_DISABLED,
            0xae => self.enable(KEYBOARD_DISABLED),
            0xc0 => self.answer(0x80, CONTROLLER_WAITS),
            0xd0 => self.answer(self.output_port, CONTROLLER_WAITS),
            0xdd => self.output_port &= !A20,
            0xdf => self.output_port |= A20,
            // Pulses output lines low; line 0 is the processor's reset.
            0xf0..=0xff if command & 1 == 0 => (self.notifier)(Notice::ResetRequest),
            _ => tracing::debug!(command, "keyboard controller: unknown command"),
        }
    }

    fn data(&mut self, byte: u8) {
        match std::mem::take(&mut self.write_cmd) {
            0x60 => {
                self.command_byte = byte;
                self.keyboard.set_translation(byte & TRANSLATION != 0);
                self.drive_lines();
                self.fill();
            }
            0xd1 => {
                self.output_port = byte;
                if byte & NOT_RESET == 0 {
                    (self.notifier)(Notice::ResetRequest);
                }
            }
            0xd2 => self.answer(byte, CONTROLLER_WAITS),
            0xd3 => self.answer(byte, CONTROLLER_WAITS_AS_MOUSE),
            // A byte for a device enables it.
            0xd4 => {
                self.mouse.write(byte);
                self.enable(MOUSE_DISABLED);
            }
            _ => {
                self.keyboard.write(byte);
                self.enable(KEYBOARD_DISABLED);
            }
        }
    }

    fn enable(&mut self, disabled: u8) {
        self.command_byte &= !disabled;
        self.fill();
    }

    fn answer(&mut self, byte: u8, waits: u8) {
        (self.answer, self.answer_waits) = (byte, waits);
        self.fill();
    }

    /// Who has a byte for the guest.
    fn waiting(&self) -> u8 {
        let keyboard = if self.keyboard.queue.is_empty() {
            0
        } else {
            KEYBOARD_WAITS
        };
        let mouse = if self.mouse.queue.is_empty() { 0 } else { MOUSE_WAITS };
        self.answer_waits | keyboard | mouse
    }

    /// Fills the output buffer, if it is empty and somebody has a byte for it.
    fn fill(&mut self) {
        if self.status & OUTPUT_FULL != 0 {
            return;
        }
        let disabled = self.command_byte & (KEYBOARD_DISABLED | MOUSE_DISABLED);
        let waiting = self.waiting() & !disabled;
        let (source, from_mouse) = match waiting {
            0 => return,
            _ if waiting & CONTROLLER_WAITS != 0 => (Source::Controller, false),
            _ if waiting & CONTROLLER_WAITS_AS_MOUSE != 0 => (Source::Controller, true),
            _ if waiting & KEYBOARD_WAITS != 0 => (Source::Keyboard, false),
            _ => (Source::Mouse, true),
        };
        self.source = source;
        self.status |= OUTPUT_FULL;
        self.output_port |= KEYBOARD_FULL;
        if from_mouse {
            self.status |= FROM_MOUSE;
            self.output_port |= MOUSE_FULL;
        }
        self.drive_lines();
    }

    fn read_data(&mut self) -> u8 {
        if self.status & OUTPUT_FULL == 0 {
            return self.last_read;
        }
        self.status &= !(OUTPUT_FULL | FROM_MOUSE);
        self.output_port &= !(KEYBOARD_FULL | MOUSE_FULL);
        // The next byte is a new edge.
        self.drive_lines();
        self.last_read = match self.source {
            Source::Nobody => self.last_read,
            Source::Keyboard => self.keyboard.queue.take(),
            Source::Mouse => self.mouse.queue.take(),
            Source::Controller => {
                self.answer_waits = 0;
                self.answer
            }
        };
        self.fill();
        self.last_read
    }

    fn drive_lines(&self) {
        let full = self.status & OUTPUT_FULL != 0;
        let from_mouse = self.status & FROM_MOUSE != 0;
        let keyboard = self.command_byte & (KEYBOARD_INTERRUPT | KEYBOARD_DISABLED) == KEYBOARD_INTERRUPT;
        self.lines.keyboard.set(full && !from_mouse && keyboard);
        self.lines
            .mouse
            .set(full && from_mouse && self.command_byte & MOUSE_INTERRUPT != 0);
    }
}

impl InputDevice for I8042 {
    fn takes(&self, kind: InputKind) -> bool {
        matches!(kind, InputKind::Key | InputKind::Button | InputKind::Relative)
    }

    fn happen(&mut self, event: InputEvent) {
        match event {
            InputEvent::Key(key, down) => {
                if self.keyboard.key(key, down) {
                    (self.notifier)(Notice::WakeupRequest);
                }
                self.fill();
            }
            InputEvent::Button(button, down) => self.mouse.button(button, down),
            InputEvent::Move(axis, by) => self.mouse.move_by(axis, by),
        }
    }

    fn tell(&mut self) {
        if self.mouse.tell() {
            (self.notifier)(Notice::WakeupRequest);
        }
        self.fill();
    }
}

impl Stateful<KeyboardState> for I8042 {
    fn state(&self) -> KeyboardState {
        self.keyboard.state()
    }

    fn set_state(&mut self, state: KeyboardState) -> Result<(), StateError> {
        self.keyboard = Keyboard::restore(&state);
        Ok(())
    }
}

impl Stateful<MouseState> for I8042 {
    fn state(&self) -> MouseState {
        self.mouse.state()
    }

    fn set_state(&mut self, state: MouseState) -> Result<(), StateError> {
        self.mouse = Mouse::restore(state);
        Ok(())
    }
}

impl Stateful<ControllerState> for I8042 {
    fn state(&self) -> ControllerState {
        ControllerState {
            write_cmd: self.write_cmd,
            status: self.status,
            mode: self.command_byte,
            pending_tmp: self.waiting(),
            outport: self.output_port,
            migration_flags: 0,
            output_source: match self.source {
                Source::Nobody => 0,
                Source::Keyboard => 1,
                Source::Mouse => 2,
                Source::Controller => 4,
            },
            output_data: self.last_read,
            controller_data: self.answer,
        }
    }

    /// The sections of keyboard and mouse came before.
    fn set_state(&mut self, state: ControllerState) -> Result<(), StateError> {
        self.source = match state.output_source {
            0 => Source::Nobody,
            1 => Source::Keyboard,
            2 => Source::Mouse,
            4 => Source::Controller,
            other => return Err(StateError::out_of_range("obsrc", other)),
        };
        if !matches!(state.write_cmd, 0 | 0x60 | 0xd1..=0xd4) {
            return Err(StateError::out_of_range("write_cmd", state.write_cmd));
        }
        self.write_cmd = state.write_cmd;
        self.status = state.status;
        self.command_byte = state.mode;
        self.output_port = state.outport;
        self.last_read = state.output_data;
        self.answer = state.controller_data;
        self.answer_waits = state.pending_tmp & (CONTROLLER_WAITS | CONTROLLER_WAITS_AS_MOUSE);
        self.drive_lines();
        self.fill();
        Ok(())
    }
}

impl Device for I8042 {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        let start = ControllerState::default();
        (self.keyboard, self.mouse) = (Keyboard::new(), Mouse::new());
        (self.write_cmd, self.status, self.command_byte) = (0, start.status, start.mode);
        if self.firmware_ran {
            self.status |= SYSTEM;
            self.command_byte = COMMAND_BYTE_OF_FIRMWARE;
            self.keyboard.set_translation(true);
        }
        self.output_port = OUTPUT_PORT;
        (self.source, self.last_read) = (Source::Nobody, 0);
        (self.answer, self.answer_waits) = (0, 0);
        self.drive_lines();
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<KeyboardState>(self))?;
        visit(&mut section::<MouseState>(self))?;
        visit(&mut section::<ControllerState>(self))
    }

    fn as_input(&mut self) -> Option<&mut dyn InputDevice> {
        Some(self)
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl PioDevice for I8042 {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let Some(first) = data.first_mut() else {
            return;
        };
        match offset {
            0 => *first = self.read_data(),
            COMMAND_OFFSET => *first = self.status,
            _ => {}
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        match (offset, data.first()) {
            (0, Some(byte)) => self.data(*byte),
            (COMMAND_OFFSET, Some(byte)) => self.command(*byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
