//! The program itself: exit statuses, files, and what a shell sees.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;

use fake_gateway::{Fault, start, url};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

fn load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickgate-load"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program beside a stand-in for the gateway.
fn beside(fault: Fault, arguments: impl FnOnce(&str) -> Vec<String> + Send + 'static) -> Output {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url = url(start(fault).await);
        let arguments = arguments(&url);
        let run = move || load(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
        tokio::task::spawn_blocking(run).await.unwrap()
    })
}

fn run_arguments(url: &str, more: &[&str]) -> Vec<String> {
    let start = ["run", "--url", url, "-c", "5", "--for", "300ms", "--warmup", "0s", "--discover", "50ms"];
    start.iter().chain(more).map(|s| (*s).to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_run_leaves_a_report_and_percentiles() {
    let folder = std::env::temp_dir().join(format!("tickgate-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let report = folder.join("report.json");
    let path = report.display().to_string();
    let output = beside(Fault::None, move |url| {
        run_arguments(url, &["--report", &path, "--assert", "unannounced==0"])
    });
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("PASSED"), "{}", text(&output.stdout));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&json["schema"], &json["passed"]), (&2.into(), &true.into()));
    assert!(json["runs"][0]["command"].as_array().unwrap().iter().any(|a| a == "--assert"));
    let percentiles = std::fs::read_to_string(report.with_extension("hgrm")).unwrap();
    assert!(percentiles.contains("Percentile") && percentiles.contains("#[Max"), "{percentiles}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_failed_run_says_why_and_exits_1() {
    let output = beside(Fault::Loses, |url| run_arguments(url, &[]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("unannounced losses"), "{}", text(&output.stdout));
    let output = beside(Fault::None, |url| run_arguments(url, &["--assert", "p99<1ns"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("assertion failed: p99<1ns is "), "{}", text(&output.stdout));
}

/// Symbols that nobody knows: the stand-in knows all, but says nothing of a pattern without any.
#[test]
fn a_run_without_events_fails() {
    let silent = ["--symbols", "ZZZ*"];
    let output = beside(Fault::None, move |url| run_arguments(url, &silent));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("FAILED: no event came while measuring"),
        "{}",
        text(&output.stdout)
    );
    let output =
        beside(Fault::None, move |url| run_arguments(url, &[&silent[..], &["--allow-empty"]].concat()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn usage_errors_exit_64() {
    for (arguments, message) in [
        (vec!["run"], "--url"),
        (vec!["fly"], "unrecognized subcommand"),
        (vec!["run", "--url", "http://x"], "the scheme must be ws or wss"),
        (vec!["run", "--url", "x", "--assert", "p99<5"], "a time needs a unit"),
        (vec!["run", "--url", "x", "--personas", "lazy=1%"], "no such persona"),
        (
            vec!["run", "--url", "x", "--connections", "0", "--depth", "3"],
            "at least one connection; the depth",
        ),
        (vec!["run", "--url", "x", "--symbols-file", "/no/such/file"], "cannot read /no/such/file"),
        (vec!["watch", "--url", "x", "--symbols", "A*B"], "neither a symbol nor a pattern"),
        (vec!["watch", "--url", "x", "--symbols", "A", "--channels", "bars"], "there are trades"),
    ] {
        let output = load(&arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_unreachable_gateway_exits_69() {
    let nobody = nobody().to_string();
    for arguments in [
        vec!["run", "--url", &nobody, "--for", "10ms"],
        vec!["run", "--url", &nobody, "--for", "10ms", "--warmup", "0s", "--symbols", "A", "-c", "2"],
        vec!["watch", "--url", &nobody, "--symbols", "A", "--once"],
    ] {
        for patience in ["0s", "50ms"] {
            let output = load(&arguments).args(["--connect-timeout", patience]).output().unwrap();
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(69), "{arguments:?}: {stderr}");
            assert!(stderr.contains("cannot connect to"), "{stderr}");
            assert_eq!(stderr.contains("waiting up to 50ms for the gateway"), patience != "0s", "{stderr}");
        }
    }
}

/// Everything started at once, as in a script: the gateway comes when the generator waits for it already.
#[test]
fn a_gateway_that_comes_later_is_waited_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for command in [
        &["run", "-c", "2", "--for", "100ms", "--warmup", "0s", "--symbols", "S01"][..],
        &["watch", "--symbols", "S01", "--for", "1ms"],
    ] {
        // Reserves a port at which nobody listens yet.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = url(socket.local_addr().unwrap());
        let mut child = load(command)
            .args(["--url", &url, "--connect-timeout", "1m"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io_lines(child.stderr.take().unwrap());
        let line = lines.next().unwrap();
        assert!(line.contains("refused") && line.ends_with("waiting up to 1m for the gateway"), "{line}");
        runtime.block_on(async { fake_gateway::serve(socket.listen(64).unwrap(), Fault::None) });
        let rest: Vec<String> = lines.collect();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}{rest:?}", text(&output.stdout));
    }
}

#[test]
fn a_run_that_cannot_take_place_leaves_no_report() {
    let folder = std::env::temp_dir().join(format!("tickgate-load-none-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (nobody, report) = (nobody().to_string(), folder.join("out.json").display().to_string());
    let arguments = ["run", "--url", &nobody, "--connect-timeout", "0s", "--report"];
    let output = load(&arguments).arg(&report).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "not even an empty one");
    let output = load(&arguments).arg(folder.join("missing/out.json")).output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn help_is_a_manual() {
    let output = load(&["run", "--help"]).output().unwrap();
    let help = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in ["PHASES", "PERSONAS", "FIGURES TO ASSERT", "EXAMPLES", "--symbols-per-client"] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
}

/// `watch … | head`: the reader goes away, and that is no error.
#[test]
fn a_pipe_that_closes_is_a_quiet_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = runtime.block_on(async { url(start(Fault::None).await) });
    let mut child = load(&["watch", "--url", &url, "--symbols", "*"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn an_interrupt_ends_with_the_report_of_what_was_measured() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = runtime.block_on(async { url(start(Fault::None).await) });
    let arguments = ["run", "--url", &url, "-c", "2", "--for", "1h", "--warmup", "0s", "--symbols", "S01"];
    let mut child = load(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first progress line says that the program is up and listens to signals.
    let mut lines = io_lines(child.stderr.take().unwrap());
    assert!(lines.next().unwrap().contains("sessions"), "a progress line");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let summary = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{summary}");
    assert!(summary.contains("PASSED (stopped before its time)"), "{summary}");
}

fn io_lines(stderr: std::process::ChildStderr) -> impl Iterator<Item = String> {
    use std::io::BufRead as _;
    std::io::BufReader::new(stderr).lines().map_while(Result::ok)
}
