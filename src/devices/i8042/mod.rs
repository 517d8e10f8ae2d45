//! The keyboard controller (Intel 8042) with a keyboard that nobody types on.
//!
//! What firmware and kernels need: the self-tests, the command byte, the output port with the A20 gate, and the reset
//! pulse. The second port has no device, which a guest learns from its time-outs.

mod state;

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Device, IrqLine, Notice, Notifier, PioDevice, built_in};
use crate::qom::TypeInfo;
use crate::vmstate::{StateError, Stateful, Visitor, section};

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
/// Status: the last byte written was a command.
const WAS_COMMAND: u8 = 1 << 3;
/// Status: the keyboard is not locked.
const UNLOCKED: u8 = 1 << 4;

/// Command byte: bytes of the keyboard raise its interrupt.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
/// Command byte: scan codes are translated to set 1.
const TRANSLATION: u8 = 1 << 6;
/// Command byte as firmware leaves it: interrupt of the keyboard, no mouse, translation.
const COMMAND_BYTE_OF_FIRMWARE: u8 = 0x61;
/// The keyboard as the source of a byte, in saved states.
const FROM_KEYBOARD: u32 = 1;
/// Flags of bytes that wait, in saved states: the keyboard's and the controller's.
const KEYBOARD_WAITS: u8 = 1 << 0;
const CONTROLLER_WAITS: u8 = 1 << 2;
/// Output port: the processor is not held in reset.
const NOT_RESET: u8 = 1 << 0;
/// Bytes that wait for the guest at most.
const QUEUE: usize = 16;

/// What the next byte at the data port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Keyboard,
    /// The argument of this command.
    KeyboardArgument(u8),
    CommandByte,
    OutputPort,
    KeyboardEcho,
    Mouse,
    MouseEcho,
}

/// The controller.
pub struct I8042 {
    irq: Arc<dyn IrqLine>,
    notifier: Notifier,
    queue: VecDeque<u8>,
    command_byte: u8,
    output_port: u8,
    after_command: bool,
    /// The self-test has passed.
    tested: bool,
    expects: Expects,
    firmware_ran: bool,
    /// What the guest did to keyboard and mouse that shows nowhere here.
    keyboard: KeyboardState,
    mouse: MouseState,
}

impl I8042 {
    /// A controller after power-on with the interrupt line of the keyboard. `firmware_ran`: it starts as firmware leaves
    /// it.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, notifier: Notifier, firmware_ran: bool) -> Self {
        let mut controller = Self {
            irq,
            notifier,
            queue: VecDeque::new(),
            command_byte: 0,
            output_port: OUTPUT_PORT,
            after_command: false,
            tested: false,
            expects: Expects::Keyboard,
            firmware_ran,
            keyboard: KeyboardState::default(),
            mouse: MouseState::default(),
        };
        controller.reset();
        controller
    }

    fn status(&self) -> u8 {
        let mut status = UNLOCKED;
        if self.tested {
            status |= SYSTEM;
        }
        if !self.queue.is_empty() {
            status |= OUTPUT_FULL;
        }
        if self.after_command {
            status |= WAS_COMMAND;
        }
        status
    }

    fn command(&mut self, command: u8) {
        self.after_command = true;
        match command {
            0x20 => self.answer(self.command_byte),
            0x60 => self.expects = Expects::CommandByte,
            // Self-test and the tests of the two ports.
            0xaa => {
                self.tested = true;
                self.answer(0x55);
            }
            0xa9 | 0xab => self.answer(0),
            0xc0 => self.answer(0x80),
            0xd0 => self.answer(self.output_port),
            0xd1 => self.expects = Expects::OutputPort,
            0xd2 => self.expects = Expects::KeyboardEcho,
            0xd3 => self.expects = Expects::MouseEcho,
            0xd4 => self.expects = Expects::Mouse,
            0xdd => self.output_port &= !2,
            0xdf => self.output_port |= 2,
            // Pulses output lines low; line 0 is the processor's reset.
            0xf0..=0xff if command & 1 == 0 => (self.notifier)(Notice::ResetRequest),
            _ => tracing::debug!(command, "keyboard controller: unknown command"),
        }
    }

    fn data(&mut self, byte: u8) {
        self.after_command = false;
        match std::mem::replace(&mut self.expects, Expects::Keyboard) {
            Expects::Keyboard => self.keyboard(byte),
            Expects::KeyboardArgument(_) => self.answer(0xfa),
            Expects::CommandByte => {
                self.command_byte = byte;
                self.update_irq();
            }
            Expects::OutputPort => {
                self.output_port = byte;
                if byte & NOT_RESET == 0 {
                    (self.notifier)(Notice::ResetRequest);
                }
            }
            Expects::KeyboardEcho => self.answer(byte),
            Expects::Mouse | Expects::MouseEcho => {}
        }
    }

    /// A command to the keyboard itself.
    fn keyboard(&mut self, byte: u8) {
        match byte {
            // Echo.
            0xee => self.answer(0xee),
            // Identify: an MF2 keyboard.
            0xf2 => {
                let kind = if self.command_byte & TRANSLATION != 0 {
                    0x41
                } else {
                    0x83
                };
                [0xfa, 0xab, kind].into_iter().for_each(|byte| self.answer(byte));
            }
            // Lights, scan code set and typing rate take an argument.
            0xed | 0xf0 | 0xf3 => {
                self.answer(0xfa);
                self.expects = Expects::KeyboardArgument(byte);
            }
            // Reset, and the result of its self-test.
            0xff => [0xfa, 0xaa].into_iter().for_each(|byte| self.answer(byte)),
            _ => self.answer(0xfa),
        }
    }

    fn answer(&mut self, byte: u8) {
        if self.queue.len() < QUEUE {
            self.queue.push_back(byte);
        }
        self.update_irq();
    }

    fn update_irq(&self) {
        self.irq
            .set(!self.queue.is_empty() && self.command_byte & KEYBOARD_INTERRUPT != 0);
    }
}

