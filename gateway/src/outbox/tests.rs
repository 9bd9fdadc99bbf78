use super::*;
use crate::event::{Stream, Symbol};
use proptest::prelude::*;
use tickgate_protocol::Channel;
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::deflate::{Deflater, Inflater, LEVEL, WINDOW_BITS};
use tickgate_protocol::event::{EventView, Gap, GapCause};

const BOUNDS: Bounds = Bounds {
    bytes_max: 4_000,
    entries_max: 100,
    age_max_us: 1_000_000,
    write_bytes_max: 2_000,
    frame_bytes_max: 1_000,
};

fn at(offset: u64) -> Position {
    Position { epoch: 1, partition: 0, offset }
}

/// Makes events of chained positions, as the feed would.
#[derive(Default)]
struct Feed {
    offset: u64,
    last: std::collections::HashMap<Key, Position>,
}

impl Feed {
    fn next(&mut self, symbol: u32, stream: Stream) -> Arc<Event> {
        self.offset += 1;
        let symbol = Symbol::new(symbol, &format!("S{symbol}"));
        let position = at(self.offset);
        let prev = self.last.insert((symbol.id, stream), position);
        let tail = Tail { prev, ..Tail::default() };
        let body = match stream.channel {
            Channel::Book => "\"bids\":[],\"asks\":[]".to_owned(),
            _ => format!("\"price\":\"{}\"", self.offset),
        };
        let kind = stream.channel.event_type();
        let head = format!(
            "{{\"type\":\"{kind}\",\"symbol\":\"{}\",{body},\"seq\":\"{position}\",\"event_ns\":\"1\",\"ingest_ns\":\"2\"",
            symbol.name
        );
        let mut text = head.into_bytes();
        let newest = (0, text.len() as u32);
        tail.write(&mut text);
        let text = text.into_boxed_slice();
        let (ingest_ns, event_ns, send_ns) = (2, 1, None);
        Arc::new(Event {
            symbol,
            stream,
            position,
            count: 1,
            tail,
            text,
            newest,
            ingest_ns,
            event_ns,
            send_ns,
        })
    }
}

/// A client that checks what it reads by the client's rule.
#[derive(Default)]
struct Client {
    bytes: Vec<u8>,
    /// What its socket did not take.
    left: Vec<u8>,
    chains: std::collections::HashMap<(String, Channel), ChainChecker>,
    events: u64,
    merged: u64,
    lost: u64,
    controls: Vec<String>,
    closed: Option<u16>,
}

impl Client {
    fn read(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while let Some((opcode, payload, used)) = parse(&self.bytes) {
            match opcode {
                8 => self.closed = Some(u16::from_be_bytes([payload[0], payload[1]])),
                10 => self.controls.push("pong".to_owned()),
                _ if payload[0] == b'{' => self.controls.push(String::from_utf8(payload).unwrap()),
                _ => self.data(&payload),
            }
            self.bytes.drain(..used);
        }
    }

    fn data(&mut self, payload: &[u8]) {
        for view in serde_json::from_slice::<Vec<EventView<'_>>>(payload).unwrap() {
            let channel = view.channel().unwrap();
            let chain = self.chains.entry((view.symbol.to_string(), channel)).or_default();
            if view.is_gap() {
                self.lost += view.count.unwrap();
                let gap =
                    Gap { after: view.after, upto: view.upto, count: view.count, cause: view.cause.unwrap() };
                assert!(chain.gap(&gap), "gap does not begin where the chain stands: {view:?}");
            } else {
                self.events += 1;
                self.merged += u64::from(view.tail().merged) - 1;
                let verdict = chain.event(view.seq.unwrap(), &view.tail(), false);
                assert!(
                    matches!(verdict, Verdict::First | Verdict::InOrder | Verdict::Snapshot),
                    "{verdict:?} {view:?}"
                );
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, at) = match second {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => unreachable!("no test writes such frames"),
        n => (usize::from(n), 2),
    };
    let payload = bytes.get(at..at + len)?.to_vec();
    Some((first & 15, payload, at + len))
}

/// Writes as much as the socket takes; returns whether it took everything.
fn flush(outbox: &mut Outbox, client: &mut Client, mut takes: usize, now_us: u32) -> bool {
    while outbox.has_work() {
        let mut filled = Filled::default();
        outbox.fill(&mut filled, &BOUNDS);
        // What TLS relies on: it has made records of them.
        let is_alone = client.left.is_empty() || filled.bytes() == client.left;
        assert!(is_alone, "what was not taken is presented again, alone and unchanged");
        let bytes = filled.bytes().len();
        let n = bytes.min(takes);
        client.left = filled.bytes()[n..].to_vec();
        client.read(&filled.bytes()[..n]);
        outbox.wrote(&mut filled, n, now_us);
        takes -= n;
        if n < bytes {
            return false;
        }
    }
    true
}

const TRADES: Stream = Stream::whole(Channel::Trades);
const QUOTES: Stream = Stream::whole(Channel::Quotes);
const BOOK: Stream = Stream::whole(Channel::Book);

#[test]
fn a_client_that_keeps_up_gets_everything_in_one_frame() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    for symbol in 0..3 {
        assert_eq!(outbox.offer(&feed.next(symbol, TRADES), OnSlow::Disconnect, 0, &BOUNDS), Offer::Queued);
    }
    outbox.control(b"{\"op\":\"heartbeat\"}".to_vec());
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!((client.events, client.controls.len()), (3, 1));
    assert_eq!(*outbox.books(), Books { offered: 3, sent: 3, ..Books::default() });
    assert_eq!(outbox.queued_bytes(), 0);
}

