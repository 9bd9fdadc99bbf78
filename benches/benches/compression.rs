//! What compression costs, and what it saves: frames of some ticks of a simulated market.
//!
//! A regression in `deflate` costs once per frame and shard, however many clients get it. `copy` is what the frame costs each
//! of them anyway, the system call apart; `inflate` is what a client that compresses its requests costs.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tickgate_benches::steps;
use tickgate_protocol::deflate::{Deflater, Inflater, WINDOW_BITS};

const TICKS: [usize; 4] = [1, 5, 20, 100];
const LEVELS: [u32; 2] = [1, 6];

fn main() {
    println!("ticks    plain  {}", LEVELS.map(|level| format!("level {level}      ")).concat());
    for ticks in TICKS {
        let plain = steps::market_frame(ticks);
        let deflated = LEVELS.map(|level| {
            let bytes = Deflater::new(level, WINDOW_BITS).deflate(&plain).map_or(plain.len(), <[u8]>::len);
            format!("{bytes:>6} {:>3} %  ", 100 * bytes / plain.len())
        });
        println!("{ticks:>5} {:>8} {}", plain.len(), deflated.concat());
    }
    println!();
    divan::main();
}

/// The payload of a frame to a compressed one.
#[divan::bench(consts = LEVELS, args = TICKS)]
fn deflate<const LEVEL: u32>(bencher: Bencher<'_, '_>, ticks: usize) {
    let plain = steps::market_frame(ticks);
    let mut deflater = Deflater::new(LEVEL, WINDOW_BITS);
    bencher
        .counter(BytesCount::new(plain.len()))
        .bench_local(|| deflater.deflate(black_box(&plain)).map(<[u8]>::len));
}

/// And back.
#[divan::bench(args = TICKS)]
fn inflate(bencher: Bencher<'_, '_>, ticks: usize) {
    let plain = steps::market_frame(ticks);
    let mut deflater = Deflater::new(6, WINDOW_BITS);
    let payload = deflater.deflate(&plain).expect("frames of ticks become smaller").to_vec();
    let mut inflater = Inflater::default();
    let counter = BytesCount::new(plain.len());
    bencher
        .counter(counter)
        .bench_local(|| inflater.inflate(black_box(&payload), 1 << 20).map(|message| message.len()));
}

/// The payload of a frame to a buffer that is there.
#[divan::bench(args = TICKS)]
fn copy(bencher: Bencher<'_, '_>, ticks: usize) {
    let plain = steps::market_frame(ticks);
    let mut frame = Vec::with_capacity(plain.len());
    bencher.counter(BytesCount::new(plain.len())).bench_local(|| {
        frame.clear();
        frame.extend_from_slice(black_box(&plain));
        black_box(&frame).len()
    });
}
