//! Compressed messages that are far larger than they look: refused at the bound, with no more memory than the bound.
//!
//! A test of its own, for its allocator measures what the whole process does.
#![allow(unsafe_code)]

use flate2::{Compress, Compression, FlushCompress};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tickgate_protocol::deflate::{DEFLATER_BYTES, Deflater, INFLATER_BYTES, Inflater, LEVEL, WINDOW_BITS};
use tickgate_protocol::frame::{Bounds, Decoder, FRAGMENTS_MAX, Opcode, RSV1, Violation, header};

const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Measures what each thread holds and held at most, so that the test harness does not count.
struct Measuring;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counter any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: hands everything to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// Bytes that `work` takes at most beyond what there was, and what comes of it.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get().0;
    HELD.set((before, before));
    let done = work();
    ((HELD.get().1 - before) as usize, done)
}

/// So many zeros, in a frame that says that they are compressed.
fn bomb(mut zeros: usize) -> Vec<u8> {
    let mut state = Compress::new(Compression::best(), false);
    let (block, mut room, mut payload) = (vec![0; 1 << 20], vec![0; 2 << 20], Vec::new());
    while zeros > 0 {
        let bytes = zeros.min(block.len());
        zeros -= bytes;
        let before = state.total_out();
        state.compress(&block[..bytes], &mut room, FlushCompress::Sync).expect("zeros are compressed");
        payload.extend_from_slice(&room[..(state.total_out() - before) as usize]);
    }
    let (mut head, used) = header(Opcode::Binary, payload.len());
    head[0] |= RSV1;
    head[1] |= 0x80;
    // A mask of zeros.
    [&head[..used], &[0; 4], &payload].concat()
}

fn feed(inflater: &mut Inflater, bytes: &mut [u8]) -> Result<(), Violation> {
    let bounds = Bounds { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max: FRAGMENTS_MAX };
    Decoder::default().feed(bytes, &bounds, Some(inflater), |_| ())
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_largest_message() {
    let (_, mut inflater) = peak(Inflater::default);
    // What fits the bound is read, and costs what it is.
    let mut fits = bomb(MESSAGE_BYTES_MAX);
    let (bytes, fed) = peak(|| feed(&mut inflater, &mut fits));
    assert_eq!(fed, Ok(()));
    assert!((MESSAGE_BYTES_MAX..MESSAGE_BYTES_MAX + (64 << 10)).contains(&bytes), "{bytes}");
    // 1 KiB is at most 1 MiB, and 1 MiB 1 GiB: the latter is too large even as it is sent.
    for (zeros, sent_bytes) in [(1 << 20, 1 << 11), (60 << 20, 1 << 17), (1 << 30, 1 << 21)] {
        let mut bytes = bomb(zeros);
        assert!((zeros / 1_100..sent_bytes).contains(&bytes.len()), "{} for {zeros}", bytes.len());
        let (bytes, fed) = peak(|| feed(&mut inflater, &mut bytes));
        assert_eq!(fed, Err(Violation::TooBig));
        assert!(bytes < 64 << 10, "{bytes} bytes of heap for {zeros} zeros");
    }
}

#[test]
fn what_a_thread_has_for_all_its_connections_is_as_large_as_the_ceiling_says() {
    let (bytes, mut inflater) = peak(Inflater::default);
    assert!((INFLATER_BYTES / 2..=INFLATER_BYTES).contains(&bytes), "{bytes}");
    let mut small = bomb(10_000);
    assert_eq!(peak(|| feed(&mut inflater, &mut small)), (0, Ok(())), "it grows by nothing");
    let text = br#"{"ch":"trades","sym":"AAPL","px":"100.25"},"#.repeat(1_000);
    let (bytes, held) = peak(|| {
        let mut deflater = Deflater::new(LEVEL, WINDOW_BITS);
        assert!(deflater.deflate(&text).is_some());
        deflater.held_bytes()
    });
    assert!((DEFLATER_BYTES / 2..=DEFLATER_BYTES).contains(&(bytes - held)), "{bytes} {held}");
    assert!((text.len()..2 * text.len()).contains(&held));
}
