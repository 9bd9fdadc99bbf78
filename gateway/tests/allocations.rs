//! In a steady state, delivering an event to a client allocates nothing.
//!
//! A test of its own, for its allocator counts what the whole process does.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use tickgate_gateway::event::{Event, Stream, Symbol};
use tickgate_gateway::feed::request::Target;
use tickgate_gateway::feed::symbols::encode;
use tickgate_gateway::outbox::{Bounds, Filled, Offer, Outbox, Spares};
use tickgate_gateway::shard::table::{Subscriber, Table};
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::RecordDecoder;
use tickgate_protocol::{Channel, OnSlow, Position};

const SESSIONS: u32 = 500;
const EVENTS: u64 = 20;
const BOUNDS: Bounds = Bounds {
    bytes_max: 1 << 20,
    entries_max: 8_192,
    age_max_us: 5_000_000,
    write_bytes_max: 64 << 10,
    frame_bytes_max: 256 << 10,
};

/// Counts the allocations of each thread, so that those of the test harness do not count.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: hands everything to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `realloc` asks for.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn event(symbol: &Arc<Symbol>, offset: u64) -> Arc<Event> {
    let record = r#"{"type":"trade","symbol":"AAPL","price":"487.55","size":"100","event_ns":1,"venue":"Q"}"#;
    let mut decoder = RecordDecoder::new(1 << 20);
    let ticks = decoder.ticks(record.as_bytes()).expect("a good record");
    let body = &ticks[0].as_ref().expect("a good tick").body;
    let at = |offset| Position { epoch: 1, partition: 0, offset };
    let meta = Meta { position: at(offset), event_ns: 1, ingest_ns: 2, send_ns: None };
    let tail = Tail { prev: Some(at(offset - 1)), ..Tail::default() };
    Arc::new(
        encode(symbol, Stream::whole(Channel::Trades), std::iter::once((body, meta)), tail)
            .expect("one update"),
    )
}

#[test]
fn a_steady_fan_out_allocates_nothing() {
    let symbol = Symbol::new(0, "AAPL");
    let stream = Stream::whole(Channel::Trades);
    let mut table = Table::default();
    table.meet(&symbol);
    for session in 0..SESSIONS {
        table.insert(&Target::parse("AAPL"), stream, Subscriber::new(session, 0, OnSlow::Disconnect));
    }
    let events: Vec<_> = (1..=EVENTS).map(|offset| event(&symbol, offset)).collect();
    let mut outboxes: Vec<_> = (0..SESSIONS).map(|_| Outbox::default()).collect();
    let (mut spares, mut filled, mut written) = (Spares::default(), Filled::default(), 0);
    let mut pass = |count: usize| {
        for event in &events[..count] {
            table.walk(symbol.id, stream, |_, subscriber| {
                let outbox = &mut outboxes[subscriber.session as usize];
                outbox.lend(&mut spares);
                assert_eq!(outbox.offer(event, OnSlow::Disconnect, 0, &BOUNDS), Offer::Queued);
            });
        }
        for outbox in &mut outboxes {
            outbox.fill(&mut filled, &BOUNDS);
            let bytes = filled.bytes().len();
            outbox.wrote(&mut filled, bytes, 0);
            written += bytes;
            outbox.give_back(&mut spares);
            assert_eq!(outbox.held_bytes(), 0, "a quiet session holds no buffers");
        }
        spares.entries()
    };
    // Warm: as much at once as will ever come.
    let spare = pass(events.len());
    let before = ALLOCATIONS.get();
    for round in 0..50 {
        assert_eq!(pass(1 + round % events.len()), spare);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in a steady state");
    assert!(written > 0 && spare <= Spares::ENTRIES_MAX);
}
