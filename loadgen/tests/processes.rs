//! Runs over several gateways and processes, and reports made one.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;

use fake_gateway::{Fault, start, url};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{read_dir, read_to_string};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Longest wait for what should come at once.
const SOON: Duration = Duration::from_secs(20);

/// Two gateways with the faults, and a run over both by two processes.
fn over_both(runtime: &Runtime, faults: [Fault; 2], more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickgate-load"));
    command.args(["run", "--processes", "2", "--warmup", "0s", "--discover", "50ms"]).args(more);
    for fault in faults {
        command.args(["--url", &runtime.block_on(async { url(start(fault).await) })]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tickgate-load-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn two_processes_over_two_gateways_make_one_report() {
    let (runtime, folder) = (Runtime::new().unwrap(), folder("two"));
    let path = folder.join("report.json");
    let output = over_both(&runtime, [Fault::None; 2], &["-c", "13", "--for", "1s", "--threads", "2"])
        .args(["--personas", "churning=4@50ms", "--assert", "p99<10s", "--assert", "established==13"])
        .args(["--assert", "unannounced==0", "--report"])
        .arg(&path)
        .output()
        .unwrap();
    let summary = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{summary}{}", text(&output.stderr));
    assert!(summary.contains("assert established==13: 13 ok"), "{summary}");
    assert_eq!(summary.matches("PASSED").count(), 1, "{summary}");

    let report = json(&path);
    assert_eq!(report["sessions"]["planned"], 13);
    assert_eq!((&report["generator"]["processes"], &report["generator"]["threads"]), (&2.into(), &4.into()));
    let runs = report["runs"].as_array().unwrap();
    assert!(runs.len() == 1 && runs[0]["command"].as_array().unwrap().iter().any(|a| a == "--processes"));
    assert!(
        runs[0]["symbols"].as_u64().unwrap() >= 13,
        "one process found them for all: {}",
        runs[0]["symbols"]
    );
    // 13 clients take turns: 7 and 6, and everything is the sum of both.
    let gateways = report["gateways"].as_array().unwrap();
    let established: Vec<_> =
        gateways.iter().map(|g| g["sessions"]["established"].as_u64().unwrap()).collect();
    assert_eq!(established, [7, 6]);
    let sum = |path: &str| gateways.iter().map(|g| g.pointer(path).unwrap().as_u64().unwrap()).sum::<u64>();
    let whole = |path: &str| report.pointer(path).unwrap().as_u64().unwrap();
    for (of_each, of_all) in [
        ("/verification/events", "/verification/all/events"),
        ("/verification/subscribed", "/verification/all/subscribed"),
        ("/measured/events", "/measured/events"),
        ("/latency/count", "/latency/healthy/count"),
    ] {
        assert!(whole(of_all) > 0 && sum(of_each) == whole(of_all), "{of_each}: {report}");
    }
    assert_eq!(
        whole("/latency/all/count"),
        whole("/latency/healthy/count") + whole("/latency/churning/count")
    );
    assert_eq!(whole("/connect/count"), 13);
    assert!(folder.join("report.hgrm").is_file() && folder.join("report.churning.hgrm").is_file());
    // The report carries its histograms: merged with itself everything is twice as much, and nothing slower.
    let twice = folder.join("twice.json");
    let output = Command::new(env!("CARGO_BIN_EXE_tickgate-load"))
        .args([Path::new("merge"), &path, &path, Path::new("--report"), &twice])
        .args(["--assert", "established==26"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let twice = json(&twice);
    assert_eq!(twice["latency"]["healthy"]["count"], 2 * whole("/latency/healthy/count"));
    for quantile in ["p50_ns", "p99_ns", "p99_99_ns", "max_ns"] {
        assert_eq!(
            twice["latency"]["healthy"][quantile], report["latency"]["healthy"][quantile],
            "{quantile}"
        );
    }
    assert_eq!(twice["measured"]["events"], 2 * whole("/measured/events"));
    assert_eq!(twice["runs"].as_array().unwrap().len(), 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_one_gateway_loses_fails_the_whole() {
    let (runtime, folder) = (Runtime::new().unwrap(), folder("lossy"));
    let path = folder.join("report.json");
    let arguments =
        ["-c", "8", "--for", "1s", "--symbols-per-client", "5", "--report", &path.display().to_string()];
    let output = over_both(&runtime, [Fault::None, Fault::Loses], &arguments).output().unwrap();
    let summary = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{summary}{}", text(&output.stderr));
    // Of each of five symbols of the four clients there one event, seen in two processes.
    assert!(summary.contains("FAILED: 20 unannounced losses"), "{summary}");
    let report = json(&path);
    let lost = |gateway: usize| &report["gateways"][gateway]["verification"]["unannounced"];
    assert_eq!((lost(0), lost(1)), (&0.into(), &20.into()));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A run that is far longer than its test, its children's processes, and its progress lines from the one on at which all clients are there.
fn long(runtime: &Runtime) -> (Child, Vec<Pid>, impl Iterator<Item = String> + use<>) {
    let arguments = ["-c", "4", "--for", "1m", "--symbols", "S01"];
    let mut run = over_both(runtime, [Fault::None; 2], &arguments).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("measuring: 4/4 sessions")), "all clients are there");
    let children = children_of(run.id());
    assert_eq!(children.len(), 2, "{children:?}");
    (run, children, lines)
}

fn children_of(parent: u32) -> Vec<Pid> {
    let is_child = |pid: &i32| {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_of = |stat: &str| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok();
        parent_of(&stat) == Some(parent)
    };
    let pids =
        read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(is_child).filter_map(Pid::from_raw).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

/// Waits until the processes are gone, or only wait to be reaped.
fn gone(pids: &[Pid]) {
    let deadline = Instant::now() + SOON;
    let lives = |pid: &Pid| {
        let stat = read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    while pids.iter().any(lives) {
        assert!(Instant::now() < deadline, "still there: {pids:?}");
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupt_ends_all_with_one_report() {
    let runtime = Runtime::new().unwrap();
    let (run, children, _lines) = long(&runtime);
    signal(&run, Signal::INT);
    let output = run.wait_with_output().unwrap();
    let summary = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{summary}");
    assert!(summary.contains("4 planned, 4 established"), "{summary}");
    assert!(summary.contains("PASSED (stopped before its time)"), "{summary}");
    gone(&children);
}

#[test]
fn a_process_that_dies_is_named() {
    let runtime = Runtime::new().unwrap();
    let (run, children, lines) = long(&runtime);
    kill_process(children[1], Signal::KILL).unwrap();
    let said: Vec<String> = lines.collect();
    let output = run.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let pid = children[1].as_raw_nonzero();
    let error = format!("(pid {pid}) ended before its time (signal: 9 (SIGKILL))");
    assert!(said.iter().any(|line| line.contains("process ") && line.contains(&error)), "{said:?}");
    gone(&children);
}

/// Nobody is left to report to: they end by themselves.
#[test]
fn processes_end_with_their_parent() {
    let runtime = Runtime::new().unwrap();
    let (mut run, children, _lines) = long(&runtime);
    signal(&run, Signal::KILL);
    run.wait().unwrap();
    gone(&children);
}

#[test]
fn what_cannot_be_merged_is_said() {
    let folder = folder("merge");
    let [old, text_file, none] = ["old.json", "text.json", "none.json"].map(|name| folder.join(name));
    std::fs::write(&old, r#"{"schema": 1, "plan": {}}"#).unwrap();
    std::fs::write(&text_file, "PASSED").unwrap();
    for (path, fault) in [
        (&old, "old.json: is a report of schema 1, and only 2 can be merged"),
        (&text_file, "text.json: is no report of `tickgate-load run`"),
        (&none, "none.json: cannot be read: No such file"),
    ] {
        let merge =
            Command::new(env!("CARGO_BIN_EXE_tickgate-load")).arg("merge").arg(path).output().unwrap();
        assert_eq!(merge.status.code(), Some(64));
        assert!(text(&merge.stderr).contains(fault), "{}", text(&merge.stderr));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_process_without_a_parent_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_tickgate-load"))
        .arg("process")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no job from a parent process"), "{}", text(&output.stderr));
}