#[test]
fn conflation_keeps_the_newest_state_in_the_oldest_place() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    for _ in 0..50 {
        for symbol in 0..3 {
            assert_ne!(
                outbox.offer(&feed.next(symbol, QUOTES), OnSlow::Conflate, 0, &BOUNDS),
                Offer::Overflow
            );
        }
    }
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!(outbox.books().imbalance(), 0);
    assert_eq!(client.events + client.merged, 150);
    assert!(client.events < 50, "conflated from {} to {}", 150, client.events);
    assert_eq!(outbox.books().conflated, client.merged);
    assert_eq!(client.chains[&("S0".to_owned(), Channel::Quotes)].last(), Some(at(148)));
}

#[test]
fn skipping_announces_the_exact_count() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    for _ in 0..200 {
        assert_eq!(outbox.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &BOUNDS), Offer::Queued);
        assert!(outbox.queued_bytes() <= BOUNDS.bytes_max);
    }
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!(client.events + client.lost, 200);
    assert!(client.lost > 100);
    assert_eq!(outbox.books().dropped[DropReason::Skipped as usize], client.lost);
}

#[test]
fn disconnect_overflows_by_bytes_and_by_age() {
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let verdict = (0..100)
        .map(|_| outbox.offer(&feed.next(1, TRADES), OnSlow::Disconnect, 0, &BOUNDS))
        .find(|v| *v != Offer::Queued);
    assert_eq!(verdict, Some(Offer::Overflow));

    let mut outbox = Outbox::default();
    assert_eq!(outbox.offer(&feed.next(1, TRADES), OnSlow::Disconnect, 0, &BOUNDS), Offer::Queued);
    // A gateway that is late blames nobody: without a socket that refuses, there is no age.
    assert_eq!(outbox.check_age(5_000_000, &BOUNDS), Offer::Queued);
    outbox.throttle(10);
    assert_eq!(outbox.check_age(999_999, &BOUNDS), Offer::Queued);
    assert_eq!(outbox.check_age(1_000_000, &BOUNDS), Offer::Overflow);
}

#[test]
fn a_conflated_book_asks_for_one_snapshot_and_continues_from_it() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    let _ = outbox.offer(&feed.next(1, BOOK), OnSlow::Conflate, 0, &BOUNDS);
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    outbox.throttle(0);
    for _ in 0..100 {
        let _ = outbox.offer(&feed.next(1, BOOK), OnSlow::Conflate, 0, &BOUNDS);
    }
    assert!(outbox.due_resyncs(&BOUNDS).is_empty(), "not while the socket refuses bytes");
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    outbox.wrote(&mut Filled::default(), 0, 0);
    assert_eq!(outbox.due_resyncs(&BOUNDS), [(1, BOOK)]);
    assert!(outbox.due_resyncs(&BOUNDS).is_empty(), "asked once");
    let newest = feed.next(1, BOOK);
    let _ = outbox.offer(&newest, OnSlow::Conflate, 0, &BOUNDS);
    let _ = outbox.resync(&newest, OnSlow::Conflate, 0, &BOUNDS);
    let _ = outbox.offer(&feed.next(1, BOOK), OnSlow::Conflate, 0, &BOUNDS);
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!(client.chains[&("S1".to_owned(), Channel::Book)].last(), Some(at(feed.offset)));
    assert_eq!(outbox.books().imbalance(), 0);
}

