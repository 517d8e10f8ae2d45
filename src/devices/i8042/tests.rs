//! The controller with both devices, as a guest sees it.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::devices::input::{Axis, Button, Key};
use crate::devices::testing::{CountingLine, move_state, random_accesses, saved};
use crate::vmstate::recorded::{check_round_trips, sections};

struct Bench {
    device: I8042,
    keyboard: Arc<CountingLine>,
    mouse: Arc<CountingLine>,
    seen: Arc<Mutex<Vec<Notice>>>,
}

impl Bench {
    fn new() -> Self {
        let [keyboard, mouse]: [Arc<CountingLine>; 2] = Default::default();
        let seen: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let sink = Arc::clone(&seen);
        let notifier: Notifier = Arc::new(move |notice| sink.lock().unwrap().push(notice));
        let lines = Lines {
            keyboard: Arc::clone(&keyboard) as _,
            mouse: Arc::clone(&mouse) as _,
        };
        Self {
            device: I8042::new(lines, notifier, false),
            keyboard,
            mouse,
            seen,
        }
    }

    /// With a mouse that tells of movement.
    fn with_mouse() -> Self {
        let mut bench = Self::new();
        bench.tell_mouse(0xf4);
        assert_eq!(bench.read(0), 0xfa);
        bench
    }

    fn read(&mut self, offset: u16) -> u8 {
        let mut byte = [0];
        self.device.pio_read(offset, &mut byte);
        byte[0]
    }

    fn status(&mut self) -> u8 {
        self.read(COMMAND_OFFSET)
    }

    fn write(&mut self, byte: u8) {
        self.device.pio_write(0, &[byte]);
    }

    fn command(&mut self, byte: u8) {
        self.device.pio_write(COMMAND_OFFSET, &[byte]);
    }

    fn tell_mouse(&mut self, byte: u8) {
        self.command(0xd4);
        self.write(byte);
    }

    fn press(&mut self, name: &str) {
        let key = Key::named(name).unwrap();
        self.device.happen(InputEvent::Key(key, true));
    }

    fn move_mouse(&mut self) {
        self.device.happen(InputEvent::Move(Axis::X, 3));
        self.device.tell();
    }
}

#[test]
fn firmware_finds_a_controller_and_a_keyboard() {
    let mut bench = Bench::new();
    assert_eq!(bench.status(), 0x18);
    bench.command(0xaa);
    assert_eq!(bench.status(), 0x1d);
    assert_eq!(bench.read(0), 0x55);
    assert!(!bench.keyboard.is_high(), "nothing is left to read");
    bench.write(0xff);
    assert!(bench.keyboard.is_high());
    assert_eq!([bench.read(0), bench.read(0)], [0xfa, 0xaa]);
    assert_eq!(bench.status(), 0x1c);
    assert_eq!(bench.read(0), 0xaa, "the last byte stays");
    assert_eq!(bench.keyboard.pulses(), 3, "an edge for each byte");
}

#[test]
fn only_a_pulse_of_the_reset_line_resets() {
    let mut bench = Bench::new();
    for command in [0xff, 0xfd, 0xfe] {
        bench.command(command);
    }
    assert_eq!(*bench.seen.lock().unwrap(), [Notice::ResetRequest]);
}

#[test]
fn keys_and_movement_interrupt_each_by_its_line() {
    let mut bench = Bench::with_mouse();
    let pulses = bench.mouse.pulses();
    bench.press("a");
    assert!(bench.keyboard.is_high() && !bench.mouse.is_high());
    assert_eq!(bench.status(), 0x19);
    bench.move_mouse();
    assert_eq!(bench.status(), 0x19, "the buffer is full");
    assert_eq!(bench.read(0), 0x1c);
    assert!(!bench.keyboard.is_high() && bench.mouse.is_high());
    assert_eq!(bench.status(), 0x39);
    assert_eq!([0; 3].map(|_| bench.read(0)), [0x08, 3, 0]);
    assert_eq!(bench.mouse.pulses() - pulses, 3);
    assert_eq!(bench.status(), 0x18);
    assert_eq!(
        *bench.seen.lock().unwrap(),
        [Notice::WakeupRequest],
        "a key wakes, movement does not"
    );
    bench.device.happen(InputEvent::Button(Button::Left, true));
    bench.device.tell();
    assert_eq!(bench.seen.lock().unwrap().len(), 2, "and a button does");
}

#[test]
fn a_device_that_is_disabled_waits() {
    let mut bench = Bench::with_mouse();
    bench.command(0xad);
    bench.command(0xa7);
    bench.press("a");
    bench.move_mouse();
    assert_eq!(bench.status(), 0x18);
    bench.command(0xa8);
    assert_eq!(bench.status(), 0x39);
    assert_eq!(bench.read(0), 0x08);
    bench.command(0xae);
    bench.command(0x20);
    assert_eq!([0; 5].map(|_| bench.read(0)), [3, 0x03, 0x1c, 0, 0]);
}

