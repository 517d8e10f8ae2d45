//! Messages for the person or the log that started the emulator, in the form QEMU prints them.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The program name messages start with.
static PROGRAM: OnceLock<String> = OnceLock::new();
/// `-msg timestamp=on`.
static TIMESTAMP: AtomicBool = AtomicBool::new(false);
/// `-msg guest-name=on`: the name of the guest.
static GUEST: OnceLock<String> = OnceLock::new();

/// Sets the program name. Only the first call counts.
pub fn set_program(name: &str) {
    PROGRAM.get_or_init(|| name.to_owned());
}

/// Sets whether messages carry the time (`-msg timestamp=on`).
pub fn set_timestamp(on: bool) {
    TIMESTAMP.store(on, Ordering::Relaxed);
}

/// Sets the guest name messages carry (`-msg guest-name=on`). Only the first call counts.
pub fn set_guest_name(name: &str) {
    GUEST.get_or_init(|| name.to_owned());
}

/// Prints `PROGRAM: message` on standard error.
pub fn error(message: impl AsRef<str>) {
    line("", message.as_ref());
}

/// Prints `PROGRAM: warning: message` on standard error.
pub fn warning(message: impl AsRef<str>) {
    line("warning: ", message.as_ref());
}

/// Prints `PROGRAM: LOCATION: warning: message` on standard error; `location` is the option that it is about.
pub fn warning_at(location: &str, message: impl AsRef<str>) {
    line("", &format!("{location}: warning: {}", message.as_ref()));
}

/// Prints `PROGRAM: info: message` on standard error.
pub fn info(message: impl AsRef<str>) {
    line("info: ", message.as_ref());
}

/// Prints a line of another program's as it is.
pub fn plain(text: &str) {
    // One write keeps lines of different processes apart. Nobody is left to tell if standard error is gone.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// What the system said, without its number, as in other programs' messages.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

fn line(severity: &str, message: &str) {
    let mut text = String::with_capacity(message.len() + 64);
    if TIMESTAMP.load(Ordering::Relaxed) {
        text.push_str(&iso8601(SystemTime::now()));
        text.push(' ');
    }
    if let Some(guest) = GUEST.get() {
        text.push_str(guest);
        text.push(' ');
    }
    text.push_str(PROGRAM.get().map_or("remuda", String::as_str));
    text.push_str(": ");
    text.push_str(severity);
    text.push_str(message);
    text.push('\n');
    // One write keeps lines of different processes apart. Nobody is left to tell if standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
fn iso8601(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_from_days(since.as_secs() / 86_400);
    let of_day = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_micros()
    )
}

/// The date of a day counted from 1970-01-01 in the proleptic Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Years counted from March make the leap day the last one of the year; 719,468 days lie before 1970.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_printed_in_iso_8601() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(iso8601(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert!(iso8601(UNIX_EPOCH + Duration::from_micros(1_500_042)).ends_with("01.500042Z"));
    }
}
