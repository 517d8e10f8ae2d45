//! A PS/2 mouse: with three buttons, with a wheel (IntelliMouse), or with five buttons (IntelliMouse Explorer), as the guest asks.

use super::queue::Queue;
use super::state::MouseState;
use crate::devices::input::{Axis, Button};

/// The answer to a command that is carried out.
const ACKNOWLEDGED: u8 = 0xfa;
/// The self-test has passed.
const TESTED: u8 = 0xaa;

/// Status: it tells of movement.
const ENABLED: u8 = 1 << 5;
/// Status: it waits to be asked.
const REMOTE: u8 = 1 << 6;
/// Status: movement counts twice.
const SCALING: u8 = 1 << 4;

/// With a wheel; with a wheel and five buttons.
const WHEEL: u8 = 3;
const EXPLORER: u8 = 4;

/// Values after a reset by the guest.
const RESOLUTION: u8 = 2;
const SAMPLE_RATE: u8 = 100;

/// The mouse.
#[derive(Debug)]
pub(super) struct Mouse {
    pub(super) queue: Queue,
    /// The command whose argument comes next.
    command: Option<u8>,
    /// All but the queue, as a saved state has it.
    kept: MouseState,
    /// Movement of the wheel to the side that has not been told.
    sideways: i32,
    /// Something happened since it last told of it.
    happened: bool,
}

