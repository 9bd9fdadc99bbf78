//! The steps of the hot path, one after the other, for callgrind to count: it counts in [`counted_step`], and writes down
//! what it has counted when [`noted_step`] is left. So there is one file for each line that is printed.

use std::hint::black_box;
use tickgate_benches::steps;
use tickgate_protocol::Channel;

/// The function in which callgrind is to count, and the one behind which it is to write down.
pub const COUNTED: &str = "counted_step";
pub const NOTED: &str = "noted_step";

/// How often a step is done before it is counted: buffers have their size then, and the dynamic linker has done its part.
const WARM_UP: usize = 3;
/// Events that are encoded at a time.
const ENCODED: usize = 100;

/// Runs every step, and prints a line for each that was counted: how many items it was for, and its name.
pub fn run() {
    for (name, record) in [("trade", steps::TRADE), ("quote", steps::QUOTE), ("book", steps::BOOK)] {
        count(&format!("decode {name}"), 1, steps::decode(record));
    }
    let records = [
        ("trade", steps::TRADE, Channel::Trades),
        ("quote", steps::QUOTE, Channel::Quotes),
        ("book", steps::BOOK, Channel::Book),
    ];
    for (name, record, channel) in records {
        // What was encoded is kept: the first to be given back leave holes, and what it costs to grow a buffer in one
        // depends on where the program's other memory happens to be.
        let mut kept = Vec::with_capacity((WARM_UP + 1) * ENCODED);
        steps::encoding(record, channel, |encode| {
            count(&format!("encode {name}"), ENCODED, || kept.extend((0..ENCODED).map(|_| encode())));
        });
    }
    for (name, subscribers) in [("1", 1), ("10", 10), ("1k", 1_000), ("10k", 10_000), ("100k", 100_000)] {
        count(&format!("walk {name}"), subscribers as usize, steps::walk(subscribers));
    }
    for (name, record, channel) in &records[..2] {
        let mut client = steps::Client::new(record, *channel);
        for _ in 0..WARM_UP {
            client.offer();
            client.flush();
        }
        once(&format!("offer {name}"), steps::BURST, &mut || client.offer());
        once(&format!("flush {name}"), steps::BURST, &mut || {
            black_box(client.flush());
        });
    }
    count("conflate", steps::CONFLATED, steps::conflate());
    for (name, levels) in [("20", 20), ("1k", 1_000), ("10k", 10_000)] {
        count(&format!("book update {name}"), steps::CHANGES, steps::book_update(levels));
    }
}

fn count<T>(name: &str, items: usize, mut step: impl FnMut() -> T) {
    let mut step = || {
        black_box(step());
    };
    for _ in 0..WARM_UP {
        step();
    }
    once(name, items, &mut step);
}

/// Does a step a last time, and says so.
fn once(name: &str, items: usize, step: &mut dyn FnMut()) {
    noted_step(step);
    println!("{items} {name}");
}

#[inline(never)]
fn noted_step(step: &mut dyn FnMut()) {
    counted_step(step);
    // Something behind the call, so that it does not become a jump, with which callgrind would see this function left.
    black_box(());
}

#[inline(never)]
fn counted_step(step: &mut dyn FnMut()) {
    step();
    black_box(());
}
