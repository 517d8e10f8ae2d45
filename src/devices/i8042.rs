//! The keyboard controller (Intel 8042) with a keyboard that nobody types on.
//!
//! What firmware and kernels need: the self-tests, the command byte, the output port with the A20 gate, and the reset
//! pulse. The second port has no device, which a guest learns from its time-outs.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Device, IrqLine, Notice, Notifier, PioDevice};
use crate::vmstate::{StateError, Visitor};

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
/// Command byte after a self-test: interrupt of the keyboard, self-test passed, translation.
const COMMAND_BYTE: u8 = 0x47;
/// Output port: the processor is not held in reset.
const NOT_RESET: u8 = 1 << 0;
/// Output port after power-on: not in reset, A20 open.
const OUTPUT_PORT: u8 = 0xcf;
/// Bytes that wait for the guest at most.
const QUEUE: usize = 16;

/// What the next byte at the data port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Keyboard,
    KeyboardArgument,
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
    expects: Expects,
}

impl I8042 {
    /// A controller after power-on with the interrupt line of the keyboard.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, notifier: Notifier) -> Self {
        Self {
            irq,
            notifier,
            queue: VecDeque::new(),
            command_byte: COMMAND_BYTE,
            output_port: OUTPUT_PORT,
            after_command: false,
            expects: Expects::Keyboard,
        }
    }

    fn status(&self) -> u8 {
        let mut status = SYSTEM | UNLOCKED;
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
                self.command_byte = COMMAND_BYTE;
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
            Expects::KeyboardArgument => self.answer(0xfa),
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
            // Identify: an MF2 keyboard, as seen through the translation.
            0xf2 => [0xfa, 0xab, 0x41].into_iter().for_each(|byte| self.answer(byte)),
            // Lights, scan code set and typing rate take an argument.
            0xed | 0xf0 | 0xf3 => {
                self.answer(0xfa);
                self.expects = Expects::KeyboardArgument;
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

impl Device for I8042 {
    fn type_name(&self) -> &'static str {
        "i8042"
    }

    fn reset(&mut self) {
        self.queue.clear();
        self.command_byte = COMMAND_BYTE;
        self.output_port = OUTPUT_PORT;
        self.after_command = false;
        self.expects = Expects::Keyboard;
        self.update_irq();
    }

    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }

    fn migration_blocker(&self) -> Option<&'static str> {
        Some("its state cannot be written down")
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
    use crate::devices::testing::{CountingLine, random_accesses};
    use proptest::prelude::*;
    use std::sync::Mutex;

    fn controller() -> (I8042, Arc<CountingLine>, Arc<Mutex<Vec<Notice>>>) {
        let (line, seen) = (Arc::new(CountingLine::default()), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&seen);
        let notifier: Notifier = Arc::new(move |notice| sink.lock().unwrap().push(notice));
        (I8042::new(Arc::clone(&line) as _, notifier), line, seen)
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
