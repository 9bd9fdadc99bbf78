//! Running other programs: signals reach them, long ones report progress, failures carry an exit code.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A tool is missing (`EX_UNAVAILABLE` of sysexits).
pub const EXIT_MISSING: u8 = 69;

/// How often a child is looked at. It bounds how late an end or a signal is noticed.
const POLL: Duration = Duration::from_millis(30);
/// A step that takes longer than this says so, again and again.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How long a child may take to end after a signal before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// The last signal that asked us to end, 0 for none.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// A failure that chooses the exit code of the process.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// An error with `message` that makes the process exit with `code`.
    pub fn error(code: u8, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, message: message.into() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code for `error`: the one it carries, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Failure>().map_or(1, |failure| failure.code)
}

/// From here on Ctrl-C and the like are noted instead of ending the process, so that what was started is stopped.
pub fn watch_signals() -> Result<()> {
    let flag = SIGNAL.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(flag), signal as usize)
            .context("installing a signal handler")?;
    }
    Ok(())
}

fn signal_seen() -> Option<i32> {
    let signal = SIGNAL.get()?.load(Ordering::Relaxed);
    (signal != 0).then_some(signal as i32)
}

/// Fails once a signal has asked us to end; to be called in every loop that waits.
pub fn check_interrupt() -> Result<()> {
    match signal_seen() {
        Some(signal) => Err(Failure::error(128 + signal as u8, "interrupted")),
        None => Ok(()),
    }
}

/// Waits `duration`, or until a signal asks us to end.
pub fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        check_interrupt()?;
        thread::sleep(left.min(POLL));
    }
    check_interrupt()
}

/// The root of the repository.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Cargo says at run time where the crate is, which stays true when the checkout has been moved.
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let manifest = PathBuf::from(manifest);
        manifest.parent().map(Path::to_owned).unwrap_or(manifest)
    })
}

/// Where cargo builds: `CARGO_TARGET_DIR` or `target`.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that started us, with the variables it set for *this* crate taken out again: some build scripts look at
/// them and would build everything anew.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// Says what comes next.
pub fn step(text: impl fmt::Display) {
    eprintln!("==> {text}");
}

/// A duration as people say it: `850 ms`, `12.3 s`, `4 min 05 s`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{} ms", duration.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Repeats what is going on every five seconds, for steps that print nothing themselves.
#[derive(Debug)]
pub struct Progress {
    label: String,
    started: Instant,
    next: Instant,
}

impl Progress {
    pub fn start(label: impl Into<String>) -> Self {
        let label = label.into();
        step(&label);
        let started = Instant::now();
        Self { label, started, next: started + PROGRESS_EVERY }
    }

    /// To be called often; prints only when it is time.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            step(format_args!("{} … {} so far", self.label, human(now - self.started)));
            self.next = now + PROGRESS_EVERY;
        }
    }
}

/// Runs `command` with its output shown and fails unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    expect_success(command, status)
}

/// Runs `command` with its output shown. A signal to us is passed on to it and to all it has started, and is then an
/// error here.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let mut child = spawn_group(command)?;
    wait(&mut child, || {})
}

/// Runs a command that prints nothing, saying now and then that it still runs. Fails unless it exits with 0.
pub fn run_with_progress(command: &mut Command, label: &str) -> Result<()> {
    let mut progress = Progress::start(label);
    let mut child = spawn_group(command)?;
    let status = wait(&mut child, || progress.tick())?;
    expect_success(command, status)
}

/// Runs `command`, showing its standard output as it comes and handing every line of it to `on_line`.
pub fn tee(command: &mut Command, on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    tee_to(command, &mut io::stdout(), on_line)
}

