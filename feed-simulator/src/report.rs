//! What a run did, in numbers.

use crate::pacing::Speed;
use crate::text::{grouped, millis, rate};
use serde::Serialize;
use std::fmt;

/// Share of the target rate below which a run has missed it.
pub const RATE_REACHED_MIN: f64 = 0.95;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where the records went.
    pub topic: String,
    /// Bootstrap servers.
    pub brokers: String,
    /// How fast the stream's time passed.
    #[serde(serialize_with = "as_text")]
    pub speed: Speed,
    /// Records given to the producer.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Further records that nobody can read, sent on purpose.
    pub bad_records: u64,
    /// Records that the broker acknowledged.
    pub delivered: u64,
    /// Records that were refused, timed out or were still in flight when waiting ended.
    pub delivery_errors: u64,
    /// The last thing that went wrong, in the client's words.
    pub last_error: Option<String>,
    /// Times that a record had to wait because the producer's queue was full.
    pub queue_full: u64,
    /// When the last record was due, in seconds after the start; without meaning at [`Speed::Max`].
    pub due_s: f64,
    /// When the last record was sent, in seconds after the start.
    pub sent_s: f64,
    /// Length of the run in seconds, without the wait for the last deliveries.
    pub elapsed_s: f64,
    /// 99th percentile of actual minus intended send time: when the producer was given a record, not when it left.
    pub late_p99_ns: u64,
    /// Worst actual minus intended send time.
    pub late_max_ns: u64,
    /// 99th percentile of the time at which the broker had confirmed a record minus its intended send time; 0 at
    /// [`Speed::Max`], where nothing is due.
    pub confirmed_late_p99_ns: u64,
    /// Worst time of confirmation minus intended send time.
    pub confirmed_late_max_ns: u64,
    /// Whether the run was ended from outside.
    pub stopped: bool,
}

impl Report {
    /// Records per second that were due; `None` at [`Speed::Max`] and when they were all due at the start.
    pub fn target_per_s(&self) -> Option<f64> {
        let paced = self.speed != Speed::Max && self.due_s > 0.0;
        paced.then(|| self.spaces() / self.due_s)
    }

    /// Records per second that were sent.
    pub fn achieved_per_s(&self) -> f64 {
        if self.sent_s > 0.0 { self.spaces() / self.sent_s } else { 0.0 }
    }

    /// The first record is due at the start: there is one space less between records than there are records.
    fn spaces(&self) -> f64 {
        self.records.saturating_sub(1) as f64
    }

    /// Whether the schedule was kept: the achieved rate is at least [`RATE_REACHED_MIN`] of the target.
    pub fn kept_rate(&self) -> bool {
        // Below a second the lateness of the last record decides, and that is reported by itself.
        self.due_s < 1.0
            || self.target_per_s().is_none_or(|target| self.achieved_per_s() >= RATE_REACHED_MIN * target)
    }

    /// The exit code of a run that ended like this: 0, or 1 for undelivered records or a missed rate.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.delivery_errors > 0 || !self.kept_rate())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        let how = if self.stopped { "stopped after" } else { "in" };
        writeln!(
            f,
            "sent       {} records, {megabytes:.1} MB, to {} on {}, {how} {:.1} s",
            grouped(self.records),
            self.topic,
            self.brokers,
            self.elapsed_s
        )?;
        if self.bad_records > 0 {
            writeln!(f, "unreadable {} more records, on purpose", grouped(self.bad_records))?;
        }
        let achieved = self.achieved_per_s();
        match self.target_per_s() {
            Some(target) => writeln!(
                f,
                "rate       {}/s, target {}/s ({:.1} %){}",
                rate(achieved),
                rate(target),
                (achieved / target).min(1.0) * 100.0,
                if self.kept_rate() { "" } else { ": MISSED" }
            )?,
            None if self.speed != Speed::Max => {
                writeln!(f, "rate       none: everything was due at the start")?
            }
            None => writeln!(f, "rate       {}/s, as fast as possible", rate(achieved))?,
        }
        write!(f, "delivered  {}, {} errors", grouped(self.delivered), grouped(self.delivery_errors))?;
        if let (Some(error), true) = (&self.last_error, self.delivery_errors > 0) {
            write!(f, " (last: {error})")?;
        }
        writeln!(f, ", {} waits for a full queue", grouped(self.queue_full))?;
        if self.speed == Speed::Max {
            return write!(f, "lateness   none: nothing has a schedule at this speed");
        }
        write!(
            f,
            "lateness   p99 {}, worst {} (sent minus due); p99 {}, worst {} (confirmed by the broker minus due)",
            millis(self.late_p99_ns),
            millis(self.late_max_ns),
            millis(self.confirmed_late_p99_ns),
            millis(self.confirmed_late_max_ns)
        )
    }
}

fn as_text<S: serde::Serializer>(speed: &Speed, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            topic: "ticks".into(),
            brokers: "127.0.0.1:9092".into(),
            speed: Speed::Times(1.0),
            records: 10_000,
            bytes: 1_500_000,
            bad_records: 0,
            delivered: 10_000,
            delivery_errors: 0,
            last_error: None,
            queue_full: 0,
            due_s: 10.0,
            sent_s: 10.001,
            elapsed_s: 10.001,
            late_p99_ns: 210_000,
            late_max_ns: 3_400_000,
            confirmed_late_p99_ns: 4_100_000,
            confirmed_late_max_ns: 9_300_000,
            stopped: false,
        }
    }

    #[test]
    fn a_run_on_schedule_is_good() {
        assert_eq!(report().exit_code(), 0);
        assert!(
            report().to_string().contains("rate       1,000/s, target 1,000/s (100.0 %)"),
            "{}",
            report()
        );
        let lateness = "worst 3.40 ms (sent minus due); p99 4.10 ms, worst 9.30 ms (confirmed";
        assert!(report().to_string().contains(lateness), "{}", report());
    }

    #[test]
    fn a_slow_run_shows_what_its_percentage_is_of() {
        let slow = Report { records: 4, due_s: 1.2, sent_s: 1.21, ..report() }.to_string();
        assert!(slow.contains("rate       2.5/s, target 2.5/s (99.2 %)"), "{slow}");
    }

    #[test]
    fn errors_and_missed_rates_are_told() {
        assert_eq!(Report { delivery_errors: 1, ..report() }.exit_code(), 1);
        let late = Report { sent_s: 11.0, late_max_ns: 1_000_000_000, ..report() };
        assert_eq!(late.exit_code(), 1);
        assert!(late.to_string().contains("MISSED"), "{late}");
        // As fast as possible there is nothing to miss.
        assert_eq!(Report { speed: Speed::Max, ..late }.exit_code(), 0);
    }

    #[test]
    fn waiting_for_the_end_of_the_run_is_not_slowness() {
        assert_eq!(Report { due_s: 5.0, sent_s: 5.001, ..report() }.exit_code(), 0);
    }
}
