use super::*;

const HELLO: &str = r#"{"op":"hello","protocol":1,"session":"s","now_ns":"0","heartbeat_ms":1000,"auth":"none","limits":{"subscriptions":9,"requests_per_s":9,"message_bytes":9}}"#;
const ACK: &str = r#"{"op":"ack","id":1,"ok":true,"results":[{"channel":"trades","symbol":"A","ok":true},{"channel":"quotes","symbol":"B*","ok":true}]}"#;

fn trade(offset: u64, prev: Option<u64>) -> String {
    let prev = prev.map(|p| format!(r#","prev":"1:0:{p}""#)).unwrap_or_default();
    format!(r#"{{"type":"trade","symbol":"A","price":"1","size":"1","seq":"1:0:{offset}"{prev}}}"#)
}

fn quote(symbol: &str, offset: u64, tail: &str) -> String {
    format!(r#"{{"type":"quote","symbol":"{symbol}","seq":"1:0:{offset}"{tail}}}"#)
}

fn gap(after: u64, upto: u64) -> String {
    format!(
        r#"{{"type":"gap","channel":"trades","symbol":"A","after":"1:0:{after}","upto":"1:0:{upto}","count":2,"cause":"slow_consumer"}}"#
    )
}

fn heartbeat(now_ms: i64, positions: &[Position]) -> (i64, String) {
    let cursor = cursor::encode(positions, &cursor::CursorKey::new(b"no key"));
    let control = Control::Heartbeat { now_ns: 0, cursor, queued_bytes: 0, delay_ms: 0, feeds: Vec::new() };
    (now_ms * 1_000_000, control.to_json())
}

fn at(offset: u64) -> Position {
    Position { epoch: 1, partition: 0, offset }
}

/// Frames of events after a hello and an ack; `{…}` are control messages, anything else becomes a data frame.
fn verify<S: AsRef<str>>(frames: &[S]) -> Tally {
    let mut transcript = Transcript::default();
    for text in [HELLO, ACK].into_iter().chain(frames.iter().map(AsRef::as_ref)) {
        let is_control = text.starts_with("{\"op\"");
        transcript.push(1_000_000, &if is_control { text.to_owned() } else { format!("[{text}]") });
    }
    transcript.verify(&[9])
}

#[test]
fn a_faultless_session() {
    let tally = verify(&[
        format!("{},{}", trade(5, Some(3)), trade(6, Some(5))),
        // Two trades of one record, with a quote of the same record between them.
        format!("{},{},{}", trade(7, Some(6)), quote("B1", 7, ""), trade(7, Some(6))),
        gap(7, 9),
        trade(12, Some(9)),
        quote("B2", 3, r#","snapshot":true"#),
        quote("B2", 9, r#","prev":"1:0:3","merged":4"#),
    ]);
    assert_eq!(tally.violations(), 0, "{:?}", tally.samples);
    assert_eq!((tally.duplicates, tally.unverified), (0, 0));
    assert_eq!((tally.events, tally.first, tally.in_order, tally.snapshots), (8, 2, 5, 1));
    assert_eq!((tally.gaps, tally.gap_events, tally.gaps_by_cause["slow_consumer"]), (1, 2, 1));
    assert_eq!((tally.merged, tally.conflated), (1, 3));
    assert_eq!((tally.subscribed, tally.messages), (2, 8));
    assert_eq!(
        tally.by_channel.iter().map(|(k, v)| (k.as_str(), *v)).collect::<Vec<_>>(),
        [("quotes", 3), ("trades", 5)]
    );
}

/// Every kind of fault, alone, is found and counted where it belongs.
#[test]
fn each_violation_is_found() {
    type Count = fn(&Tally) -> u64;
    let resumed = format!("{},{}", trade(5, None), trade(6, Some(5)));
    let overlap = format!("{},{}", quote("B", 5, r#","snapshot":true"#), quote("B", 5, ""));
    let bad_cursor = heartbeat(1, &[]).1.replace("\"cursor\":\"", "\"cursor\":\"!");
    let text = str::to_owned;
    let cases: Vec<(&str, Vec<String>, Count)> = vec![
        ("lost without a gap", vec![resumed.clone(), trade(9, Some(8))], |t| t.unannounced),
        ("lost beyond the gap", vec![resumed.clone(), gap(6, 9), trade(12, Some(11))], |t| t.unannounced),
        ("gap elsewhere", vec![resumed.clone(), gap(4, 9), trade(12, Some(9))], |t| t.gaps_misfit),
        ("sent twice", vec![resumed.clone(), trade(6, Some(5))], |t| t.duplicates),
        ("sent twice in one frame", vec![format!("{resumed},{}", trade(5, None))], |t| t.duplicates),
        ("snapshot and update overlap", vec![overlap], |t| t.duplicates),
        ("no prev", vec![resumed.clone(), trade(9, None)], |t| t.unverified),
        ("not asked for", vec![quote("C", 1, "")], |t| t.unasked),
        ("another channel", vec![quote("A", 1, "")], |t| t.unasked),
        ("no seq", vec![text(r#"{"type":"trade","symbol":"A"}"#)], |t| t.unreadable),
        ("gap without cause", vec![text(r#"{"type":"gap","symbol":"A","channel":"trades"}"#)], |t| {
            t.unreadable
        }),
        ("no JSON", vec![text("{{")], |t| t.unreadable),
        ("unknown control message", vec![text(r#"{"op":"surprise"}"#)], |t| t.unreadable),
        ("behind the cursor", vec![heartbeat(1, &[at(8)]).1, trade(7, None)], |t| t.behind_cursor),
        ("cursor that is none", vec![bad_cursor], |t| t.unreadable),
    ];
    for (name, frames, count) in cases {
        let tally = verify(&frames);
        assert_eq!(count(&tally), 1, "{name}: {tally:?}");
        let faults = tally.violations() + tally.duplicates + tally.unverified;
        assert_eq!(faults, 1, "{name} is one fault only: {tally:?}");
        assert!(tally.samples.len() as u64 == 1 - tally.unverified, "{name}: {tally:?}");
    }
}

#[test]
fn events_before_their_ack_are_unasked() {
    let mut transcript = Transcript::default();
    transcript.push(0, HELLO);
    transcript.push(0, &format!("[{}]", trade(5, None)));
    transcript.push(0, ACK);
    assert_eq!(transcript.verify(&[]).unasked, 1);
}

#[test]
fn events_after_an_unsubscribe_are_unasked() {
    let ack = r#"{"op":"ack","id":9,"ok":true,"results":[{"channel":"quotes","symbol":"B*","ok":true}]}"#;
    let tally =
        verify(&[quote("B", 5, ""), trade(6, None), ack.to_owned(), trade(7, Some(6)), quote("B", 9, "")]);
    assert_eq!((tally.unasked, tally.in_order, tally.unannounced), (1, 1, 0), "{:?}", tally.samples);
}

#[test]
fn a_subscription_that_is_repeated_gets_its_snapshot_again() {
    let again = ACK.replace("\"id\":1", "\"id\":2");
    let snapshot = quote("B", 5, r#","snapshot":true"#);
    let tally = verify(&[snapshot.clone(), again, snapshot, quote("B", 8, r#","prev":"1:0:5""#)]);
    assert_eq!((tally.snapshots, tally.duplicates, tally.in_order), (2, 0, 1), "{:?}", tally.samples);
}

#[test]
fn errors_and_refusals_are_counted_by_code() {
    let refused = r#"{"op":"ack","id":3,"ok":false,"results":[{"channel":"trades","symbol":"X","ok":false,"code":"unknown_symbol"},{"channel":"bars","symbol":"A","ok":false,"code":"unknown_channel"}]}"#;
    let error = r#"{"op":"error","id":4,"code":"rate_limited","number":4429,"message":"","fatal":false}"#;
    let slow = r#"{"op":"slow","delay_ms":1,"queued_bytes":1,"limit_bytes":1,"action":"skip"}"#;
    let tally = verify(&[refused, error, slow]);
    assert_eq!(tally.refused.len(), 2);
    assert_eq!((tally.errors["rate_limited"], tally.slow_notices, tally.violations()), (1, 1, 0));
}

#[test]
fn late_heartbeats_are_noticed() {
    let mut transcript = Transcript::default();
    transcript.push(1, HELLO);
    for at_ms in [1000, 3900, 7000] {
        let (at_ns, text) = heartbeat(at_ms, &[]);
        transcript.push(at_ns, &text);
    }
    let tally = transcript.verify(&[]);
    assert_eq!((tally.heartbeats, tally.heartbeats_late), (3, 1));
}