/// A symbol moved to another partition, and its book was given up from a snapshot on that repeats what the client has.
/// That known position stood where the first unknown one belongs, so a cursor passed the changes behind it.
#[test]
fn a_cursor_never_passes_what_follows_a_repeated_state() {
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let known = feed.next(1, BOOK);
    let repeated = Arc::new(known.with_tail(Tail { prev: Some(known.position), ..known.tail }));
    let mut moved = Arc::into_inner(feed.next(1, BOOK)).expect("nobody else has it");
    moved.position.partition = 7;
    let _ = outbox.offer(&repeated, OnSlow::Conflate, 0, &BOUNDS);
    let _ = outbox.offer(&Arc::new(moved), OnSlow::Conflate, 0, &BOUNDS);
    outbox.throttle(0);
    let mut owed = Vec::new();
    outbox.owed_positions(|position| owed.push(position));
    assert_eq!(owed, [at(2), Position { partition: 7, ..at(2) }]);
}

/// Of a gap that does not say where it begins, and that took up events which were skipped behind it, the cursor passed all but
/// the last: whoever came back with it was not told of them.
#[test]
fn a_cursor_never_passes_what_a_gap_without_a_beginning_took_up() {
    const TRADES: Stream = Stream::whole(Channel::Trades);
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let first = feed.next(1, TRADES);
    let gap = Gap { after: None, upto: Some(first.position), count: None, cause: GapCause::Retention };
    outbox.announce(&first.symbol, first.stream, gap);
    outbox.throttle(0);
    let owed = |outbox: &Outbox| {
        let mut owed = Vec::new();
        outbox.owed_positions(|position| owed.push(position));
        owed.into_iter().min().expect("something is owed")
    };
    assert_eq!(owed(&outbox), first.position, "whoever asks for its end is told again");
    let bounds = Bounds { entries_max: 4, ..BOUNDS };
    for _ in 0..20 {
        let _ = outbox.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &bounds);
        assert_eq!(owed(&outbox), first.position);
    }
    assert!(outbox.books().dropped.iter().sum::<u64>() > 10, "they were skipped");
}

/// The first states that a replay gives have no `prev`. When newer ones took their place in the queue, a cursor passed them.
#[test]
fn a_cursor_never_passes_the_first_of_what_was_replaced() {
    const QUOTES: Stream = Stream::whole(Channel::Quotes);
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    outbox.throttle(0);
    let first = feed.next(1, QUOTES);
    assert_eq!(first.tail.prev, None);
    let bounds = Bounds { entries_max: 4, ..BOUNDS };
    let _ = outbox.offer(&first, OnSlow::Conflate, 0, &bounds);
    for _ in 0..20 {
        let _ = outbox.offer(&feed.next(1, QUOTES), OnSlow::Conflate, 0, &bounds);
    }
    assert!(outbox.books().conflated > 10, "they were replaced");
    let mut owed = Vec::new();
    outbox.owed_positions(|position| owed.push(position));
    assert_eq!(owed.into_iter().min(), Some(first.position));
}

/// A session that was ended while it held conflated quotes was given a cursor behind those that the newest had replaced.
/// Resumed from there, its chain broke, and nothing had said that they were lost.
#[test]
fn a_cursor_never_passes_what_a_held_state_stands_for() {
    const QUOTES: Stream = Stream::whole(Channel::Quotes);
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let _ = outbox.offer(&feed.next(1, QUOTES), OnSlow::Conflate, 0, &BOUNDS);
    assert!(flush(&mut outbox, &mut Client::default(), usize::MAX, 0));
    outbox.throttle(0);
    for symbol in [2, 1, 2, 1, 1] {
        let _ = outbox.offer(&feed.next(symbol, QUOTES), OnSlow::Conflate, 0, &BOUNDS);
    }
    let mut owed = Vec::new();
    outbox.owed_positions(|position| owed.push(position.offset));
    owed.sort_unstable();
    // Of S1 what follows 1, given before; of S2 all that there is, and nobody knows of an event before its first.
    assert_eq!(owed.first(), Some(&2));
    assert!(owed.contains(&6) && owed.contains(&4), "{owed:?}");
}

