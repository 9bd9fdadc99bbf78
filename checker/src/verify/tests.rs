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

/// A client that has seen `before`, came back as `resume` says, and was then sent `after`.
fn come_back(
    before: &[String],
    resume: impl FnOnce(&mut SessionVerifier),
    after: &[String],
) -> (Tally, bool) {
    let (mut verifier, mut tally) = (SessionVerifier::default(), Tally::default());
    let mut take = |verifier: &mut SessionVerifier, frames: &[String]| {
        for text in [HELLO, ACK].into_iter().chain(frames.iter().map(String::as_str)) {
            let is_control = text.starts_with("{\"op\"");
            let text = if is_control { text.to_owned() } else { format!("[{text}]") };
            verifier.message(text.as_bytes(), 1_000_000, &mut tally, |_, _| ());
        }
    };
    take(&mut verifier, before);
    verifier.come_back();
    resume(&mut verifier);
    take(&mut verifier, after);
    (tally, verifier.is_caught_up())
}

fn seen() -> Vec<String> {
    vec![trade(5, None), trade(8, Some(5)), quote("B1", 7, "")]
}

fn from_position(verifier: &mut SessionVerifier) {
    assert_eq!(verifier.resume_from(1, Channel::Trades, "A"), Some(at(8)));
}

/// From a cursor behind offset 6, before what was seen last.
fn from_cursor(verifier: &mut SessionVerifier) {
    let cursor = cursor::encode(&[at(7)], &cursor::CursorKey::new(b"no key"));
    verifier.resume_at(1, &cursor, Channel::Trades, ["A", "N"]);
}

