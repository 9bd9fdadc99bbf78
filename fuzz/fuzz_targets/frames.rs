//! Frames of a client: however their bytes arrive, they are understood alike, and no more is kept than is allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_protocol::deflate::Inflater;
use tickgate_protocol::frame::{Bounds, CONTROL_BYTES_MAX, Decoder, FRAGMENTS_MAX, Message, Violation};

/// Largest header of a client's frame.
const HEADER_BYTES: usize = 14;

#[derive(Debug, PartialEq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn read<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    message_bytes_max: usize,
    may_deflate: bool,
) -> (Vec<Got>, Result<(), Violation>) {
    let bounds = Bounds { message_bytes_max, fragments_max: FRAGMENTS_MAX };
    let mut inflater = may_deflate.then(Inflater::default);
    let (mut decoder, mut got, mut read) = (Decoder::default(), Vec::new(), 0);
    for piece in pieces {
        read += piece.len();
        let fed = decoder.feed(&mut piece.to_vec(), &bounds, inflater.as_mut(), |message| {
            got.push(match message {
                Message::Text(text) => Got::Text(text.to_owned()),
                Message::Binary(bytes) => Got::Binary(bytes.to_vec()),
                Message::Ping(bytes) => Got::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Got::Pong(bytes.to_vec()),
                Message::Close(code) => Got::Close(code),
            });
        });
        if let Err(violation) = fed {
            return (got, Err(violation));
        }
        // Each of its two buffers may have twice the room that it needs; what is declared and has not come takes none.
        let incomplete = HEADER_BYTES + message_bytes_max.max(CONTROL_BYTES_MAX) + piece.len();
        let most = 2 * (message_bytes_max.min(read) + incomplete.min(read) + HEADER_BYTES);
        assert!(decoder.held_bytes() <= most, "{} bytes held after {read}", decoder.held_bytes());
    }
    (got, Ok(()))
}

fuzz_target!(|input: &[u8]| {
    let [cap, step, bytes @ ..] = input else { return };
    let message_bytes_max = usize::from(*cap) * 8;
    let (step, may_deflate) = (usize::from(step & 0x7f).max(1), step & 0x80 != 0);
    let whole = read(std::iter::once(bytes), message_bytes_max, may_deflate);
    let split = read(bytes.chunks(step), message_bytes_max, may_deflate);
    assert_eq!(whole, split);
    for got in &whole.0 {
        match got {
            Got::Text(text) => assert!(text.len() <= message_bytes_max),
            Got::Binary(bytes) => assert!(bytes.len() <= message_bytes_max),
            Got::Ping(bytes) | Got::Pong(bytes) => assert!(bytes.len() <= 125),
            Got::Close(_) => {}
        }
    }
});