/// In a saved state the byte that the guest reads next is the controller's, and those behind it are the keyboard's.
impl Stateful<KeyboardState> for I8042 {
    fn state(&self) -> KeyboardState {
        let mut state = self.keyboard.clone();
        state.common.set_bytes(self.queue.iter().skip(1).copied());
        state.common.write_cmd = match self.expects {
            Expects::KeyboardArgument(command) => command.into(),
            _ => -1,
        };
        state.translate = self.command_byte & TRANSLATION != 0;
        state
    }

    fn set_state(&mut self, state: KeyboardState) -> Result<(), StateError> {
        let first = self.queue.front().copied();
        self.queue = first.into_iter().chain(state.common.bytes()).take(QUEUE).collect();
        if let Ok(command) = u8::try_from(state.common.write_cmd) {
            self.expects = Expects::KeyboardArgument(command);
        }
        self.keyboard = state;
        self.update_irq();
        Ok(())
    }
}

impl Stateful<MouseState> for I8042 {
    fn state(&self) -> MouseState {
        self.mouse.clone()
    }

    fn set_state(&mut self, state: MouseState) -> Result<(), StateError> {
        self.mouse = state;
        Ok(())
    }
}

impl Stateful<ControllerState> for I8042 {
    fn state(&self) -> ControllerState {
        let front = self.queue.front().copied();
        ControllerState {
            write_cmd: match self.expects {
                Expects::Keyboard | Expects::KeyboardArgument(_) => 0,
                Expects::CommandByte => 0x60,
                Expects::OutputPort => 0xd1,
                Expects::KeyboardEcho => 0xd2,
                Expects::MouseEcho => 0xd3,
                Expects::Mouse => 0xd4,
            },
            status: self.status(),
            mode: self.command_byte,
            pending_tmp: if self.queue.len() > 1 { KEYBOARD_WAITS } else { 0 },
            outport: self.output_port,
            migration_flags: 0,
            output_source: if front.is_some() { FROM_KEYBOARD } else { 0 },
            output_data: front.unwrap_or_default(),
            controller_data: 0,
        }
    }

    /// The keyboard's section came before.
    fn set_state(&mut self, state: ControllerState) -> Result<(), StateError> {
        match state.write_cmd {
            0 => {}
            0x60 => self.expects = Expects::CommandByte,
            0xd1 => self.expects = Expects::OutputPort,
            0xd2 => self.expects = Expects::KeyboardEcho,
            0xd3 => self.expects = Expects::MouseEcho,
            0xd4 => self.expects = Expects::Mouse,
            other => return Err(StateError::out_of_range("write_cmd", other)),
        }
        self.command_byte = state.mode;
        self.output_port = state.outport;
        self.after_command = state.status & WAS_COMMAND != 0;
        self.tested = state.status & SYSTEM != 0;
        if state.pending_tmp & CONTROLLER_WAITS != 0 {
            self.queue.push_front(state.controller_data);
        }
        if state.status & OUTPUT_FULL != 0 {
            self.queue.push_front(state.output_data);
        }
        self.queue.truncate(QUEUE);
        self.update_irq();
        Ok(())
    }
}

