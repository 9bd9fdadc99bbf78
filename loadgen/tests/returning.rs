//! Clients that come back, against stand-ins that share one log: what a report says of gateways that let them go on
//! where they stood, and of such that don't.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;
mod shared_log;

use fake_gateway::url;
use shared_log::{Fault, Gateway};
use std::sync::Arc;
use std::time::Duration;
use tickgate_load::live::LiveView;
use tickgate_load::returning::Resume;
use tickgate_load::{LiveStats, Plan, Report, fleet};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CLIENTS: u64 = 20;

/// A run that goes on until it is ended.
struct Going {
    live: Arc<LiveStats>,
    stop: watch::Sender<bool>,
    run: JoinHandle<Report>,
}

impl Going {
    /// Begins one and waits until everybody is subscribed and has got something.
    async fn begin(gateway: &Gateway, resume: Resume, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan {
            connections: CLIENTS as usize,
            symbols: fake_gateway::symbols(),
            measure_ms: 60_000,
            threads: 2,
            resume,
            until_stopped: true,
            // A machine that is busy with other tests is no concern of these.
            lag_max_ms: 60_000,
            ..Plan::new(url(gateway.address))
        };
        change(&mut plan);
        let live = Arc::new(LiveStats::default());
        let (stop, stopped) = watch::channel(false);
        let run = {
            let (live, runtime) = (Arc::clone(&live), Handle::current());
            let run = move || runtime.block_on(fleet::run(plan, stopped, live)).expect("the run takes place");
            tokio::task::spawn_blocking(run)
        };
        let going = Self { live, stop, run };
        going.until(|view| view.sessions.subscribed >= CLIENTS && view.tally.in_order > 1_000).await;
        going
    }

