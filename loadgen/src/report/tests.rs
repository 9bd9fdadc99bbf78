use super::*;
use crate::gateway_process::Spent;

/// A report with round figures.
pub(crate) fn sample() -> Report {
    let mut latencies = Latencies::default();
    // 50 of 2 ms, 48 of 3 ms, one each of 4 and 8 ms; `all` has 100 of 2 ms and one of 16 ms more.
    for (count, ms) in [(50, 2), (48, 3), (1, 4), (1, 8)] {
        (0..count).for_each(|_| latencies.record_ns(ms * 1_000_000));
    }
    let mut all = latencies.clone();
    (0..100).for_each(|_| all.record_ns(2_000_000));
    all.record_ns(16_000_000);
    let mut lag = Latencies::default();
    (0..200).for_each(|_| lag.record_ns(1_000_000));
    lag.record_ns(3_000_000);
    let tally = |events: u64, gaps: u64| Tally {
        events,
        gaps,
        messages: events / 2,
        bytes: events * 100,
        errors: BTreeMap::from([("rate_limited".to_owned(), gaps)]),
        ..Tally::default()
    };
    let (mut sum, stalled) = (tally(1_000, 1), tally(500, 2));
    let by_persona = [("healthy".to_owned(), sum.clone()), ("stalled".to_owned(), stalled.clone())];
    sum.add(&stalled);
    let verification = by_persona.into_iter().chain([("all".to_owned(), sum.clone())]).collect();
    let sessions = Sessions { planned: 10, established: 10, subscribed: 10, open: 10, ..Sessions::default() };
    let measured = Measured::between(&Tally::default(), &tally(1_000, 0), 1_381_150_805_000_000_000, 20.0);
    let plan = Plan::new("ws://127.0.0.1:9000/v1/stream");
    let gateway = AtGateway {
        url: plan.urls[0].clone(),
        sessions: sessions.clone(),
        measured,
        latency: latencies.clone(),
        verification: sum,
        process: Some(Spent {
            pid: 1,
            in_process: false,
            cpu_s: 16.0,
            cpu_percent: 80.0,
            rss_max_bytes: 32 << 20,
            threads: 4,
        }),
    };
    let run = Run {
        tool: "tickgate-load 0".to_owned(),
        command: vec!["tickgate-load".to_owned()],
        started: "2013-10-07T13:00:00.000Z".to_owned(),
        ended: "2013-10-07T13:00:30.000Z".to_owned(),
        machine: Machine::default(),
        plan,
        symbols: 20,
    };
    let mut report = Report {
        schema: SCHEMA,
        runs: vec![run],
        interrupted: false,
        sessions,
        connect: Latencies::default(),
        measured,
        latency: BTreeMap::from([("healthy".to_owned(), latencies), ("all".to_owned(), all)]),
        verification,
        recovery: Recovery::default(),
        ends: Ends::default(),
        generator: Generator {
            processes: 1,
            threads: 1,
            cpu_s: 8.0,
            cpu_percent: 40.0,
            rss_max_bytes: 16 << 20,
            lag,
            late: false,
        },
        gateways: vec![gateway],
        asserts: Vec::new(),
        warnings: Vec::new(),
        failures: Vec::new(),
        passed: false,
    };
    report.judge();
    report
}

fn only(latency_ns: u64) -> Latencies {
    let mut latencies = Latencies::default();
    latencies.record_ns(latency_ns);
    latencies
}

/// Whoever reads reports relies on these names; a change needs another `schema`.
#[test]
fn the_schema_is_kept() {
    let json = serde_json::to_value(sample()).unwrap();
    let keys =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(json["schema"], 2);
    assert_eq!(
        keys(&json).join(" "),
        "asserts connect ends failures gateways generator interrupted latency measured passed recovery runs schema \
         sessions verification warnings"
    );
    assert_eq!(keys(&json["runs"][0]).join(" "), "command ended machine plan started symbols tool");
    assert_eq!(
        keys(&json["latency"]["healthy"]).join(" "),
        "beyond_1h count histogram max_ns mean_ns min_ns negative p50_ns p90_ns p99_99_ns p99_9_ns p99_ns unstamped"
    );
    assert_eq!(
        keys(&json["measured"]).join(" "),
        "began_ns bytes bytes_per_s events events_per_message events_per_s messages messages_per_s seconds"
    );
    assert_eq!(
        keys(&json["sessions"]).join(" "),
        "closed_early closes_by_code cut_off established failed failed_by_reason lost not_back open planned resumed \
         retries returns samples subscribed unread"
    );
    assert_eq!(keys(&json["recovery"]).join(" "), "by_reason by_second");
    assert_eq!(keys(&json["runs"][0]["machine"]).join(" "), "cores kernel memory_bytes model");
    let gateway = &json["gateways"][0];
    assert_eq!(keys(gateway).join(" "), "latency measured process sessions url verification");
    assert_eq!(keys(&gateway["process"]).join(" "), "cpu_percent cpu_s in_process pid rss_max_bytes threads");
    assert_eq!(
        keys(&json["generator"]).join(" "),
        "cpu_percent cpu_s lag late processes rss_max_bytes threads"
    );
    assert_eq!(keys(&json["verification"]).join(" "), "all healthy stalled");
}

