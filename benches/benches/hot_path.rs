//! What one tick costs on its way through user space, step by step.
//!
//! A regression in `decode` or `encode` costs once per tick, in `walk` and `offer_and_fill` once per delivery: with ten
//! subscribers a nanosecond in the latter is worth ten in the former.

use divan::Bencher;
use divan::counter::ItemsCount;
use tickgate_benches::steps;
use tickgate_protocol::Channel;

fn main() {
    divan::main();
}

/// A record of 134 bytes to a borrowed tick.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    bencher.bench_local(steps::decode(steps::TRADE));
}

/// A tick to the bytes that everyone gets.
#[divan::bench]
fn encode_event(bencher: Bencher<'_, '_>) {
    steps::encoding(steps::TRADE, Channel::Trades, |encode| bencher.bench_local(encode));
}

/// Finding the subscribers of one event.
#[divan::bench(args = [1, 10, 1_000, 10_000, 100_000])]
fn walk(bencher: Bencher<'_, '_>, subscribers: u32) {
    bencher.counter(ItemsCount::new(subscribers)).bench_local(steps::walk(subscribers));
}

/// Ten events offered, made into one frame and taken by the socket: per delivery, without the system call.
#[divan::bench]
fn offer_and_fill(bencher: Bencher<'_, '_>) {
    let mut client = steps::Client::new(steps::TRADE, Channel::Trades);
    bencher.counter(ItemsCount::new(steps::BURST)).bench_local(|| {
        client.offer();
        client.flush()
    });
}

/// A newer quote takes the place of an older one of its symbol in the queue of a client that does not read: a hundred
/// symbols in turn.
#[divan::bench]
fn conflate(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(steps::CONFLATED)).bench_local(steps::conflate());
}

/// One level of a book changes, a tenth of the way down.
#[divan::bench(args = [20, 1_000, 10_000])]
fn book_update(bencher: Bencher<'_, '_>, levels: usize) {
    bencher.counter(ItemsCount::new(steps::CHANGES)).bench_local(steps::book_update(levels));
}

/// The top of a book as the event that a subscription begins with.
#[divan::bench(args = [20, 1_000, 10_000])]
fn snapshot(bencher: Bencher<'_, '_>, levels: usize) {
    bencher.bench_local(steps::snapshot(levels));
}