/// Cursors went back to what was played, and who came back with one was sent hours again of all that he had live.
#[test]
fn a_cursor_passes_what_is_played() {
    const TRADES: Stream = Stream::whole(Channel::Trades);
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let past = Arc::new(feed.next(1, TRADES).played_behind(None));
    let live = feed.next(1, TRADES);
    let gap = Gap { after: Some(at(0)), upto: Some(at(1)), count: None, cause: GapCause::Retention };
    outbox.announce(&past.symbol, past.stream, gap);
    let _ = outbox.offer(&past, OnSlow::Disconnect, 0, &BOUNDS);
    let _ = outbox.offer(&live, OnSlow::Disconnect, 0, &BOUNDS);
    let mut owed = Vec::new();
    outbox.owed_positions(|position| owed.push(position));
    assert_eq!(owed, [live.position]);
}

#[test]
fn pong_and_close_overtake_what_is_queued_but_never_tear_a_frame() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    for _ in 0..10 {
        let _ = outbox.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &BOUNDS);
    }
    assert!(!flush(&mut outbox, &mut client, 100, 0), "a frame is begun");
    outbox.pong(b"x");
    outbox.close(4490, "slow_consumer", Some(b"{\"op\":\"error\"}".to_vec()));
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!(
        (client.controls.as_slice(), client.closed),
        (&["pong".to_owned(), "{\"op\":\"error\"}".to_owned()][..], Some(4490))
    );
    assert!(outbox.is_closed() && client.bytes.is_empty());
    outbox.abandon();
    assert_eq!(outbox.books().imbalance(), 0);
}

#[test]
fn an_orderly_close_goes_last() {
    let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
    outbox.close_orderly(1012, "drain");
    let _ = outbox.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &BOUNDS);
    assert!(flush(&mut outbox, &mut client, usize::MAX, 0));
    assert_eq!((client.events, client.closed), (1, Some(1012)));
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u32, u8),
    Flush(usize),
    Control,
    Front,
    Pong,
    Age(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..4, 0u8..4).prop_map(|(symbol, kind)| Step::Offer(symbol, kind)),
        3 => (0usize..3_000).prop_map(Step::Flush),
        1 => Just(Step::Control),
        1 => Just(Step::Front),
        1 => Just(Step::Pong),
        1 => (0u32..2_000_000).prop_map(Step::Age),
    ]
}

fn stream_and_policy(kind: u8) -> (Stream, OnSlow) {
    match kind {
        0 => (TRADES, OnSlow::Skip),
        1 => (QUOTES, OnSlow::Conflate),
        2 => (BOOK, OnSlow::Conflate),
        _ => (Stream::whole(Channel::Status), OnSlow::Skip),
    }
}

proptest! {
    /// Whatever is offered and however the socket takes it: the books close at every step, nothing is lost without a
    /// gap, bounds hold, and a client that reads on in the end has seen or been told of everything.
    #[test]
    fn nothing_is_lost_in_silence(steps in proptest::collection::vec(any_step(), 1..300)) {
        let (mut outbox, mut feed, mut client) = (Outbox::default(), Feed::default(), Client::default());
        let mut now_us = 0u32;
        for step in steps {
            match step {
                Step::Offer(symbol, kind) => {
                    let (stream, policy) = stream_and_policy(kind);
                    prop_assert_ne!(outbox.offer(&feed.next(symbol, stream), policy, now_us, &BOUNDS), Offer::Overflow);
                }
                Step::Flush(takes) => {
                    flush(&mut outbox, &mut client, takes, now_us);
                }
                Step::Control => outbox.control(b"{}".to_vec()),
                Step::Front => outbox.control_first(b"{}".to_vec()),
                Step::Pong => outbox.pong(b"p"),
                Step::Age(us) => {
                    now_us += us;
                    prop_assert_ne!(outbox.check_age(now_us, &BOUNDS), Offer::Overflow);
                }
            }
            prop_assert_eq!(outbox.books().imbalance(), 0);
            prop_assert!(outbox.queued_bytes() <= BOUNDS.bytes_max + BOUNDS.write_bytes_max + 200);
        }
        flush(&mut outbox, &mut client, usize::MAX, now_us);
        outbox.wrote(&mut Filled::default(), 0, now_us);
        for (symbol, stream) in outbox.due_resyncs(&BOUNDS) {
            // The snapshot stands at the last position of its book.
            let position = feed.last[&(symbol, stream)];
            let tail = Tail { snapshot: true, ..Tail::default() };
            let mut text = format!("{{\"type\":\"book\",\"symbol\":\"S{symbol}\",\"seq\":\"{position}\"").into_bytes();
            let newest = (0, text.len() as u32);
            tail.write(&mut text);
            let event = Event {
                symbol: Symbol::new(symbol, &format!("S{symbol}")), stream, position, count: 1, tail,
                text: text.into_boxed_slice(), newest, ingest_ns: 0, event_ns: 0, send_ns: None,
            };
            prop_assert_ne!(outbox.resync(&Arc::new(event), OnSlow::Conflate, now_us, &BOUNDS), Offer::Overflow);
        }
        flush(&mut outbox, &mut client, usize::MAX, now_us);
        prop_assert_eq!(outbox.books().imbalance(), 0);
        prop_assert_eq!(outbox.books().held, 0);
        for ((symbol, stream), position) in &feed.last {
            let chain = &client.chains[&(format!("S{symbol}"), stream.channel)];
            prop_assert_eq!(chain.last(), Some(*position), "S{} {:?}", symbol, stream);
        }
    }
}

