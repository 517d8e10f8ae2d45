//! The host's time zone.
#![expect(unsafe_code, reason = "localtime_r")]

use nix::libc;

/// How many seconds the host's local time is ahead of universal time, at this second since 1970-01-01 00:00:00 UTC.
pub(crate) fn seconds_ahead_of_utc(now: u64) -> Option<i64> {
    let time = libc::time_t::try_from(now).ok()?;
    // SAFETY: all-zero bytes are a valid `tm`, whose only pointer may be null.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call.
    let result = unsafe { libc::localtime_r(&time, &mut broken_down) };
    (!result.is_null()).then_some(broken_down.tm_gmtoff)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_zone_is_more_than_a_day_away() {
        let ahead = super::seconds_ahead_of_utc(1_700_000_000).unwrap();
        assert!(ahead.abs() <= 86_400, "{ahead}");
    }
}
