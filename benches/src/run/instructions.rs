//! Instructions in user space: by the processor's counters where the system gives them (`perf`), otherwise by running the
//! server under valgrind's callgrind.
//!
//! They are steady where time is not: they do not change with what else the machine does.

use super::proc;
use super::server::Running;
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tickgate_gateway::clock;

/// A way to count.
#[derive(Debug)]
pub enum Counter {
    Perf,
    Callgrind(PathBuf),
}

/// What was counted, and when.
#[derive(Debug)]
pub struct Counted {
    pub instructions: f64,
    pub from_ns: i64,
    pub to_ns: i64,
}

impl Counter {
    /// The best way that this machine has.
    pub fn new() -> anyhow::Result<Self> {
        let perf = Command::new("perf").args(["stat", "-x,", "-e", "instructions:u", "true"]).output();
        if perf.is_ok_and(|out| instructions(&String::from_utf8_lossy(&out.stderr)).is_some()) {
            return Ok(Self::Perf);
        }
        if Command::new("callgrind_control").arg("--version").output().is_err() {
            bail!("neither the processor's counters (perf) nor valgrind are there to count instructions");
        }
        let dir = std::env::temp_dir().join(format!("tickgate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self::Callgrind(dir))
    }

    /// What reports call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Perf => "perf stat -e instructions:u",
            Self::Callgrind(_) => "valgrind --tool=callgrind",
        }
    }

    /// What the server has to be started with.
    pub fn wrapper(&self) -> Vec<String> {
        match self {
            Self::Perf => Vec::new(),
            Self::Callgrind(dir) => [
                "valgrind",
                "-q",
                "--tool=callgrind",
                "--instr-atstart=no",
                "--separate-threads=yes",
                "--fair-sched=yes",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--callgrind-out-file={}/out", dir.display())])
            .collect(),
        }
    }

    /// Counts what the threads that deliver do for a while.
    pub fn count(&mut self, running: &mut Running, time: Duration) -> anyhow::Result<Counted> {
        match self {
            Self::Perf => perf(running, time),
            Self::Callgrind(dir) => callgrind(dir, running, time),
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Self::Callgrind(dir) = self {
            // Left-overs in the folder for temporary files do no harm.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn perf(running: &Running, time: Duration) -> anyhow::Result<Counted> {
    let ids = proc::threads(running.pid(), |name| running.server.delivers(name))?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let from_ns = clock::wall_ns();
    let out = Command::new("perf")
        .args(["stat", "-x,", "-e", "instructions:u", "-t", &ids.join(","), "sleep"])
        .arg(time.as_secs_f64().to_string())
        .output()?;
    let to_ns = clock::wall_ns();
    let text = String::from_utf8_lossy(&out.stderr);
    let instructions = instructions(&text).with_context(|| format!("perf said {text:?}"))?;
    Ok(Counted { instructions, from_ns, to_ns })
}

/// The count in perf's `value,unit,event,…`.
fn instructions(text: &str) -> Option<f64> {
    text.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()
}

fn callgrind(dir: &std::path::Path, running: &Running, time: Duration) -> anyhow::Result<Counted> {
    let control = |word: &str, more: &str| -> anyhow::Result<()> {
        let pid = running.pid().to_string();
        let mut command = Command::new("callgrind_control");
        command.arg(word).args((!more.is_empty()).then_some(more)).arg(pid);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "callgrind_control {word} {more}: {status}");
        Ok(())
    };
    control("-i", "on")?;
    let from_ns = clock::wall_ns();
    std::thread::sleep(time);
    let to_ns = clock::wall_ns();
    control("-i", "off")?;
    control("-d", "")?;
    let mut instructions = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Dumps are `out.N-THREAD`. Threads are numbered as they were started.
        let Some(thread) = name.rsplit_once('-').and_then(|(_, thread)| thread.parse().ok()) else {
            continue;
        };
        if running.server.delivers_by_number(thread) {
            let text = std::fs::read_to_string(&path)?;
            // The summary counts only since the last dump or switch; the totals are of the whole dump.
            let total =
                text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
            instructions += total.unwrap_or(0.0);
        }
    }
    anyhow::ensure!(instructions > 0.0, "callgrind counted nothing");
    Ok(Counted { instructions, from_ns, to_ns })
}
