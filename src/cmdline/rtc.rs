//! `-rtc`: what the guest's clock starts from and what drives it.

use super::builder::Builder;
use super::error::Error;
use super::opts::Opts;
use crate::calendar::Date;
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

/// Seconds since 1970 of `YEAR-MONTH-DAY[THOUR:MINUTE:SECOND]`. As in QEMU, numbers out of range are taken for the date
/// they come to, what follows is not looked at, and a time that is not complete is midnight.
fn parse_date(text: &str) -> Option<i64> {
    let mut rest = text;
    let [year, month, day] = [
        number(&mut rest, None)?,
        number(&mut rest, Some('-'))?,
        number(&mut rest, Some('-'))?,
    ];
    let mut time = || {
        Some([
            number(&mut rest, Some('T'))?,
            number(&mut rest, Some(':'))?,
            number(&mut rest, Some(':'))?,
        ])
    };
    let [hour, minute, second] = time().unwrap_or_default();
    let date = Date {
        year,
        month,
        day,
        hour,
        minute,
        second,
    };
    Some(date.to_seconds())
}

/// Takes the separator and a number of at most 32 bits from the front of `rest`; blanks and a sign may come before it.
fn number(rest: &mut &str, separator: Option<char>) -> Option<i64> {
    let text = match separator {
        Some(separator) => rest.strip_prefix(separator)?,
        None => rest,
    };
    let text = text.trim_start();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, after) = text.split_at(text.len() - digits.len() + end);
    *rest = after;
    number.parse::<i32>().ok().map(i64::from)
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
        assert_eq!(parse_date("1969-12-31"), Some(-86_400));
        for (odd, usual) in [
            ("2006-06-17T16:01:21Z", "2006-06-17T16:01:21"),
            ("2001-02-29", "2001-03-01"),
            ("2006-06-17T24:00:00", "2006-06-18"),
            ("2006-06-17T16:01", "2006-06-17"),
            (" +2006-6-1-1", "2006-06-01"),
            ("2020-12-31T-1:00:00", "2020-12-30T23:00:00"),
        ] {
            assert_eq!(parse_date(odd), parse_date(usual), "{odd}");
        }
        for bad in ["", "2006-06", "yesterday", "2006/06/17", "9999999999-01-01"] {
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
