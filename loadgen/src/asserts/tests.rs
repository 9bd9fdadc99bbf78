use super::*;
use crate::report::tests::sample;

fn judge(text: &str) -> (bool, String) {
    let judged = text.parse::<Assert>().unwrap().judge(&sample());
    (judged.passed, judged.actual)
}

fn fault(text: &str) -> String {
    text.parse::<Assert>().unwrap_err().reason
}

#[test]
fn judges_figures() {
    for (text, passed, actual) in [
        ("p99<5ms", true, "4.00ms"),
        ("p99 <= 4.01ms", true, "4.00ms"),
        ("p99<4ms", false, "4.00ms"),
        ("p99<4000us", false, "4.00ms"),
        ("p50>1999999ns", true, "2.00ms"),
        ("p99.9<0.02s", true, "8.00ms"),
        ("stalled.p99<1s", false, "not measured"),
        ("all.max<=16.01ms", true, "16.0ms"),
        ("events>1_000", true, "1500"),
        ("stalled.events=500", true, "500"),
        ("unannounced==0", true, "0"),
        ("violations!=0", false, "0"),
        ("stalled.gaps>0", true, "2"),
        ("bytes<1KiB", false, "146.5 KiB"),
        ("events_per_s>=50", true, "50"),
        ("events_per_message<3", true, "2"),
        ("closed_early==0", true, "0"),
        ("subscribed==10", true, "10"),
        ("all.heartbeats_late==0", true, "0"),
        ("errors==3", true, "3"),
        ("connect.p99<1s", false, "not measured"),
        ("recovery.max<1s", false, "not measured"),
        ("sessions_lost==0", true, "0"),
        ("not_back==0", true, "0"),
        ("behind==0", true, "0"),
        ("lag.max<100ms", true, "3.00ms"),
        ("gateway.cpu<90%", true, "80%"),
        ("gateway.rss<64MiB", true, "32.0 MiB"),
        ("generator.cpu>0", true, "40%"),
        ("negative==0", true, "0"),
        ("measured>=100", true, "100"),
    ] {
        assert_eq!(judge(text), (passed, actual.to_owned()), "{text}");
    }
}

#[test]
fn what_the_gateway_did_not_tell_fails() {
    let mut report = sample();
    let judged = |report: &Report| "gateway.rss<48MiB".parse::<Assert>().unwrap().judge(report);
    // Of several gateways the one that uses most is judged, and nothing is while one of them does not show.
    report.gateways.push(report.gateways[0].clone());
    report.gateways[1].process.as_mut().unwrap().rss_max_bytes = 64 << 20;
    assert_eq!((judged(&report).passed, judged(&report).actual.as_str()), (false, "64.0 MiB"));
    report.gateways[1].process = None;
    assert_eq!((judged(&report).passed, judged(&report).actual.as_str()), (false, "not measured"));
}

#[test]
fn faults_are_explained() {
    assert_eq!(fault("p99"), "expected FIGURE OPERATOR BOUND, like p99<5ms");
    assert_eq!(fault("p99<>5ms"), "`<>` is no operator: there are < <= > >= == !=");
    assert_eq!(fault("p99<5"), "a time needs a unit: ns, us, ms or s, like 5ms");
    assert_eq!(fault("p99<5min"), "`min` is no unit of this figure, expected 5ms");
    assert_eq!(fault("p99<fast"), "`fast` is no bound: expected a number, like 5ms");
    assert_eq!(fault("events>10ms"), "`ms` is no unit of this figure, expected 1000");
    assert_eq!(fault("events>"), "`` is no bound: expected a number, like 1000");
    assert_eq!(fault("gateway.rss<5ms"), "`ms` is no unit of this figure, expected 64MiB");
    for text in
        ["p98<5ms", "lazy.p99<5ms", "gateway.p99<5ms", "connect.events>1", "stalled.established>1", "<5ms"]
    {
        assert!(fault(text).contains("is no figure of a report"), "{text}: {}", fault(text));
    }
}

#[test]
fn every_known_count_can_be_asserted() {
    let counts = serde_json::to_value(Tally::default()).unwrap();
    let missing: Vec<_> = counts
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| value.is_number() && format!("{name}>0").parse::<Assert>().is_err())
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
