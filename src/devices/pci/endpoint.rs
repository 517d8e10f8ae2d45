//! Capabilities of a PCI Express endpoint: Express itself, and power management (PCI Express Base 5.0, 7.5.3 and 7.5.2).

use super::ConfigSpace;

/// Id of the Express capability.
const EXPRESS: u8 = 0x10;
/// Bytes of it, version 2, without its two header bytes.
const EXPRESS_BODY: usize = 0x3a;
/// Device capabilities: role-based error reports.
const ROLE_BASED_ERRORS: u32 = 1 << 15;
/// Device capabilities: tags of eight bits.
const EXTENDED_TAG: u32 = 1 << 5;
/// Device capabilities: the function can be reset by itself.
const FUNCTION_LEVEL_RESET: u32 = 1 << 28;
/// Link: one lane of 2.5 GT/s.
const LINK: u16 = 0x0011;
/// Link capabilities: the power state L0s.
const LINK_L0S: u32 = 1 << 10;
/// Device capabilities 2: three end-to-end prefixes at most, and their support.
const DEVICE_CAPABILITIES_2: u32 = 0x0030_0000;
/// Offsets in the capability.
const DEVICE_CONTROL: usize = 0x08;
const DEVICE_STATUS: usize = 0x0a;
const LINK_CONTROL: usize = 0x10;
const DEVICE_CONTROL_2: usize = 0x28;
/// Device control: reports of errors.
const ERROR_REPORTS: u16 = 0x000f;
/// Device control: resets the function; reads as zero.
const INITIATE_RESET: u16 = 1 << 15;
/// Link control: clock configuration and extended synchronisation.
const LINK_CONTROL_MASK: u16 = 0x00c0;
/// Device control 2: blocking of end-to-end prefixes.
const PREFIX_BLOCKING: u16 = 1 << 15;

/// Id of the power management capability.
const POWER: u8 = 1;
/// Power management capabilities: version 3.
const POWER_VERSION: u16 = 3;
/// Offset of the control register in that capability.
const POWER_CONTROL: usize = 4;
/// Control: the power state.
const POWER_STATE: u8 = 3;
/// Control: the state is kept from D3hot to D0.
const NO_SOFT_RESET: u8 = 1 << 3;
/// The power states between which a function forgets.
const D0: u8 = 0;
const D3_HOT: u8 = 3;

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// It can be reset by its capability.
    pub function_level_reset: bool,
    /// It offers tags of eight bits.
    pub extended_tag: bool,
}

/// The Express capability of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    at: usize,
}

impl Endpoint {
    /// Adds the capability.
    #[must_use]
    pub fn add(config: &mut ConfigSpace, wanted: EndpointConfig) -> Self {
        let tag = if wanted.extended_tag { EXTENDED_TAG } else { 0 };
        let (reset, may_reset) = match wanted.function_level_reset {
            true => (FUNCTION_LEVEL_RESET, INITIATE_RESET),
            false => (0, 0),
        };
        let mut body = [0_u8; EXPRESS_BODY];
        let mut put = |at: usize, bytes: &[u8]| body[at - 2..at - 2 + bytes.len()].copy_from_slice(bytes);
        // Version 2, endpoint.
        put(0x02, &2_u16.to_le_bytes());
        put(0x04, &(ROLE_BASED_ERRORS | tag | reset).to_le_bytes());
        put(0x0c, &(LINK_L0S | u32::from(LINK)).to_le_bytes());
        put(0x12, &LINK.to_le_bytes());
        put(0x24, &DEVICE_CAPABILITIES_2.to_le_bytes());
        let at = config.add_capability(EXPRESS, &body);
        config.allow_write(at + DEVICE_CONTROL, &(ERROR_REPORTS | may_reset).to_le_bytes());
        config.allow_clear(at + DEVICE_STATUS, &[0x0f, 0]);
        config.allow_write(at + LINK_CONTROL, &LINK_CONTROL_MASK.to_le_bytes());
        config.allow_write(at + DEVICE_CONTROL_2, &PREFIX_BLOCKING.to_le_bytes());
        Self { at }
    }

    /// Whether the guest has asked for a reset of the function since this was last looked at.
    #[must_use]
    pub fn take_reset(self, config: &mut ConfigSpace) -> bool {
        let control = config.u16(self.at + DEVICE_CONTROL);
        config.set(self.at + DEVICE_CONTROL, &(control & !INITIATE_RESET).to_le_bytes());
        control & INITIATE_RESET != 0
    }
}

/// The power management capability: a function that wakes from D3hot.
#[derive(Clone, Copy, Debug)]
pub struct PowerManagement {
    at: usize,
    /// The state at the last look.
    state: u8,
}

impl PowerManagement {
    /// Adds the capability. `no_soft_reset`: nothing is forgotten in D3hot.
    #[must_use]
    pub fn add(config: &mut ConfigSpace, no_soft_reset: bool) -> Self {
        let [low, high] = POWER_VERSION.to_le_bytes();
        let control = if no_soft_reset { NO_SOFT_RESET } else { 0 };
        let at = config.add_capability(POWER, &[low, high, control, 0, 0, 0]);
        config.allow_write(at + POWER_CONTROL, &[POWER_STATE]);
        Self { at, state: D0 }
    }

    /// Call after the guest wrote to configuration space. Whether the function has woken and forgotten its state.
    #[must_use]
    pub fn config_written(&mut self, config: &ConfigSpace) -> bool {
        let control = config.u8(self.at + POWER_CONTROL);
        let before = std::mem::replace(&mut self.state, control & POWER_STATE);
        before == D3_HOT && self.state == D0 && control & NO_SOFT_RESET == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_asked_for_once() {
        let mut config = ConfigSpace::new(1, 2, [0xff, 0, 0], 0);
        let wanted = EndpointConfig {
            function_level_reset: true,
            extended_tag: true,
        };
        let endpoint = Endpoint::add(&mut config, wanted);
        assert_eq!(config.u32(0x44), 0x1000_8020);
        config.write(0x48, &[0x0f, 0x80]);
        assert!(endpoint.take_reset(&mut config));
        assert!(!endpoint.take_reset(&mut config));
        assert_eq!(config.u16(0x48), 0x000f);
    }

    #[test]
    fn the_state_is_lost_from_d3hot_to_d0_unless_it_is_said_to_stay() {
        for (keeps, forgets) in [(false, true), (true, false)] {
            let mut config = ConfigSpace::new(1, 2, [0xff, 0, 0], 0);
            let mut power = PowerManagement::add(&mut config, keeps);
            config.write(0x44, &[3]);
            assert!(!power.config_written(&config));
            config.write(0x44, &[0]);
            assert_eq!(power.config_written(&config), forgets);
        }
    }
}
