//! A PS/2 keyboard.

use super::queue::Queue;
use super::state::KeyboardState;
use crate::devices::input::Key;

/// The answer to a command that is carried out, and to one that is not known.
const ACKNOWLEDGED: u8 = 0xfa;
const RESEND: u8 = 0xfe;
/// The self-test has passed.
const TESTED: u8 = 0xaa;
/// Before the code of a key that goes up, in sets 2 and 3.
const UP: u8 = 0xf0;
/// The bit of a key that goes up, in set 1.
const UP_BIT: u8 = 0x80;

/// The codes of set 1 for those of set 2, as keyboard controllers translate them; what lies beyond stays as it is.
#[rustfmt::skip]
const TO_SET_1: [u8; 0x85] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

// Keys that change what another one sends.
const SHIFT_OR_CTRL: u8 = CTRL | 1 << 2;
const CTRL: u8 = 1 << 0 | 1 << 1;
const ALT: u8 = 1 << 3;
const ALT_R: u8 = 1 << 4;

/// The keyboard.
#[derive(Debug)]
pub(super) struct Keyboard {
    pub(super) queue: Queue,
    /// The command whose argument comes next.
    command: Option<u8>,
    /// Keys are told of.
    tells: bool,
    /// What it sends is translated from set 2 to set 1.
    translate: bool,
    /// 1 to 3.
    set: u8,
    lights: u8,
    /// The next code that is translated is that of a key that goes up.
    goes_up: bool,
    /// Keys that are down and change what others send.
    modifiers: u8,
}

