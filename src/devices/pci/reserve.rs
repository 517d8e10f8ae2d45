//! What firmware shall set aside behind a bridge for devices that come later: QEMU's vendor-specific capability
//! (docs/pcie_pci_bridge.txt of QEMU).

use super::{ConfigSpace, config::IO_BASE};

/// Id of vendor-specific capabilities.
const ID: u8 = 0x09;
/// Bytes of the capability.
const LEN: u8 = 32;
/// Its type.
const RESOURCE_RESERVE: u8 = 1;
/// A 32-bit window cannot be larger.
const FOUR_GIB: u64 = 1 << 32;

/// How much to set aside; none leaves it to firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Bus numbers.
    pub buses: Option<u32>,
    /// Bytes of I/O ports; with 0 the bridge has no window for them.
    pub io: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of prefetchable memory below 4 GiB.
    pub prefetchable_32: Option<u64>,
    /// Bytes of prefetchable memory anywhere.
    pub prefetchable_64: Option<u64>,
}

/// Reservations that contradict each other or do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Both kinds of prefetchable memory.
    #[error("PCI resource reserve cap: PREF32 and PREF64 conflict")]
    Prefetchable,
    /// More than 32 bits reach.
    #[error("PCI resource reserve cap: {0} must be less than 4G")]
    TooMuch(&'static str),
}

impl Reserve {
    /// Checks that firmware can do it.
    ///
    /// # Errors
    /// Names what contradicts or does not fit.
    pub fn check(self) -> Result<Self, ReserveError> {
        if self.prefetchable_32.is_some() && self.prefetchable_64.is_some() {
            return Err(ReserveError::Prefetchable);
        }
        let limited = [("mem-reserve", self.memory), ("pref32-reserve", self.prefetchable_32)];
        let too_much = limited
            .into_iter()
            .find(|(_, bytes)| bytes.is_some_and(|bytes| bytes >= FOUR_GIB));
        match too_much {
            Some((name, _)) => Err(ReserveError::TooMuch(name)),
            None => Ok(self),
        }
    }

    /// Adds the capability, unless all is left to firmware.
    pub(super) fn add(self, config: &mut ConfigSpace) {
        if self == Self::default() {
            return;
        }
        let mut body = vec![LEN, RESOURCE_RESERVE];
        body.extend(self.buses.unwrap_or(u32::MAX).to_le_bytes());
        body.extend(self.io.unwrap_or(u64::MAX).to_le_bytes());
        body.extend(low(self.memory));
        body.extend(low(self.prefetchable_32));
        body.extend(self.prefetchable_64.unwrap_or(u64::MAX).to_le_bytes());
        config.add_capability(ID, &body);
        if self.io == Some(0) {
            // No window for ports: base and limit are read-only, and the guest cannot switch it on.
            config.allow_write(IO_BASE, &[0, 0]);
            config.forbid_io();
        }
    }
}

fn low(bytes: Option<u64>) -> [u8; 4] {
    let bytes = bytes.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    bytes.unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(reserve: Reserve) -> ConfigSpace {
        let mut config = ConfigSpace::new(1, 2, [6, 4, 0], 0).into_bridge();
        reserve.add(&mut config);
        config.sealed()
    }

    #[test]
    fn nothing_reserved_is_no_capability() {
        assert_eq!(bridge(Reserve::default()).u8(0x34), 0);
    }

    #[test]
    fn the_capability_holds_what_is_reserved() {
        let config = bridge(Reserve {
            buses: Some(2),
            memory: Some(2 << 20),
            ..Reserve::default()
        });
        assert_eq!(config.u8(0x34), 0x40);
        assert_eq!(config.u32(0x40), 0x0120_0009);
        assert_eq!((config.u32(0x44), config.u32(0x50)), (2, 2 << 20));
        assert_eq!(
            (config.u32(0x48), config.u32(0x54), config.u32(0x5c)),
            (u32::MAX, u32::MAX, u32::MAX)
        );
    }

    #[test]
    fn without_ports_the_window_cannot_be_opened() {
        let mut config = bridge(Reserve {
            io: Some(0),
            ..Reserve::default()
        });
        config.write(0x1c, &[0xf0, 0xf0]);
        config.write(4, &[3, 0]);
        assert_eq!((config.u16(0x1c), config.u16(4)), (0x00f0, 2));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let both = Reserve {
            prefetchable_32: Some(1),
            prefetchable_64: Some(1),
            ..Reserve::default()
        };
        assert_eq!(both.check(), Err(ReserveError::Prefetchable));
        let large = Reserve {
            memory: Some(FOUR_GIB),
            ..Reserve::default()
        };
        assert_eq!(
            large.check().unwrap_err().to_string(),
            "PCI resource reserve cap: mem-reserve must be less than 4G"
        );
    }
}
