//! Extended capabilities of a root port: advanced error reporting, in which nothing is ever reported, and access control
//! services (PCI Express Base 5.0, 7.8.4 and 7.7.8).

use super::ConfigSpace;

/// Id and version of advanced error reporting.
const ERRORS: (u16, u8) = (1, 2);
/// Bytes of it, with its header.
const ERRORS_SIZE: usize = 0x48;
// Offsets in it.
const UNCORRECTABLE_STATUS: usize = 0x04;
const UNCORRECTABLE_MASK: usize = 0x08;
const UNCORRECTABLE_SEVERITY: usize = 0x0c;
const CORRECTABLE_STATUS: usize = 0x10;
const CORRECTABLE_MASK: usize = 0x14;
const CONTROL: usize = 0x18;
const ROOT_COMMAND: usize = 0x2c;
const ROOT_STATUS: usize = 0x30;

/// The uncorrectable errors that there are.
const UNCORRECTABLE: u32 = 0x03ff_f030;
/// Those that are masked at first: uncorrectable internal errors and blocked prefixes.
const UNCORRECTABLE_MASKED: u32 = 0x0240_0000;
/// Those that are fatal at first.
const FATAL: u32 = 0x0046_2030;
/// The correctable errors that there are.
const CORRECTABLE: u32 = 0x0000_f1c1;
/// Those that are masked at first.
const CORRECTABLE_MASKED: u32 = 0x0000_e000;
/// Control: checksums can be made and checked, several headers recorded.
const CONTROL_OFFERS: u32 = 0x0000_02a0;
/// Control: what of that the guest switches on.
const CONTROL_MASK: u32 = 0x0000_0540;
/// Root error command: interrupts for each severity.
const ROOT_COMMAND_MASK: u32 = 7;
/// Root error status: what is cleared by ones.
const ROOT_STATUS_CLEAR: u32 = 0x7f;

/// Id and version of access control services.
const ACCESS_CONTROL: (u16, u8) = (0x0d, 1);
/// What of them there is: validation, blocking, redirects and forwarding, but no egress control.
const SERVICES: u16 = 0x5f;

/// Adds advanced error reporting. `masks_uncorrectable`: the guest may mask uncorrectable errors, and some are masked at first.
pub(super) fn add_error_reporting(config: &mut ConfigSpace, masks_uncorrectable: bool) {
    let mut body = [0_u8; ERRORS_SIZE - 4];
    let mut put = |at: usize, value: u32| body[at - 4..at].copy_from_slice(&value.to_le_bytes());
    if masks_uncorrectable {
        put(UNCORRECTABLE_MASK, UNCORRECTABLE_MASKED);
    }
    put(UNCORRECTABLE_SEVERITY, FATAL);
    put(CORRECTABLE_MASK, CORRECTABLE_MASKED);
    put(CONTROL, CONTROL_OFFERS);
    let (id, version) = ERRORS;
    let at = config.add_extended_capability(id, version, &body);
    let mask = if masks_uncorrectable { UNCORRECTABLE } else { 0 };
    for (register, writable) in [
        (UNCORRECTABLE_MASK, mask),
        (UNCORRECTABLE_SEVERITY, UNCORRECTABLE),
        (CORRECTABLE_MASK, CORRECTABLE),
        (CONTROL, CONTROL_MASK),
        (ROOT_COMMAND, ROOT_COMMAND_MASK),
    ] {
        config.allow_write(at + register, &writable.to_le_bytes());
    }
    for (register, clearable) in [
        (UNCORRECTABLE_STATUS, UNCORRECTABLE),
        (CORRECTABLE_STATUS, CORRECTABLE),
        (ROOT_STATUS, ROOT_STATUS_CLEAR),
    ] {
        config.allow_clear(at + register, &clearable.to_le_bytes());
    }
}

/// Adds access control services.
pub(super) fn add_access_control(config: &mut ConfigSpace) {
    let [low, high] = SERVICES.to_le_bytes();
    let (id, version) = ACCESS_CONTROL;
    let at = config.add_extended_capability(id, version, &[low, high, 0, 0]);
    config.allow_write(at + 6, &SERVICES.to_le_bytes());
}