impl Mouse {
    /// After power-on.
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::new(),
            command: None,
            kept: MouseState::default(),
            sideways: 0,
            happened: false,
        }
    }

    /// A byte from the guest.
    pub(super) fn write(&mut self, byte: u8) {
        match self.command.take() {
            Some(0xf3) => {
                self.kept.sample_rate = byte;
                self.detect(byte);
                self.answer(&[ACKNOWLEDGED]);
            }
            Some(_) => {
                self.kept.resolution = byte;
                self.answer(&[ACKNOWLEDGED]);
            }
            None if self.kept.wrap != 0 && byte != 0xff && byte != 0xec => self.answer(&[byte]),
            None => self.begin(byte),
        }
    }

    fn begin(&mut self, command: u8) {
        let kept = &mut self.kept;
        match command {
            0xe6 => kept.status &= !SCALING,
            0xe7 => kept.status |= SCALING,
            // Resolution, and reports a second: an argument follows.
            0xe8 | 0xf3 => self.command = Some(command),
            0xe9 => {
                let [status, resolution, rate] = [kept.status, kept.resolution, kept.sample_rate];
                return self.answer(&[ACKNOWLEDGED, status, resolution, rate]);
            }
            0xea => kept.status &= !REMOTE,
            0xeb => {
                self.answer(&[ACKNOWLEDGED]);
                self.send_packet();
                return;
            }
            0xec => {
                if kept.wrap == 0 {
                    return;
                }
                kept.wrap = 0;
            }
            0xee => kept.wrap = 1,
            0xf0 => kept.status |= REMOTE,
            0xf2 => {
                let kind = kept.kind;
                return self.answer(&[ACKNOWLEDGED, kind]);
            }
            0xf4 => kept.status |= ENABLED,
            0xf5 => kept.status &= !ENABLED,
            0xf6 => self.start_over(),
            0xff => {
                self.start_over();
                (self.kept.kind, self.kept.wrap) = (0, 0);
                self.queue.clear();
                return self.answer(&[ACKNOWLEDGED, TESTED, 0]);
            }
            // What it does not know it does not answer.
            _ => return,
        }
        self.answer(&[ACKNOWLEDGED]);
    }

    fn start_over(&mut self) {
        (self.kept.sample_rate, self.kept.resolution, self.kept.status) = (SAMPLE_RATE, RESOLUTION, 0);
    }

    /// Three rates, one after the other, ask for a wheel (200, 100, 80) or five buttons (200, 200, 80).
    fn detect(&mut self, rate: u8) {
        let kept = &mut self.kept;
        let kind = match (kept.detect_state, rate) {
            (2, 80) => Some(WHEEL),
            (3, 80) => Some(EXPLORER),
            _ => None,
        };
        kept.kind = kind.unwrap_or(kept.kind);
        kept.detect_state = match (kept.detect_state, rate) {
            (1, 100) => 2,
            (1, 200) => 3,
            (0, 200) | (4.., 200) => 1,
            _ => 0,
        };
    }

    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.has_room(bytes.len()) {
            bytes.iter().for_each(|byte| self.queue.push(*byte));
        }
    }

    fn is_enabled(&self) -> bool {
        self.kept.status & ENABLED != 0
    }

    /// It moves.
    pub(super) fn move_by(&mut self, axis: Axis, by: i64) {
        if !self.is_enabled() {
            return;
        }
        self.happened = true;
        let by = i32::try_from(by).unwrap_or(if by < 0 { i32::MIN } else { i32::MAX });
        let [x, y, _] = &mut self.kept.moved;
        match axis {
            Axis::X => *x = x.saturating_add(by),
            Axis::Y => *y = y.saturating_sub(by),
        }
    }

    /// A button goes down or up.
    pub(super) fn button(&mut self, button: Button, down: bool) {
        if !self.is_enabled() {
            return;
        }
        self.happened = true;
        let bit = match button {
            Button::Left => 1 << 0,
            Button::Right => 1 << 1,
            Button::Middle => 1 << 2,
            Button::Side => 1 << 3,
            Button::Extra => 1 << 4,
            _ => 0,
        };
        match down {
            true => self.kept.buttons |= bit,
            false => self.kept.buttons &= !bit,
        }
        let [_, _, wheel] = &mut self.kept.moved;
        match (button, down) {
            (Button::WheelUp, true) => *wheel = wheel.saturating_sub(1),
            (Button::WheelDown, true) => *wheel = wheel.saturating_add(1),
            (Button::WheelRight, true) => self.sideways = self.sideways.saturating_sub(1),
            (Button::WheelLeft, true) => self.sideways = self.sideways.saturating_add(1),
            _ => {}
        }
    }

    /// Tells of what has happened, unless it waits to be asked. Says whether something has, with a button down.
    pub(super) fn tell(&mut self) -> bool {
        if !std::mem::take(&mut self.happened) || !self.is_enabled() {
            return false;
        }
        if self.kept.status & REMOTE == 0 {
            while self.send_packet() && (self.kept.moved != [0; 3] || self.sideways != 0) {}
        }
        self.kept.buttons != 0
    }

    /// Tells of as much movement as fits, if there is room.
    fn send_packet(&mut self) -> bool {
        let has_fourth = self.kept.kind != 0;
        if !self.queue.has_room(if has_fourth { 4 } else { 3 }) {
            return false;
        }
        let kept = &mut self.kept;
        let [x, y, wheel] = &mut kept.moved;
        let (x, y) = (portion(x, 127), portion(y, 127));
        let signs = u8::from(x < 0) << 4 | u8::from(y < 0) << 5;
        let fourth = match kept.kind {
            WHEEL => portion(wheel, 127).to_ne_bytes()[0],
            EXPLORER if self.sideways != 0 => portion(&mut self.sideways, 31).to_ne_bytes()[0] & 0x3f | 0x40,
            EXPLORER => portion(wheel, 7).to_ne_bytes()[0] & 0x0f | (kept.buttons & 0x18) << 1,
            _ => {
                *wheel = 0;
                0
            }
        };
        if kept.kind != EXPLORER {
            self.sideways = 0;
        }
        let packet = [
            0x08 | signs | kept.buttons & 7,
            x.to_ne_bytes()[0],
            y.to_ne_bytes()[0],
            fourth,
        ];
        let len = if has_fourth { 4 } else { 3 };
        packet[..len].iter().for_each(|byte| self.queue.push(*byte));
        true
    }

    /// As a saved state has it.
    pub(super) fn state(&self) -> MouseState {
        MouseState {
            common: self.queue.state(self.command).0,
            ..self.kept.clone()
        }
    }

    /// From a saved state.
    pub(super) fn restore(state: MouseState) -> Self {
        Self {
            queue: Queue::restore(&state.common, -1),
            command: u8::try_from(state.common.write_cmd).ok(),
            kept: state,
            sideways: 0,
            happened: false,
        }
    }
}

