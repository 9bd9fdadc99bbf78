//! `run --metrics` and `replay --metrics`, as Prometheus sees them, their documentation, and records that nobody can read.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_exporter::catalog;
use tickgate_exporter::manual;
use tickgate_protocol::record::RecordDecoder;
use tickgate_sim::metrics::{CATALOG, Metrics};
use tickgate_sim::model::{Model, ModelConfig, Preset};
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{ProducerConfig, Progress, UNREADABLE, produce};

/// Longest wait for what should come at once.
const SOON: Duration = Duration::from_secs(20);

/// A run that goes on until it is dropped, and where it says how it goes.
struct Run {
    child: Child,
    address: String,
    _stderr: BufReader<ChildStderr>,
}

impl Run {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate-sim"))
            .args(args)
            .args(["--metrics", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("tickgate-sim: metrics at http://");
        let address =
            address.and_then(|rest| rest.strip_suffix("/metrics")).unwrap_or_else(|| panic!("{line}"));
        Self { address: address.to_owned(), child, _stderr: stderr }
    }

    /// The page, once `holds` does.
    fn page(&self, what: &str, holds: impl Fn(&BTreeMap<String, f64>) -> bool) -> String {
        let start = Instant::now();
        loop {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, page) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
            if holds(&samples(page)) {
                return page.to_owned();
            }
            assert!(start.elapsed() < SOON, "{what}: {page}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every series, with its labels, and its value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let series =
        page.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    series.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// The lines that introduce what there is.
fn heads(page: &str) -> BTreeSet<&str> {
    page.lines().filter(|line| line.starts_with('#')).collect()
}

fn expected_heads() -> Vec<String> {
    let of = |m: &catalog::Metric| {
        [format!("# HELP {} {}", m.name, m.help), format!("# TYPE {} {}", m.name, m.kind.name())]
    };
    CATALOG.iter().flat_map(of).collect()
}

#[test]
fn names_are_as_they_should_be() {
    assert_eq!(catalog::faults(CATALOG, "tickgate_sim_"), [""; 0]);
}

#[test]
fn a_scrape_is_what_the_catalog_says() {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let brokers = broker.bootstrap();
    let run = Run::start(&[
        "run",
        "--model",
        "constant",
        "--rate",
        "500",
        "--bad-every",
        "10",
        "--brokers",
        &brokers,
    ]);
    let page = run.page("ticks and records that nobody can read", |all| {
        all["tickgate_sim_bad_records_sent_total"] >= 3.0
            && all.contains_key("tickgate_sim_send_late_seconds{q=\"1\"}")
    });
    let expected = expected_heads();
    assert_eq!(heads(&page), expected.iter().map(String::as_str).collect());
    let all = samples(&page);
    for name in all.keys() {
        let (name, label) = name.split_once('{').unwrap_or((name, ""));
        let metric = CATALOG.iter().find(|metric| metric.name == name).unwrap();
        let labels = metric
            .label
            .map(|label| label.values.iter().map(|value| format!("{}=\"{value}\"}}", label.name)).collect());
        assert!(
            labels.unwrap_or_else(|| vec![String::new()]).iter().any(|one| one == label),
            "{name}{{{label}"
        );
    }
    assert_eq!(
        (all["tickgate_sim_ticks_wanted_per_second"], all["tickgate_sim_ticks_failed_total"]),
        (500.0, 0.0)
    );
    assert!(
        all["tickgate_sim_ticks_sent_total"] >= 10.0 * all["tickgate_sim_bad_records_sent_total"],
        "{page}"
    );
    // The constant model can be late, and not early.
    assert!(all["tickgate_sim_send_late_seconds{q=\"0.5\"}"] >= 0.0, "{page}");
}

#[test]
fn what_has_no_rate_says_none() {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let brokers = broker.bootstrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ticks.ndjson");
    let file = file.to_str().unwrap();
    // So many that the replay does not end before it was looked at: its last records are hours later.
    let model =
        ["run", "--model", "constant", "--symbols", "2", "--rate", "1", "--for", "2h", "--output", file];
    assert!(Command::new(env!("CARGO_BIN_EXE_tickgate-sim")).args(model).status().unwrap().success());
    let replay = Run::start(&["replay", file, "--speed", "10", "--brokers", &brokers]);
    let page = replay.page("ticks", |all| all["tickgate_sim_ticks_sent_total"] >= 2.0);
    assert!(
        !page.contains("tickgate_sim_ticks_wanted_per_second")
            && page.contains("tickgate_sim_send_late_seconds{"),
        "{page}"
    );
}

/// As fast as possible nothing is late.
#[test]
fn without_a_schedule_there_is_no_lateness() {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let config = ProducerConfig { speed: Speed::Max, ..ProducerConfig::new(broker.bootstrap(), "ticks") };
    let model = ModelConfig { symbols: 2, rate_per_s: 100.0, seed: 1 };
    let source = Model::new(Preset::Constant, model).unwrap().take(20).map(Ok);
    let progress = Arc::new(Progress::default());
    produce(source, &config, &progress, &AtomicBool::new(false)).unwrap();
    let page = |speed| Metrics::new(Arc::clone(&progress), speed, None).render(Instant::now());
    assert!(page(Speed::Times(1.0)).contains("tickgate_sim_send_late_seconds{"), "it was measured");
    assert!(!page(Speed::Max).contains("tickgate_sim_send_late_seconds"));
}

/// What is sent on purpose is unreadable, stands between the ticks, and is not counted among them.
#[test]
fn bad_records_are_bad_and_counted_apart() {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    let brokers = broker.bootstrap();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_tickgate-sim"))
        .args(["run", "--model", "constant", "--rate", "100", "--for", "300ms", "--bad-every", "7"])
        .args(["--brokers", &brokers, "--report", report.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let (ticks, bad) = (json["records"].as_u64().unwrap(), json["bad_records"].as_u64().unwrap());
    assert_eq!((bad, json["delivered"].as_u64().unwrap()), (ticks / 7, ticks), "{said}");
    assert!(bad > 0 && said.contains(&format!("unreadable {bad} more records, on purpose")), "{said}");
    let stored: i64 = (0..4).map(|partition| broker.high_watermark("ticks", partition).unwrap()).sum();
    assert_eq!(stored as u64, ticks + bad);
    for record in UNREADABLE {
        assert!(
            RecordDecoder::new(1 << 20).ticks(record).map_or(true, |ticks| ticks.iter().all(Result::is_err)),
            "{}",
            String::from_utf8_lossy(record)
        );
    }
}

#[test]
fn an_address_that_is_taken_is_69_and_a_file_needs_none() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = |more: &[&str]| {
        let command = ["run", "--model", "fx", "--for", "1s", "--metrics", &address];
        let output =
            Command::new(env!("CARGO_BIN_EXE_tickgate-sim")).args(command).args(more).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = ended(&[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("cannot serve metrics on {address}")), "{said}");
    assert_eq!(ended(&["--output", "-"]).0, Some(64));
}

/// `TICKGATE_TEST_BLESS=1 cargo test -p tickgate-sim --test metrics` writes the chapter anew after the catalog changed.
#[test]
fn the_documentation_is_what_the_catalog_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics-load.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let expected = manual::with_catalog(&text, "tickgate-sim", CATALOG);
    if std::env::var_os("TICKGATE_TEST_BLESS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    assert_eq!(text, expected, "run the test once with TICKGATE_TEST_BLESS=1");
}