impl Keyboard {
    /// After power-on.
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::new(),
            command: None,
            tells: true,
            translate: false,
            set: 2,
            lights: 0,
            goes_up: false,
            modifiers: 0,
        }
    }

    /// Whether what it sends is translated to set 1.
    pub(super) fn set_translation(&mut self, on: bool) {
        self.translate = on;
    }

    /// A byte from the guest.
    pub(super) fn write(&mut self, byte: u8) {
        self.queue.drop_reply();
        let command = self.command.take();
        match command {
            None => self.begin(byte),
            Some(0xf0) => self.choose_set(byte),
            Some(command) => {
                if command == 0xed {
                    self.lights = byte;
                }
                self.queue.reply(&[ACKNOWLEDGED]);
            }
        }
    }

    fn begin(&mut self, command: u8) {
        match command {
            // Echo.
            0xee => return self.queue.reply(&[0xee]),
            // Identify: an MF2 keyboard, translated or not.
            0xf2 => {
                let kind = if self.translate { 0x41 } else { 0x83 };
                return self.queue.reply(&[ACKNOWLEDGED, 0xab, kind]);
            }
            // Lights, set of codes, typing rate, and which keys tell what: an argument follows.
            0xed | 0xf0 | 0xf3 | 0xfc => self.command = Some(command),
            0xf4 => self.tells = true,
            0xf5 | 0xf6 => {
                self.start_over();
                self.tells = command == 0xf6;
            }
            0xff => {
                self.start_over();
                return self.queue.reply(&[ACKNOWLEDGED, TESTED]);
            }
            // Nothing, and all keys repeat.
            0x00 | 0xfa => {}
            _ => return self.queue.reply(&[RESEND]),
        }
        self.queue.reply(&[ACKNOWLEDGED]);
    }

    fn choose_set(&mut self, set: u8) {
        match set {
            0 => {
                let set = if self.translate { to_set_1(self.set) } else { self.set };
                self.queue.reply(&[ACKNOWLEDGED, set]);
            }
            1..=3 => {
                self.set = set;
                self.queue.reply(&[ACKNOWLEDGED]);
            }
            _ => self.queue.reply(&[RESEND]),
        }
    }

    /// As a command resets it.
    fn start_over(&mut self) {
        (self.tells, self.set, self.lights) = (true, 2, 0);
        self.queue.clear();
    }

    /// A key goes down or up. Says whether the guest is to be told.
    pub(super) fn key(&mut self, key: Key, down: bool) -> bool {
        if !self.tells {
            return false;
        }
        let modifier = match key.name() {
            "ctrl" => 1 << 0,
            "ctrl_r" => 1 << 1,
            "shift" | "shift_r" => 1 << 2,
            "alt" => ALT,
            "alt_r" => ALT_R,
            _ => 0,
        };
        match down {
            true => self.modifiers |= modifier,
            false => self.modifiers &= !modifier,
        }
        match (key.name(), self.set) {
            ("pause", 1 | 2) => self.pause(down),
            ("print" | "sysrq", 1 | 2) => self.print(down),
            (_, 3) => {
                // Every key tells of going up, whatever the guest chose.
                let [_, code] = key.code(3).to_be_bytes();
                match (code, down) {
                    (0, _) => {}
                    (_, true) => self.send(&[code]),
                    (_, false) => self.send(&[UP, code]),
                }
            }
            (_, set) => self.usual(key.code(set), down),
        }
        true
    }

    fn usual(&mut self, code: u16, down: bool) {
        let [prefix, code] = code.to_be_bytes();
        if code == 0 {
            return;
        }
        if prefix != 0 {
            self.send(&[prefix]);
        }
        match (self.set, down) {
            (1, false) => self.send(&[code | UP_BIT]),
            (1, true) | (_, true) => self.send(&[code]),
            (_, false) => self.send(&[UP, code]),
        }
    }

    /// The key Pause, which is Break with Ctrl and sends nothing when it goes up.
    fn pause(&mut self, down: bool) {
        let with_ctrl = self.modifiers & CTRL != 0;
        match (down, self.set, with_ctrl) {
            (false, ..) => {}
            (true, 1, true) => self.send(&[0xe0, 0x46, 0xe0, 0xc6]),
            (true, 1, false) => self.send(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]),
            (true, _, true) => self.send(&[0xe0, 0x7e, 0xe0, 0xf0, 0x7e]),
            (true, _, false) => self.send(&[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]),
        }
    }

    /// The key Print, which is SysRq with Alt.
    fn print(&mut self, down: bool) {
        let [alt, alt_r, other] = [ALT, ALT_R, SHIFT_OR_CTRL].map(|bits| self.modifiers & bits != 0);
        let codes: [&[u8]; 2] = match (self.set, alt, alt_r, other) {
            (1, true, ..) => [&[0xb8, 0x38, 0x54], &[0xd4, 0xb8, 0x38]],
            (1, _, true, _) => [&[0xe0, 0xb8, 0xe0, 0x38, 0x54], &[0xd4, 0xe0, 0xb8, 0xe0, 0x38]],
            (1, _, _, true) => [&[0xe0, 0x37], &[0xe0, 0xb7]],
            (1, ..) => [&[0xe0, 0x2a, 0xe0, 0x37], &[0xe0, 0xb7, 0xe0, 0xaa]],
            (_, true, ..) => [&[0xf0, 0x11, 0x11, 0x84], &[0xf0, 0x84, 0xf0, 0x11, 0x11]],
            (_, _, true, _) => [
                &[0xe0, 0xf0, 0x11, 0xe0, 0x11, 0x84],
                &[0xf0, 0x84, 0xe0, 0xf0, 0x11, 0xe0, 0x11],
            ],
            (_, _, _, true) => [&[0xe0, 0x7c], &[0xe0, 0xf0, 0x7c]],
            _ => [&[0xe0, 0x12, 0xe0, 0x7c], &[0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]],
        };
        self.send(codes[usize::from(!down)]);
    }

    /// Sends codes, translated if they are to be.
    fn send(&mut self, codes: &[u8]) {
        for code in codes {
            match *code {
                code if !self.translate => self.queue.push(code),
                UP => self.goes_up = true,
                code => {
                    let bit = if std::mem::take(&mut self.goes_up) { UP_BIT } else { 0 };
                    self.queue.push(to_set_1(code) | bit);
                }
            }
        }
    }

    /// As a saved state has it.
    pub(super) fn state(&self) -> KeyboardState {
        let (common, reply_end) = self.queue.state(self.command);
        KeyboardState {
            common,
            scan_enabled: self.tells,
            translate: self.translate,
            scancode_set: self.set.into(),
            ledstate: self.lights.into(),
            need_high_bit: self.goes_up,
            reply_end,
        }
    }

    /// From a saved state.
    pub(super) fn restore(state: &KeyboardState) -> Self {
        Self {
            queue: Queue::restore(&state.common, state.reply_end),
            command: u8::try_from(state.common.write_cmd).ok(),
            tells: state.scan_enabled,
            translate: state.translate,
            set: u8::try_from(state.scancode_set).unwrap_or(2),
            lights: state.ledstate.to_le_bytes()[0],
            goes_up: state.need_high_bit,
            modifiers: 0,
        }
    }
}

