//! The steps of the hot path, each set up as a closure that does it once more, in a state that lasts.

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
use tickgate_sim::model::{Model, ModelConfig, Preset};

/// A trade of 134 bytes.
pub const TRADE: &str = r#"{"type":"trade","symbol":"AAPL","price":"487.55","size":"100","event_ns":1381150800000000000,"side":"buy","trade_id":"77","venue":"Q"}"#;
/// A quote of 135 bytes.
pub const QUOTE: &str = r#"{"type":"quote","symbol":"AAPL","bid_price":"487.55","bid_size":"3","ask_price":"487.56","ask_size":"7","event_ns":1381150800000000000}"#;
/// Two changed levels of a book.
pub const BOOK: &str = r#"{"type":"book","symbol":"AAPL","bids":[["487.55","3"]],"asks":[["487.56","0"]],"event_ns":1381150800000000000,"snapshot":false}"#;

/// Events that one write takes in [`Client`].
pub const BURST: usize = 10;
/// Symbols of which [`conflate`] keeps the newest.
pub const CONFLATED: usize = 100;
/// Changes that [`book_update`] makes in turn.
pub const CHANGES: usize = 2;

const RECORD_BYTES_MAX: usize = 1 << 20;
const BOUNDS: Bounds = Bounds {
    bytes_max: 1 << 20,
    entries_max: 8_192,
    age_max_us: 5_000_000,
    write_bytes_max: 64 << 10,
    frame_bytes_max: 256 << 10,
};

/// A record to a borrowed tick.
pub fn decode(record: &'static str) -> impl FnMut() -> usize {
    let mut decoder = RecordDecoder::new(RECORD_BYTES_MAX);
    move || decoder.ticks(black_box(record.as_bytes())).map_or(0, |ticks| ticks.len())
}

