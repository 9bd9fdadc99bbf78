//! A good life of a client, and faults planted into it: each has to be found, and found as what it is.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tickgate_checker::counts::Counts;
use tickgate_checker::judge::{Judgement, judge};
use tickgate_checker::log::Log;
use tickgate_checker::transcript::{ClientTranscript, Start};
use tickgate_protocol::command::Id;
use tickgate_protocol::control::{AckResult, Control};
use tickgate_protocol::cursor::{self, CursorKey};
use tickgate_protocol::{Channel, Code, Position};

const PARTITIONS: u32 = 2;
const RECORDS: u64 = 60;
const SYMBOLS: [&str; PARTITIONS as usize] = ["A", "B"];
/// The last record of each partition that the cursor of the first session names.
const CURSOR: u64 = 29;
/// The last that the first session gave before it was cut: a record of two.
const CUT: u64 = 40;

fn at(partition: u32, offset: u64) -> Position {
    Position { epoch: 0x1f, partition, offset }
}

/// Trades and quotes take turns; every tenth record holds two trades.
fn ticks(offset: u64) -> (Channel, usize) {
    match offset % 10 {
        0 => (Channel::Trades, 2),
        rest if rest % 2 == 0 => (Channel::Trades, 1),
        _ => (Channel::Quotes, 1),
    }
}

fn fields(partition: u32, offset: u64, nth: usize) -> Value {
    let symbol = SYMBOLS[partition as usize];
    let price = format!("{offset}.{nth}");
    match ticks(offset).0 {
        Channel::Trades => {
            json!({"type": "trade", "symbol": symbol, "price": price, "size": "1", "event_ns": "7"})
        }
        _ => json!({
            "type": "quote", "symbol": symbol, "bid_price": price, "bid_size": "1", "ask_price": "99", "ask_size": "1",
            "event_ns": "7",
        }),
    }
}

fn truth() -> Log {
    let mut log = Log::new();
    for partition in 0..PARTITIONS {
        for offset in 0..RECORDS {
            let all: Vec<Value> = (0..ticks(offset).1).map(|nth| fields(partition, offset, nth)).collect();
            log.push(at(partition, offset), 0, json!(all).to_string().as_bytes())
                .expect("as the test made it");
        }
    }
    log
}

/// What a session was sent: `{…}` control messages, and frames of events.
#[derive(Clone)]
struct Session {
    start: Start,
    sent: Vec<Value>,
}

/// Sends like a gateway that makes no mistakes.
struct Sender {
    sent: Vec<Value>,
    last: BTreeMap<(u32, Channel), Position>,
}

impl Sender {
    fn new(last: BTreeMap<(u32, Channel), Position>) -> Self {
        let channels = [Channel::Trades, Channel::Quotes];
        let named = SYMBOLS.iter().flat_map(|symbol| channels.map(|channel| (channel, *symbol)));
        let results = named.map(|(channel, symbol)| AckResult::ok(channel.name(), symbol)).collect();
        let ack = Control::ack(None, true, results);
        Self { sent: vec![serde_json::to_value(ack).expect("as the test made it")], last }
    }

    fn record(&mut self, partition: u32, offset: u64, tail: &Value) {
        let (channel, count) = ticks(offset);
        let prev = self.last.insert((partition, channel), at(partition, offset));
        let event = |nth| {
            let mut event = fields(partition, offset, nth);
            event["seq"] = json!(at(partition, offset));
            if let Some(prev) = prev {
                event["prev"] = json!(prev);
            }
            event
                .as_object_mut()
                .expect("as the test made it")
                .extend(tail.as_object().expect("as the test made it").clone());
            event
        };
        self.sent.push((0..count).map(event).collect());
    }

    fn gap(&mut self, partition: u32, channel: Channel, upto: u64, count: u64) {
        let after = self.last.insert((partition, channel), at(partition, upto));
        self.sent.push(json!([{
            "type": "gap", "channel": channel, "symbol": SYMBOLS[partition as usize], "after": after,
            "upto": at(partition, upto), "count": count, "cause": "slow_consumer",
        }]));
    }

