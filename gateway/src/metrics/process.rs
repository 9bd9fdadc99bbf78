//! What the kernel says about this process, from `/proc`; nothing where there is none.

use std::fs;
use std::sync::OnceLock;

/// Ticks a second of the times in `/proc/self/stat`: fixed for user space on every architecture that Linux has.
pub(super) const TICKS_PER_S: f64 = 100.0;

/// Says how many bytes the allocator has, now and at most. It is the program's, and this is a library.
static COMMITTED: OnceLock<fn() -> [u64; 2]> = OnceLock::new();

/// Names what says how many bytes the allocator has of the system to use, now and at most; the first one counts.
pub fn allocator_is(committed_bytes: fn() -> [u64; 2]) {
    let _ = COMMITTED.set(committed_bytes);
}

/// What is known; each value is absent where it could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_s: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) start_s: Option<f64>,
    /// What the allocator has, now and at most.
    pub(super) committed_bytes: Option<[u64; 2]>,
}

impl Process {
    /// Reads everything anew.
    pub(super) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/self/limits"),
            &read("/proc/stat"),
        );
        process.committed_bytes = COMMITTED.get().map(|ask| ask());
        process.open_fds = open_fds();
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name, which may hold spaces and parentheses: count from its end.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
        let seconds = |field| ticks(field).map(|ticks| ticks / TICKS_PER_S);
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            cpu_s: seconds(14).zip(seconds(15)).map(|(user, system)| user + system),
            resident_bytes: value(status, "VmRSS:").map(|kib| kib * 1_024),
            open_fds: None,
            max_fds: value(limits, "Max open files"),
            threads: value(status, "Threads:"),
            start_s: seconds(22)
                .zip(value(system, "btime "))
                .map(|(since_boot, boot)| since_boot + boot as f64),
            committed_bytes: None,
        }
    }
}

/// How many files are open. Linux says so since 6.2 as the size of a folder; before that its entries are counted, which with tens of
/// thousands of sessions takes most of a scrape.
fn open_fds() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        // One of them is the folder that is read.
        0 => fs::read_dir(folder).ok().map(|entries| entries.count().saturating_sub(1) as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open file was listed to count them, which grew with sessions.
    #[cfg(target_os = "linux")]
    #[test]
    fn open_files_are_counted() {
        let listed = || fs::read_dir("/proc/self/fd").expect("there is /proc").count() as u64 - 1;
        // Other tests open and close some meanwhile.
        let is_between = |_| {
            let (before, counted, after) = (listed(), open_fds().expect("there is /proc"), listed());
            (before.min(after)..=before.max(after)).contains(&counted)
        };
        assert!((0..100).any(is_between));
    }

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 12345 1000000 500 1844674 1 1 0";
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t5\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        let process = Process::parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n");
        let expected = Process {
            cpu_s: Some(3.0),
            resident_bytes: Some(2 << 20),
            open_fds: None,
            max_fds: Some(1024),
            threads: Some(5),
            start_s: Some(1_700_000_123.45),
            committed_bytes: None,
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }
}