fn to_set_1(code: u8) -> u8 {
    TO_SET_1.get(usize::from(code)).copied().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that waits for the guest.
    fn taken(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| (!keyboard.queue.is_empty()).then(|| keyboard.queue.take())).collect()
    }

    fn sent(keyboard: &mut Keyboard, name: &str, down: bool) -> Vec<u8> {
        keyboard.key(Key::named(name).unwrap(), down);
        taken(keyboard)
    }

    fn in_set(set: u8, translate: bool) -> Keyboard {
        let mut keyboard = Keyboard::new();
        keyboard.write(0xf0);
        keyboard.write(set);
        taken(&mut keyboard);
        keyboard.set_translation(translate);
        keyboard
    }

    #[test]
    fn keys_send_what_they_send_in_qemu() {
        // Set 1, set 2 and set 3, down and up, as recorded.
        let recorded: [(&str, [[&[u8]; 2]; 3]); 6] = [
            (
                "a",
                [[&[0x1e], &[0x9e]], [&[0x1c], &[0xf0, 0x1c]], [&[0x1c], &[0xf0, 0x1c]]],
            ),
            (
                "alt_r",
                [
                    [&[0xe0, 0x38], &[0xe0, 0xb8]],
                    [&[0xe0, 0x11], &[0xe0, 0xf0, 0x11]],
                    [&[0x39], &[0xf0, 0x39]],
                ],
            ),
            (
                "f7",
                [[&[0x41], &[0xc1]], [&[0x83], &[0xf0, 0x83]], [&[0x37], &[0xf0, 0x37]]],
            ),
            (
                "pause",
                [
                    [&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5], &[]],
                    [&[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77], &[]],
                    [&[0x62], &[0xf0, 0x62]],
                ],
            ),
            (
                "print",
                [
                    [&[0xe0, 0x2a, 0xe0, 0x37], &[0xe0, 0xb7, 0xe0, 0xaa]],
                    [&[0xe0, 0x12, 0xe0, 0x7c], &[0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]],
                    [&[0x57], &[0xf0, 0x57]],
                ],
            ),
            (
                "menu",
                [[&[0xe0, 0x1e], &[0xe0, 0x9e]], [&[], &[]], [&[0x91], &[0xf0, 0x91]]],
            ),
        ];
        for (name, sets) in recorded {
            for (set, [down, up]) in (1..).zip(sets) {
                let mut keyboard = in_set(set, false);
                assert_eq!(sent(&mut keyboard, name, true), down, "{name} down in set {set}");
                assert_eq!(sent(&mut keyboard, name, false), up, "{name} up in set {set}");
            }
        }
    }

    #[test]
    fn pause_and_print_change_with_ctrl_alt_and_shift() {
        let recorded: [(&str, &str, [&[u8]; 2]); 6] = [
            ("ctrl", "pause", [&[0xe0, 0x46, 0xe0, 0xc6], &[]]),
            ("ctrl_r", "pause", [&[0xe0, 0x46, 0xe0, 0xc6], &[]]),
            ("shift_r", "print", [&[0xe0, 0x37], &[0xe0, 0xb7]]),
            ("ctrl", "sysrq", [&[0xe0, 0x37], &[0xe0, 0xb7]]),
            ("alt", "print", [&[0xb8, 0x38, 0x54], &[0xd4, 0xb8, 0x38]]),
            (
                "alt_r",
                "sysrq",
                [&[0xe0, 0xb8, 0xe0, 0x38, 0x54], &[0xd4, 0xe0, 0xb8, 0xe0, 0x38]],
            ),
        ];
        for (modifier, name, [down, up]) in recorded {
            for mut keyboard in [in_set(1, false), in_set(2, true)] {
                sent(&mut keyboard, modifier, true);
                assert_eq!(sent(&mut keyboard, name, true), down, "{modifier} and {name}");
                assert_eq!(sent(&mut keyboard, name, false), up, "{modifier} and {name}");
                sent(&mut keyboard, modifier, false);
                assert_ne!(sent(&mut keyboard, name, true), down, "{name} alone");
            }
        }
    }

    #[test]
    fn translated_codes_are_those_of_set_1() {
        for number in 1..=0xff {
            let Some(key) = Key::numbered(number).filter(|key| key.code(2) != 0) else {
                continue;
            };
            for down in [true, false] {
                let untranslated = sent(&mut in_set(1, false), key.name(), down);
                assert_eq!(
                    sent(&mut in_set(2, true), key.name(), down),
                    untranslated,
                    "{}",
                    key.name()
                );
            }
        }
    }

    #[test]
    fn commands_are_answered_as_in_qemu() {
        let replies: [(&[u8], &[u8]); 16] = [
            (&[0x00], &[0xfa]),
            (&[0x05], &[0xfe]),
            (&[0xee], &[0xee]),
            (&[0xf2], &[0xfa, 0xab, 0x41]),
            (&[0xf0, 0x00], &[0xfa, 0xfa, 0x41]),
            (&[0xf0, 0x04], &[0xfa, 0xfe]),
            (&[0xf0, 0x03], &[0xfa, 0xfa]),
            (&[0xed, 0x07], &[0xfa, 0xfa]),
            (&[0xf3, 0x20], &[0xfa, 0xfa]),
            (&[0xfc, 0x1c], &[0xfa, 0xfa]),
            (&[0xf4], &[0xfa]),
            (&[0xf5], &[0xfa]),
            (&[0xf6], &[0xfa]),
            (&[0xf7], &[0xfe]),
            (&[0xaa], &[0xfe]),
            (&[0xff], &[0xfa, 0xaa]),
        ];
        for (bytes, reply) in replies {
            let mut keyboard = in_set(2, true);
            let mut seen = Vec::new();
            for byte in bytes {
                keyboard.write(*byte);
                seen.extend(taken(&mut keyboard));
            }
            assert_eq!(seen, reply, "{bytes:x?}");
        }
    }

    #[test]
    fn answers_overtake_keys_and_what_finds_no_room_is_lost() {
        let mut keyboard = in_set(1, false);
        let a = Key::named("a").unwrap();
        for _ in 0..20 {
            keyboard.key(a, true);
        }
        keyboard.write(0xf2);
        keyboard.write(0xee);
        let all = taken(&mut keyboard);
        assert_eq!(all[0], 0xee, "the answer that nobody read is gone");
        assert_eq!(all[1..], [0x1e; 16]);
    }

    #[test]
    fn a_keyboard_that_is_off_says_nothing() {
        let mut keyboard = in_set(2, true);
        keyboard.write(0xf5);
        taken(&mut keyboard);
        assert!(!keyboard.key(Key::named("a").unwrap(), true));
        assert!(keyboard.queue.is_empty());
    }
}