    fn snapshot(&mut self, partition: u32, seq: u64, says: u64) {
        let mut event = fields(partition, says, 0);
        event["seq"] = json!(at(partition, seq));
        event["snapshot"] = json!(true);
        self.sent.push(json!([event]));
    }

    fn heartbeat(&mut self, offset: u64) {
        let cursor = cursor::encode(&[at(0, offset + 1), at(1, offset + 1)], &CursorKey::new(b""));
        let heartbeat =
            Control::Heartbeat { now_ns: 0, cursor, queued_bytes: 0, delay_ms: 0, feeds: Vec::new() };
        self.sent.push(serde_json::to_value(heartbeat).expect("as the test made it"));
    }
}

/// Two sessions, the second resumed by the cursor of the first. A loses the trades of 12 to 16 to its own slowness, B
/// gets one quote for three.
fn life() -> [Session; 2] {
    let mut first = Sender::new(BTreeMap::new());
    for offset in 0..=CUT {
        for partition in 0..PARTITIONS {
            match (partition, offset) {
                (0, 12 | 14) => {}
                (0, 16) => first.gap(0, Channel::Trades, 16, 3),
                (1, 21 | 23) => {}
                (1, 25) => first.record(1, 25, &json!({"merged": 3})),
                _ => first.record(partition, offset, &json!({})),
            }
        }
        if offset == CURSOR {
            first.heartbeat(CURSOR);
        }
    }
    // The cursor is behind what was given: the rest comes again and is discarded.
    let last = [
        (0, Channel::Trades, 28),
        (0, Channel::Quotes, 29),
        (1, Channel::Trades, 28),
        (1, Channel::Quotes, 29),
    ];
    let last = last.map(|(partition, channel, offset)| ((partition, channel), at(partition, offset)));
    let mut second = Sender::new(last.into());
    for offset in CURSOR + 1..RECORDS {
        for partition in 0..PARTITIONS {
            let tail = if offset < 45 { json!({"replay": true}) } else { json!({}) };
            match (partition, offset) {
                // Two quotes of B are lost; the state that is known is shown again.
                (1, 51) => {}
                (1, 53) => {
                    second.gap(1, Channel::Quotes, 53, 2);
                    second.snapshot(1, 53, 49);
                }
                _ => second.record(partition, offset, &tail),
            }
        }
        if offset == 50 {
            second.heartbeat(50);
        }
    }
    second.heartbeat(RECORDS - 1);
    [
        Session { start: Start::fresh(Some(&[])), sent: first.sent },
        Session { start: Start::cursor(&[at(0, CURSOR), at(1, CURSOR)]), sent: second.sent },
    ]
}

fn judged(log: &Log, life: &[Session]) -> Judgement {
    let mut client = ClientTranscript::default();
    for session in life {
        let mut transcript = client.begin(session.start.clone());
        for (received_ns, message) in session.sent.iter().enumerate() {
            transcript.text(received_ns as i64, &message.to_string());
        }
        client.end(transcript, true);
    }
    judge(log, &client)
}

/// Index of the frame of a session with the record at this position, and whether it is the one that announces it.
fn frame(session: &Session, position: Position) -> usize {
    let is_it = |message: &Value| message[0]["seq"] == json!(position) && message[0]["type"] != "gap";
    session.sent.iter().position(is_it).expect("it was sent")
}

fn gap_frame(session: &Session) -> usize {
    session.sent.iter().position(|message| message[0]["type"] == "gap").expect("one was sent")
}

#[test]
fn the_good_life_is_good() {
    let judgement = judged(&truth(), &life());
    let Counts { offered, delivered, conflated, announced, unannounced, discarded, .. } = judgement.counts;
    assert_eq!((judgement.counts.faults(), unannounced), (0, 0), "{:#?}", judgement.samples);
    // Per partition 30 trades records of which 6 hold two, and 30 quotes.
    assert_eq!((offered, conflated, announced), (2 * 66, 2, 5));
    assert_eq!(delivered, offered - conflated - announced);
    assert_eq!(discarded, 2 * 13, "eleven records each, two of them with two trades");
    let missing: Vec<String> = judgement.missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "trades A: 1f:0:12 to 1f:0:16 (3 records), lost as a gap says",
            "quotes B: 1f:1:51 to 1f:1:53 (2 records), lost as a gap says",
        ]
    );
}

