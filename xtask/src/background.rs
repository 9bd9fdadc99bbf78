//! Programs that run beside us: each with its output in a file, in a process group of its own, and ended with us.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::shell::{self, Failure};

/// How often a program that is to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a log is read for its last lines.
const LOG_TAIL_BYTES: usize = 64 * 1024;

/// Starts a command in a process group of its own: Ctrl-C on the terminal is for us, and we stop it properly.
pub fn spawn(mut command: Command, log: File, dir: Option<&Path>) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    shell::check_interrupt()?;
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("sharing a log")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))
}

/// A command that runs `program` and ends with this process, even when that is killed, where `setpriv` (util-linux) can
/// see to it.
pub fn bound(program: &Path) -> Command {
    let can = || shell::output(Command::new("setpriv").args(["--pdeathsig", "KILL", "true"])).is_some();
    if !can() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Free ports on loopback, all held at the same time so that they differ.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()
        .context("looking for free ports on 127.0.0.1")?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<io::Result<_>>()
        .context("asking for the port of a listener")
}

/// A program that runs beside us; dropped, it is killed.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`, its output added to the file `log`.
    pub fn start(name: impl Into<String>, command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("writing {}", log.display()))?;
        Ok(Self { name: name.into(), child: spawn(command, file, None)?, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        // It may just have ended, which is as good.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Fails when it has ended: it should run on.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("looking at {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                Err(Failure::error(1, format!("{} ended ({status}):\n{}", self.name, self.log_tail(20))))
            }
        }
    }

    /// Waits for its end, `None` when it has not come within `at_most`.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + at_most;
        loop {
            let status = self.child.try_wait().with_context(|| format!("looking at {}", self.name))?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            shell::pause(LOOK_EVERY)?;
        }
    }

    /// Waits until it has written a line in which `find` finds something.
    pub fn said<T>(&mut self, at_most: Duration, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + at_most;
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            // A line that is still being written may be cut.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(found) = whole.lines().find_map(|line| find(line.trim())) {
                return Ok(found);
            }
            self.check()?;
            if Instant::now() >= deadline {
                let Self { name, .. } = self;
                return Err(Failure::error(1, format!("{name} does not come up:\n{}", tail(&self.log, 20))));
            }
            shell::pause(LOOK_EVERY)?;
        }
    }

    /// Asks it to end and waits for that, also after a signal has asked us; `None` when it has not ended within `at_most`.
    pub fn stop(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + at_most;
        loop {
            let status = self.child.try_wait().with_context(|| format!("looking at {}", self.name))?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its last lines, indented, for a message.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// The last line that it wrote; empty before the first.
    pub fn last_line(&self) -> String {
        tail(&self.log, 1).trim().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands in a line between two texts.
pub fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(line.split_once(before)?.1.split_once(after)?.0)
}

/// The last lines of a log, indented, for an error message.
pub fn tail(file: &Path, lines: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]);
    let all: Vec<_> = text.lines().collect();
    let last: Vec<_> =
        all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}")).collect();
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path, script: &str) -> Program {
        let mut command = bound(Path::new("sh"));
        command.args(["-c", script]);
        Program::start("a script", command, &dir.join("log")).unwrap()
    }

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(6).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn its_end_and_its_words_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = program(dir.path(), "echo one; echo two; exit 3");
        let status = program.wait(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!((program.last_line().as_str(), program.log_tail(2).as_str()), ("two", "    one\n    two"));
        assert!(program.check().unwrap_err().to_string().contains("a script ended (exit status: 3)"));
    }

    #[test]
    fn what_it_says_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = program(dir.path(), "echo one; echo 'address: a:1 and more'; exec sleep 600");
        let address =
            one.said(Duration::from_secs(20), |line| Some(between(line, "address: ", " ")?.to_owned()));
        assert_eq!(address.unwrap(), "a:1");
        let late =
            one.said(Duration::ZERO, |line| between(line, "port: ", " ").map(str::to_owned)).unwrap_err();
        assert!(late.to_string().starts_with("a script does not come up:"), "{late}");
        // What has ended says nothing more.
        let ends = tempfile::tempdir().unwrap();
        let mut two = program(ends.path(), "echo two");
        let error =
            two.said(Duration::from_secs(20), |line| between(line, "a", "b").map(str::to_owned)).unwrap_err();
        assert!(error.to_string().contains("a script ended"), "{error}");
    }

    #[test]
    fn it_is_asked_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut program =
            program(dir.path(), "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
        program.said(Duration::from_secs(20), |line| (line == "up").then_some(())).unwrap();
        let status = program.stop(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!((status.code(), program.last_line().as_str()), (Some(7), "bye"));
    }

    #[test]
    fn dropped_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = program(dir.path(), "exec sleep 600");
        program.check().unwrap();
        assert_eq!(program.wait(Duration::ZERO).unwrap(), None);
        let proc = PathBuf::from(format!("/proc/{}", program.pid()));
        assert!(proc.exists());
        drop(program);
        assert!(!proc.exists());
    }
}
