//! Guest time.

/// A clock that stands still while the guest is stopped.
pub trait Clock: Send + Sync {
    /// Nanoseconds the guest has run since power-on of the emulator.
    fn nanoseconds(&self) -> u64;
}
