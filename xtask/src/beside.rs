//! A step that runs beside others, as a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::background::{Program, bound};
use crate::check::Step;
use crate::shell::{self, step};

/// Longer than any step takes: what has not ended by then hangs.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a process may take to end what it has started.
const GRACE: Duration = Duration::from_secs(10);

/// A command of ours at work. What it says goes to a file, and is shown when it is joined.
#[derive(Debug)]
pub struct Beside {
    name: &'static str,
    log: PathBuf,
    waiting: JoinHandle<Result<(Duration, Option<ExitStatus>)>>,
}

impl Beside {
    /// Starts `cargo xtask` with `words`, giving way to what runs beside it.
    pub fn start(name: &'static str, words: &[&str]) -> Result<Self> {
        let dir = shell::target_dir().join("beside");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let log = dir.join(format!("{name}.log"));
        fs::write(&log, "").with_context(|| format!("writing {}", log.display()))?;
        // Not by its name: a build puts another program there while this one runs.
        let us = format!("/proc/{}/exe", std::process::id());
        let mut command = bound(Path::new("nice"));
        command.args(["-n", "5", &us]).args(words);
        step(format_args!("{name} (beside what follows)"));
        let mut program = Program::start(name, command, &log)?;
        let waiting = thread::spawn(move || {
            let started = Instant::now();
            let ended = program.wait(TIME_MAX);
            if !matches!(ended, Ok(Some(_))) {
                // What it has started is ended by it.
                program.signal(Signal::TERM);
                let end = Instant::now() + GRACE;
                while Instant::now() < end && program.check().is_ok() {
                    thread::sleep(Duration::from_millis(50));
                }
            }
            Ok((started.elapsed(), ended?))
        });
        Ok(Self { name, log, waiting })
    }

    /// Waits for its end and shows what it said. Fails itself only when interrupted.
    pub fn join(self) -> Result<Step> {
        let Self { name, log, waiting } = self;
        let result = waiting.join().unwrap_or_else(|_| Err(anyhow::anyhow!("waiting for it panicked")));
        shell::check_interrupt()?;
        step(format_args!("{name}, which ran beside, said:"));
        eprint!("{}", String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()));
        let (took, failure) = match result {
            Ok((took, Some(status))) if status.success() => (took, None),
            Ok((took, Some(status))) => (took, Some(format!("it ended with {status}"))),
            Ok((took, None)) => (took, Some("it did not end".to_owned())),
            Err(error) => (Duration::ZERO, Some(format!("{error:#}"))),
        };
        if let Some(failure) = &failure {
            eprintln!("xtask: {name}: {failure}");
        }
        Ok(Step { name, took, failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process is this very test program, which knows other words.
    #[test]
    fn how_it_ended_is_known() {
        let listed = Beside::start("listed", &["--list"]).unwrap().join().unwrap();
        assert_eq!(listed.failure, None);
        let refused = Beside::start("refused", &["--no-such-word"]).unwrap().join().unwrap();
        assert!(refused.failure.is_some_and(|why| why.contains("it ended with exit status")));
    }
}
