//! How PCI functions interrupt by pin.

use std::fmt;
use std::sync::Arc;

use super::ConfigSpace;
use crate::devices::IrqLine;

/// Status register: the function asks for INTx.
const STATUS: usize = 0x06;
const INTERRUPT_STATUS: u8 = 1 << 3;

/// A function's interrupt pin.
pub struct Pin {
    line: Arc<dyn IrqLine>,
    asked: bool,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Pin {
    /// A pin that drives `line`.
    #[must_use]
    pub fn new(line: Arc<dyn IrqLine>) -> Self {
        Self { line, asked: false }
    }

    /// Asks for an interrupt, or no longer. The status register shows it; the line follows unless the guest has
    /// disabled INTx.
    pub fn set(&mut self, config: &mut ConfigSpace, asked: bool) {
        self.asked = asked;
        let status = config.u8(STATUS) & !INTERRUPT_STATUS;
        config.set(STATUS, &[status | if asked { INTERRUPT_STATUS } else { 0 }]);
        self.refresh(config);
    }

    /// Whether it asks for an interrupt.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Call after the guest wrote to the command register, and after a reset or restore.
    pub fn refresh(&self, config: &ConfigSpace) {
        self.line.set(self.asked && config.allows_intx());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::CountingLine;

    #[test]
    fn a_disabled_pin_keeps_the_line_low_and_still_shows_in_status() {
        let line = Arc::new(CountingLine::default());
        let mut pin = Pin::new(Arc::clone(&line) as _);
        let mut config = ConfigSpace::new(1, 2, [0xff, 0, 0], 0).sealed();
        pin.set(&mut config, true);
        assert!(line.is_high());
        config.write(4, &[0, 4]);
        pin.refresh(&config);
        assert!(!line.is_high());
        assert_eq!(config.u16(6) & 8, 8);
        config.write(4, &[0, 0]);
        pin.refresh(&config);
        assert!(line.is_high());
        pin.set(&mut config, false);
        assert!(!line.is_high());
        assert_eq!(config.u16(6) & 8, 0);
    }
}
