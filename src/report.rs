//! Messages for the person or the log that started the emulator, in the form QEMU prints them.

use std::error::Error;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::calendar::Date;

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

/// Speaks for one guest of several in this process, which every message names. By default it speaks for the process.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    guest: Option<Arc<str>>,
}

impl Voice {
    /// The voice of the guest with that identifier.
    #[must_use]
    pub fn of_guest(id: &str) -> Self {
        Self { guest: Some(id.into()) }
    }

    /// Prints `PROGRAM: guest 'ID': message` on standard error.
    pub fn error(&self, message: impl AsRef<str>) {
        line(&self.label(), message.as_ref());
    }

    /// Prints `PROGRAM: guest 'ID': warning: message` on standard error.
    pub fn warning(&self, message: impl AsRef<str>) {
        line(&format!("{}warning: ", self.label()), message.as_ref());
    }

    /// Prints `PROGRAM: guest 'ID': info: message` on standard error.
    pub fn info(&self, message: impl AsRef<str>) {
        line(&format!("{}info: ", self.label()), message.as_ref());
    }

    /// What its lines begin with: `guest 'ID': `, or nothing.
    #[must_use]
    pub fn label(&self) -> String {
        self.guest
            .as_ref()
            .map_or_else(String::new, |id| format!("guest '{id}': "))
    }
}

/// Prints a line of another program's as it is.
pub fn plain(text: &str) {
    // One write keeps lines of different processes apart. Nobody is left to tell if standard error is gone.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Prints what was asked for on standard output, to the last byte.
///
/// # Errors
/// It cannot be written; the program has not done what it was asked for.
pub fn output(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref())?;
    out.flush()
}

/// What the system said, without its number, as in other programs' messages.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// An error with everything that caused it: `what: why: why that`. What an error's text ends with already is not said twice.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let said = |error: &(dyn Error + 'static)| error.downcast_ref().map_or_else(|| error.to_string(), reason);
    let mut text = said(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let why = said(cause);
        if !text.ends_with(&why) {
            text = format!("{text}: {why}");
        }
        next = cause.source();
    }
    text
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
    let date = Date::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year,
        date.month,
        date.day,
        date.hour,
        date.minute,
        date.second,
        since.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    enum Unreadable {
        #[error("cannot read")]
        Silent(#[source] io::Error),
        #[error("cannot read: {}", reason(.0))]
        Outspoken(#[source] io::Error),
    }

    #[test]
    fn a_cause_is_said_once_and_without_its_number() {
        let refused = || io::Error::from_raw_os_error(nix::errno::Errno::EACCES as i32);
        assert_eq!(with_causes(&refused()), "Permission denied");
        for error in [Unreadable::Silent(refused()), Unreadable::Outspoken(refused())] {
            assert_eq!(with_causes(&error), "cannot read: Permission denied");
        }
        let other = Unreadable::Silent(io::Error::other("too long"));
        assert_eq!(with_causes(&other), "cannot read: too long");
    }

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
