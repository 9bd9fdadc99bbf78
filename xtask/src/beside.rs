//! Steps that run beside others, each a process of its own.

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
const TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a process may take to end what it has started.
const GRACE: Duration = Duration::from_secs(10);
/// How commands of ours say that this machine cannot do something.
const LEFT_OUT: &str = "==> LEFT OUT";

/// What a lane does with the processors, which says how far it gives way to what runs beside it.
#[derive(Debug, Clone, Copy)]
pub enum Uses {
    /// It mostly waits.
    Little,
    /// It computes, and takes what the others leave.
    TheRest,
}

impl Uses {
    fn nice(self) -> &'static str {
        match self {
            Self::Little => "5",
            Self::TheRest => "15",
        }
    }
}

/// Commands of ours at work, one after the other. What they say goes to files, and is shown when they are joined.
#[derive(Debug)]
pub struct Lane {
    waiting: Option<JoinHandle<Vec<Ended>>>,
}

/// A command that has ended, or could not be started.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    log: PathBuf,
    took: Duration,
    status: Result<Option<ExitStatus>>,
}

impl Lane {
    /// Starts `cargo xtask` with the words of the first step, then with those of the next one, however that went.
    pub fn start<'a>(
        uses: Uses,
        steps: impl IntoIterator<Item = (&'static str, &'a [&'static str])>,
    ) -> Self {
        let steps: Vec<(&'static str, Vec<&'static str>)> =
            steps.into_iter().map(|(name, words)| (name, words.to_vec())).collect();
        let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
        step(format_args!("{} (beside what follows)", names.join(", then ")));
        let waiting = thread::spawn(move || {
            let mut all = Vec::new();
            for (name, words) in steps {
                // After Ctrl-C there is no next one.
                if !all.is_empty() && shell::check_interrupt().is_err() {
                    break;
                }
                all.push(run(uses, name, &words));
            }
            all
        });
        Self { waiting: Some(waiting) }
    }

    /// Waits for the end of all and shows what they said. Fails itself only when interrupted.
    pub fn join(mut self) -> Result<Vec<Step>> {
        let waiting = self.waiting.take().context("a lane is joined once")?;
        let all = waiting.join().map_err(|_| anyhow::anyhow!("waiting for a step panicked"))?;
        shell::check_interrupt()?;
        Ok(all.into_iter().map(Ended::into_step).collect())
    }
}

impl Drop for Lane {
    /// After Ctrl-C it waits for what is being ended; whatever else went wrong, nobody waits for it.
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take()
            && shell::check_interrupt().is_err()
        {
            let _ = waiting.join();
        }
    }
}

fn run(uses: Uses, name: &'static str, words: &[&str]) -> Ended {
    let log = shell::target_dir().join("beside").join(format!("{name}.log"));
    let started = Instant::now();
    let status = start(uses, name, words, &log).and_then(|mut program| {
        let ended = program.wait(TIME_MAX);
        if !matches!(ended, Ok(Some(_))) {
            // What it has started is ended by it.
            program.signal(Signal::TERM);
            let end = Instant::now() + GRACE;
            while Instant::now() < end && program.check().is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        ended
    });
    Ended { name, log, took: started.elapsed(), status }
}

fn start(uses: Uses, name: &'static str, words: &[&str], log: &Path) -> Result<Program> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::write(log, "").with_context(|| format!("writing {}", log.display()))?;
    // Not by its name: a build puts another program there while this one runs.
    let us = format!("/proc/{}/exe", std::process::id());
    let mut command = bound(Path::new("nice"));
    command.args(["-n", uses.nice(), &us]).args(words);
    Program::start(name, command, log)
}

impl Ended {
    fn into_step(self) -> Step {
        let Self { name, log, took, status } = self;
        step(format_args!("{name}, which ran beside, said:"));
        let said = fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        eprint!("{said}");
        let failure = match status {
            Ok(Some(status)) if status.success() => None,
            Ok(Some(status)) => Some(format!("it ended with {status}")),
            Ok(None) => Some("it did not end".to_owned()),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(failure) = &failure {
            eprintln!("xtask: {name}: {failure}");
        }
        Step { left_out: left_out(&said), ..Step::new(name, took, failure) }
    }
}

/// What a command said that it left out.
fn left_out(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(LEFT_OUT));
    lines.map(|rest| rest.trim_start_matches([':', ',', ' ']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processes are this very test program, which knows other words.
    #[test]
    fn how_each_ended_is_known() {
        let lane =
            Lane::start(Uses::Little, [("refused", &["--no-such-word"][..]), ("listed", &["--list"][..])]);
        let steps = lane.join().unwrap();
        let [refused, listed] = &steps[..] else { panic!("{steps:?}") };
        assert!(refused.failure.as_ref().is_some_and(|why| why.contains("it ended with exit status")));
        assert_eq!((listed.name, &listed.failure), ("listed", &None));
    }

    #[test]
    fn what_is_left_out_is_heard() {
        let said =
            "==> page\n==> LEFT OUT: page (Node is missing)\nLEFT OUT: no\n==> LEFT OUT, as so: go (none)\n";
        assert_eq!(left_out(said), ["page (Node is missing)", "as so: go (none)"]);
    }
}