fn replayed(offset: u64, prev: u64) -> String {
    trade(offset, Some(prev)).replace('}', r#","replay":true}"#)
}

fn replay_done(symbol: &str) -> String {
    let (channel, symbol) = (Channel::Trades, symbol.to_owned());
    Control::ReplayDone { id: Some(Id::Number(1)), channel, symbol, seq: None }.to_json()
}

#[test]
fn a_chain_goes_on_over_the_seam() {
    let missed = [replayed(11, 8), replay_done("A"), trade(12, Some(11))];
    let (tally, is_caught_up) = come_back(&seen(), from_position, &missed);
    assert_eq!((tally.violations(), tally.duplicates, tally.resent), (0, 0, 0), "{:?}", tally.samples);
    assert_eq!((tally.first, tally.in_order, tally.replayed, tally.replays), (2, 3, 1, 1));
    assert!(is_caught_up);
    let (_, is_caught_up) = come_back(&seen(), from_position, &missed[..1]);
    assert!(!is_caught_up, "only the end of the replay says so");
}

/// Behind a cursor comes again what was seen after it, live or replayed, and is no duplicate; but only until something
/// new has come.
#[test]
fn what_a_cursor_stands_behind_comes_again() {
    for again in [replayed(8, 5), trade(8, Some(5))] {
        let after = [again.clone(), trade(11, Some(8)), replay_done("N")];
        let (tally, is_caught_up) = come_back(&seen(), from_cursor, &after);
        assert_eq!((tally.violations(), tally.duplicates, tally.resent), (0, 0, 1), "{:?}", tally.samples);
        assert!(is_caught_up, "the event of A was live, and N has nothing");
        let (tally, _) = come_back(&seen(), from_cursor, &[trade(11, Some(8)), again]);
        assert_eq!((tally.duplicates, tally.resent), (1, 0));
    }
    let (tally, _) = come_back(&seen(), from_position, &[replayed(8, 5)]);
    assert_eq!((tally.duplicates, tally.resent), (1, 0), "behind a position nothing comes again");
}

#[test]
fn what_is_missing_at_the_seam_is_lost() {
    for resume in [from_position, from_cursor] {
        let (tally, _) = come_back(&seen(), resume, &[trade(12, Some(11))]);
        assert_eq!(tally.unannounced, 1, "{:?}", tally.samples);
    }
    // Of N nothing was seen, but the cursor stands at 6: an event at 9 would have had to come first.
    let of_n = |offset, prev| trade(offset, Some(prev)).replace(r#""symbol":"A""#, r#""symbol":"N""#);
    let ack = ACK.replace(r#""symbol":"A""#, r#""symbol":"N""#);
    for (prev, lost) in [(3, 0), (6, 0), (9, 1)] {
        let (tally, _) = come_back(&seen(), from_cursor, &[ack.clone(), of_n(10, prev)]);
        assert_eq!((tally.unannounced, tally.unasked), (lost, 0), "after {prev}: {:?}", tally.samples);
    }
}

#[test]
fn gaps_at_the_seam_count_for_what_was_not_seen() {
    let aged = |after: Option<u64>, upto: u64| {
        let after = after.map(|after| format!(r#""after":"1:0:{after}","#)).unwrap_or_default();
        format!(
            r#"{{"type":"gap","channel":"trades","symbol":"A",{after}"upto":"1:0:{upto}","cause":"retention"}}"#
        )
    };
    let error = Control::error(Some(Id::Number(1)), Code::ReplayAgedOut, "", false).to_json();
    for resume in [from_position, from_cursor] {
        let (tally, is_caught_up) =
            come_back(&seen(), resume, &[error.clone(), aged(None, 10), trade(12, Some(10))]);
        assert_eq!((tally.violations(), tally.gaps, tally.resent), (0, 1, 0), "{:?}", tally.samples);
        assert!(is_caught_up, "there is nothing to wait for");
        // All of it was seen: nothing is lost.
        let (tally, _) = come_back(&seen(), resume, &[aged(None, 8), trade(12, Some(8))]);
        assert_eq!((tally.violations(), tally.gaps, tally.resent), (0, 0, 1), "{:?}", tally.samples);
    }
    let (tally, _) = come_back(&seen(), from_cursor, &[aged(Some(6), 10), trade(12, Some(10))]);
    assert_eq!((tally.gaps, tally.gaps_misfit), (1, 0), "it begins at the cursor");
    let (tally, _) = come_back(&seen(), from_position, &[aged(Some(6), 10), trade(12, Some(10))]);
    assert_eq!((tally.gaps, tally.gaps_misfit), (1, 1), "it had to begin at the position");
}

/// A pattern was resumed on a gateway that had begun to read behind what was missed, and told so. Another client's replay taught
/// it where the symbol stood, and its next event named one before it that this client never got: a loss without a word, it
/// seemed.
#[test]
fn what_was_told_as_gone_may_be_followed_by_anything_where_it_was_asked_for() {
    let error = |id| Control::error(Some(Id::Number(id)), Code::ReplayAgedOut, "", false).to_json();
    fn pattern(verifier: &mut SessionVerifier, id: i64, name: &str) {
        let cursor = cursor::encode(&[at(7)], &cursor::CursorKey::new(b"no key"));
        verifier.resume_at(id, &cursor, Channel::Trades, [name]);
    }
    let from_pattern: fn(&mut SessionVerifier) = |verifier| pattern(verifier, 1, "A*");
    for resume in [from_position, from_cursor, from_pattern] {
        for (told, lost) in [(1, 0), (2, 1)] {
            let (tally, _) = come_back(&seen(), resume, &[error(told), trade(12, Some(11))]);
            assert_eq!(tally.unannounced, lost, "{told}: {:?}", tally.samples);
        }
        let after = [error(1), trade(12, Some(11)), trade(20, Some(18))];
        assert_eq!(come_back(&seen(), resume, &after).0.unannounced, 1, "once");
        // Told when something had come already.
        let after = [trade(12, Some(8)), error(1), trade(20, Some(18))];
        assert_eq!(come_back(&seen(), resume, &after).0.unannounced, 1);
    }
    // What has a request of its own is not the pattern's.
    let from_both = |verifier: &mut SessionVerifier| {
        from_cursor(verifier);
        pattern(verifier, 2, "*");
    };
    let (tally, _) = come_back(&seen(), from_both, &[error(2), trade(12, Some(11))]);
    assert_eq!(tally.unannounced, 1);
    // Of one of which nothing was seen before, too.
    let of_n = |text: &str| text.replace(r#""symbol":"A""#, r#""symbol":"N""#);
    let (tally, _) = come_back(&seen(), from_cursor, &[error(1), of_n(ACK), of_n(&trade(10, Some(9)))]);
    assert_eq!((tally.unannounced, tally.unasked), (0, 0), "{:?}", tally.samples);
}

/// A state that replaces what was missed is not what was asked for, and is counted.
#[test]
fn states_at_the_seam() {
    let snapshot = |offset| quote("B1", offset, r#","snapshot":true"#);
    let quotes = |verifier: &mut SessionVerifier| {
        verifier.resume_from(1, Channel::Quotes, "B1");
    };
    let (tally, _) = come_back(&seen(), quotes, &[snapshot(7), quote("B1", 9, r#","prev":"1:0:7""#)]);
    assert_eq!((tally.resent, tally.resynced, tally.in_order, tally.duplicates), (1, 0, 2, 0));
    let (tally, _) = come_back(&seen(), quotes, &[snapshot(9), quote("B1", 11, r#","prev":"1:0:9""#)]);
    assert_eq!((tally.resent, tally.resynced, tally.violations()), (0, 1, 0), "{:?}", tally.samples);
}

#[test]
fn a_new_session_acknowledges_anew() {
    let (mut verifier, mut tally) = (SessionVerifier::default(), Tally::default());
    for text in [HELLO, ACK, &format!("[{}]", trade(5, None))] {
        verifier.message(text.as_bytes(), 0, &mut tally, |_, _| ());
    }
    assert_eq!(verifier.lasts().count(), 1);
    verifier.come_back();
    assert_eq!((verifier.lasts().count(), verifier.last(Channel::Trades, "A")), (0, Some(at(5))));
    verifier.message(ACK.as_bytes(), 0, &mut tally, |_, _| ());
    assert_eq!(verifier.lasts().collect::<Vec<_>>(), [(Channel::Trades, "A", at(5))]);
}
