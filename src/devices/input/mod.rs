//! What people do to a guest: keys, buttons and movement, on their way to the devices that tell it.

mod keys;

pub use keys::Key;

/// What kind of thing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// A key.
    Key,
    /// A button.
    Button,
    /// Movement.
    Relative,
    /// A position.
    Absolute,
    /// A finger.
    Touch,
}

/// A button of a mouse; a wheel is a pair of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// The left one.
    Left,
    /// The middle one.
    Middle,
    /// The right one.
    Right,
    /// The front one on the side.
    Side,
    /// The rear one on the side.
    Extra,
    /// The wheel, away from the hand.
    WheelUp,
    /// The wheel, to the hand.
    WheelDown,
    /// The wheel, to the left.
    WheelLeft,
    /// The wheel, to the right.
    WheelRight,
}

/// A direction of movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// To the right.
    X,
    /// Down.
    Y,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A key goes down or up.
    Key(Key, bool),
    /// A button goes down or up.
    Button(Button, bool),
    /// A mouse moves.
    Move(Axis, i64),
}

impl InputEvent {
    /// What kind it is.
    #[must_use]
    pub fn kind(self) -> InputKind {
        match self {
            Self::Key(..) => InputKind::Key,
            Self::Button(..) => InputKind::Button,
            Self::Move(..) => InputKind::Relative,
        }
    }
}

/// A device that people use.
pub trait InputDevice {
    /// Whether it has a use for what is of this kind.
    fn takes(&self, kind: InputKind) -> bool;
    /// Something happens.
    fn happen(&mut self, event: InputEvent);
    /// What happened since the last call belongs together: tells the guest of movement and buttons.
    fn tell(&mut self);
}