fn tee_to(
    command: &mut Command,
    shown: &mut impl Write,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut child = spawn_group(command.stdout(Stdio::piped()))?;
    let mut output = child.stdout.take().expect("asked for a pipe above");
    // A few chunks of room: the child waits when we are slow, and nothing piles up.
    let (sender, chunks) = mpsc::sync_channel::<Vec<u8>>(4);
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut lines = Lines::default();
    let mut show = |chunk: &[u8]| {
        // A closed pipe on our side must not end the run.
        let _ = shown.write_all(chunk).and_then(|()| shown.flush());
        lines.push(chunk, &mut on_line);
    };
    let mut end = None;
    let status = loop {
        match chunks.recv_timeout(POLL) {
            Ok(chunk) => show(&chunk),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break wait(&mut child, || {})?,
        }
        if signal_seen().is_some() {
            wait(&mut child, || {
                while let Ok(chunk) = chunks.try_recv() {
                    show(&chunk);
                }
            })?;
        }
        // Something the command left running may hold the pipe open for ever: don't wait for that one.
        match (child.try_wait().context("waiting for a command")?, end) {
            (Some(_), None) => end = Some(Instant::now() + Duration::from_secs(2)),
            (Some(status), Some(at)) if Instant::now() > at => {
                eprintln!("xtask: something the command started is still running and holds its output");
                break status;
            }
            _ => {}
        }
    };
    Ok(status)
}

/// Splits chunks into lines.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Longer lines are cut: only short ones are looked at.
    const LINE_BYTES_MAX: usize = 4096;

    fn push(&mut self, chunk: &[u8], on_line: &mut impl FnMut(&str)) {
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            let room = Self::LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                on_line(String::from_utf8_lossy(&self.partial).trim_end());
                self.partial.clear();
            }
        }
    }
}

/// The output of a short command, or `None` when it is not there or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        text
    })
}

/// Fails, naming the command, unless it ended with 0.
pub fn expect_success(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::error(1, format!("`{}` failed: {status}", shown(command))))
}

/// The command as it would be typed.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Starts a command in a process group of its own, so that a signal can be given to all of it, and exactly once.
fn spawn_group(command: &mut Command) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    check_interrupt()?;
    command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting `{}`", shown(command)))
}

fn wait(child: &mut Child, mut on_poll: impl FnMut()) -> Result<ExitStatus> {
    let mut kill_at = None;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a command")? {
            check_interrupt()?;
            return Ok(status);
        }
        match (signal_seen(), kill_at) {
            (Some(signal), None) => {
                kill_at = Some(Instant::now() + GRACE);
                signal_group(child, Signal::from_named_raw(signal).unwrap_or(Signal::TERM));
            }
            (Some(_), Some(at)) if Instant::now() > at => signal_group(child, Signal::KILL),
            _ => {}
        }
        on_poll();
        thread::sleep(POLL);
    }
}

fn signal_group(child: &Child, signal: Signal) {
    // It may just have ended, which is what we want.
    let _ = kill_process_group(Pid::from_child(child), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for chunk in ["one\ntw", "o", "\n", "\nthree"] {
            lines.push(chunk.as_bytes(), &mut |line: &str| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", ""]);
    }

    #[test]
    fn long_lines_are_cut() {
        let mut seen = Vec::new();
        Lines::default().push(&[b"x".repeat(10_000), b"\n".to_vec()].concat(), &mut |line: &str| {
            seen.push(line.len());
        });
        assert_eq!(seen, [Lines::LINE_BYTES_MAX]);
    }

    #[test]
    fn durations_read_well() {
        let human_ms = |ms| human(Duration::from_millis(ms));
        assert_eq!([human_ms(850), human_ms(12_340), human_ms(245_000)], ["850 ms", "12.3 s", "4 min 05 s"]);
    }

    #[test]
    fn tee_hands_over_every_line() {
        let mut seen = Vec::new();
        let mut shown = Vec::new();
        let mut command = Command::new("sh");
        let status = tee_to(command.args(["-c", "echo a; echo b; exit 3"]), &mut shown, |line| {
            seen.push(line.to_owned());
        });
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(shown, b"a\nb\n");
    }
}