#[test]
fn a_byte_for_a_device_enables_it_and_an_echo_comes_from_either() {
    let mut bench = Bench::new();
    bench.command(0x60);
    bench.write(0x73);
    bench.write(0xf4);
    bench.command(0x20);
    bench.read(0);
    assert_eq!(bench.read(0), 0x63);
    bench.tell_mouse(0xf4);
    assert_eq!((bench.status(), bench.read(0)), (0x39, 0xfa));
    for (command, status) in [(0xd2, 0x19), (0xd3, 0x39)] {
        bench.command(command);
        bench.write(0xa5);
        assert_eq!((bench.status(), bench.read(0)), (status, 0xa5));
    }
}

#[test]
fn the_output_port_tells_what_waits() {
    let mut bench = Bench::with_mouse();
    bench.move_mouse();
    bench.command(0xd0);
    assert_eq!(bench.device.output_port, 0xff);
    bench.read(0);
    assert_eq!(bench.read(0), 0xff, "the port as it was asked for");
}

#[test]
fn a_moved_controller_goes_on_where_it_was() {
    let mut one = Bench::with_mouse();
    one.write(0xf2);
    one.move_mouse();
    one.press("b");
    one.command(0x60);
    let mut other = Bench::new();
    move_state(&mut one.device, &mut other.device);
    assert!(other.keyboard.is_high());
    other.write(0);
    assert!(!other.keyboard.is_high(), "the byte was taken for the command byte");
    assert_eq!([0; 7].map(|_| other.read(0)), [0xfa, 0xab, 0x83, 0x32, 0x08, 3, 0]);
    let mut one = Bench::new();
    one.write(0xed);
    one.command(0xd3);
    one.write(0x11);
    let mut other = Bench::new();
    move_state(&mut one.device, &mut other.device);
    other.write(0x02);
    assert_eq!((other.read(0), other.status()), (0xfa, 0x39));
    assert_eq!(
        (other.read(0), other.status()),
        (0x11, 0x18),
        "nobody read the first answer"
    );
    assert_eq!(other.device.keyboard.state().ledstate, 2);
}

#[test]
fn what_waits_shows_in_a_saved_state() {
    let mut bench = Bench::with_mouse();
    let pending = |bench: &Bench| Stateful::<ControllerState>::state(&bench.device).pending_tmp;
    assert_eq!(pending(&bench), 0);
    bench.press("a");
    assert_eq!(pending(&bench), 0x10);
    bench.move_mouse();
    assert_eq!(pending(&bench), 0x30);
    bench.command(0x20);
    assert_eq!(pending(&bench), 0x34);
    let mut state = Stateful::<ControllerState>::state(&bench.device);
    state.output_source = 3;
    let error = Stateful::<ControllerState>::set_state(&mut bench.device, state).unwrap_err();
    assert!(error.to_string().contains("obsrc"), "{error}");
}

#[test]
fn its_sections_are_qemus() {
    check_round_trips("ps2kbd", |_| KeyboardState::default());
    check_round_trips("ps2mouse", |_| MouseState::default());
    check_round_trips("pckbd", |_| ControllerState::default());
    let mut bench = Bench::new();
    for (layout, bytes) in saved(&mut bench.device) {
        let [section] = sections("q35-10.2-bare", layout.name).try_into().unwrap();
        assert_eq!(bytes, section.bytes(), "{}", layout.name);
    }
}

#[test]
fn a_linux_guests_devices_come_back_byte_for_byte() {
    for stream in ["q35-10.2-linux-devices", "q35-10.2-virtio-bios"] {
        let mut bench = Bench::new();
        let recorded = ["ps2kbd", "ps2mouse", "pckbd"].map(|name| {
            let [section] = sections(stream, name).try_into().unwrap();
            section.bytes()
        });
        let mut rest = recorded.iter();
        let device = &mut bench.device;
        let loaded = device.sections(&mut |section| {
            let version = section.layout().version;
            section.load(version, rest.next().unwrap()).map(|_| ())
        });
        loaded.unwrap();
        let again = saved(&mut bench.device).into_iter().map(|(_, bytes)| bytes);
        assert!(again.eq(recorded), "{stream}");
    }
}

proptest! {
    #[test]
    fn no_access_does_harm(accesses in random_accesses(5)) {
        let mut bench = Bench::with_mouse();
        for access in accesses {
            bench.press("pause");
            bench.move_mouse();
            access.perform(&mut bench.device);
        }
    }
}
