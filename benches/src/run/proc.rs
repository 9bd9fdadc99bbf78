//! What the system says about a process: time of each thread, and memory.

use anyhow::Context as _;
use std::fs;

/// The time that a thread has run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Time {
    /// On a processor, in nanoseconds; what its sends do in the kernel is in it.
    pub run_ns: u64,
    /// Ticks of the clock in user space and in the kernel: a coarse split.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

impl Time {
    fn add(&mut self, other: Self) {
        self.run_ns += other.run_ns;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// The share of user space, if the clock ticked at all.
    pub fn user_share(self) -> Option<f64> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks > 0).then(|| self.user_ticks as f64 / ticks as f64)
    }
}

/// Ids of the threads of `pid` whose name `wanted` accepts.
pub fn threads(pid: u32, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<u32>> {
    let dir = format!("/proc/{pid}/task");
    let mut ids = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.clone())? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A thread may have ended meanwhile.
        if fs::read_to_string(format!("{dir}/{id}/comm")).is_ok_and(|name| wanted(name.trim())) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The time that those threads of `pid` have run whose name `wanted` accepts.
pub fn time(pid: u32, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Time> {
    let mut sum = Time::default();
    for id in threads(pid, wanted)? {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/task/{id}/{file}"));
        let (Ok(schedstat), Ok(stat)) = (read("schedstat"), read("stat")) else { continue };
        let run_ns = schedstat.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        // The name is in parentheses and may hold anything; behind it, fields 12 and 13 are the ticks.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        sum.add(Time { run_ns, user_ticks: ticks(), system_ticks: ticks() });
    }
    Ok(sum)
}

/// Resident memory of `pid` in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// What the machine is, for a report.
pub fn machine() -> serde_json::Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
            .unwrap_or_default()
    };
    let release = read("/etc/os-release");
    serde_json::json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "system": field(&release, "PRETTY_NAME").trim_start_matches('=').trim_matches('"'),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
        "load_before": read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    })
}