/// Hands `work` a closure that makes of the record's tick the bytes that everyone gets.
pub fn encoding(record: &str, channel: Channel, work: impl FnOnce(&mut dyn FnMut() -> Option<Event>)) {
    let mut decoder = RecordDecoder::new(RECORD_BYTES_MAX);
    let ticks = decoder.ticks(record.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let (symbol, stream) = (Symbol::new(0, "AAPL"), Stream::whole(channel));
    let tail = Tail { prev: Some(meta(1).position), ..Tail::default() };
    work(&mut || encode(&symbol, stream, std::iter::once((black_box(body), meta(2))), tail));
}

/// Finding the subscribers of one event.
pub fn walk(subscribers: u32) -> impl FnMut() -> u64 {
    let mut table = Table::default();
    let stream = Stream::whole(Channel::Trades);
    table.meet(&Symbol::new(0, "AAPL"));
    for session in 0..subscribers {
        table.insert(&Target::parse("AAPL"), stream, Subscriber::new(session, 0, OnSlow::Disconnect));
    }
    move || {
        let mut sum = 0;
        table.walk(0, black_box(stream), |_, subscriber| sum += u64::from(subscriber.session));
        sum
    }
}

/// One client that takes what it is given.
#[derive(Debug)]
pub struct Client {
    events: Vec<Arc<Event>>,
    outbox: Outbox,
    filled: Filled,
}

impl Client {
    /// Whose events are [`BURST`] of `record`.
    pub fn new(record: &str, channel: Channel) -> Self {
        let events = (1..=BURST as u64).map(|offset| event(record, 0, channel, offset)).collect();
        Self { events, outbox: Outbox::default(), filled: Filled::default() }
    }

    /// Puts the events into its outbox.
    pub fn offer(&mut self) {
        self.offer_first(BURST);
    }

    fn offer_first(&mut self, count: usize) {
        for event in &self.events[..count] {
            let _ = black_box(self.outbox.offer(event, OnSlow::Disconnect, 0, &BOUNDS));
        }
    }

    /// Makes frames of what its outbox holds, all of which the socket takes: a flush without its system call. Returns
    /// how many bytes there were.
    pub fn flush(&mut self) -> usize {
        self.outbox.fill(&mut self.filled, &BOUNDS);
        let bytes = self.filled.bytes().len();
        self.outbox.wrote(&mut self.filled, bytes, 0);
        // A frame of its own for every client: no two have the same queue.
        self.filled.clear();
        bytes
    }
}

/// Bytes on the wire of one event of `record`, its frame included.
pub fn wire_bytes(record: &str, channel: Channel) -> usize {
    let mut client = Client::new(record, channel);
    client.offer_first(1);
    client.flush()
}

/// A newer quote takes the place of an older one of its symbol in the queue of a client that does not read:
/// [`CONFLATED`] symbols in turn. Returns how many entries are queued.
pub fn conflate() -> impl FnMut() -> usize {
    let quotes: Vec<_> =
        (0..CONFLATED as u32).map(|symbol| event(QUOTE, symbol, Channel::Quotes, 1)).collect();
    let mut outbox = Outbox::default();
    outbox.throttle(0);
    move || {
        for quote in &quotes {
            let _ = black_box(outbox.offer(quote, OnSlow::Conflate, 0, &BOUNDS));
        }
        outbox.queued_entries()
    }
}

/// One level of a book changes, a tenth of the way down: [`CHANGES`] times.
pub fn book_update(levels: usize) -> impl FnMut() {
    let mut book = book(levels);
    let price = decimal(&format!("{}", 1_000_000 - levels / 10));
    let change = |size| record::Book { bids: vec![(price, size)], asks: Vec::new(), snapshot: false };
    let changes: [_; CHANGES] = [change(decimal("1")), change(decimal("2"))];
    move || {
        for change in &changes {
            black_box(book.apply(black_box(change), usize::MAX, |_, _| ()));
        }
    }
}

/// The top of a book as the event that a subscription begins with.
pub fn snapshot(levels: usize) -> impl FnMut() -> Option<Event> {
    let book = book(levels);
    let (symbol, stream) = (Symbol::new(0, "AAPL"), Stream::whole(Channel::Book));
    let tail = Tail { snapshot: true, ..Tail::default() };
    move || {
        let (bids, asks) = book.top(black_box(None));
        let body = Body::Book(record::Book { bids, asks, snapshot: true });
        encode(&symbol, stream, std::iter::once((&body, meta(1))), tail)
    }
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

fn event(record: &str, symbol: u32, channel: Channel, offset: u64) -> Arc<Event> {
    let mut decoder = RecordDecoder::new(RECORD_BYTES_MAX);
    let ticks = decoder.ticks(record.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let tail = Tail { prev: Some(meta(offset - 1).position), ..Tail::default() };
    let (symbol, stream) = (Symbol::new(symbol, "AAPL"), Stream::whole(channel));
    Arc::new(encode(&symbol, stream, std::iter::once((body, meta(offset))), tail).expect("one update"))
}

/// The payload of a data frame of the first `count` trades and quotes of a simulated market of 500 stocks.
pub fn market_frame(count: usize) -> Vec<u8> {
    let config = ModelConfig { symbols: 500, rate_per_s: 5_000.0, seed: 1 };
    let model = Model::new(Preset::UsEquities, config).expect("a good configuration");
    let ticks = model.filter_map(|timed| match timed.tick.body {
        Body::Trade(_) => Some((timed, Channel::Trades)),
        Body::Quote(_) => Some((timed, Channel::Quotes)),
        _ => None,
    });
    let mut payload = vec![b'['];
    for (offset, (timed, channel)) in (1..).zip(ticks.take(count)) {
        let tick = timed.tick;
        // Each has times of its own, or they would compress as they never do.
        let mut at = meta(offset);
        at.event_ns += timed.offset_ns as i64;
        at.ingest_ns = at.event_ns + 250_000 + (offset as i64 * 7_919) % 50_000;
        let tail = Tail { prev: Some(meta(offset - 1).position), ..Tail::default() };
        let (symbol, stream) = (Symbol::new(0, &tick.symbol), Stream::whole(channel));
        let event = encode(&symbol, stream, std::iter::once((&tick.body, at)), tail).expect("one update");
        if payload.len() > 1 {
            payload.push(b',');
        }
        payload.extend_from_slice(&event.text);
    }
    payload.push(b']');
    payload
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_do_what_they_are_called() {
        for record in [TRADE, QUOTE, BOOK] {
            assert_eq!(decode(record)(), 1, "{record}");
        }
        encoding(TRADE, Channel::Trades, |encode| {
            let event = encode().expect("an event");
            assert!(String::from_utf8_lossy(event.head()).contains("487.55"));
        });
        assert_eq!(walk(1_000)(), 999 * 1_000 / 2);
        let mut quotes = conflate();
        assert_eq!((quotes(), quotes()), (CONFLATED, CONFLATED), "only the newest of each is kept");
        assert!(snapshot(20)().is_some());
    }

    #[test]
    fn a_client_gets_all_it_was_offered() {
        let mut client = Client::new(TRADE, Channel::Trades);
        for _ in 0..3 {
            client.offer();
            let bytes = client.flush();
            assert!(bytes > BURST * 100 && bytes < BURST * wire_bytes(TRADE, Channel::Trades), "{bytes}");
            assert_eq!(client.flush(), 0);
        }
    }
}
