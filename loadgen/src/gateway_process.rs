//! What a process costs, and which process listens where: from `/proc`, for processes of this user on this machine.

use crate::machine::kib;
use serde::{Deserialize, Serialize};
use std::fs::{read_dir, read_link, read_to_string};
use std::net::SocketAddr;

/// Clock ticks per second in `/proc`: the kernel promises this value to user space on every architecture.
const TICKS_PER_S: u64 = 100;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time in nanoseconds, user and kernel.
    pub cpu_ns: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Most resident memory so far in bytes.
    pub rss_peak_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Reads what the process has used; `None` when it is gone or somebody else's.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
        // The command's name may hold anything, so fields are counted from its closing parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            cpu_ns: (field(11)? + field(12)?) * (1_000_000_000 / TICKS_PER_S),
            rss_bytes: kib(&status, "VmRSS:") * 1024,
            rss_peak_bytes: kib(&status, "VmHWM:") * 1024,
            threads: field(17)?,
        })
    }

    /// What this process has used.
    pub fn of_self() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }
}

/// What a process used during the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// The process.
    pub pid: u32,
    /// Whether it is the load generator's own process, as in tests: the figures then hold both.
    pub in_process: bool,
    /// Processor time in seconds.
    pub cpu_s: f64,
    /// Processor time in percent of one core.
    pub cpu_percent: f64,
    /// Most resident memory seen, in bytes.
    pub rss_max_bytes: u64,
    /// Threads at the end.
    pub threads: u64,
}

impl Spent {
    /// What process `pid` used between `before` and `after`, `elapsed_s` seconds apart.
    pub fn between(pid: u32, before: &Usage, after: &Usage, rss_max_bytes: u64, elapsed_s: f64) -> Self {
        let cpu_s = after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9;
        Self {
            pid,
            in_process: pid == std::process::id(),
            cpu_s,
            cpu_percent: if elapsed_s > 0.0 { 100.0 * cpu_s / elapsed_s } else { 0.0 },
            rss_max_bytes: rss_max_bytes.max(before.rss_bytes).max(after.rss_bytes),
            threads: after.threads,
        }
    }
}

/// The process that listens at `address`; `None` unless it is on this machine and its files may be looked at.
pub fn listening_at(address: SocketAddr) -> Option<u32> {
    if !address.ip().is_loopback() {
        return None;
    }
    let links: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| read_to_string(path).ok())
        .flat_map(|table| listeners(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let owns = |pid: u32| {
        let Ok(files) = read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().filter_map(|file| read_link(file.path()).ok()).any(|link| {
            let link = link.to_string_lossy();
            links.iter().any(|wanted| *wanted == link)
        })
    };
    let processes = read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| owns(*pid))
}

/// Inodes of the listening sockets of `port` in a table of `/proc/net`.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTEN).then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_owner_of_a_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listening_at(listener.local_addr().unwrap()), Some(std::process::id()));
    }

    #[test]
    fn reads_its_own_usage() {
        let usage = Usage::of_self();
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes && usage.threads > 0);
        assert_eq!(Usage::of(u32::MAX), None);
    }

    #[test]
    fn reads_only_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
             1: 0100007F:2384 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
             2: 0100007F:2385 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n";
        assert_eq!(listeners(table, 0x2384), [4711]);
    }
}