/// What is planted, and what it has to be counted as, exactly.
type Plant = (&'static str, fn(&mut [Session; 2]), fn(&mut Counts));

#[test]
fn every_planted_fault_is_found() {
    let plants: [Plant; 17] = [
        (
            "drop one",
            |life| {
                let at = frame(&life[0], at(0, 8));
                life[0].sent.remove(at);
            },
            |counts| (counts.unannounced, counts.breaks, counts.behind_cursor) = (1, 1, 1),
        ),
        (
            "drop one of a record's two",
            |life| {
                let at = frame(&life[0], at(1, 20));
                life[0].sent[at].as_array_mut().expect("as the test made it").pop();
            },
            |counts| (counts.unannounced, counts.behind_cursor) = (1, 1),
        ),
        (
            "drop the last",
            |life| {
                let at = frame(&life[1], at(1, 59));
                life[1].sent.remove(at);
            },
            |counts| (counts.unannounced, counts.behind_cursor) = (1, 1),
        ),
        (
            "swap two",
            |life| {
                let (one, two) = (frame(&life[0], at(1, 6)), frame(&life[0], at(1, 8)));
                life[0].sent.swap(one, two);
            },
            // The first comes too early for its channel, the second too late, and the quote between them stands behind
            // a trade that it should stand before.
            |counts| (counts.breaks, counts.out_of_order) = (1, 2),
        ),
        (
            "forget a gap",
            |life| {
                let at = gap_frame(&life[0]);
                life[0].sent.remove(at);
            },
            |counts| {
                (counts.unannounced, counts.breaks, counts.behind_cursor) = (3, 1, 3);
            },
        ),
        (
            "gap one too short",
            |life| {
                let frame = gap_frame(&life[0]);
                life[0].sent[frame][0]["upto"] = json!(at(0, 14));
                life[0].sent[frame][0]["count"] = json!(2);
            },
            |counts| (counts.unannounced, counts.breaks, counts.behind_cursor) = (1, 1, 1),
        ),
        (
            "gap with a wrong count",
            |life| {
                let frame = gap_frame(&life[0]);
                life[0].sent[frame][0]["count"] = json!(2);
            },
            |counts| counts.gap_counts_wrong = 1,
        ),
        (
            "gap that begins elsewhere",
            |life| {
                let frame = gap_frame(&life[0]);
                life[0].sent[frame][0]["after"] = json!(at(0, 8));
            },
            |counts| (counts.gaps_misfit, counts.gap_counts_wrong) = (1, 1),
        ),
        (
            "off-by-one resume, behind",
            |life| {
                let one = frame(&life[1], at(0, 30));
                // What the first session gave beyond its cursor would hide it.
                let beyond: Vec<Value> = (CURSOR + 1..=CUT).map(|offset| json!(at(0, offset))).collect();
                life[0].sent.retain(|message| !beyond.contains(&message[0]["seq"]));
                life[1].sent.remove(one);
            },
            |counts| (counts.unannounced, counts.breaks, counts.behind_cursor) = (2, 1, 2),
        ),
        (
            "off-by-one resume, before",
            |life| {
                let mut again = life[0].sent[frame(&life[0], at(0, 29))].clone();
                again[0]["replay"] = json!(true);
                life[1].sent.insert(1, again);
            },
            |counts| counts.repeated = 1,
        ),
        (
            "duplicate after reconnect",
            |life| {
                let at = frame(&life[1], at(1, 35));
                let again = life[1].sent[at].clone();
                life[1].sent.insert(at + 1, again);
            },
            |counts| (counts.repeated, counts.discarded) = (1, 0),
        ),
        (
            "wrong symbol",
            |life| {
                let frame = frame(&life[1], at(0, 47));
                life[1].sent[frame][0]["symbol"] = json!("B");
            },
            // Both chains break once: B goes on where it was before.
            |counts| (counts.wrong, counts.unannounced, counts.breaks, counts.behind_cursor) = (1, 1, 2, 1),
        ),
        (
            "wrong epoch",
            |life| {
                let frame = frame(&life[1], at(0, 47));
                life[1].sent[frame][0]["seq"] = json!("20:0:47");
            },
            |counts| (counts.wrong, counts.unannounced, counts.breaks, counts.behind_cursor) = (1, 1, 1, 1),
        ),
        (
            "wrong content",
            |life| {
                let frame = frame(&life[1], at(0, 47));
                life[1].sent[frame][0]["bid_price"] = json!("47.00");
            },
            |counts| counts.wrong = 1,
        ),
        (
            "snapshot older than the stream",
            |life| {
                let frame = frame(&life[1], at(0, 49));
                let mut old = Sender { sent: Vec::new(), last: BTreeMap::new() };
                old.snapshot(0, 45, 45);
                life[1].sent.insert(frame + 1, old.sent.remove(0));
            },
            |counts| counts.out_of_order = 1,
        ),
        (
            "the event behind its gap is missing",
            |life| {
                let at = frame(&life[0], at(0, 18));
                life[0].sent.remove(at);
            },
            |counts| (counts.unannounced, counts.breaks, counts.behind_cursor) = (1, 1, 1),
        ),
        (
            "a state that stands for too few",
            |life| {
                let frame = frame(&life[0], at(1, 25));
                life[0].sent[frame][0]["merged"] = json!(2);
            },
            |counts| counts.merged_wrong = 1,
        ),
    ];
    let log = truth();
    let good = judged(&log, &life()).counts;
    for (name, plant, expect) in plants {
        let mut bad = life();
        plant(&mut bad);
        let Judgement { counts, samples, .. } = judged(&log, &bad);
        // Of the counts of good things nothing is said here.
        let keep = |counts: &Counts| Counts {
            events: 0,
            delivered: 0,
            announced: 0,
            conflated: 0,
            discarded: 0,
            gaps: 0,
            ..*counts
        };
        let mut expected = good;
        expect(&mut expected);
        assert_ne!(expected.faults(), 0, "{name} is a fault");
        assert_eq!(keep(&counts), keep(&expected), "{name}: {samples:#?}");
        assert!(!samples.is_empty() || counts.unannounced == counts.faults(), "{name} is described");
        assert_eq!(
            counts.offered,
            counts.delivered + counts.conflated + counts.announced + counts.unannounced
        );
    }
}

/// What is missing is named to the offset, and so is whether it was announced.
#[test]
fn missing_offsets_are_named() {
    let mut bad = life();
    for position in [at(0, 46), at(0, 48)] {
        let frame = frame(&bad[1], position);
        bad[1].sent.remove(frame);
    }
    let judgement = judged(&truth(), &bad);
    let lost: Vec<_> = judgement.missing.iter().filter(|missing| !missing.is_announced).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(
        (lost[0].symbol.as_str(), lost[0].channel, lost[0].offsets.as_slice()),
        ("A", Channel::Trades, &[46, 48][..])
    );
}

/// A session that was cut owes nothing behind the last it gave; the one that resumes it owes all of it.
#[test]
fn what_a_cut_session_owes_depends_on_whether_it_is_resumed() {
    let [first, second] = life();
    let mut client = ClientTranscript::default();
    let mut transcript = client.begin(first.start.clone());
    first.sent.iter().for_each(|message| drop(transcript.text(0, &message.to_string())));
    client.end(transcript, false);
    let cut = judge(&truth(), &client);
    assert_eq!((cut.counts.faults(), cut.counts.offered), (0, 2 * 46), "{:?}", cut.samples);
    // Resumed, but never given anything again.
    let mut transcript = client.begin(second.start.clone());
    transcript.text(0, &second.sent[0].to_string());
    client.end(transcript, true);
    let resumed = judge(&truth(), &client);
    assert_eq!((resumed.counts.offered, resumed.counts.unannounced), (2 * 66, 2 * 20));
}

/// A request that is told that what it asked for is gone says nothing of what others asked for.
#[test]
fn what_has_aged_out_is_announced_to_its_own_request_alone() {
    let [first, _] = life();
    let mut client = ClientTranscript::default();
    let mut transcript = client.begin(first.start.clone());
    first.sent.iter().for_each(|message| drop(transcript.text(0, &message.to_string())));
    client.end(transcript, false);
    let ack = |id, symbol| {
        let results = ["trades", "quotes"].map(|channel| AckResult::ok(channel, symbol)).into();
        Control::ack(Some(Id::Number(id)), true, results).to_json()
    };
    let aged_out = |id| Control::error(Some(Id::Number(id)), Code::ReplayAgedOut, "", false).to_json();
    let lost = |told: &[i64]| {
        let mut client = client.clone();
        let mut transcript = client.begin(Start::cursor(&[at(0, CURSOR), at(1, CURSOR)]));
        for text in [ack(1, "A"), ack(2, "B")].into_iter().chain(told.iter().map(|id| aged_out(*id))) {
            transcript.text(0, &text);
        }
        // What comes next of each is behind the hole.
        let mut next = Sender::new(BTreeMap::new());
        (50..RECORDS).for_each(|offset| (0..PARTITIONS).for_each(|of| next.record(of, offset, &json!({}))));
        next.sent[1..].iter().for_each(|message| drop(transcript.text(0, &message.to_string())));
        client.end(transcript, true);
        let judgement = judge(&truth(), &client);
        let lost = |announced| {
            let missing = judgement.missing.iter().filter(move |missing| missing.is_announced == announced);
            let behind = missing.filter(|missing| missing.offsets.iter().all(|offset| *offset > CUT));
            let mut symbols: Vec<&str> = behind.map(|missing| missing.symbol.as_str()).collect();
            symbols.dedup();
            symbols.join(" ")
        };
        (lost(true), lost(false))
    };
    let said = |announced: &str, unannounced: &str| (announced.to_owned(), unannounced.to_owned());
    assert_eq!(lost(&[]), said("", "A B"));
    assert_eq!(lost(&[1]), said("A", "B"));
    assert_eq!(lost(&[2]), said("B", "A"));
    assert_eq!(lost(&[1, 2]), said("A B", ""));
    assert_eq!(lost(&[3]), said("", "A B"), "nobody asked");
}

/// A topic that was made anew: what the old one still held is lost as the gap says, the new one has to come from its
/// beginning.
#[test]
fn a_new_topic_is_owed_from_its_beginning() {
    let new = |offset| Position { epoch: 0x2e, partition: 0, offset };
    let mut log = truth();
    for offset in 0..6 {
        let value = json!(fields(0, offset, 0)).to_string();
        log.push(new(offset), 0, value.as_bytes()).expect("as the test made it");
    }
    let mut sender = Sender::new(BTreeMap::new());
    (0..=30).for_each(|offset| sender.record(0, offset, &json!({})));
    let (trade, quote) = (at(0, 30), at(0, 29));
    for (channel, last) in [("trades", trade), ("quotes", quote)] {
        sender.sent.push(json!([{"type": "gap", "channel": channel, "symbol": "A", "after": last, "upto": last, "cause": "retention"}]));
    }
    for offset in 0..6 {
        let (channel, _) = ticks(offset);
        let first = if channel == Channel::Trades { trade } else { quote };
        let prev = if offset < 2 { first } else { new(offset - 2) };
        let mut event = fields(0, offset, 0);
        (event["seq"], event["prev"]) = (json!(new(offset)), json!(prev));
        sender.sent.push(json!([event]));
    }
    let only_a = |message: &Value| message["results"].as_array().is_none_or(|r| r.len() == 4);
    assert!(sender.sent.iter().all(only_a));
    sender.sent[0]["results"]
        .as_array_mut()
        .expect("as the test made it")
        .retain(|result| result["symbol"] == "A");
    let session = Session { start: Start::fresh(Some(&[])), sent: sender.sent };
    let good = judged(&log, std::slice::from_ref(&session));
    assert_eq!(good.counts.faults(), 0, "{:#?}", good.samples);
    // 31 to 59 of the old topic: 29 records, two of which hold two trades.
    assert_eq!((good.counts.announced, good.counts.delivered), (31, 35 + 6));
    for lost in [0, 1, 5] {
        let mut bad = session.clone();
        let frame = frame(&bad, new(lost));
        bad.sent.remove(frame);
        assert_eq!(judged(&log, &[bad]).counts.unannounced, 1, "{lost}");
    }
}