/// A client whose socket takes a part of every write was given new events behind the old ones each time, so that no write
/// was ever wholly taken: its books did not move, and what its events are measured by grew for as long as it lived.
#[test]
fn a_client_that_takes_only_parts_is_settled_with_all_the_same() {
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let mut filled = Filled::default();
    let mut held_max = 0;
    for _ in 0..2_000 {
        for symbol in 0..20 {
            let _ = outbox.offer(&feed.next(symbol, QUOTES), OnSlow::Conflate, 0, &BOUNDS);
        }
        outbox.fill(&mut filled, &BOUNDS);
        let part = filled.bytes().len().min(300);
        outbox.wrote(&mut filled, part, 0);
        held_max = held_max.max(outbox.held_bytes());
    }
    let books = outbox.books();
    assert_eq!(books.imbalance(), 0);
    assert!(books.sent > 500, "{books:?}");
    assert!(held_max < 64 << 10, "{held_max}");
}

/// Sessions write one after the other through the same bytes: equal queues share them, and no other gets its neighbour's.
#[test]
fn only_equal_queues_share_a_frame() {
    let mut feed = Feed::default();
    let (one, other) = (feed.next(1, TRADES), feed.next(2, TRADES));
    let mut filled = Filled::default();
    let mut frame = |events: &[&Arc<Event>], now_us| {
        let mut outbox = Outbox::default();
        for event in events {
            let _ = outbox.offer(event, OnSlow::Disconnect, now_us, &BOUNDS);
        }
        outbox.fill(&mut filled, &BOUNDS);
        let bytes = filled.bytes().to_vec();
        outbox.wrote(&mut filled, bytes.len(), now_us);
        let counted = u64::from(filled.stamps().offered.iter().map(|offered| offered.count).sum::<u32>());
        assert_eq!((outbox.books().sent, counted), (events.len() as u64, events.len() as u64));
        (bytes, filled.stamps().offered[0].at_us)
    };
    let first = frame(&[&one], 5);
    assert_eq!(frame(&[&one], 5), first);
    assert_ne!(frame(&[&other], 5).0, first.0);
    assert_eq!(frame(&[&one], 9), (first.0.clone(), 9), "offered at another time");
    let both = frame(&[&one, &other], 9);
    assert_ne!(frame(&[&other, &one], 9).0, both.0);
    assert_eq!(frame(&[&one], 5), first);
}

/// What is replayed is as old as its client was away: it counted among the latencies of the way, so that a client which came back
/// after a minute made a minute of their p99. It is in the books as any other.
#[test]
fn what_is_replayed_is_in_the_books_and_not_in_the_latencies() {
    let (mut outbox, mut feed) = (Outbox::default(), Feed::default());
    let replayed = feed.next(1, TRADES);
    let tail = Tail { replay: true, ..replayed.tail };
    let mut filled = Filled::default();
    for events in [vec![Arc::new(replayed.with_tail(tail))], vec![feed.next(1, TRADES)]] {
        let is_live = events.iter().all(|event| !event.tail.replay);
        for event in &events {
            assert_eq!(outbox.offer(event, OnSlow::Disconnect, 0, &BOUNDS), Offer::Queued);
        }
        outbox.fill(&mut filled, &BOUNDS);
        let bytes = filled.bytes().len();
        outbox.wrote(&mut filled, bytes, 0);
        assert_eq!(
            (filled.stamps().offered.len(), filled.stamps().origins.len()),
            (usize::from(is_live), usize::from(is_live))
        );
    }
    assert_eq!((outbox.books().sent, outbox.books().held), (2, 0));
}