/// Takes as much of a movement as a report has room for.
fn portion(movement: &mut i32, limit: i8) -> i8 {
    let limit = i32::from(limit);
    let part = (*movement).clamp(-limit, limit);
    *movement -= part;
    // Within the limit.
    i8::try_from(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| (!mouse.queue.is_empty()).then(|| mouse.queue.take())).collect()
    }

    fn asked(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().for_each(|byte| mouse.write(*byte));
        taken(mouse)
    }

    /// A mouse of this kind that tells of movement.
    fn enabled(rates: &[u8]) -> Mouse {
        let mut mouse = Mouse::new();
        asked(&mut mouse, &[0xff]);
        for rate in rates {
            asked(&mut mouse, &[0xf3, *rate]);
        }
        asked(&mut mouse, &[0xf4]);
        mouse
    }

    #[test]
    fn a_driver_finds_out_what_it_is() {
        let mut mouse = Mouse::new();
        assert_eq!(asked(&mut mouse, &[0xff]), [0xfa, 0xaa, 0]);
        assert_eq!(asked(&mut mouse, &[0xe9]), [0xfa, 0, 2, 100]);
        for (rates, kind) in [([200, 100, 80], 3), ([200, 200, 80], 4), ([200, 100, 100], 4)] {
            for rate in rates {
                assert_eq!(asked(&mut mouse, &[0xf3, rate]), [0xfa, 0xfa]);
            }
            assert_eq!(asked(&mut mouse, &[0xf2]), [0xfa, kind]);
        }
        assert_eq!(asked(&mut mouse, &[0xff, 0xf2]), [0xfa, 0xaa, 0, 0xfa, 0]);
        assert_eq!(asked(&mut mouse, &[0xe1]), [0; 0], "what it does not know");
        assert_eq!(asked(&mut mouse, &[0xee, 0x12, 0xec, 0xe6]), [0xfa, 0x12, 0xfa, 0xfa]);
    }

    #[test]
    fn movement_is_told_in_portions_and_buttons_with_it() {
        let mut mouse = enabled(&[]);
        mouse.move_by(Axis::X, 200);
        mouse.move_by(Axis::Y, 5);
        mouse.button(Button::Left, true);
        assert!(mouse.tell());
        assert_eq!(taken(&mut mouse), [0x29, 127, 0xfb, 0x09, 73, 0]);
        mouse.button(Button::Left, false);
        mouse.button(Button::WheelUp, true);
        assert!(!mouse.tell());
        assert_eq!(taken(&mut mouse), [0x08, 0, 0], "it has no wheel");
        assert!(!mouse.tell());
        assert_eq!(taken(&mut mouse), [0; 0], "nothing has happened");
        asked(&mut mouse, &[0xf5]);
        mouse.move_by(Axis::X, 1);
        mouse.tell();
        assert_eq!(taken(&mut mouse), [0; 0]);
    }

    #[test]
    fn wheels_and_side_buttons_come_in_a_fourth_byte() {
        let mut mouse = enabled(&[200, 100, 80]);
        mouse.button(Button::WheelUp, true);
        mouse.button(Button::Side, true);
        mouse.tell();
        assert_eq!(taken(&mut mouse), [0x08, 0, 0, 0xff]);
        let mut mouse = enabled(&[200, 200, 80]);
        mouse.button(Button::WheelDown, true);
        mouse.button(Button::Side, true);
        mouse.button(Button::Extra, true);
        mouse.tell();
        assert_eq!(taken(&mut mouse), [0x08, 0, 0, 0x31]);
        mouse.button(Button::WheelRight, true);
        mouse.tell();
        assert_eq!(taken(&mut mouse), [0x08, 0, 0, 0x7f]);
    }

    #[test]
    fn a_guest_that_does_not_read_loses_nothing_of_the_movement() {
        let mut mouse = enabled(&[]);
        mouse.move_by(Axis::X, 1000);
        mouse.tell();
        let told = taken(&mut mouse);
        assert_eq!(told.len(), 15);
        assert_eq!(mouse.state().moved, [1000 - 5 * 127, 0, 0]);
        assert_eq!(asked(&mut mouse, &[0xeb]), [0xfa, 0x08, 127, 0]);
    }
}
