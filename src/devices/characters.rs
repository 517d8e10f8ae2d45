//! What devices that move characters have to do with whoever moves them on.

use std::time::Duration;

/// Where a device's characters go. Any number of threads may write.
pub trait Sink: Send + Sync {
    /// Takes as many of `bytes` as there is room for, and says how many; does not wait. A device whose characters were
    /// refused hears of it by [`Input::ready`] when there is room.
    #[must_use]
    fn send(&self, bytes: &[u8]) -> usize;
    /// Takes all of `bytes`, waiting for as long as there is no room and the guest runs.
    fn send_all(&self, bytes: &[u8]);
    /// Tells the back end whether the guest has its end open (`frontend-open`).
    fn set_open(&self, open: bool) {
        let _ = open;
    }
    /// The device has room for input, or something to do earlier than it said. Must not call the device.
    fn attend(&self);
}

/// A device that takes characters from the host. Called on the loop that serves the lines; may lock the device.
pub trait Input: Send {
    /// How many characters the device can take now.
    fn room(&mut self) -> usize;
    /// Takes characters, at most as many as there is room for.
    fn receive(&mut self, bytes: &[u8]);
    /// A break condition came.
    fn broke(&mut self) {}
    /// Whether the device wants to be told of clients at once, even while it has no room for what they say.
    fn hears_of_clients(&mut self) -> bool {
        false
    }
    /// Somebody is at the other end of the line now. Comes before what they say.
    fn opened(&mut self) {}
    /// Whoever was at the other end of the line went away. Comes after what they said.
    fn closed(&mut self) {}
    /// The back end takes characters again, after it took fewer than it was given.
    fn ready(&mut self) {}
    /// How long until [`Input::expire`] is to be called; none for never.
    fn time_left(&mut self) -> Option<Duration> {
        None
    }
    /// Does what is due.
    fn expire(&mut self) {}
}
