//! `-rtc`: what the guest's clock starts from and what drives it.

use super::builder::Builder;
use super::error::Error;
use super::opts::Opts;
use crate::machine::config::{RtcBase, RtcClock};

/// `-rtc`.
pub(super) fn apply(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let rtc = &mut builder.config.machine.rtc;
    if let Some(base) = opts.get("base") {
        rtc.base = match base {
            "utc" => RtcBase::Utc,
            "localtime" => RtcBase::Localtime,
            date => RtcBase::Date(parse_date(date).ok_or_else(|| {
                Error::new("invalid datetime format").with_hint("valid formats: '2006-06-17T16:01:21' or '2006-06-17'")
            })?),
        };
    }
    if let Some(clock) = opts.get("clock") {
        rtc.clock = match clock {
            "host" => RtcClock::Host,
            "rt" => RtcClock::Rt,
            "vm" => RtcClock::Vm,
            other => return Err(invalid_value(other)),
        };
    }
    if let Some(driftfix) = opts.get("driftfix") {
        rtc.driftfix_slew = match driftfix {
            "slew" => true,
            "none" => false,
            other => return Err(invalid_value(other)),
        };
    }
    Ok(())
}

fn invalid_value(value: &str) -> Error {
    Error::new(format!("invalid option value '{value}'"))
}

/// Seconds since 1970 of `YYYY-MM-DD[THH:MM:SS]`.
fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = three_numbers(date, '-')?;
    let [hour, minute, second] = three_numbers(time, ':')?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let valid = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| ((days_from_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn three_numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let is_number = !part.is_empty() && part.len() <= 4 && part.chars().all(|c| c.is_ascii_digit());
        is_number.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// Days of the Gregorian calendar, counted in years that begin in March so that leap days come last.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    const DAYS_BEFORE_1970: i64 = 719_468;
    year * 365 + leap_days + day_of_year - DAYS_BEFORE_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, message};

    #[test]
    fn dates() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2006-06-17T16:01:21"), Some(1_150_560_081));
        assert_eq!(parse_date("2000-02-29"), Some(951_782_400));
        for bad in [
            "",
            "2001-02-29",
            "2006-06",
            "2006-06-17T16:01",
            "2006-06-17T24:00:00",
            "2006-6-1-1",
            "+1-1-1",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn clock_options_merge() {
        let rtc = config(&["-rtc", "base=localtime,driftfix=slew", "-rtc", "clock=vm"])
            .machine
            .rtc;
        assert_eq!(
            (rtc.base, rtc.clock, rtc.driftfix_slew),
            (RtcBase::Localtime, RtcClock::Vm, true)
        );
        assert_eq!(
            message(&["-rtc", "base=foo"]),
            "-rtc base=foo: invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'"
        );
        assert_eq!(
            message(&["-rtc", "clock=foo"]),
            "-rtc clock=foo: invalid option value 'foo'"
        );
    }
}
