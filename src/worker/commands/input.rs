//! `send-key` and `input-send-event`.

use std::time::Duration;

use crate::devices::input::{Axis, Button, InputEvent, InputKind, Key};
use crate::qapi::Error;
use crate::qapi::qmp::{self, InputAxis, InputButton, InputSendEventArgs, KeyValue, RunState, SendKeyArgs};
use crate::worker::core::Core;

/// The pause after a key where none is asked for, in milliseconds.
const USUAL_PAUSE: u32 = 10;

/// Presses keys and lets them go.
///
/// # Errors
/// The time is none, or too many keys wait already.
pub(super) fn send_key(core: &Core, args: &SendKeyArgs) -> Result<(), Error> {
    let pause = u32::try_from(args.hold_time.unwrap_or(0))
        .map_err(|_| Error::generic("Parameter 'hold-time' expects milliseconds, up to 4294967295"))?;
    let Some(guest) = core.guest.as_deref().filter(|_| is_awake(core)) else {
        return Ok(());
    };
    let pause = if pause == 0 { USUAL_PAUSE } else { pause };
    let keys: Vec<Key> = args.keys.iter().filter_map(key).collect();
    guest.send_keys(&keys, Duration::from_millis(pause.into()))
}

/// Lets things happen, all at once.
///
/// # Errors
/// The guest is stopped, there is no such display, or no device has a use for one of the events.
pub(super) fn send_event(core: &Core, args: &InputSendEventArgs) -> Result<(), Error> {
    let stopped = || Error::generic("VM not running");
    let guest = core.guest.as_deref().filter(|_| is_awake(core)).ok_or_else(stopped)?;
    if let Some(device) = &args.device {
        return Err(without_display(core, device, args.head.unwrap_or(0)));
    }
    for event in &args.events {
        let (kind, wanted) = (event.discriminator(), kind(event));
        if !guest.takes_input(wanted) {
            let text = format!("Input handler not found for event type {}", kind.as_str());
            return Err(Error::generic(text));
        }
    }
    let events: Vec<InputEvent> = args.events.iter().filter_map(happening).collect();
    guest.input(&events);
    Ok(())
}

/// Whether what people do reaches the guest: one that sleeps is woken by it.
fn is_awake(core: &Core) -> bool {
    matches!(core.state(), RunState::Running | RunState::Suspended)
}

/// Why nothing can happen on the display of a device: no device here has one.
fn without_display(core: &Core, id: &str, head: i64) -> Error {
    match core.tree.borrow().object(&format!("/machine/peripheral/{id}")) {
        Ok(_) => Error::generic(format!("Device {id} (head {head}) is not bound to a QemuConsole")),
        Err(_) => Error::device_not_found(format!("Device '{id}' not found")),
    }
}

fn key(value: &KeyValue) -> Option<Key> {
    match value {
        KeyValue::Number(number) => Key::numbered(number.data),
        KeyValue::Qcode(code) => Key::named(code.data.as_str()),
    }
}

fn kind(event: &qmp::InputEvent) -> InputKind {
    match event {
        qmp::InputEvent::Key(_) => InputKind::Key,
        qmp::InputEvent::Btn(_) => InputKind::Button,
        qmp::InputEvent::Rel(_) => InputKind::Relative,
        qmp::InputEvent::Abs(_) => InputKind::Absolute,
        qmp::InputEvent::Mtt(_) => InputKind::Touch,
    }
}

/// As devices see it; none if it is nothing to any of them.
fn happening(event: &qmp::InputEvent) -> Option<InputEvent> {
    Some(match event {
        qmp::InputEvent::Key(event) => InputEvent::Key(key(&event.data.key)?, event.data.down),
        qmp::InputEvent::Btn(event) => InputEvent::Button(button(event.data.button)?, event.data.down),
        qmp::InputEvent::Rel(event) => {
            let axis = match event.data.axis {
                InputAxis::X => Axis::X,
                InputAxis::Y => Axis::Y,
            };
            InputEvent::Move(axis, event.data.value)
        }
        qmp::InputEvent::Abs(_) | qmp::InputEvent::Mtt(_) => return None,
    })
}

fn button(button: InputButton) -> Option<Button> {
    Some(match button {
        InputButton::Left => Button::Left,
        InputButton::Middle => Button::Middle,
        InputButton::Right => Button::Right,
        InputButton::Side => Button::Side,
        InputButton::Extra => Button::Extra,
        InputButton::WheelUp => Button::WheelUp,
        InputButton::WheelDown => Button::WheelDown,
        InputButton::WheelLeft => Button::WheelLeft,
        InputButton::WheelRight => Button::WheelRight,
        InputButton::Touch => return None,
    })
}
