//! The bounds of the feed's engine, each at its own level: no Kafka, no sockets, no clock.

use proptest::prelude::*;
use std::fmt::Write as _;
use tickgate_gateway::event::{Batch, Item, Stream};
use tickgate_gateway::feed::dispatch::Outlet;
use tickgate_gateway::feed::engine::{Arrival, Engine, EngineConfig};
use tickgate_gateway::feed::request::{Answer, Reply, Request, Resume, SessionKey, Target, Want};
use tickgate_protocol::command::Past;
use tickgate_protocol::record::RecordDecoder;
use tickgate_protocol::{Channel, ConflateMs, Depth, Position};

const SESSION: SessionKey = SessionKey { slot: 0, generation: 0 };

const PATTERNS_MAX: usize = 1_000;

fn config() -> EngineConfig {
    EngineConfig {
        record_bytes_max: 1 << 20,
        symbols_max: 100,
        book_levels_max: 1_000,
        book_levels_total_max: 1_000_000,
        snapshots_bytes_max: 1 << 20,
        streams_max: 1_000,
        answer_bytes_max: 1 << 20,
        trades_kept: 10,
        unseen_symbols_max: 100,
        patterns_max: PATTERNS_MAX,
        allowed: None,
        memory_bytes_max: 1 << 20,
        memory_ms: 60_000,
    }
}

struct Feed {
    engine: Engine,
    decoder: RecordDecoder,
    offset: u64,
}

impl Feed {
    fn new(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self { engine: Engine::new(config, 1), decoder: RecordDecoder::new(1 << 20), offset: 0 }
    }

    fn record(&mut self, value: &str) {
        let position = Position { epoch: 1, partition: 0, offset: self.offset };
        self.offset += 1;
        let arrival = Arrival { position, append_ns: 1, ingest_ns: 2, now_ms: self.offset };
        self.engine.record(&mut self.decoder, &arrival, value.as_bytes(), |error| panic!("{error}: {value}"));
    }

    fn quote(&mut self, symbol: &str) {
        self.record(&format!(
            "{{\"type\":\"quote\",\"symbol\":\"{symbol}\",\"bid_price\":\"1\",\"bid_size\":\"1\",\
             \"ask_price\":\"2\",\"ask_size\":\"1\",\"event_ns\":1}}"
        ));
    }

    /// A book record with levels at the prices given, those of asks above those of bids.
    fn book(&mut self, symbol: &str, is_snapshot: bool, bids: &[(u32, u32)], asks: &[(u32, u32)]) {
        let side = |levels: &[(u32, u32)], above: u32| {
            levels.iter().fold(String::new(), |mut out, (price, size)| {
                let comma = if out.is_empty() { "" } else { "," };
                let _ = write!(out, "{comma}[\"{}\",\"{size}\"]", price + above);
                out
            })
        };
        self.record(&format!(
            "{{\"type\":\"book\",\"symbol\":\"{symbol}\",\"snapshot\":{is_snapshot},\"bids\":[{}],\"asks\":[{}],\
             \"event_ns\":1}}",
            side(bids, 0),
            side(asks, 100_000)
        ));
    }

