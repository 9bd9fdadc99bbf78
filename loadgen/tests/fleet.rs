//! Whole runs against a stand-in for the gateway: what the report says of a good gateway and of bad ones.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;

use fake_gateway::{Fault, start, url};
use std::sync::Arc;
use std::time::Duration;
use tickgate_load::fleet::{self, FleetError};
use tickgate_load::live::LiveView;
use tickgate_load::{LiveStats, Plan, Report};

/// Runs `plan` until what was seen is `enough`; the bound is only there so that a failure ends.
async fn run_until(plan: Plan, enough: impl Fn(&LiveView) -> bool) -> Report {
    let live = Arc::new(LiveStats::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = Box::pin(fleet::run(plan, stopped, Arc::clone(&live)));
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        tokio::select! {
            report = &mut running => return report.expect("the run takes place"),
            _ = look.tick() => {
                let view = live.view();
                if enough(&view) {
                    stop.send_replace(true);
                }
                assert!(tokio::time::Instant::now() < give_up, "never enough: {view:?}");
            }
        }
    }
}

fn plan(address: std::net::SocketAddr) -> Plan {
    Plan { connections: 20, measure_ms: 60_000, discover_ms: 50, threads: 2, ..Plan::new(url(address)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_gateway_passes() {
    let address = start(Fault::None).await;
    let mut report = run_until(plan(address), |view| view.latency.count > 5_000).await;
    assert!(report.passed, "{}", report.summary());
    assert_eq!(report.runs[0].symbols, fake_gateway::SYMBOLS);
    let all = report.tally_of("all");
    assert_eq!((report.sessions.established, report.sessions.subscribed), (20, 20));
    assert_eq!((all.subscribed, all.violations(), all.duplicates, all.unverified), (200, 0, 0, 0));
    assert!(all.heartbeats > 0 && all.snapshots > 0 && all.parsed == 0, "{all:?}");
    let latency = report.latency_of("healthy");
    assert!(latency.p50_ns > 0 && latency.max_ns >= latency.p99_ns && latency.unstamped == 0, "{latency:?}");
    let gateway = &report.gateways[0];
    assert!(gateway.process.is_some_and(|g| g.in_process && g.rss_max_bytes > 0));
    assert_eq!((&gateway.verification, &gateway.sessions), (&all, &report.sessions));
    assert_eq!((gateway.latency.quantiles(), gateway.measured), (latency, report.measured));
    assert!(report.measured.events >= 5_000 && report.measured.events_per_message > 1.0);

    // The same document, read back.
    let json = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&json).unwrap();
    assert_eq!((again.schema, again.runs, again.sessions), (2, report.runs.clone(), report.sessions.clone()));
    assert_eq!((again.latency, again.verification), (report.latency.clone(), report.verification.clone()));

    report.assert_all(&["events>1000", "p99<1ns", "unannounced==0"].map(|a| a.parse().unwrap()));
    assert_eq!(report.asserts.iter().map(|a| a.passed).collect::<Vec<_>>(), [true, false, true]);
    assert!(!report.passed && report.failures[0].starts_with("assertion failed: p99<1ns is "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_persona_is_verified() {
    let address = start(Fault::None).await;
    let plan = Plan {
        symbols: (0..20).map(|n| format!("S{n:02}")).collect(),
        personas: "stalled=2,slow=2@200000,churning=4@20ms,reconnecting=4@300ms".parse().unwrap(),
        slow_recv_buffer_bytes: 4 << 10,
        drain_ms: 1_000,
        ..plan(address)
    };
    // The slow have been told of gaps by then, so the stalled are further behind than sockets hold as well.
    let report = run_until(plan, |view| {
        view.sessions.returns >= 8
            && view.sessions.established >= 28
            && view.tally.events > 30_000
            && view.tally.gap_events > 0
    })
    .await;
    assert!(report.passed, "{}", report.summary());
    let churned = report.tally_of("churning");
    assert!(churned.subscribed > 4 * 10, "exchanges were acknowledged: {churned:?}");
    assert_eq!(report.tally_of("stalled").violations(), 0);
    for persona in ["stalled", "slow"] {
        assert!(report.tally_of(persona).gap_events > 0, "{persona} was told of gaps:\n{}", report.summary());
    }
    assert_eq!(report.tally_of("healthy").gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unannounced_loss_fails() {
    let address = start(Fault::Loses).await;
    let report = run_until(plan(address), |view| view.tally.unannounced >= 200).await;
    assert!(!report.passed);
    assert_eq!(report.tally_of("all").unannounced, 200, "one of every pair");
    assert_eq!(report.failures, ["200 unannounced losses"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_session_cut_off_fails() {
    let address = start(Fault::ThrowsOut).await;
    let report = run_until(plan_with_symbols(address), |view| view.sessions.closed_early == 20).await;
    assert_eq!(report.failures, ["20 sessions closed that should have lasted"]);
    assert_eq!(report.sessions.closes_by_code["4490"], 20);
    assert_eq!(report.tally_of("all").errors["slow_consumer"], 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_session_cut_off_passes() {
    let address = start(Fault::CutsOff).await;
    let plan = Plan {
        personas: "stalled=20".parse().unwrap(),
        connections: 21,
        slow_recv_buffer_bytes: 4 << 10,
        drain_ms: 500,
        ..plan_with_symbols(address)
    };
    let report = run_until(plan, |view| view.tally.events > 10_000).await;
    assert!(report.passed, "{}", report.summary());
    assert_eq!(report.sessions.closed_early, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_without_a_time_are_not_measured() {
    let address = start(Fault::Unstamped).await;
    let report =
        run_until(plan(address), |view| view.tally.in_order > 1_000 && view.latency.unstamped > 0).await;
    let latency = report.latency_of("healthy");
    assert!(report.passed && latency.count == 0 && latency.unstamped > 0, "{}", report.summary());
    let judged = "p99<1s".parse::<tickgate_load::asserts::Assert>().unwrap().judge(&report);
    assert_eq!((judged.passed, judged.actual.as_str()), (false, "not measured"));
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let plan = Plan { measure_ms: 10, ..plan_with_symbols(address) };
    let error = fleet::run(plan, stopped.clone(), Arc::default()).await.unwrap_err();
    assert!(matches!(error, FleetError::Unreachable(20, _)), "{error}");

    let refusing = start(Fault::Refuses).await;
    let plan = Plan { measure_ms: 10, ..plan_with_symbols(refusing) };
    let error = fleet::run(plan, stopped, Arc::default()).await.unwrap_err().to_string();
    assert!(error.contains("refused with HTTP 503 (retry after 7 s): overloaded"), "{error}");
}

fn plan_with_symbols(address: std::net::SocketAddr) -> Plan {
    Plan { symbols: (0..20).map(|n| format!("S{n:02}")).collect(), ..plan(address) }
}
