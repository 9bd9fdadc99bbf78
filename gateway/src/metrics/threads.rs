//! Processor time by kind of thread, from `/proc`; nothing where there is none.

use super::process::TICKS_PER_S;
use std::collections::BTreeMap;
use std::fs;

/// Kinds of threads, and how the names of theirs begin. Longer ones first where one begins like another.
const KINDS: [(&str, &[&str]); 8] = [
    ("tracker", &["feed-tracker", "tracker-"]),
    ("feed", &["feed"]),
    ("replay", &["replay-"]),
    ("shard", &["shard-"]),
    ("access", &["access"]),
    ("admin", &["admin"]),
    ("log", &["log"]),
    ("kafka", &["rdk:"]),
];
/// What every other thread is called.
const OTHER: &str = "other";

/// What threads have used, as scrapes saw it.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// Ticks of the clock of each thread that there is, by its number.
    alive: BTreeMap<String, f64>,
    /// By kind, also what threads used that have ended since: a counter does not fall.
    ticks: [f64; KINDS.len() + 1],
}

impl Threads {
    /// Processor seconds by kind, all of them, those without a thread with 0. What a thread used after the last scrape that saw it
    /// is missing.
    pub(super) fn cpu_s(&mut self) -> Vec<(&'static str, f64)> {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
        // A thread may end between the two.
        self.add(tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()));
        let kinds = KINDS.iter().map(|(kind, _)| *kind).chain([OTHER]);
        kinds.zip(self.ticks).map(|(kind, ticks)| (kind, ticks / TICKS_PER_S)).collect()
    }

    fn add(&mut self, stats: impl Iterator<Item = String>) {
        let before = std::mem::take(&mut self.alive);
        for stat in stats {
            // The name stands in parentheses and may hold some.
            let Some((number, rest)) = stat.split_once('(') else { continue };
            let Some((name, rest)) = rest.rsplit_once(')') else { continue };
            let mut times = rest.split_ascii_whitespace().skip(11).map_while(|text| text.parse::<f64>().ok());
            let ticks = times.next().unwrap_or(0.0) + times.next().unwrap_or(0.0);
            let kind =
                KINDS.iter().position(|(_, begins)| begins.iter().any(|begin| name.starts_with(begin)));
            // One that has used less than before is another with the same number.
            let known = before.get(number.trim()).filter(|known| **known <= ticks);
            self.ticks[kind.unwrap_or(KINDS.len())] += ticks - known.copied().unwrap_or(0.0);
            self.alive.insert(number.trim().to_owned(), ticks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(number: u32, name: &str, user: u32, system: u32) -> String {
        format!(
            "{number} ({name}) S 1 77 77 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 5 0 12345 1 2 3\n"
        )
    }

    fn of(threads: &Threads, kind: &str) -> f64 {
        let at = KINDS.iter().position(|(known, _)| *known == kind);
        threads.ticks[at.unwrap_or(KINDS.len())]
    }

    #[test]
    fn threads_are_told_by_their_names() {
        let stats = [
            stat(1, "feed", 100, 50),
            stat(2, "feed-tracker", 10, 0),
            stat(3, "feed-900s", 20, 0),
            stat(4, "tracker-900s", 0, 5),
            stat(5, "shard-0", 200, 100),
            stat(6, "shard-1", 200, 0),
            stat(7, "rdk:broker1", 30, 0),
            stat(8, "a (b) c", 40, 2),
            "cut off".to_owned(),
        ];
        let mut threads = Threads::default();
        threads.add(stats.into_iter());
        for (kind, expected) in [
            ("feed", 170.0),
            ("tracker", 15.0),
            ("shard", 500.0),
            ("kafka", 30.0),
            ("other", 42.0),
            ("replay", 0.0),
            ("admin", 0.0),
        ] {
            assert_eq!(of(&threads, kind), expected, "{kind}");
        }
    }

    /// A thread that ended took its part along: Prometheus saw a counter fall, took it for a restart, and added all that the others had
    /// used once more.
    #[test]
    fn a_thread_that_ends_leaves_what_it_used() {
        let mut threads = Threads::default();
        threads.add([stat(1, "rdk:broker1", 100, 0), stat(2, "rdk:broker2", 50, 0)].into_iter());
        threads.add([stat(1, "rdk:broker1", 110, 0)].into_iter());
        assert_eq!((of(&threads, "kafka"), threads.alive.len()), (160.0, 1));
        threads.add([stat(1, "rdk:broker3", 5, 0)].into_iter());
        assert_eq!(of(&threads, "kafka"), 165.0, "another one with the same number");
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(cfg!(not(target_os = "linux")) || Threads::default().cpu_s().len() == KINDS.len() + 1);
    }
}