    fn ask(&mut self, wants: Vec<Want>) -> Vec<Answer> {
        self.engine.take(0);
        self.engine.request(0, Request::Subscribe(SESSION, wants));
        match self.engine.take(0).pop() {
            Some(Item::Reply(reply)) => match *reply {
                Reply::Subscribed(_, answers) => answers,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self, symbol: &str, stream: Stream) -> Answer {
        self.ask(vec![want(symbol, stream)]).remove(0)
    }
}

fn want(symbol: &str, stream: Stream) -> Want {
    Want { target: Target::parse(symbol), stream, trades: 0, resume: None }
}

const QUOTES: Stream = Stream::whole(Channel::Quotes);
const BOOK: Stream = Stream::whole(Channel::Book);

fn levels() -> impl Strategy<Value = Vec<(u32, u32)>> {
    proptest::collection::vec((1u32..60, 0u32..3), 0..12)
}

proptest! {
    /// Whatever comes, all books together stay under their bound, and what is counted is what a snapshot shows.
    #[test]
    fn books_share_a_bound(
        records in proptest::collection::vec((0usize..4, any::<bool>(), levels(), levels()), 1..60),
        most in 1usize..60,
    ) {
        let mut feed = Feed::new(|config| config.book_levels_total_max = most);
        for (symbol, is_snapshot, bids, asks) in records {
            feed.book(["A", "B", "C", "D"][symbol], is_snapshot, &bids, &asks);
            prop_assert!(feed.engine.totals.book_levels <= most as u64);
        }
        let mut shown = 0;
        for symbol in ["A", "B", "C", "D"] {
            for state in feed.subscribe(symbol, BOOK).states {
                let text = std::str::from_utf8(&state.events[0].text).expect("JSON");
                let event: serde_json::Value = serde_json::from_str(text).expect("JSON");
                let levels = |side: &str| event[side].as_array().map_or(0, Vec::len);
                shown += levels("bids") + levels("asks");
            }
        }
        prop_assert_eq!(shown as u64, feed.engine.totals.book_levels);
    }
}

#[test]
fn a_book_that_may_not_grow_keeps_its_best_levels_and_says_what_went() {
    let mut feed = Feed::new(|config| config.book_levels_total_max = 6);
    feed.book("A", true, &[(10, 1), (9, 1)], &[(1, 1), (2, 1)]);
    feed.subscribe("B", BOOK);
    feed.book("B", true, &[(10, 1), (9, 1), (8, 1)], &[(1, 1)]);
    assert_eq!((feed.engine.totals.book_levels, feed.engine.totals.book_levels_trimmed), (6, 2));
    let items = feed.engine.take(0);
    let Some(Item::Event(event)) = items.last() else { panic!("{items:?}") };
    let text = std::str::from_utf8(&event.text).expect("JSON");
    assert!(text.contains(r#""bids":[["10","1"]],"asks":[["100001","1"]]"#), "{text}");
    // A better price takes the place of the worst.
    feed.book("B", false, &[(11, 1)], &[]);
    let items = feed.engine.take(0);
    let Some(Item::Event(event)) = items.last() else { panic!("{items:?}") };
    let text = std::str::from_utf8(&event.text).expect("JSON");
    assert!(text.contains(r#""bids":[["11","1"],["10","0"]]"#), "{text}");
    // What one book gives back another may take.
    feed.book("A", false, &[(9, 0)], &[(2, 0)]);
    feed.book("B", false, &[(9, 1)], &[(2, 1)]);
    assert_eq!((feed.engine.totals.book_levels, feed.engine.totals.book_levels_trimmed), (6, 3));
}

#[test]
fn levels_of_a_lost_book_are_given_back() {
    let mut feed = Feed::new(|config| config.book_levels_total_max = 4);
    feed.book("A", true, &[(1, 1), (2, 1)], &[(1, 1), (2, 1)]);
    feed.engine.lost(Position { epoch: 1, partition: 0, offset: 10 });
    feed.offset = 11;
    feed.book("B", true, &[(1, 1), (2, 1)], &[(1, 1), (2, 1)]);
    assert_eq!((feed.engine.totals.book_levels, feed.engine.totals.book_levels_trimmed), (4, 0));
}

#[test]
fn streams_have_a_bound_for_names_patterns_and_new_symbols() {
    let mut feed = Feed::new(|config| config.streams_max = 4);
    feed.quote("A");
    feed.quote("B");
    assert_eq!(feed.subscribe("*", QUOTES).full, None);
    assert_eq!(feed.subscribe("A", BOOK).full, None);
    let slower = Stream { conflate: ConflateMs::round_up(100).expect("a step"), ..QUOTES };
    let refused = feed.subscribe("*", slower);
    assert!(
        refused.full.is_some_and(|why| why.starts_with("the gateway is full")) && refused.states.is_empty()
    );
    assert_eq!(feed.subscribe("B", BOOK).full, None);
    assert!(feed.subscribe("B", slower).full.is_some());
    // Nobody would tell the holder of the pattern that this symbol has no stream: it is not met.
    feed.quote("C");
    assert_eq!((feed.engine.totals.symbols, feed.engine.totals.symbols_refused), (2, 1));
    feed.engine.request(0, Request::Drop(Target::parse("B"), BOOK));
    feed.quote("C");
    assert_eq!((feed.engine.totals.symbols, feed.engine.totals.symbols_refused), (3, 1));
    assert!(feed.subscribe("B", BOOK).full.is_some());
    feed.engine.request(0, Request::Drop(Target::parse("*"), QUOTES));
    assert_eq!(feed.subscribe("*", slower).full, None);
}

#[test]
fn patterns_have_a_bound() {
    let mut feed = Feed::new(|_| ());
    let wants = (0..=PATTERNS_MAX).map(|at| want(&format!("P{at}*"), QUOTES)).collect();
    let answers = feed.ask(wants);
    assert!(answers[..PATTERNS_MAX].iter().all(|answer| answer.full.is_none()));
    assert!(answers[PATTERNS_MAX].full.is_some());
    assert_eq!(feed.subscribe("P0*", QUOTES).full, None, "one that is held already needs no place");
}

#[test]
fn one_request_is_answered_with_so_much_state_and_no_more() {
    let mut feed = Feed::new(|config| config.answer_bytes_max = 2_000);
    for symbol in 0..50 {
        feed.quote(&format!("S{symbol}"));
    }
    let all = feed.subscribe("*", QUOTES);
    assert!(all.full.is_some() && all.states.is_empty());
    // What it took in the meantime is given back as the shard does.
    feed.engine.request(0, Request::Drop(Target::parse("*"), QUOTES));
    let answers = feed.ask((0..50).map(|at| want(&format!("S{at}"), QUOTES)).collect());
    let bytes: usize =
        answers.iter().flat_map(|a| &a.states).flat_map(|s| &s.events).map(|e| e.bytes()).sum();
    let answered = answers.iter().filter(|answer| answer.full.is_none()).count();
    assert!(
        (2..50).contains(&answered) && bytes < 2_000 + bytes / answered,
        "{answered} answers, {bytes} bytes"
    );
    assert_eq!(feed.subscribe("S49", QUOTES).states.len(), 1, "alone it is answered");
}

/// What a shard that does not take anything may be sent, and how it is caught up in portions afterwards.
#[test]
fn an_inbox_has_a_bound_in_bytes_and_the_rest_is_folded() {
    const BOUND: usize = 4_000;
    let mut feed = Feed::new(|_| ());
    let (sender, mut inbox) = tokio::sync::mpsc::channel(1_000);
    let mut outlet = Outlet::new(0, sender, BOUND);
    feed.subscribe("*", QUOTES);
    for round in 0..20 {
        for symbol in 0..40 {
            feed.quote(&format!("S{symbol}"));
            outlet.send(&mut feed.engine, round);
        }
    }
    assert!(!outlet.has_room() && feed.engine.totals.overload_events > 700, "{:?}", feed.engine.totals);
    let mut batches = Vec::new();
    while let Ok(batch) = inbox.try_recv() {
        batches.push(batch);
    }
    let bytes = |batch: &Batch| batch.items.iter().map(Item::bytes).sum::<usize>();
    let largest = batches.iter().map(bytes).max().expect("some went");
    assert!(batches.iter().map(bytes).sum::<usize>() < BOUND + largest);
    outlet.send(&mut feed.engine, 0);
    assert!(inbox.try_recv().is_err(), "what was taken and not handled still counts");
    drop(batches);
    // One update of each symbol is left to tell, in more than one portion.
    let (mut portions, mut events) = (0, 0);
    while !outlet.has_room() {
        outlet.send(&mut feed.engine, 0);
        let batch = inbox.try_recv().expect("there is room");
        assert!(bytes(&batch) < BOUND + largest);
        portions += 1;
        events += batch.items.len();
    }
    assert!(portions > 1, "{portions} portions of {events} events");
    assert_eq!(events, 40);
}

#[test]
fn cached_snapshots_have_a_bound_and_are_shared_below_it() {
    let stream = Stream { depth: Depth::new(5).expect("a depth"), ..BOOK };
    let is_shared = |bytes: usize| {
        let mut feed = Feed::new(|config| config.snapshots_bytes_max = bytes);
        feed.book("A", true, &[(1, 1)], &[(1, 1)]);
        let (first, second) = (feed.subscribe("A", stream), feed.subscribe("A", stream));
        let (first, second) = (&first.states[0].events[0], &second.states[0].events[0]);
        assert_eq!(first.text, second.text);
        std::sync::Arc::ptr_eq(first, second)
    };
    assert!(is_shared(10_000) && !is_shared(100));
}

/// Whoever plays the past gets nothing live. Its events were encoded all the same, for as long as it played, and sent to its
/// shard, which threw them away.
#[test]
fn what_is_played_is_encoded_for_nobody() {
    let mut feed = Feed::new(|_| ());
    feed.quote("A");
    let past = Past { since_ns: 0, until_ns: Some(1), speed_thousandths: None };
    for target in ["A", "UNSEEN", "*"] {
        let answer =
            feed.ask(vec![Want { resume: Some(Resume::Past(past)), ..want(target, QUOTES) }]).remove(0);
        assert!(answer.replays && answer.full.is_none() && !answer.no_room, "{target}: {answer:?}");
        assert_eq!(answer.epoch, (target == "A").then_some(1), "{target}");
    }
    let encoded = feed.engine.totals.encoded;
    feed.quote("A");
    feed.quote("UNSEEN");
    assert_eq!((feed.engine.totals.encoded, feed.engine.take(0).len()), (encoded, 0));
    // And it takes no interest away when it ends.
    feed.subscribe("A", QUOTES);
    feed.engine.request(0, Request::Drop(Target::parse("*"), QUOTES));
    feed.engine.request(0, Request::Drop(Target::parse("UNSEEN"), QUOTES));
    feed.engine.take(0);
    feed.quote("A");
    assert_eq!(feed.engine.take(0).len(), 1);
}
