//! When a feed is expected to bring something: `Mon-Fri 09:30-16:00 America/New_York`.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// The names of days, Monday first.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When a feed's market is open. Without hours it always is.
#[derive(Debug, Clone, Default)]
pub struct Calendar {
    hours: Vec<Hours>,
    closed: Vec<Date>,
}

/// A time of the day on some days of the week, in one time zone.
#[derive(Debug, Clone)]
struct Hours {
    days: [bool; 7],
    from: Time,
    /// Before `from` it is that of the next day; as `from`, it is the whole day.
    until: Time,
    zone: TimeZone,
}

impl Calendar {
    /// The calendar of such hours, but for such days (`2026-12-25`), on which nothing opens.
    ///
    /// # Errors
    /// What is wrong with which text, for a person.
    pub fn new(hours: &[String], closed: &[String]) -> Result<Self, String> {
        Ok(Self {
            hours: hours.iter().map(|text| Hours::read(text)).collect::<Result<_, _>>()?,
            closed: closed.iter().map(|text| day(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether something is expected at a time in nanoseconds since the Unix epoch.
    pub fn is_open(&self, now_ns: i64) -> bool {
        let Ok(now) = Timestamp::from_nanosecond(now_ns.into()) else { return true };
        self.hours.is_empty() || self.hours.iter().any(|hours| hours.is_open(now, &self.closed))
    }
}

impl Hours {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("{what} in {text:?}; it is to be like \"Mon-Fri 09:30-16:00 America/New_York\"")
        };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = words[..] else { return Err(wrong("not three words")) };
        let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        let mut open = [false; 7];
        for part in days.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(wrong("no days of the week"));
            };
            let mut day = first;
            open[day] = true;
            while day != last {
                day = (day + 1) % 7;
                open[day] = true;
            }
        }
        let time = |text: &str| {
            // The end of a day is the beginning of the next.
            let text = if text == "24:00" { "00:00" } else { text };
            (text.len() == 5).then(|| format!("{text}:00").parse::<Time>().ok()).flatten()
        };
        let (from, until) = times.split_once('-').ok_or_else(|| wrong("no times"))?;
        let (Some(from), Some(until)) = (time(from), time(until)) else { return Err(wrong("no times")) };
        let zone = TimeZone::get(zone).map_err(|_| wrong("no time zone that is known"))?;
        Ok(Self { days: open, from, until, zone })
    }

    fn is_open(&self, now: Timestamp, closed: &[Date]) -> bool {
        let now = now.to_zoned(self.zone.clone());
        let (today, time) = (now.date(), now.time());
        let opens = |date: Date| {
            let day = date.weekday().to_monday_zero_offset() as usize;
            self.days[day] && !closed.contains(&date)
        };
        if self.from < self.until {
            return opens(today) && self.from <= time && time < self.until;
        }
        // Over midnight: what opened yesterday may still be open.
        (opens(today) && time >= self.from) || (time < self.until && today.yesterday().is_ok_and(opens))
    }
}

fn day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| format!("{text:?} is no day; it is to be like \"2026-12-25\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(hours: &[&str], closed: &[&str], at: &str) -> bool {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let calendar = Calendar::new(&texts(hours), &texts(closed)).expect("a calendar");
        let at: Timestamp = at.parse().expect("a time");
        calendar.is_open(i64::try_from(at.as_nanosecond()).expect("of our days"))
    }

    #[test]
    fn hours_are_those_of_their_zone() {
        let new_york = ["Mon-Fri 09:30-16:00 America/New_York"];
        for (at, open) in [
            // A Monday in winter, five hours behind UTC.
            ("2026-01-12T14:29:59Z", false),
            ("2026-01-12T14:30:00Z", true),
            ("2026-01-12T20:59:59Z", true),
            ("2026-01-12T21:00:00Z", false),
            // One in summer, four hours behind.
            ("2026-07-13T13:30:00Z", true),
            ("2026-07-13T20:00:00Z", false),
            // A Saturday.
            ("2026-01-10T15:00:00Z", false),
        ] {
            assert_eq!(is_open(&new_york, &[], at), open, "{at}");
        }
        assert!(
            !is_open(&new_york, &["2026-12-25"], "2026-12-25T15:00:00Z"),
            "a Friday on which nothing opens"
        );
        assert!(is_open(&[], &["2026-12-25"], "2026-12-25T15:00:00Z"), "without hours it is always open");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        // Futures: from Sunday evening, with a pause of an hour.
        let chicago = ["Sun-Thu 17:00-16:00 America/Chicago"];
        for (at, open) in [
            ("2026-01-11T22:59:00Z", false),
            ("2026-01-11T23:00:00Z", true),
            ("2026-01-12T21:59:00Z", true),
            ("2026-01-12T22:30:00Z", false),
            // The night of Thursday ends on Friday afternoon.
            ("2026-01-16T21:59:00Z", true),
            ("2026-01-16T23:30:00Z", false),
        ] {
            assert_eq!(is_open(&chicago, &[], at), open, "{at}");
        }
        let always = ["Mon-Sun 00:00-24:00 UTC"];
        assert!(
            is_open(&always, &[], "2026-01-16T23:59:59Z") && is_open(&always, &[], "2026-01-17T00:00:00Z")
        );
        let split = ["Mon,Wed 08:00-12:00 UTC", "Sat 10:00-11:00 UTC"];
        assert!(is_open(&split, &[], "2026-01-14T09:00:00Z") && is_open(&split, &[], "2026-01-17T10:30:00Z"));
        assert!(!is_open(&split, &[], "2026-01-13T09:00:00Z"));
    }

    #[test]
    fn what_is_no_calendar_is_refused_with_an_example() {
        for text in [
            "",
            "Mon-Fri",
            "Mon-Fri 09:30-16:00",
            "Mon-Fry 09:30-16:00 UTC",
            "Mon 9:30-16:00 UTC",
            "Mon 09:30 UTC",
            "Mon 09:30-25:00 UTC",
            "Mon 09:30-16:00 America/Gotham",
            "Mon- 09:30-16:00 UTC",
        ] {
            let error = Calendar::new(&[text.to_owned()], &[]).expect_err(text);
            assert!(error.contains("America/New_York"), "{error}");
        }
        assert!(
            Calendar::new(&[], &["25.12.2026".to_owned()]).is_err_and(|error| error.contains("2026-12-25"))
        );
    }
}
