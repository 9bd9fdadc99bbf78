//! Instructions in user space: by the processor's counters where the system gives them (`perf`), otherwise by running the
//! server under valgrind's callgrind.
//!
//! They are steady where time is not: they do not change with what else the machine does.

use super::proc;
use super::server::Running;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long perf may take to begin.
const PERF_START: Duration = Duration::from_millis(300);

/// A way to count. Counting begins before the load does and ends after it: neither tool starts and stops at an instant.
#[derive(Debug)]
pub enum Counter {
    /// With the program while it counts.
    Perf(Option<Child>),
    /// With the folder of its files.
    Callgrind(PathBuf),
}

impl Counter {
    /// The best way that this machine has.
    pub fn new() -> anyhow::Result<Self> {
        let perf = Command::new("perf").args(["stat", "-x,", "-e", "instructions:u", "true"]).output();
        if perf.is_ok_and(|out| instructions(&String::from_utf8_lossy(&out.stderr)).is_some()) {
            return Ok(Self::Perf(None));
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
            Self::Perf(_) => "perf stat -e instructions:u",
            Self::Callgrind(_) => "valgrind --tool=callgrind",
        }
    }

    /// What the server has to be started with.
    pub fn wrapper(&self) -> Vec<String> {
        match self {
            Self::Perf(_) => Vec::new(),
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

    /// Begins to count what the threads that deliver do.
    pub fn start(&mut self, running: &Running) -> anyhow::Result<()> {
        match self {
            Self::Perf(perf) => {
                let ids = proc::threads(running.pid(), |name| running.server.delivers(name))?;
                let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                let mut command = Command::new("perf");
                command.args(["stat", "-x,", "-e", "instructions:u", "-t", &ids.join(",")]);
                *perf = Some(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?);
                // It says nothing when it has begun.
                std::thread::sleep(PERF_START);
                Ok(())
            }
            Self::Callgrind(_) => control(running, &["-i", "on"]),
        }
    }

    /// Ends counting; returns how many there were.
    pub fn stop(&mut self, running: &Running) -> anyhow::Result<f64> {
        match self {
            Self::Perf(perf) => {
                let perf = perf.take().context("counting has not begun")?;
                let pid = i32::try_from(perf.id()).ok().and_then(Pid::from_raw).context("no process id")?;
                kill_process(pid, Signal::INT)?;
                let out = perf.wait_with_output()?;
                let text = String::from_utf8_lossy(&out.stderr);
                instructions(&text).with_context(|| format!("perf said {text:?}"))
            }
            Self::Callgrind(dir) => {
                control(running, &["-i", "off"])?;
                control(running, &["-d"])?;
                dumped(dir, running)
            }
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

/// The count in perf's `value,unit,event,…`.
fn instructions(text: &str) -> Option<f64> {
    text.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()
}

/// Tells valgrind something.
fn control(running: &Running, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("callgrind_control");
    command.args(words).arg(running.pid().to_string());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "callgrind_control {words:?}: {status}");
    Ok(())
}

/// The instructions in what callgrind has written about the threads that deliver.
fn dumped(dir: &Path, running: &Running) -> anyhow::Result<f64> {
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
    Ok(instructions)
}
