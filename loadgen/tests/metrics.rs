//! `run --metrics`, as Prometheus sees it, and its documentation.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;

use fake_gateway::{Fault, start, url};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use tickgate_exporter::catalog::{self, Kind};
use tickgate_exporter::manual;
use tickgate_load::metrics::CATALOG;
use tokio::runtime::Runtime;

/// Longest wait for what should come at once.
const SOON: Duration = Duration::from_secs(20);

/// A run that goes on until it is dropped, and where it says how it goes.
struct Run {
    child: Child,
    address: String,
    _stderr: BufReader<ChildStderr>,
}

impl Run {
    fn start(runtime: &Runtime, fault: Fault, more: &[&str]) -> Self {
        let url = runtime.block_on(async { url(start(fault).await) });
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickgate-load"))
            .args(["run", "--url", &url, "--metrics", "127.0.0.1:0", "--until-stopped"])
            .args(["--warmup", "0s", "--discover", "50ms"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("tickgate-load: metrics at http://").unwrap_or_else(|| panic!("{line}"));
        let address = address.strip_suffix("/metrics").unwrap().to_owned();
        Self { child, address, _stderr: stderr }
    }

    /// The page, once `holds` does.
    fn page(&self, what: &str, holds: impl Fn(&BTreeMap<String, f64>) -> bool) -> String {
        let start = Instant::now();
        loop {
            let page = scraped(&self.address);
            if holds(&samples(&page)) {
                return page;
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

fn scraped(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
    body.to_owned()
}

/// Every series, with its labels, and its value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let series = page.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// What the page says that there is: name, type, help.
fn families(page: &str) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    let lines: Vec<&str> = page.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("# HELP ")) {
        let (name, help) = pair[0]["# HELP ".len()..].split_once(' ').unwrap();
        let (same, kind) = pair[1].strip_prefix("# TYPE ").unwrap().split_once(' ').unwrap();
        assert_eq!(name, same);
        assert!(all.insert((name.to_owned(), kind.to_owned(), help.to_owned())), "{name} is there twice");
    }
    all
}

#[test]
fn names_are_as_they_should_be() {
    assert_eq!(catalog::faults(CATALOG, "tickgate_load_"), [""; 0]);
}

#[test]
fn a_scrape_is_what_the_catalog_says() {
    let runtime = Runtime::new().unwrap();
    let run = Run::start(&runtime, Fault::None, &["-c", "6", "--personas", "reconnecting=2@200ms"]);
    let page = run.page("clients come, receive and come back", |all| {
        all["tickgate_load_clients_connected"] == 6.0
            && all["tickgate_load_reconnects_total"] >= 2.0
            && all.contains_key("tickgate_load_latency_quantile_seconds{q=\"1\"}")
    });
    let listed = CATALOG.iter().map(|m| (m.name.to_owned(), m.kind.name().to_owned(), m.help.to_owned()));
    assert_eq!(families(&page), listed.collect());

    let all = samples(&page);
    for series in all.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let whole = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        let metric = CATALOG.iter().find(|metric| metric.name == name || Some(metric.name) == whole).unwrap();
        match (metric.kind, metric.label) {
            (Kind::Histogram, _) => assert!(labels.is_empty() || labels.starts_with("le=\""), "{series}"),
            (_, None) => assert_eq!(labels, "", "{series}"),
            (_, Some(label)) => assert!(
                label.values.iter().any(|value| labels == format!("{}=\"{value}\"}}", label.name)),
                "{series}"
            ),
        }
    }
    assert_eq!(all["tickgate_load_clients_wanted"], 6.0);
    assert!(all["tickgate_load_events_received_total"] > 0.0, "{page}");
    assert!(
        all["tickgate_load_bytes_received_total"] > 20.0 * all["tickgate_load_events_received_total"],
        "{page}"
    );
    assert_eq!(all["tickgate_load_events_lost_total"], 0.0);
    assert_eq!(
        all["tickgate_load_latency_seconds_bucket{le=\"+Inf\"}"],
        all["tickgate_load_latency_seconds_count"]
    );
    assert!(all["tickgate_load_latency_seconds_sum"] > 0.0 && all["tickgate_load_behind_seconds"] >= 0.0);
}

#[test]
fn losses_and_events_without_a_time_are_counted() {
    let runtime = Runtime::new().unwrap();
    let run = Run::start(&runtime, Fault::Loses, &["-c", "2"]);
    run.page("the lost event of each pair", |all| all["tickgate_load_events_lost_total"] >= 1.0);
    let run = Run::start(&runtime, Fault::Unstamped, &["-c", "2"]);
    let page = run.page("events that do not say when they were meant", |all| {
        all["tickgate_load_latency_unmeasured_total{reason=\"unstamped\"}"] >= 1.0
    });
    assert_eq!(samples(&page)["tickgate_load_latency_seconds_count"], 0.0);
    assert!(!page.contains("tickgate_load_latency_quantile_seconds"), "of nothing there are none: {page}");
}

/// The parent has no clients of its own: it says the sum of what its processes tell.
#[test]
fn several_processes_are_one_page() {
    let runtime = Runtime::new().unwrap();
    let run = Run::start(&runtime, Fault::None, &["-c", "7", "--processes", "2"]);
    let page = run.page("clients of both processes", |all| {
        all["tickgate_load_clients_connected"] == 7.0 && all["tickgate_load_latency_seconds_count"] > 0.0
    });
    assert_eq!(samples(&page)["tickgate_load_clients_wanted"], 7.0);
}

#[test]
fn an_address_that_is_taken_is_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tickgate-load"))
        .args(["run", "--url", "ws://127.0.0.1:1/v1/stream", "--metrics", &address])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("cannot serve metrics on {address}")), "{said}");
}

/// `TICKGATE_TEST_BLESS=1 cargo test -p tickgate-load --test metrics` writes the chapter anew after the catalog changed.
#[test]
fn the_documentation_is_what_the_catalog_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics-load.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let expected = manual::with_catalog(&text, "tickgate-load", CATALOG);
    if std::env::var_os("TICKGATE_TEST_BLESS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    assert_eq!(text, expected, "run the test once with TICKGATE_TEST_BLESS=1");
}
