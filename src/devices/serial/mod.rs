//! `isa-serial`: a 16550A serial port (National Semiconductor PC16550D).

mod class;
mod isa;
mod registers;
mod state;
#[cfg(test)]
mod tests;
mod uart;

use class::TYPE;
pub use class::{CLASS, SerialError};
pub use isa::{IsaSerial, Place};
pub use state::{FIFO_SIZE, State};
pub use uart::{Line, Links, Uart, Wakeup};

/// Ports it occupies.
pub const PORTS: u16 = 8;
