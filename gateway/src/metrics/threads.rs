//! Processor time by kind of thread, from `/proc`; nothing where there is none.

use super::process::TICKS_PER_S;
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

/// Processor seconds by kind, all of them, those without a thread with 0. A thread that has ended is not in it any more.
pub(super) fn cpu_s() -> Vec<(&'static str, f64)> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    // A thread may end between the two.
    let stats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    sum(stats)
}

fn sum(stats: impl Iterator<Item = String>) -> Vec<(&'static str, f64)> {
    let mut sums: Vec<(&str, f64)> =
        KINDS.iter().map(|(kind, _)| (*kind, 0.0)).chain([(OTHER, 0.0)]).collect();
    for stat in stats {
        // The name stands in parentheses and may hold some.
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
            continue;
        };
        let mut times = rest.split_ascii_whitespace().skip(11).map_while(|text| text.parse::<f64>().ok());
        let ticks = times.next().unwrap_or(0.0) + times.next().unwrap_or(0.0);
        let kind = KINDS.iter().position(|(_, begins)| begins.iter().any(|begin| name.starts_with(begin)));
        sums[kind.unwrap_or(KINDS.len())].1 += ticks / TICKS_PER_S;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_by_their_names() {
        let stat = |name: &str, user: u32, system: u32| {
            format!("77 ({name}) S 1 77 77 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 5 0 12345 1 2 3\n")
        };
        let stats = [
            stat("feed", 100, 50),
            stat("feed-tracker", 10, 0),
            stat("feed-900s", 20, 0),
            stat("tracker-900s", 0, 5),
            stat("shard-0", 200, 100),
            stat("shard-1", 200, 0),
            stat("rdk:broker1", 30, 0),
            stat("a (b) c", 40, 2),
            "cut off".to_owned(),
        ];
        let sums = sum(stats.into_iter());
        let of = |kind: &str| sums.iter().find(|(found, _)| *found == kind).expect("a kind").1;
        for (kind, expected) in [
            ("feed", 1.7),
            ("tracker", 0.15),
            ("shard", 5.0),
            ("kafka", 0.3),
            ("other", 0.42),
            ("replay", 0.0),
            ("admin", 0.0),
        ] {
            assert!((of(kind) - expected).abs() < 1e-9, "{kind}: {}", of(kind));
        }
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(cfg!(not(target_os = "linux")) || cpu_s().len() == KINDS.len() + 1);
    }
}
