use super::*;
use crate::frame::{Bounds, Decoder, FRAGMENTS_MAX, Message, RSV1};
use proptest::prelude::*;

/// Text that compresses as market data does.
fn ticks(count: usize) -> Vec<u8> {
    let tick =
        |n: usize| format!(r#"{{"ch":"trades","sym":"S{}","px":"{}.25","seq":"1:0:{n}"}}"#, n % 7, 100 + n);
    (0..count).map(tick).collect::<Vec<_>>().join(",").into_bytes()
}

/// As some client would compress it.
fn compressed(text: &[u8], window_bits: u8, flush: FlushCompress) -> Vec<u8> {
    let mut state = Compress::new_with_window_bits(Compression::best(), false, window_bits);
    let mut out = vec![0; text.len() + 1_000];
    state.compress(text, &mut out, flush).unwrap();
    assert_eq!(state.total_in() as usize, text.len());
    out.truncate(state.total_out() as usize);
    out
}

#[test]
fn what_is_compressed_is_read_again() {
    for (count, bits) in [(1, 12), (5, 12), (100, 12), (3_000, 12), (100, 9), (100, 15)] {
        let text = ticks(count);
        let mut deflater = Deflater::new(LEVEL, bits);
        let first = deflater.deflate(&text).expect("it is smaller").to_vec();
        assert!(first.len() < text.len() && !first.ends_with(&TAIL), "{count}");
        // Nothing of one message is in the next.
        assert_eq!(deflater.deflate(&text), Some(&*first));
        assert_eq!(Inflater::default().inflate(&first, text.len()), Ok(Cow::Borrowed(&*text)), "{count}");
    }
}

#[test]
fn what_would_not_be_smaller_stays_as_it_is() {
    let mut deflater = Deflater::new(LEVEL, WINDOW_BITS);
    let mut state = 1u64;
    let mut chance = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    for bytes in [0, 1, 5, 64, 5_000] {
        let noise: Vec<u8> = (0..bytes).map(|_| chance()).collect();
        assert_eq!(deflater.deflate(&noise), None, "{bytes}");
        // It goes on as if nothing had been.
        let text = ticks(50);
        let payload = deflater.deflate(&text).expect("it is smaller").to_vec();
        assert_eq!(Inflater::default().inflate(&payload, text.len()).as_deref(), Ok(&*text), "after {bytes}");
    }
}

/// What other implementations send: any window, stored blocks, streams that end within a message (RFC 7692 7.2.3).
#[test]
fn what_clients_may_send() {
    let mut inflater = Inflater::default();
    let mut check = |payload: &[u8], expected: &[u8]| {
        assert_eq!(inflater.inflate(payload, 1 << 20).as_deref(), Ok(expected), "{payload:x?}");
    };
    // The examples of 7.2.3, but for the one with a context.
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
    check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello");
    check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello");
    check(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
    check(&[0x00], b"");
    check(&[], b"");
    for bits in 9..=15 {
        for count in [1, 400, 4_000] {
            let text = ticks(count);
            let whole = compressed(&text, bits, FlushCompress::Sync);
            check(whole.strip_suffix(&TAIL).unwrap(), &text);
            let ended = compressed(&text, bits, FlushCompress::Finish);
            check(&[&*ended, &[0]].concat(), &text);
            check(&[&*ended, &ended, &[0]].concat(), &[&*text, &text].concat());
        }
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let mut inflater = Inflater::default();
    for payload in [&[0x06, 0x00][..], &[0xff; 9], &[0x00, 5, 0, 0, 0, b'x']] {
        assert_eq!(inflater.inflate(payload, 1_000), Err(Violation::Deflate), "{payload:x?}");
    }
    // Each of them is two bytes, and nothing.
    let ends = [0x03, 0x00].repeat(STREAMS_MAX);
    assert_eq!(inflater.inflate(&ends, 10).as_deref(), Ok(&b""[..]));
    assert_eq!(inflater.inflate(&[&*ends, &[0x03, 0x00]].concat(), 10), Err(Violation::Deflate));
    assert_eq!(Violation::Deflate.close_code(), 1007);
}

#[test]
fn the_bound_is_on_what_comes_out() {
    let text = ticks(2_000);
    let payload = compressed(&text, 15, FlushCompress::Sync);
    let mut inflater = Inflater::default();
    assert!(matches!(inflater.inflate(&payload, text.len()), Ok(Cow::Owned(message)) if message == text));
    assert_eq!(inflater.inflate(&payload, text.len() - 1), Err(Violation::TooBig));
    // Whatever it was given, the next message is read.
    assert_eq!(
        inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5).as_deref(),
        Ok(&b"Hello"[..])
    );
    assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 4), Err(Violation::TooBig));
    let exact = compressed(&vec![b'x'; SCRATCH_BYTES], 15, FlushCompress::Sync);
    assert_eq!(inflater.inflate(&exact, SCRATCH_BYTES).map(|message| message.len()), Ok(SCRATCH_BYTES));
    assert_eq!(inflater.inflate(&exact, SCRATCH_BYTES - 1), Err(Violation::TooBig));
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::frame::write_header(&mut out, crate::frame::Opcode::Text, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    // A mask of zeros.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// What a decoder makes of frames, of a client with which compression was agreed on.
fn read(bytes: &[u8], pieces_of: usize) -> (Vec<String>, Result<(), Violation>) {
    let bounds = Bounds { message_bytes_max: 100_000, fragments_max: FRAGMENTS_MAX };
    let (mut decoder, mut inflater, mut seen) = (Decoder::default(), Inflater::default(), Vec::new());
    for piece in bytes.chunks(pieces_of) {
        let fed = decoder.feed(&mut piece.to_vec(), &bounds, Some(&mut inflater), |message| {
            seen.push(match message {
                Message::Text(text) => text.to_owned(),
                other => format!("{other:?}"),
            });
        });
        if fed.is_err() {
            return (seen, fed);
        }
    }
    assert!(decoder.is_idle() && decoder.held_bytes() == 0);
    (seen, Ok(()))
}

#[test]
fn compressed_messages_come_as_any_others() {
    let text = ticks(30);
    let payload = compressed(&text, 15, FlushCompress::Sync);
    let payload = payload.strip_suffix(&TAIL).unwrap();
    let (first, second) = payload.split_at(20);
    let bytes = [
        frame(0x81 | RSV1, payload),
        frame(0x81, b"plain"),
        // Marked on the first fragment alone, and about all of them.
        frame(0x01 | RSV1, first),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x80, second),
        frame(0x01, b"in "),
        frame(0x80, b"two"),
        frame(0x82 | RSV1, &[0x00]),
    ]
    .concat();
    let text = String::from_utf8(text).unwrap();
    let expected = [&*text, "plain", "Ping([112])", &text, "in two", "Binary([])"].map(str::to_owned);
    for pieces_of in [1, 7, 1_000_000] {
        assert_eq!(read(&bytes, pieces_of), (expected.to_vec(), Ok(())));
    }
}

#[test]
fn violations_of_what_was_agreed_on() {
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let not_text = compressed(&[0xff, 0xfe], 15, FlushCompress::Sync);
    for (what, bytes, violation) in [
        ("a ping", frame(0x89 | RSV1, b""), Violation::ReservedBits),
        ("a pong", frame(0x8a | RSV1, b""), Violation::ReservedBits),
        ("a close", frame(0x88 | RSV1, b""), Violation::ReservedBits),
        ("a continuation", two(frame(0x01 | RSV1, b""), frame(0x80 | RSV1, b"")), Violation::ReservedBits),
        ("a plain one's", two(frame(0x01, b""), frame(0x80 | RSV1, b"")), Violation::ReservedBits),
        ("with RSV2", frame(0x81 | RSV1 | 0x20, b""), Violation::ReservedBits),
        ("RSV3 alone", frame(0x91, b""), Violation::ReservedBits),
        ("no deflate", frame(0x81 | RSV1, &[0xff; 9]), Violation::Deflate),
        ("no text", frame(0x81 | RSV1, &not_text), Violation::NotUtf8),
    ] {
        assert_eq!(read(&bytes, 1_000), (Vec::new(), Err(violation)), "{what}");
    }
    let large = compressed(&vec![b'x'; 100_001], 15, FlushCompress::Sync);
    assert_eq!(read(&frame(0x81 | RSV1, &large), 1_000).1, Err(Violation::TooBig));
}

proptest! {
    /// One after the other, as a thread compresses them: those that are small, and those that would become larger.
    #[test]
    fn any_messages_are_read_again(
        messages in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..600), prop_oneof![3 => Just(1usize), 1 => 1usize..100]),
            1..20,
        ),
        level in prop_oneof![3 => Just(LEVEL), 1 => 0u32..=9],
        bits in 9u8..=15,
    ) {
        let (mut deflater, mut inflater) = (Deflater::new(level, bits), Inflater::default());
        for (part, times) in messages {
            let message = part.repeat(times);
            if let Some(payload) = deflater.deflate(&message) {
                prop_assert!(payload.len() < message.len());
                let read = inflater.inflate(payload, message.len());
                prop_assert_eq!(read.as_deref(), Ok(&*message));
            }
        }
    }

    #[test]
    fn there_is_room_for_any_message(
        message in proptest::collection::vec(any::<u8>(), 0..20_000),
        level in 0u32..=9,
        bits in 9u8..=15,
    ) {
        let mut state = fresh(Compression::new(level), bits);
        let mut out = vec![0; room(message.len())];
        state.compress(&message, &mut out, FlushCompress::Sync).unwrap();
        prop_assert!(state.total_in() as usize == message.len() && (state.total_out() as usize) < out.len());
    }

    #[test]
    fn no_payload_panics_or_passes_the_bound(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut inflater = Inflater::default();
        if let Ok(message) = inflater.inflate(&payload, 5_000) {
            prop_assert!(message.len() <= 5_000);
        }
    }
}