impl Device for I8042 {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.queue.clear();
        self.command_byte = if self.firmware_ran {
            COMMAND_BYTE_OF_FIRMWARE
        } else {
            ControllerState::default().mode
        };
        self.output_port = OUTPUT_PORT;
        self.after_command = true;
        self.tested = self.firmware_ran;
        self.expects = Expects::Keyboard;
        self.keyboard = KeyboardState::default();
        self.mouse = MouseState::default();
        self.update_irq();
    }

    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError> {
        visit(&mut section::<KeyboardState>(self))?;
        visit(&mut section::<MouseState>(self))?;
        visit(&mut section::<ControllerState>(self))
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
            0 => {
                *first = self.queue.pop_front().unwrap_or(0);
                // The next byte is a new edge.
                self.irq.set(false);
                self.update_irq();
            }
            COMMAND_OFFSET => *first = self.status(),
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
mod tests {
    use super::*;
    use crate::devices::testing::{CountingLine, move_state, random_accesses, saved};
    use crate::vmstate::recorded::{check_round_trips, sections};
    use proptest::prelude::*;
    use std::sync::Mutex;

    fn controller() -> (I8042, Arc<CountingLine>, Arc<Mutex<Vec<Notice>>>) {
        let (line, seen) = (Arc::new(CountingLine::default()), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&seen);
        let notifier: Notifier = Arc::new(move |notice| sink.lock().unwrap().push(notice));
        (I8042::new(Arc::clone(&line) as _, notifier, false), line, seen)
    }

    fn read(device: &mut I8042, offset: u16) -> u8 {
        let mut byte = [0];
        device.pio_read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn firmware_finds_a_controller_and_a_keyboard() {
        let (mut device, line, _) = controller();
        device.pio_write(COMMAND_OFFSET, &[0xaa]);
        assert_eq!(read(&mut device, COMMAND_OFFSET) & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(read(&mut device, 0), 0x55);
        assert!(!line.is_high(), "nothing is left to read");
        device.pio_write(0, &[0xff]);
        assert!(line.is_high());
        assert_eq!([read(&mut device, 0), read(&mut device, 0)], [0xfa, 0xaa]);
        assert_eq!(read(&mut device, COMMAND_OFFSET) & OUTPUT_FULL, 0);
    }

    #[test]
    fn only_a_pulse_of_the_reset_line_resets() {
        let (mut device, _, seen) = controller();
        for command in [0xff, 0xfd, 0xfe] {
            device.pio_write(COMMAND_OFFSET, &[command]);
        }
        assert_eq!(*seen.lock().unwrap(), [Notice::ResetRequest]);
    }

    #[test]
    fn a_moved_controller_goes_on_where_it_was() {
        let (mut one, ..) = controller();
        one.pio_write(0, &[0xf2]);
        one.pio_write(COMMAND_OFFSET, &[0x60]);
        let (mut other, line, _) = controller();
        move_state(&mut one, &mut other);
        assert!(line.is_high());
        other.pio_write(0, &[0]);
        assert!(!line.is_high(), "the byte was taken for the command byte");
        assert_eq!([0; 4].map(|_| read(&mut other, 0)), [0xfa, 0xab, 0x83, 0]);
        one.pio_write(0, &[0x43]);
        one.pio_write(0, &[0xed]);
        let (mut other, ..) = controller();
        move_state(&mut one, &mut other);
        assert_eq!(other.expects, Expects::KeyboardArgument(0xed));
    }

    #[test]
    fn its_sections_are_qemus() {
        check_round_trips("ps2kbd", |_| KeyboardState::default());
        check_round_trips("ps2mouse", |_| MouseState::default());
        check_round_trips("pckbd", |_| ControllerState::default());
        let (mut device, ..) = controller();
        for (layout, bytes) in saved(&mut device) {
            let [section] = sections("q35-10.2-bare", layout.name).try_into().unwrap();
            assert_eq!(bytes, section.bytes(), "{}", layout.name);
        }
    }

    proptest! {
        #[test]
        fn no_access_does_harm(accesses in random_accesses(5)) {
            let (mut device, ..) = controller();
            for access in accesses {
                access.perform(&mut device);
            }
            prop_assert!(device.queue.len() <= QUEUE);
        }
    }
}
