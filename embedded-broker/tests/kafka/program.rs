//! The program: what it prints, how it ends.

use crate::support::*;
use rdkafka::consumer::Consumer;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickgate-broker"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(args).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Starts it and reads the address it prints.
fn start(args: &[&str]) -> (Child, String) {
    let mut child = command(args).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn it_serves_until_a_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let (child, address) = start(&["--listen", "127.0.0.1:0", "--topic", "ticks:3", "--topic", "other"]);
        let consumer = consumer(&address, &[]);
        let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
        let topics: Vec<_> = metadata.topics().iter().map(|t| (t.name(), t.partitions().len())).collect();
        assert_eq!(topics, [("other", 4), ("ticks", 3)]);
        TestProducer::new(&address, &[]).batch("ticks", 2, 0, 5);
        assert_eq!(end(child, signal), Some(0));
    }
}

#[test]
fn a_busy_port_is_told() {
    let (child, address) = start(&["--listen", "127.0.0.1:0"]);
    let (code, told) = run(&["--listen", &address]);
    assert_eq!(code, Some(1));
    assert!(told.contains(&address) && told.contains("in use"), "{told}");
    end(child, Signal::TERM);
}

#[test]
fn wrong_command_lines_are_refused() {
    for (args, word) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-remote"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--listen", "127.0.0.1:0", "--topic", "a b"], "a b"),
        (&["--listen", "127.0.0.1:0", "--topic", "a:none"], "partitions"),
        (&["--listen", "127.0.0.1:0", "--partition-bytes", "64MB"], "MiB"),
        (&["--listen", "127.0.0.1:0", "--default-partitions", "0"], "default_partitions"),
        (&["--no-such-switch"], "--no-such-switch"),
    ] {
        let (code, told) = run(args);
        assert_eq!(code, Some(64), "{args:?}: {told}");
        assert!(told.contains(word), "{args:?}: {told}");
    }
}

#[test]
fn help_is_no_error() {
    let Output { status, stdout, .. } = command(&["--help"]).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success() && text.contains("--partition-bytes") && text.contains("Examples"), "{text}");
}
