//! Runs a plan over several processes of this program, and makes one report of theirs.
//!
//! The parent finds out what all must agree on, starts the children, hands each the same [`Prepared`] plan and its number,
//! and names one moment at which all begin. A child reads two lines from its standard input (its job, the start) and
//! runs until it is done or that input ends: so a child stops with its parent, whatever the parent died of. What it says
//! on its standard output is one `Said` a line. Signals of the terminal reach the parent alone, because each child
//! is a process group of its own.

use crate::clock::now_ns;
use crate::fleet::{self, FleetError, Prepared};
use crate::live::{LiveStats, Phase, Sessions, Totals};
use crate::report::{MergeError, Report};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The command that makes this program a child.
pub const COMMAND: &str = "process";

/// How long after all are ready they begin: so long that all have heard of it.
const START_AFTER: Duration = Duration::from_millis(50);
/// How often a child says how it is going.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Longest line from a child: far above a report with every histogram full.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why a run over several processes failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ProcessError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("cannot find out which program this is")]
    Program(#[source] io::Error),
    #[error("{process} cannot be started")]
    Start { process: String, source: io::Error },
    #[error("{process} ended before its time ({how}); the others were stopped, and there is no report")]
    Died { process: String, how: String },
    #[error("{process} said what cannot be understood")]
    Garbled { process: String, source: serde_json::Error },
    #[error("the reports of the processes do not make one")]
    Merge(#[from] MergeError),
    #[error("this is no job from a parent process")]
    NoJob(#[source] io::Error),
}

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    process: usize,
    prepared: Prepared,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// It has its job and waits for the start.
    Ready,
    Progress {
        phase: Phase,
        totals: Box<Totals>,
    },
    Report(Box<Report>),
}

/// Runs the plan over as many children as it has processes: `program`, started with [`COMMAND`]. Dropped before its end, it
/// ends them at once.
///
/// # Errors
/// [`ProcessError`] when the run could not take place, or a child died.
pub async fn run(
    program: &Path,
    prepared: Prepared,
    mut stop: watch::Receiver<bool>,
    live: Arc<LiveStats>,
) -> Result<Report, ProcessError> {
    let count = prepared.plan.processes;
    let (say, mut heard) = mpsc::channel(2 * count);
    let mut children = Children(Vec::new());
    for process in 0..count {
        let planned = prepared.plan.connections_of(process) as u64;
        let sessions = Sessions { planned, ..Sessions::default() };
        live.heard(process, Phase::Connect, Totals { sessions, ..Totals::default() });
        children.0.push(One::start(program, process, &prepared, say.clone())?);
    }
    drop(say);
    let (mut ready, mut is_stopped) = (0, false);
    let mut reports: Vec<Option<Report>> = vec![None; count];
    while reports.iter().any(Option::is_none) {
        let (process, said) = tokio::select! {
            heard = heard.recv() => match heard {
                Some(heard) => heard,
                None => break,
            },
            stopped = stop.wait_for(|stop| *stop), if !is_stopped => {
                // Also when nobody is left who could ask for it: then it goes on to its end.
                is_stopped = true;
                if stopped.is_ok() {
                    children.0.iter_mut().for_each(One::stop);
                }
                continue;
            }
        };
        let name = |children: &Children| children.0[process].name(count);
        match said {
            Heard::Said(Ok(Said::Ready)) => {
                ready += 1;
                if ready == count {
                    let start_ns = now_ns() + i64::try_from(START_AFTER.as_nanos()).unwrap_or(0);
                    children.0.iter_mut().for_each(|child| child.tell(&start_ns.to_string()));
                }
            }
            Heard::Said(Ok(Said::Progress { phase, totals })) => live.heard(process, phase, *totals),
            Heard::Said(Ok(Said::Report(report))) => reports[process] = Some(*report),
            Heard::Said(Err(source)) => {
                return Err(ProcessError::Garbled { process: name(&children), source });
            }
            Heard::Ended if reports[process].is_some() => {}
            Heard::Ended => {
                let name = name(&children);
                return Err(ProcessError::Died { process: name, how: children.0[process].how_it_ended() });
            }
        }
    }
    let mut report = Report::merge(reports.into_iter().flatten().collect())?;
    report.runs = vec![prepared.run_info()];
    Ok(fleet::reached(report)?)
}

/// What comes from a child.
enum Heard {
    Said(Result<Said, serde_json::Error>),
    Ended,
}

/// The children; ended and waited for when dropped.
struct Children(Vec<One>);

impl Drop for Children {
    fn drop(&mut self) {
        for One { child, .. } in &mut self.0 {
            // Most have ended already.
            let _ = child.kill();
        }
        for One { child, .. } in &mut self.0 {
            let _ = child.wait();
        }
    }
}

struct One {
    process: usize,
    child: Child,
    /// Until it is told to stop.
    stdin: Option<ChildStdin>,
}

impl One {
    fn start(
        program: &Path,
        process: usize,
        prepared: &Prepared,
        say: mpsc::Sender<(usize, Heard)>,
    ) -> Result<Self, ProcessError> {
        let cannot = |source| {
            let process = format!("process {} of {}", process + 1, prepared.plan.processes);
            ProcessError::Start { process, source }
        };
        let mut child = Command::new(program)
            .arg(COMMAND)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut one = Self { process, child, stdin };
        let job = Job { process, prepared: prepared.clone() };
        one.tell(&serde_json::to_string(&job).map_err(|error| cannot(error.into()))?);
        let listen = move || {
            let mut lines = stdout.map(BufReader::new);
            while let Some(said) = lines.as_mut().and_then(hear) {
                if say.blocking_send((process, Heard::Said(said))).is_err() {
                    return;
                }
            }
            // Nobody listens any more when the run has failed.
            let _ = say.blocking_send((process, Heard::Ended));
        };
        std::thread::Builder::new().name("listen".to_owned()).spawn(listen).map_err(cannot)?;
        Ok(one)
    }

    /// Gives it a line. That it cannot take one shows where it is listened to.
    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    fn stop(&mut self) {
        self.stdin = None;
    }

    fn name(&self, count: usize) -> String {
        format!("process {} of {count} (pid {})", self.process + 1, self.child.id())
    }

    fn how_it_ended(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

/// The next that is said; `None` at the end, also at one in the middle of a line.
fn hear(lines: &mut impl BufRead) -> Option<Result<Said, serde_json::Error>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
    let is_whole = line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX;
    is_whole.then(|| serde_json::from_slice(&line))
}

/// Is a child: does the job that stands on `input`, and says on `output` how it goes.
///
/// # Errors
/// [`ProcessError`] when there is no job, or it cannot be done.
pub fn serve(
    mut input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), ProcessError> {
    let output = Arc::new(Mutex::new(output));
    let mut line = String::new();
    input.read_line(&mut line).map_err(ProcessError::NoJob)?;
    let Job { process, prepared } =
        serde_json::from_str(&line).map_err(|error| ProcessError::NoJob(error.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(FleetError::Thread)?;
    let clients = prepared.clients(process);
    say(&output, &Said::Ready);
    line.clear();
    // No line: it is to stop before it began, and then it does not matter when that was.
    let start_ns = match input.read_line(&mut line) {
        Ok(_) => line.trim().parse().unwrap_or_else(|_| now_ns()),
        Err(error) => return Err(ProcessError::NoJob(error)),
    };
    let (stop, stopped) = watch::channel(false);
    let until_the_end = move || {
        // An input that breaks has ended, too.
        let _ = io::copy(&mut input, &mut io::sink());
        stop.send_replace(true);
    };
    std::thread::Builder::new().name("stop".to_owned()).spawn(until_the_end).map_err(FleetError::Thread)?;
    let live = Arc::new(LiveStats::default());
    let (done, is_done) = sync_channel::<()>(0);
    let tell = {
        let (live, output) = (Arc::clone(&live), Arc::clone(&output));
        // Beside the run, which must not wait for a parent that does not listen.
        move || {
            while is_done.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                say(&output, &Said::Progress { phase: live.phase(), totals: Box::new(live.totals()) });
            }
        }
    };
    std::thread::Builder::new().name("progress".to_owned()).spawn(tell).map_err(FleetError::Thread)?;
    let report = runtime.block_on(prepared.run(process, clients, instant_of(start_ns), stopped, live))?;
    drop(done);
    say(&output, &Said::Report(Box::new(report)));
    Ok(())
}

fn say(output: &Mutex<impl Write>, said: &Said) {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever does not listen any more is gone, and then the input ends as well.
    let Ok(mut line) = serde_json::to_vec(said) else { return };
    line.push(b'\n');
    let _ = output.write_all(&line).and_then(|()| output.flush());
}

/// The moment `ns` since the Unix epoch by this process's clock.
fn instant_of(ns: i64) -> Instant {
    let (now, away_ns) = (Instant::now(), ns - now_ns());
    let away = Duration::from_nanos(away_ns.unsigned_abs());
    if away_ns < 0 { now.checked_sub(away).unwrap_or(now) } else { now + away }
}
