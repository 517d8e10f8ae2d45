//! Dates of the proleptic Gregorian calendar.

/// A date and time of day. [`Date::to_seconds`] takes numbers that are out of range for what they come to: the 31st of
/// February is the 2nd or 3rd of March.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year; 0 is the one before 1.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

const DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const TO_EPOCH: i64 = 719_468;
/// Days in 400 years.
const ERA: i64 = 146_097;

impl Date {
    /// The date that lies so many seconds after 1970-01-01 00:00:00, or before it.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Years that begin in March have their leap day at the end.
        let shifted = days + TO_EPOCH;
        let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// Seconds after 1970-01-01 00:00:00, negative before that. The numbers must be within those of `i32`.
    #[must_use]
    pub fn to_seconds(self) -> i64 {
        let months = self.year * 12 + self.month - 3;
        let (year, march_month) = (months.div_euclid(12), months.rem_euclid(12));
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * ERA + of_era - TO_EPOCH;
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// The day of the week of a time in seconds after 1970-01-01 00:00:00: 1 for Sunday.
#[must_use]
pub fn day_of_week(seconds: i64) -> i64 {
    // 1970 began on a Thursday.
    (seconds.div_euclid(DAY) + 4).rem_euclid(7) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(year: i64, month: i64, day: i64) -> Date {
        Date {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn known_dates() {
        let leap = Date {
            hour: 12,
            minute: 34,
            second: 56,
            ..date(2000, 2, 29)
        };
        assert_eq!(Date::from_seconds(951_827_696), leap);
        assert_eq!(leap.to_seconds(), 951_827_696);
        assert_eq!(day_of_week(951_827_696), 3);
        assert_eq!(day_of_week(0), 5);
        assert_eq!(day_of_week(-1), 4);
        assert_eq!(Date::from_seconds(-DAY), date(1969, 12, 31));
    }

    #[test]
    fn what_is_out_of_range_is_what_it_comes_to() {
        assert_eq!(date(2020, 2, 31).to_seconds(), date(2020, 3, 2).to_seconds());
        assert_eq!(date(2020, 0, 0).to_seconds(), date(2019, 11, 30).to_seconds());
        assert_eq!(date(2020, 13, 40).to_seconds(), date(2021, 2, 9).to_seconds());
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in -999_999_999_999i64..999_999_999_999) {
            prop_assert_eq!(Date::from_seconds(seconds).to_seconds(), seconds);
        }

        #[test]
        fn no_numbers_do_harm(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: i32) {
            let [year, month, day, hour, minute, second] = [year, month, day, hour, minute, second].map(i64::from);
            let _ = Date { year, month, day, hour, minute, second }.to_seconds();
        }
    }
}
