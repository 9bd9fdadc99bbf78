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
        // One of them is the folder that is read.
        process.committed_bytes = COMMITTED.get().map(|ask| ask());
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

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