#[test]
fn each_failure_has_its_reason() {
    assert!(sample().passed, "{:?}", sample().failures);
    type Break = fn(&mut Report);
    let all =
        |report: &mut Report, change: fn(&mut Tally)| change(report.verification.get_mut("all").unwrap());
    let cases: [(&str, Break); 13] = [
        (NOTHING_CAME, |r| r.measured.events = 0),
        ("1 unannounced losses", |r| r.verification.get_mut("all").unwrap().unannounced = 1),
        ("2 gaps that do not begin where the last event ended", |r| {
            r.verification.get_mut("all").unwrap().gaps_misfit = 2;
        }),
        ("1 events without an acknowledged subscription", |r| {
            r.verification.get_mut("all").unwrap().unasked = 1;
        }),
        ("1 messages that cannot be read", |r| r.verification.get_mut("all").unwrap().unreadable = 1),
        ("4 sessions closed that should have lasted", |r| r.sessions.closed_early = 4),
        ("1 connections that could not be opened", |r| (r.sessions.established, r.sessions.failed) = (9, 1)),
        ("2 connections without a session by the end", |r| r.sessions.established = 8),
        ("the generator itself was 2.00s late, at most 500ms is trusted", |r| {
            r.generator.lag.record_ns(2_000_000_000);
        }),
        ("3 refused subscriptions", |r| {
            r.verification.get_mut("all").unwrap().refused.insert("unknown_symbol".to_owned(), 3);
        }),
        ("2 clients that had not come back and caught up by the end", |r| r.sessions.not_back = 2),
        ("1 pairs of a client that end before those of other clients", |r| {
            for offset in [4, 5] {
                let last = tickgate_protocol::Position { epoch: 1, partition: 0, offset };
                r.ends.stands(tickgate_protocol::Channel::Trades, "A", last);
            }
        }),
        ("3 events that came twice", |r| {
            r.runs[0].plan.resume = crate::returning::Resume::Seq;
            r.verification.get_mut("all").unwrap().duplicates = 3;
        }),
    ];
    for (reason, change) in cases {
        let mut report = sample();
        change(&mut report);
        report.judge();
        assert_eq!((report.passed, report.failures), (false, vec![reason.to_owned()]));
    }
    // Duplicates are discarded by the client's rule, announced gaps are the policy at work: neither fails a run.
    let mut report = sample();
    all(&mut report, |tally| (tally.duplicates, tally.gap_events) = (5, 5));
    report.judge();
    assert!(report.passed);
}

#[test]
fn a_run_without_events_may_be_meant() {
    let mut report = sample();
    (report.measured.events, report.runs[0].plan.allow_empty) = (0, true);
    report.judge();
    assert!(report.passed, "{:?}", report.failures);
    // Who stops a run early did not wait for events.
    (report.interrupted, report.runs[0].plan.allow_empty) = (true, false);
    report.judge();
    assert!(report.passed, "{:?}", report.failures);
}

/// The sample's latency has a p99 of 4 ms.
#[test]
fn a_late_generator_is_told_from_a_late_gateway() {
    let judged = |lag_p99_ns, asserts: &[&str]| {
        let mut report = sample();
        report.generator.lag = only(lag_p99_ns);
        report.judge();
        report.assert_all(&asserts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        report
    };
    let late = judged(2_500_000, &["p99<3ms", "unannounced==1", "p50<1s"]);
    let sentence = "the generator was late by itself (lag p99 2.50ms): latencies above are partly its own; use fewer \
                    connections, more threads, more processes or another machine";
    assert_eq!((late.generator.late, &late.warnings[..]), (true, &[sentence.to_owned()][..]));
    assert!(late.summary().contains(sentence), "{}", late.summary());
    assert_eq!(
        late.failures,
        [
            "assertion failed: p99<3ms is 4.00ms (the generator was late by itself: lag p99 2.50ms)",
            "assertion failed: unannounced==1 is 0"
        ]
    );
    // Below half of the p99 it is told only to whom a bound is that low; what timers are off by, to nobody.
    for (lag_p99_ns, assert, is_late) in [
        (1_900_000, "p99<1ms", false),
        (2_100_000, "unannounced==0", true),
        (1_990_000, "p99<100ms", false),
        (20_000_000, "lag.p99<1ms", true),
    ] {
        assert_eq!(judged(lag_p99_ns, &[assert]).generator.late, is_late, "{lag_p99_ns} {assert}");
    }
    let mut slow = sample();
    slow.latency.insert("all".to_owned(), only(80_000_000));
    slow.generator.lag = only(30_000_000);
    slow.judge();
    assert!(slow.warnings.is_empty() && !slow.generator.late);
    slow.assert_all(&["p99<20ms".parse().unwrap()]);
    assert!(slow.generator.late && slow.passed, "{:?}", slow.failures);
}

#[test]
fn the_summary_tells_what_matters() {
    let summary = sample().summary();
    for part in [
        "10 planned, 10 established",
        "p99.9",
        "4.00ms",
        "gateway (pid 1): 80% of a core, 32.0 MiB",
        "PASSED",
    ] {
        assert!(summary.contains(part), "{part} is missing in\n{summary}");
    }
}

#[test]
fn several_gateways_have_a_line_each() {
    let mut report = sample();
    report.gateways.push(AtGateway {
        url: "ws://b/v1/stream".to_owned(),
        latency: Latencies::default(),
        process: None,
        ..report.gateways[0].clone()
    });
    let summary = report.summary();
    for part in [
        "gateway                       sessions  events/s       p50       p99      lost      gaps    cpu   resident\n",
        "ws://127.0.0.1:9000/v1/stream       10        50    2.00ms    4.00ms         0         3    80%   32.0 MiB\n",
        "ws://b/v1/stream                    10        50         -         -         0         3      -          -\n",
    ] {
        assert!(summary.contains(part), "{part} is missing in\n{summary}");
    }
}

#[test]
fn speaks_to_people() {
    assert_eq!([850.0, 12_340.0, 4_560_000.0].map(rate), ["850", "12.3k", "4.56M"]);
    assert_eq!([850.0, 2048.0, 3e7].map(bytes), ["850 B", "2.0 KiB", "28.6 MiB"]);
}
