//! Programs that a test starts: what they print, and how they end.
#![allow(unreachable_pub)]

use crate::world::{SOON, until};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program, and all that it has printed.
pub struct Program {
    pub child: Child,
    printed: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed: Arc<Mutex<String>> = Arc::default();
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("it is piped"));
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("it is piped"));
        let read = |pipe| {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut printed = printed.lock().expect("no panic");
                    printed.push_str(&line);
                    printed.push('\n');
                }
            })
        };
        let readers = [stdout, stderr].map(read).into();
        Self { child, printed, readers }
    }

    /// An example, for so many seconds.
    pub fn example(name: &str, url: &str, seconds: &str) -> Self {
        Self::start(built(name).args(["--url", url, "--seconds", seconds]))
    }

    pub fn printed(&self) -> String {
        self.printed.lock().expect("no panic").clone()
    }

    /// Waits until it has printed this, and lets it end by Ctrl-C; gives its status and all that it has printed.
    pub async fn interrupted_after(&mut self, text: &str) -> (Option<i32>, String) {
        until(&format!("it says {text}"), || self.printed().contains(text)).await;
        self.interrupt();
        self.end().await
    }

    /// Whether it is over; what failed is shown.
    pub fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("it can be asked");
        if let Some(status) = status {
            assert!(status.success(), "{status}: {}", self.printed());
        }
        status.is_some()
    }

    /// Waits for its end; gives its status and all that it has printed.
    pub async fn end(&mut self) -> (Option<i32>, String) {
        self.end_within(SOON).await
    }

    pub async fn end_within(&mut self, time: Duration) -> (Option<i32>, String) {
        let deadline = Instant::now() + time;
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        let mut status = None;
        while status.is_none() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.printed());
            pace.tick().await;
            status = self.child.try_wait().expect("it can be asked");
        }
        // Its pipes have ended with it.
        self.readers.drain(..).for_each(|reader| reader.join().expect("no panic"));
        (status.and_then(|status| status.code()), self.printed())
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is none that a test left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Twice as long each time, for a machine that is busy.
pub fn longer_and_longer(seconds: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(seconds), |seconds| Some(2 * seconds)).take(5)
}

/// An example with these arguments that ends by its time, which is as long as it takes to print all of this; gives its status and all
/// that it has printed.
pub async fn in_time(name: &str, args: &[&str], folder: &Path, texts: &[&str]) -> (Option<i32>, String) {
    let mut told = (None, String::new());
    for seconds in longer_and_longer(1) {
        let mut command = built(name);
        command.args(args).args(["--seconds", &seconds.to_string()]).current_dir(folder);
        told = Program::start(&mut command).end_within(2 * SOON).await;
        if texts.iter().all(|text| told.1.contains(text)) {
            return told;
        }
    }
    panic!("{name} {args:?} says {texts:?}: {told:?}");
}

/// An example, as it was built.
pub fn built(name: &str) -> Command {
    let test = std::env::current_exe().expect("a path");
    let built: PathBuf = test.parent().and_then(|deps| deps.parent()).expect("folders").into();
    let program = built.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "cargo build -p tickgate-client --examples");
    Command::new(program)
}
