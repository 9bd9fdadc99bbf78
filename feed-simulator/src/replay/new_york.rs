//! New York's clock: hours from UTC on a date, by the rules of daylight saving time since 1987.

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

impl Date {
    /// Reads `YYYYMMDD`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (year, month, day) = (text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?);
        let valid = (1970..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        valid.then_some(Self { year, month, day })
    }

    /// Days since 1970-01-01.
    pub(crate) fn days(self) -> i64 {
        // Years start in March, so that the leap day is the last one.
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let century = year.div_euclid(400);
        let year_of_century = year - century * 400;
        let day_of_century =
            year_of_century * 365 + year_of_century / 4 - year_of_century / 100 + day_of_year;
        century * 146_097 + day_of_century - 719_468
    }

    /// The date of the `nth` Sunday of a month; 0 is the last one.
    fn sunday(year: i32, month: u32, nth: u32) -> Self {
        if nth == 0 {
            let last = if month == 4 { 30 } else { 31 };
            let weekday = Self { year, month, day: last }.weekday();
            return Self { year, month, day: last - weekday };
        }
        let first = Self { year, month, day: 1 }.weekday();
        Self { year, month, day: 1 + (7 - first) % 7 + (nth - 1) * 7 }
    }

    /// Days since Sunday.
    fn weekday(self) -> u32 {
        (self.days() + 4).rem_euclid(7) as u32
    }
}

/// New York's distance from UTC in seconds at `local_ms` after midnight on `date`: -4 h in summer, -5 h in winter.
pub(crate) fn utc_offset_s(date: Date, local_ms: u64) -> i64 {
    let (start, end) = if date.year >= 2007 {
        (Date::sunday(date.year, 3, 2), Date::sunday(date.year, 11, 1))
    } else {
        (Date::sunday(date.year, 4, 1), Date::sunday(date.year, 10, 0))
    };
    // The clocks change at two in the morning.
    let at = (date, local_ms >= 2 * 3_600_000);
    let summer = at >= (start, true) && at < (end, true);
    if summer { -4 * 3_600 } else { -5 * 3_600 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(date: &str, local_hour: u64) -> i64 {
        utc_offset_s(Date::parse(date).unwrap(), local_hour * 3_600_000) / 3_600
    }

    #[test]
    fn days_since_1970() {
        for (date, days) in
            [("19700101", 0), ("20000229", 11_016), ("20131007", 15_985), ("20240808", 19_943)]
        {
            assert_eq!(Date::parse(date).unwrap().days(), days, "{date}");
        }
    }

    #[test]
    fn summer_time_by_the_rules_of_the_year() {
        for (date, hour, utc) in [
            ("20131007", 9, -4),
            ("20131104", 9, -5),
            ("20130310", 1, -5),
            ("20130310", 3, -4),
            ("20131103", 1, -4),
            ("20131103", 2, -5),
            ("20060402", 3, -4),
            ("20060401", 9, -5),
            ("20061028", 9, -4),
            ("20061030", 9, -5),
            ("20240115", 9, -5),
        ] {
            assert_eq!(hours(date, hour), utc, "{date} {hour}:00");
        }
    }

    #[test]
    fn what_is_not_a_date() {
        for text in ["", "2013100", "20131307", "20130032", "2013100x", "201310071"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
