//! Dates of the proleptic Gregorian calendar.

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: u64,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    /// 1 for Sunday; not used to compute a time.
    pub(super) day_of_week: u8,
}

const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const TO_EPOCH: u64 = 719_468;

impl Date {
    /// The date that lies so many seconds after 1970-01-01 00:00:00.
    pub(super) fn from_seconds(seconds: u64) -> Self {
        let (days, of_day) = (seconds / DAY, seconds % DAY);
        // Years that begin in March have their leap day at the end.
        let shifted = days + TO_EPOCH;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        // Every number below is small by construction.
        let small = |number: u64| u8::try_from(number).unwrap_or(0);
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month: small(month),
            day: small(of_year - (153 * march_month + 2) / 5 + 1),
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            day_of_week: small((days + 4) % 7 + 1),
        }
    }

    /// Seconds after 1970-01-01 00:00:00; none for what is no date, or before that.
    pub(super) fn to_seconds(self) -> Option<u64> {
        let fits = (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !fits {
            return None;
        }
        let year = self.year.checked_sub(u64::from(self.month <= 2))?;
        let march_month = u64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let of_year = (153 * march_month + 2) / 5 + u64::from(self.day) - 1;
        let (era, year_of_era) = (year / 400, year % 400);
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = (era * 146_097 + of_era).checked_sub(TO_EPOCH)?;
        Some(days * DAY + u64::from(self.hour) * 3600 + u64::from(self.minute) * 60 + u64::from(self.second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        let date = Date::from_seconds(951_827_696);
        let expected = Date {
            year: 2000,
            month: 2,
            day: 29,
            hour: 12,
            minute: 34,
            second: 56,
            day_of_week: 3,
        };
        assert_eq!(date, expected);
        assert_eq!(Date::from_seconds(0).day_of_week, 5, "1970 began on a Thursday");
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0u64..253_402_300_800) {
            prop_assert_eq!(Date::from_seconds(seconds).to_seconds(), Some(seconds));
        }

        #[test]
        fn no_numbers_do_harm(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) {
            let date = Date { year: u64::from(year), month, day, hour, minute, second, day_of_week: 0 };
            let _ = date.to_seconds();
        }
    }
}