/// A compressed frame is one write as any other: shared, taken in parts, and behind what is not compressed.
#[test]
fn a_compressed_frame_is_made_once_and_may_be_taken_in_parts() {
    let mut feed = Feed::default();
    let events: Vec<_> = (0..5).map(|_| feed.next(1, TRADES)).collect();
    let mut filled = Filled::deflated(Deflater::new(LEVEL, WINDOW_BITS), 64);
    let mut inflater = Inflater::default();
    let mut plain = None;
    for takes in [usize::MAX, 1, 7, 50] {
        let mut outbox = Outbox::default();
        for event in &events {
            let _ = outbox.offer(event, OnSlow::Disconnect, 5, &BOUNDS);
        }
        if plain.is_none() {
            let mut alone = Outbox::default();
            events.iter().for_each(|event| _ = alone.offer(event, OnSlow::Disconnect, 5, &BOUNDS));
            let mut filled = Filled::default();
            alone.fill(&mut filled, &BOUNDS);
            plain = parse(filled.bytes()).map(|(_, payload, _)| payload);
        }
        let mut got = Vec::new();
        while outbox.has_work() {
            outbox.fill(&mut filled, &BOUNDS);
            let part = filled.bytes().len().min(takes);
            got.extend_from_slice(&filled.bytes()[..part]);
            outbox.wrote(&mut filled, part, 5);
        }
        let (_, payload, bytes) = parse(&got).expect("a whole frame");
        assert_eq!((got[0], bytes), (0xc1, got.len()), "{takes}");
        assert_eq!(inflater.inflate(&payload, 10_000).ok().as_deref(), plain.as_deref());
        assert_eq!(outbox.books().sent, events.len() as u64);
        // Who is told something goes its own way, and what is told is plain; so is what comes with it.
        outbox.control(b"{}".to_vec());
        events.iter().for_each(|event| _ = outbox.offer(event, OnSlow::Disconnect, 5, &BOUNDS));
        let mut client = Vec::new();
        while outbox.has_work() {
            outbox.fill(&mut filled, &BOUNDS);
            client.extend_from_slice(filled.bytes());
            let bytes = filled.bytes().len();
            outbox.wrote(&mut filled, bytes, 5);
        }
        let (_, control, bytes) = parse(&client).expect("a whole frame");
        assert_eq!((client[0], &*control, client[bytes]), (0x81, &b"{}"[..], 0x81));
    }
    // Once for the first, and again for each that came behind frames of its own.
    let totals = filled.deflate_totals();
    assert_eq!((totals.frames, totals.frames_given_up), (4, 0));
    assert_eq!(totals.plain_bytes, 4 * plain.map_or(0, |payload| payload.len()) as u64);
}

/// What a client is to be told now, and what its socket refuses, is not for a flush window to keep.
#[test]
fn only_shared_events_far_from_the_bounds_may_be_gathered() {
    let mut feed = Feed::default();
    let offered = |feed: &mut Feed, events: usize| {
        let mut outbox = Outbox::default();
        for _ in 0..events {
            let _ = outbox.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &BOUNDS);
        }
        outbox
    };
    assert!(!offered(&mut feed, 0).may_gather(&BOUNDS), "there is nothing");
    assert!(offered(&mut feed, 2).may_gather(&BOUNDS));
    assert!(!offered(&mut feed, 30).may_gather(&BOUNDS), "half of a bound");
    let mut told = offered(&mut feed, 2);
    told.control(b"{}".to_vec());
    assert!(!told.may_gather(&BOUNDS), "a heartbeat, say");
    let mut refused = offered(&mut feed, 2);
    let mut filled = Filled::default();
    refused.fill(&mut filled, &BOUNDS);
    refused.wrote(&mut filled, 1, 0);
    let _ = refused.offer(&feed.next(1, TRADES), OnSlow::Skip, 0, &BOUNDS);
    assert!(!refused.may_gather(&BOUNDS), "a socket that refuses bytes");
}