    async fn until(&self, enough: impl Fn(&LiveView) -> bool) {
        let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let view = self.live.view();
            if enough(&view) {
                return;
            }
            assert!(tokio::time::Instant::now() < give_up, "never enough: {view:?}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Breaks everybody's connection, and waits until all are back and have got something.
    async fn kill(&self, gateway: &Gateway) {
        let before = self.live.view();
        gateway.kill_all();
        self.until_back(&before).await;
    }

    async fn until_back(&self, before: &LiveView) {
        self.until(|view| view.sessions.resumed >= before.sessions.resumed + CLIENTS).await;
        let events = self.live.view().tally.in_order;
        self.until(|view| view.tally.in_order > events + 1_000).await;
    }

    /// Waits until nothing comes any more: when everybody has been told by a heartbeat, twice.
    async fn until_quiet(&self) {
        let mut before = self.live.view().tally;
        loop {
            let heartbeats = before.heartbeats + 3 * CLIENTS;
            self.until(|view| view.tally.heartbeats >= heartbeats).await;
            let now = self.live.view().tally;
            if now.events == before.events {
                return;
            }
            before = now;
        }
    }

    async fn end(self) -> Report {
        self.stop.send_replace(true);
        self.run.await.expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_where_it_stood_misses_nothing() {
    for resume in [Resume::Cursor, Resume::Seq, Resume::Mixed] {
        let gateway = Gateway::start(Fault::None).await;
        let going = Going::begin(&gateway, resume, |plan| plan.feed_ends = true).await;
        going.kill(&gateway).await;
        let before = going.live.view();
        gateway.drain_all();
        going.until_back(&before).await;
        going.kill(&gateway).await;
        gateway.end_feed();
        going.until_quiet().await;
        let report = going.end().await;
        let all = report.tally_of("all");
        assert!(report.passed, "{resume:?}: {}", report.summary());
        assert!(!report.interrupted, "it was to be stopped");
        assert_eq!((all.violations(), all.duplicates, all.unverified, all.gaps), (0, 0, 0, 0), "{resume:?}");
        assert!(all.replayed > 0 && all.replays >= 3 * CLIENTS, "{resume:?}: {all:?}");
        // Only what a cursor stands behind comes again.
        assert_eq!(all.resent > 0, resume != Resume::Seq, "{resume:?}: {all:?}");
        let sessions = &report.sessions;
        assert_eq!((sessions.lost, sessions.resumed, sessions.not_back), (3 * CLIENTS, 3 * CLIENTS, 0));
        assert_eq!((sessions.closed_early, sessions.failed), (0, 0));
        let took = |reason: &str| report.recovery.by_reason[reason].quantiles().count;
        assert_eq!((took("none"), took("1012")), (2 * CLIENTS, CLIENTS));
        let outages = report.recovery.outages();
        assert_eq!(outages.iter().map(|(_, outage)| outage.back).sum::<u64>(), 3 * CLIENTS);
        assert!(!report.ends.is_empty() && report.summary().contains("came back 60 times, 0 not"));
    }
}

/// One event is missing between two sessions, on every pair, and nobody says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_between_two_sessions_is_found() {
    for resume in [Resume::Cursor, Resume::Seq] {
        let gateway = Gateway::start(Fault::Skips).await;
        let going = Going::begin(&gateway, resume, |_| ()).await;
        going.kill(&gateway).await;
        let report = going.end().await;
        let found: u64 = report.recovery.outages().iter().map(|(_, outage)| outage.found.unannounced).sum();
        assert!(report.failures[0].ends_with("unannounced losses"), "{resume:?}: {}", report.summary());
        assert_eq!(found, report.tally_of("all").unannounced, "all of it belongs to the outage");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_behind_a_position_is_a_duplicate() {
    let gateway = Gateway::start(Fault::Repeats).await;
    let going = Going::begin(&gateway, Resume::Seq, |_| ()).await;
    going.kill(&gateway).await;
    let report = going.end().await;
    let all = report.tally_of("all");
    assert!(all.duplicates > 0 && all.resent == 0 && all.unannounced == 0, "{all:?}");
    assert!(
        !report.passed && report.failures[0].ends_with("events that came twice"),
        "{:?}",
        report.failures
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_replayed_is_counted() {
    for resume in [Resume::Cursor, Resume::Seq] {
        let gateway = Gateway::start(Fault::AgesOut).await;
        let going = Going::begin(&gateway, resume, |_| ()).await;
        going.kill(&gateway).await;
        let mut report = going.end().await;
        let all = report.tally_of("all");
        assert!(report.passed, "it was said: {}", report.summary());
        assert!(all.gaps_by_cause["retention"] > 0 && all.errors["replay_aged_out"] > 0, "{all:?}");
        assert_eq!((all.gaps_misfit, all.duplicates, all.replays), (0, 0, 0), "{resume:?}");
        report.assert_all(&["gaps==0".parse().unwrap()]);
        assert!(!report.passed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_never_ends_is_no_return() {
    let gateway = Gateway::start(Fault::Lasts).await;
    let going = Going::begin(&gateway, Resume::Seq, |_| ()).await;
    gateway.kill_all();
    going.until(|view| view.sessions.established >= 2 * CLIENTS && view.tally.replayed > 0).await;
    let report = going.end().await;
    assert_eq!((report.sessions.resumed, report.sessions.not_back), (0, CLIENTS));
    assert_eq!(report.failures, ["20 clients that had not come back and caught up by the end"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_tries_again() {
    let gateway = Gateway::start(Fault::None).await;
    let going = Going::begin(&gateway, Resume::Mixed, |_| ()).await;
    let before = going.live.view();
    gateway.refuse(true);
    gateway.kill_all();
    going.until(|view| view.sessions.retries >= 2 * CLIENTS).await;
    gateway.refuse(false);
    going.until_back(&before).await;
    gateway.refuse(true);
    gateway.kill_all();
    going.until(|view| view.sessions.lost >= 2 * CLIENTS).await;
    let report = going.end().await;
    let sessions = &report.sessions;
    assert_eq!((sessions.resumed, sessions.not_back, sessions.failed), (CLIENTS, CLIENTS, 0));
    assert!(sessions.failed_by_reason["http_503"] >= 2 * CLIENTS, "{sessions:?}");
    assert_eq!(report.failures, ["20 clients that had not come back and caught up by the end"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_that_too_many_resume_comes_again() {
    let gateway = Gateway::start(Fault::Refuses).await;
    let going = Going::begin(&gateway, Resume::Mixed, |_| ()).await;
    going.kill(&gateway).await;
    let report = going.end().await;
    assert!(report.passed, "{}", report.summary());
    assert!(report.sessions.retries >= 100 / 2, "each session asked at most twice: {:?}", report.sessions);
    assert!(report.tally_of("all").errors["rate_limited"] >= 100, "{:?}", report.sessions);
    assert_eq!((report.sessions.lost, report.sessions.resumed), (CLIENTS, CLIENTS));
}

/// Nothing follows it, so no chain shows that it is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_event_that_is_missing_is_found() {
    let gateway = Gateway::start(Fault::Withholds).await;
    let going = Going::begin(&gateway, Resume::Never, |plan| {
        plan.feed_ends = true;
        plan.symbols_per_client = 20;
        plan.channels = "quotes".parse().unwrap();
    })
    .await;
    gateway.end_feed();
    going.until_quiet().await;
    let report = going.end().await;
    assert_eq!(report.ends.behind().0, CLIENTS / 2, "{}", report.summary());
    assert_eq!(report.failures, ["10 pairs of a client that end before those of other clients"]);
}

/// Storms of clients that drop their connections themselves go on as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_go_on_where_they_stood() {
    let gateway = Gateway::start(Fault::None).await;
    let going = Going::begin(&gateway, Resume::Mixed, |plan| {
        plan.personas = "reconnecting=10@300ms,churning=5@20ms".parse().unwrap();
    })
    .await;
    going.until(|view| view.sessions.returns >= 20 && view.sessions.resumed >= 20).await;
    let report = going.end().await;
    assert!(report.passed, "{}", report.summary());
    assert!(report.recovery.by_reason["left"].quantiles().count >= 20);
    assert_eq!((report.tally_of("all").duplicates, report.sessions.lost), (0, 0));
}
