//! What one tick costs on its way through user space, step by step.
//!
//! A regression in `decode` or `encode` costs once per tick, in `walk` and `offer_and_fill` once per delivery: with ten
//! subscribers a nanosecond in the latter is worth ten in the former.

use divan::Bencher;
use divan::counter::ItemsCount;
use std::hint::black_box;
use std::sync::Arc;
use tickgate_gateway::event::{Event, Stream, Symbol};
use tickgate_gateway::feed::book::Book;
use tickgate_gateway::feed::request::Target;
use tickgate_gateway::feed::symbols::encode;
use tickgate_gateway::outbox::{Bounds, Filled, Outbox};
use tickgate_gateway::shard::table::{Subscriber, Table};
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::{self, Body, Level, RecordDecoder};
use tickgate_protocol::{Channel, Decimal, OnSlow, Position};

const TRADE: &str = r#"{"type":"trade","symbol":"AAPL","price":"487.55","size":"100","event_ns":1381150800000000000,"side":"buy","trade_id":"77","venue":"Q"}"#;
const QUOTE: &str = r#"{"type":"quote","symbol":"AAPL","bid_price":"487.55","bid_size":"3","ask_price":"487.56","ask_size":"7","event_ns":1381150800000000000}"#;
const BOUNDS: Bounds = Bounds {
    bytes_max: 1 << 20,
    entries_max: 8_192,
    age_max_us: 5_000_000,
    write_bytes_max: 64 << 10,
    frame_bytes_max: 256 << 10,
};

fn main() {
    divan::main();
}

fn meta(offset: u64) -> Meta {
    let position = Position { epoch: 0x1f3a, partition: 3, offset };
    Meta {
        position,
        event_ns: 1_381_150_800_000_000_000,
        ingest_ns: 1_381_150_800_000_250_000,
        send_ns: None,
    }
}

fn event(offset: u64) -> Arc<Event> {
    event_of(TRADE, 0, Channel::Trades, offset)
}

fn event_of(record: &str, symbol: u32, channel: Channel, offset: u64) -> Arc<Event> {
    let mut decoder = RecordDecoder::new(1 << 20);
    let ticks = decoder.ticks(record.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let tail = Tail { prev: Some(meta(offset - 1).position), ..Tail::default() };
    let (symbol, stream) = (Symbol::new(symbol, "AAPL"), Stream::whole(channel));
    Arc::new(encode(&symbol, stream, std::iter::once((body, meta(offset))), tail).expect("one update"))
}

/// A book with as many levels a side, prices a cent apart.
fn book(levels: usize) -> Book {
    let side = |at: fn(usize) -> usize| -> Vec<Level> {
        (0..levels).map(|level| (decimal(&format!("{}", at(level))), decimal("7"))).collect()
    };
    let whole = record::Book { bids: side(|n| 1_000_000 - n), asks: side(|n| 1_000_001 + n), snapshot: true };
    let mut book = Book::default();
    book.apply(&whole, usize::MAX, |_, _| ());
    book
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).expect("a decimal")
}

/// A record of 140 bytes to a borrowed tick.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let mut decoder = RecordDecoder::new(1 << 20);
    bencher.bench_local(|| decoder.ticks(black_box(TRADE.as_bytes())).map(|ticks| ticks.len()));
}

/// A tick to the bytes that everyone gets.
#[divan::bench]
fn encode_event(bencher: Bencher<'_, '_>) {
    let mut decoder = RecordDecoder::new(1 << 20);
    let ticks = decoder.ticks(TRADE.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let symbol = Symbol::new(0, "AAPL");
    let tail = Tail { prev: Some(meta(1).position), ..Tail::default() };
    let stream = Stream::whole(Channel::Trades);
    bencher.bench_local(|| encode(&symbol, stream, std::iter::once((black_box(body), meta(2))), tail));
}

/// Finding the subscribers of one event.
#[divan::bench(args = [1, 10, 1_000, 10_000, 100_000])]
fn walk(bencher: Bencher<'_, '_>, subscribers: u32) {
    let mut table = Table::default();
    let stream = Stream::whole(Channel::Trades);
    table.meet(&Symbol::new(0, "AAPL"));
    for session in 0..subscribers {
        table.insert(&Target::parse("AAPL"), stream, Subscriber::new(session, 0, OnSlow::Disconnect));
    }
    bencher.counter(ItemsCount::new(subscribers)).bench_local(|| {
        let mut sum = 0u64;
        table.walk(0, black_box(stream), |_, subscriber| sum += u64::from(subscriber.session));
        sum
    });
}

/// Ten events offered, made into one frame and taken by the socket: per delivery, without the system call.
#[divan::bench]
fn offer_and_fill(bencher: Bencher<'_, '_>) {
    let events: Vec<_> = (1..=10).map(event).collect();
    let mut outbox = Outbox::default();
    let mut filled = Filled::default();
    bencher.counter(ItemsCount::new(10usize)).bench_local(|| {
        for event in &events {
            let _ = black_box(outbox.offer(event, OnSlow::Disconnect, 0, &BOUNDS));
        }
        outbox.fill(&mut filled, &BOUNDS);
        let bytes = filled.bytes().len();
        outbox.wrote(&mut filled, bytes, 0);
        // A frame of its own for every client.
        filled.clear();
        bytes
    });
}

/// A newer quote takes the place of an older one of its symbol in the queue of a client that does not read: a hundred
/// symbols in turn.
#[divan::bench]
fn conflate(bencher: Bencher<'_, '_>) {
    let quotes: Vec<_> = (0..100).map(|symbol| event_of(QUOTE, symbol, Channel::Quotes, 1)).collect();
    let mut outbox = Outbox::default();
    outbox.throttle(0);
    bencher.counter(ItemsCount::new(100usize)).bench_local(|| {
        for quote in &quotes {
            let _ = black_box(outbox.offer(quote, OnSlow::Conflate, 0, &BOUNDS));
        }
    });
    assert_eq!(outbox.queued_entries(), 100, "only the newest of each is kept");
}

/// One level of a book changes, a tenth of the way down.
#[divan::bench(args = [20, 1_000, 10_000])]
fn book_update(bencher: Bencher<'_, '_>, levels: usize) {
    let mut book = book(levels);
    let price = decimal(&format!("{}", 1_000_000 - levels / 10));
    let change = |size| record::Book { bids: vec![(price, size)], asks: Vec::new(), snapshot: false };
    let changes = [change(decimal("1")), change(decimal("2"))];
    bencher.counter(ItemsCount::new(2usize)).bench_local(|| {
        for change in &changes {
            black_box(book.apply(black_box(change), usize::MAX, |_, _| ()));
        }
    });
}

/// The top of a book as the event that a subscription begins with.
#[divan::bench(args = [20, 1_000, 10_000])]
fn snapshot(bencher: Bencher<'_, '_>, levels: usize) {
    let book = book(levels);
    let (symbol, stream) = (Symbol::new(0, "AAPL"), Stream::whole(Channel::Book));
    let tail = Tail { snapshot: true, ..Tail::default() };
    bencher.bench_local(|| {
        let (bids, asks) = book.top(black_box(None));
        let body = Body::Book(record::Book { bids, asks, snapshot: true });
        encode(&symbol, stream, std::iter::once((&body, meta(1))), tail)
    });
}
