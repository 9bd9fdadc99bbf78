//! The limit of open files, as the real binary meets it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A gateway that was started by a shell with limits of its own.
struct Gateway {
    child: Child,
    /// Its log lines until it serves.
    lines: Vec<String>,
}

impl Gateway {
    /// Starts one after `ulimit`, with room for so many sessions.
    fn start(ulimit: &str, sessions_max: usize) -> Self {
        let sessions = format!("limits.sessions_max={sessions_max}");
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_tickgate"))
            .args(["run", "--brokers", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--set", "shards=1", "--set", "limits.handshakes_max=10", "--set", &sessions])
            .env_remove("TICKGATE_CONFIG")
            .env_remove("TICKGATE_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut gateway = Self { child, lines: Vec::new() };
        for line in output.lines() {
            gateway.lines.push(line.expect("text"));
            if gateway.lines.last().is_some_and(|line| line.contains("ws://")) {
                return gateway;
            }
        }
        panic!("it ended: {:?}", gateway.lines);
    }

    /// Its soft and its hard limit of open files.
    fn limits(&self) -> [String; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("it lives");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        std::array::from_fn(|_| words.next().expect("a number"))
    }

    fn warns(&self) -> bool {
        self.lines.iter().any(|line| line.contains("\"WARN\"") && line.contains("limits.sessions_max"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_low_limit_is_raised_as_far_as_needed() {
    let gateway = Gateway::start("-S -n 200", 1_000);
    let [soft, hard] = gateway.limits();
    assert_eq!(soft, "1074", "for sessions, handshakes and itself; at most {hard}");
    assert!(!gateway.warns(), "{:?}", gateway.lines);
}

#[test]
fn too_few_for_the_sessions_that_are_configured_is_said() {
    let gateway = Gateway::start("-n 1000", 1_000);
    assert_eq!(gateway.limits(), ["1000", "1000"]);
    assert!(gateway.warns(), "{:?}", gateway.lines);
    let gateway = Gateway::start("-n 1000", 100);
    assert!(!gateway.warns(), "{:?}", gateway.lines);
}
