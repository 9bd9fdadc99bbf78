//! What one tick costs on its way through user space, step by step.
//!
//! A regression in `decode` or `encode` costs once per tick, in `walk` and `offer_and_fill` once per delivery: with ten
//! subscribers a nanosecond in the latter is worth ten in the former.

use divan::Bencher;
use divan::counter::ItemsCount;
use std::hint::black_box;
use std::sync::Arc;
use tickgate_gateway::event::{Event, Stream, Symbol};
use tickgate_gateway::feed::request::Target;
use tickgate_gateway::feed::symbols::encode;
use tickgate_gateway::outbox::{Bounds, Outbox};
use tickgate_gateway::shard::table::{Subscriber, Table};
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::RecordDecoder;
use tickgate_protocol::{Channel, OnSlow, Position};

const TRADE: &str = r#"{"type":"trade","symbol":"AAPL","price":"487.55","size":"100","event_ns":1381150800000000000,"side":"buy","trade_id":"77","venue":"Q"}"#;
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
    let mut decoder = RecordDecoder::new(1 << 20);
    let ticks = decoder.ticks(TRADE.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let tail = Tail { prev: Some(meta(offset - 1).position), ..Tail::default() };
    let stream = Stream::whole(Channel::Trades);
    Arc::new(
        encode(&Symbol::new(0, "AAPL"), stream, std::iter::once((body, meta(offset))), tail)
            .expect("one update"),
    )
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
#[divan::bench(args = [1, 10, 1_000, 10_000])]
fn walk(bencher: Bencher<'_, '_>, subscribers: u32) {
    let mut table = Table::default();
    let stream = Stream::whole(Channel::Trades);
    table.meet(&Symbol::new(0, "AAPL"));
    for session in 0..subscribers {
        table.insert(&Target::parse("AAPL"), stream, Subscriber { session, sub: 0 });
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
    let mut frame = Vec::new();
    bencher.counter(ItemsCount::new(10usize)).bench_local(|| {
        for event in &events {
            let _ = black_box(outbox.offer(event, OnSlow::Disconnect, 0, &BOUNDS));
        }
        frame.clear();
        outbox.fill(&mut frame, &BOUNDS, |_| ());
        outbox.wrote(&frame, frame.len(), 0);
        frame.len()
    });
}
