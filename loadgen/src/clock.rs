//! Times for people to read, and the clock of the client.

use std::time::UNIX_EPOCH;
pub use tickgate_client::clock::now_ns;

/// `ns` since the Unix epoch as `2013-10-07T13:00:00.123Z`, in UTC.
pub fn rfc3339(ns: i64) -> String {
    let since = std::time::Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// The time of day of `ns` since the Unix epoch as `13:00:00.123`, in UTC.
pub fn time_of_day(ns: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let ms = ns.div_euclid(1_000_000).rem_euclid(DAY_MS);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_in_utc() {
        let ns = 1_381_150_800_123_456_789;
        assert_eq!(rfc3339(ns), "2013-10-07T13:00:00.123Z");
        assert_eq!(time_of_day(ns), "13:00:00.123");
    }
}
