//! The program as it is called: output and exit codes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::{Command, Output};
use tickgate_broker::{ApiKey, Broker, BrokerConfig, ErrorCode};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickgate-sim")).args(args).output().unwrap()
}

#[track_caller]
fn check(args: &[&str], code: i32, says: &str) -> String {
    let output = sim(args);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let all = format!("{stdout}{}", String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
    assert!(all.contains(says), "{args:?}: {all}");
    stdout
}

#[test]
fn wrong_flags_are_64_and_help_is_0() {
    check(&["run"], 64, "--model");
    check(&["run", "--model", "bonds"], 64, "us-equities");
    check(&["run", "--model", "fx", "--symbols", "0"], 64, "0 symbols");
    check(&["replay", "x", "--speed", "0"], 64, "max");
    check(&["stats"], 64, "--model");
    check(&["--help"], 0, "Exit codes");
    check(&["--help"], 0, "74  --output or --report");
    check(&["run", "--help"], 0, "--linger-ms");
}

#[test]
fn a_broker_that_is_not_there_is_69() {
    // Port 1 is reserved and not served on any machine that runs tests.
    let args = ["run", "--model", "fx", "--brokers", "127.0.0.1:1", "--connect-timeout", "300ms"];
    check(&args, 69, "no broker answers at 127.0.0.1:1");
}

#[test]
fn a_run_and_a_replay_report_what_they_did() {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let brokers = broker.bootstrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ticks.ndjson");
    let file = file.to_str().unwrap();
    let report = folder.path().join("report.json");
    let model = ["run", "--model", "us-equities", "--symbols", "20", "--rate", "500", "--for", "300ms"];
    check(&[&model[..], &["--output", file]].concat(), 0, "");
    check(
        &[&model[..], &["--brokers", &brokers, "--report", report.to_str().unwrap()]].concat(),
        0,
        "0 errors",
    );
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(json["records"], json["delivered"]);
    let lines = std::fs::read_to_string(file).unwrap().lines().count();
    let sent: i64 = (0..4).map(|partition| broker.high_watermark("ticks", partition).unwrap()).sum();
    assert_eq!(sent, lines as i64, "a run sends what it writes");

    check(&["replay", file, "--speed", "max", "--brokers", &brokers, "--topic", "again"], 0, "0 errors");
    let sent: i64 = (0..4).map(|partition| broker.high_watermark("again", partition).unwrap()).sum();
    assert_eq!(sent, lines as i64);
}

#[test]
fn a_file_that_cannot_be_read_is_65_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.ndjson");
    std::fs::write(&file, "{\"type\":\"bar\",\"symbol\":\"A\"}\n").unwrap();
    let path = file.to_str().unwrap();
    check(&["stats", path], 65, "bad.ndjson:1: expected");
    check(&["stats", path], 65, r#"found `{"type":"bar","symbol":"A"}`"#);
    std::fs::write(&file, "{\"type\":\"trade\",\"symbol\":\"A\",\"pri\n").unwrap();
    check(&["stats", path], 65, "but the line breaks off; found");
    std::fs::write(&file, "{\"type\":trade\x1b}\n").unwrap();
    check(&["stats", path], 65, "but character 11 is out of place; found `{\"type\":trade\\u{1b}}`");
    check(&["stats", "no-such-file"], 66, "no-such-file");
}

#[test]
fn stats_compare_a_model_with_its_recording() {
    check(&["stats", "--model", "crypto-perp"], 0, "PASS: within 2x");
    check(&["stats", "--model", "crypto-perp", "--rate", "10"], 0, "not compared");
    check(&["stats", "--model", "constant"], 0, "nothing real");
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let args =
        ["run", "--model", "futures-open", "--symbols", "8", "--rate", "500", "--for", "2s", "--output", "-"];
    let [one, two] = [sim(&args), sim(&args)].map(|output| output.stdout);
    assert!(!one.is_empty() && one == two);
    let other = sim(&[&args[..], &["--seed", "2"]].concat()).stdout;
    assert_ne!(one, other);
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
}

/// Waits, for a bounded time, while a run goes on.
#[cfg(unix)]
fn until_sent(child: &mut std::process::Child, is_sent: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_sent() {
        assert!(start.elapsed().as_secs() < 30 && child.try_wait().unwrap().is_none(), "nothing is sent");
        std::thread::yield_now();
    }
}

/// A run whose broker has gone says what it waits for; who does not want to wait interrupts it once more.
#[cfg(unix)]
#[test]
fn a_second_interrupt_gives_up_what_is_not_delivered() {
    use std::io::{BufRead, BufReader};
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate-sim"))
        .args(["run", "--model", "constant", "--rate", "1000", "--brokers", &broker.bootstrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let sent = || (0..4).map(|partition| broker.high_watermark("ticks", partition).unwrap_or(0)).sum::<i64>();
    until_sent(&mut child, || sent() >= 10);
    // From now on everything is to be tried again, and something was.
    broker.faults().fail_next(ApiKey::Produce, ErrorCode::NotEnoughReplicas, usize::MAX);
    until_sent(&mut child, || broker.faults().failures_left(ApiKey::Produce) < usize::MAX);
    interrupt(&child);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("waiting up to 10s for ") && line.contains("Ctrl-C again to give up"), "{line}");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Ctrl-C is no failure: the run ends with its summary, everything delivered.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_run_cleanly() {
    use std::io::Read;
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate-sim"))
        .args(["run", "--model", "constant", "--rate", "1000", "--brokers", &broker.bootstrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let sent = || (0..4).map(|partition| broker.high_watermark("ticks", partition).unwrap_or(0)).sum::<i64>();
    until_sent(&mut child, || sent() >= 10);
    interrupt(&child);
    let status = child.wait().unwrap();
    let mut output = String::new();
    child.stdout.unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("stopped after") && output.contains("0 errors"), "{output}");
}
