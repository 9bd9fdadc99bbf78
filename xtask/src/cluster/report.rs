//! What the clients noticed of each blow, from the load generator's report.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::human;

/// One thing that was done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blow {
    pub name: String,
    /// Since 1970: what clients lose from here to the next blow is its doing.
    pub at_unix_s: i64,
    /// How the cluster itself took it.
    pub note: String,
}

impl Blow {
    /// One that is dealt now.
    pub fn now(name: String) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { name, at_unix_s: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), note: String::new() }
    }
}

/// The load generator's report.
#[derive(Debug)]
pub struct Seen(Value);

/// What clients noticed in some time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Noticed {
    clients: u64,
    back: u64,
    retries: u64,
    took_sum_ms: u64,
    took_max_ms: u64,
    replayed: u64,
    resent: u64,
    lost: u64,
    gaps: u64,
    twice: u64,
}

impl Noticed {
    fn of(second: &Value) -> Self {
        let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
        let found = &second["found"];
        Self {
            clients: count(second, "clients"),
            back: count(second, "back"),
            retries: count(second, "retries"),
            took_sum_ms: count(second, "took_sum_ms"),
            took_max_ms: count(second, "took_max_ms"),
            replayed: count(found, "replayed"),
            resent: count(found, "resent"),
            lost: count(found, "unannounced"),
            gaps: count(found, "gaps"),
            twice: count(found, "duplicates"),
        }
    }

    fn add(&mut self, other: &Self) {
        self.clients += other.clients;
        self.back += other.back;
        self.retries += other.retries;
        self.took_sum_ms += other.took_sum_ms;
        self.took_max_ms = self.took_max_ms.max(other.took_max_ms);
        self.replayed += other.replayed;
        self.resent += other.resent;
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.twice += other.twice;
    }

    fn row(&self, name: &str, note: &str) -> String {
        let mean_ms = self.took_sum_ms.checked_div(self.back).unwrap_or(0);
        let [mean, max] = [mean_ms, self.took_max_ms].map(|ms| human(Duration::from_millis(ms)));
        let Self { clients, back, retries, replayed, resent, lost, gaps, twice, .. } = self;
        let row = format!(
            "{name:<20} {clients:>7} {back:>7} {mean:>8} {max:>8} {retries:>7} {replayed:>9} {resent:>8} {lost:>6} \
             {gaps:>6} {twice:>6}  {note}"
        );
        row.trim_end().to_owned() + "\n"
    }
}

impl Seen {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read(path).with_context(|| format!("the clients left no report at {}", path.display()))?;
        Ok(Self(serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?))
    }

    /// Why the clients are not content; nothing when they are.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.0["failures"].as_array().into_iter().flatten();
        failures.filter_map(|failure| failure.as_str().map(str::to_owned)).collect()
    }

    /// A table with a row for each blow, and what all clients were sent in all.
    pub fn table(&self, blows: &[Blow]) -> String {
        let mut text = format!(
            "{:<20} {:>7} {:>7} {:>8} {:>8} {:>7} {:>9} {:>8} {:>6} {:>6} {:>6}\n",
            "", "clients", "back", "mean", "max", "in vain", "replayed", "resent", "lost", "gaps", "twice"
        );
        let before = self.between(i64::MIN, blows.first().map_or(i64::MAX, |blow| blow.at_unix_s));
        if before != Noticed::default() {
            text += &before.row("before", "");
        }
        for (index, blow) in blows.iter().enumerate() {
            let end = blows.get(index + 1).map_or(i64::MAX, |next| next.at_unix_s);
            text += &self.between(blow.at_unix_s, end).row(&blow.name, &blow.note);
        }
        let all = &self.0["verification"]["all"];
        let count = |name: &str| all[name].as_u64().unwrap_or(0);
        writeln!(
            text,
            "\n{} clients were sent {} events: {} lost without a word, {} gaps announced ({} events where known), \
             {} sent twice; {} that no `prev` links to the last one, as the gateway did not know it",
            self.0["sessions"]["planned"].as_u64().unwrap_or(0),
            count("events"),
            count("unannounced"),
            count("gaps"),
            count("gap_events"),
            count("duplicates"),
            count("unverified"),
        )
        .expect("a String takes everything");
        let causes = all["gaps_by_cause"].as_object().into_iter().flatten();
        let errors = all["errors"].as_object().into_iter().flatten();
        let said: Vec<String> = causes
            .map(|(name, count)| format!("{count} gaps with cause {name}"))
            .chain(errors.map(|(name, count)| format!("{count} errors {name}")))
            .collect();
        if !said.is_empty() {
            text += &format!("the gateways said: {}\n", said.join(", "));
        }
        text
    }

    /// What clients noticed of losses from second `start` to before `end`.
    fn between(&self, start: i64, end: i64) -> Noticed {
        let mut sum = Noticed::default();
        for (second, noticed) in self.0["recovery"]["by_second"].as_object().into_iter().flatten() {
            if second.parse().is_ok_and(|second: i64| (start..end).contains(&second)) {
                sum.add(&Noticed::of(noticed));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let second = |clients: u64, took_max_ms: u64, twice: u64| {
            serde_json::json!({
                "clients": clients, "back": clients, "retries": 1, "took_sum_ms": clients * took_max_ms,
                "took_max_ms": took_max_ms,
                "found": {"replayed": 10, "resent": 4, "gaps": 0, "unannounced": 0, "duplicates": twice}
            })
        };
        Seen(serde_json::json!({
            "failures": ["1 events that came twice"],
            "sessions": {"planned": 9},
            "verification": {"all": {"events": 1000, "duplicates": 1, "gaps_by_cause": {"retention": 3}, "errors": {}}},
            "recovery": {"by_second": {"100": second(2, 500, 0), "101": second(1, 2_000, 0), "110": second(3, 40, 1)}}
        }))
    }

    fn blow(name: &str, at_unix_s: i64, note: &str) -> Blow {
        Blow { name: name.to_owned(), at_unix_s, note: note.to_owned() }
    }

    #[test]
    fn each_blow_has_what_followed_it() {
        let table =
            seen().table(&[blow("SIGKILL gateway 1", 100, ""), blow("SIGTERM gateway 1", 110, "exit 0")]);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1].join(" "), "SIGKILL gateway 1 3 3 1.0 s 2.0 s 2 20 8 0 0 0", "{table}");
        assert_eq!(rows[2].join(" "), "SIGTERM gateway 1 3 3 40 ms 40 ms 1 10 4 0 0 1 exit 0", "{table}");
        assert!(table.contains("9 clients were sent 1000 events: 0 lost without a word"), "{table}");
        assert!(table.contains("the gateways said: 3 gaps with cause retention"), "{table}");
        assert_eq!(seen().failures(), ["1 events that came twice"]);
    }

    #[test]
    fn what_came_before_the_first_blow_is_not_lost() {
        let table = seen().table(&[blow("SIGKILL gateway 1", 105, "")]);
        assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("before ")), "{table}");
        assert!(seen().table(&[]).lines().nth(1).is_some_and(|line| line.starts_with("before ")));
    }

    #[test]
    fn a_report_that_is_none_is_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = Seen::read(&dir.path().join("report.json")).unwrap_err();
        assert!(error.to_string().starts_with("the clients left no report"), "{error}");
    }
}
