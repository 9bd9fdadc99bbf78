//! Our decoder and fastwebsockets' reader over the same bytes.
//!
//! They do not accept the same: ours is stricter, for the reasons that ARCHITECTURE.md gives, and refuses text at the end
//! of its message where theirs may refuse a fragment. What both accept they must understand alike.

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use proptest::prelude::*;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tickgate_protocol::frame::{
    Bounds, CONTROL_BYTES_MAX, Decoder, FRAGMENTS_MAX, Message, Opcode, Violation, header,
};
use tokio::io::{AsyncRead, ReadBuf};

/// Larger than anything that is made here.
const ROOM: Bounds = Bounds { message_bytes_max: 1 << 20, fragments_max: FRAGMENTS_MAX };

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What ours made of the pieces, and whether it refused one or else waits for more.
fn ours(pieces: &[&[u8]]) -> (Vec<Got>, Result<bool, Violation>) {
    let (mut decoder, mut got) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let fed = decoder.feed(&mut piece.to_vec(), &ROOM, None, |message| {
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
    }
    (got, Ok(decoder.held_bytes() > 0))
}

/// A socket that gives a piece at each read, as far as there is room for it, and then its end.
struct Pieces<'a> {
    rest: &'a [&'a [u8]],
    /// Bytes of the first that were given.
    given: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some((first, rest)) = self.rest.split_first() {
            let end = first.len().min(self.given + room.remaining());
            room.put_slice(&first[self.given..end]);
            self.given = end;
            if end == first.len() {
                (self.rest, self.given) = (rest, 0);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What theirs made of the pieces, until it refused one or they ended.
fn theirs(pieces: &[&[u8]]) -> Vec<Got> {
    let stream = tokio::io::join(Pieces { rest: pieces, given: 0 }, tokio::io::sink());
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    // Otherwise it answers a ping and tells nobody.
    socket.set_auto_pong(false);
    let mut reader = FragmentCollector::new(socket);
    let mut got = Vec::new();
    loop {
        // Nothing here ever waits, so that nobody has to wake it.
        let Poll::Ready(read) = pin!(reader.read_frame()).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("it waits for bytes that are there")
        };
        let Ok(frame) = read else { return got };
        let payload = frame.payload.to_vec();
        got.push(match frame.opcode {
            OpCode::Text => Got::Text(String::from_utf8(payload).expect("it was checked")),
            OpCode::Binary => Got::Binary(payload),
            OpCode::Ping => Got::Ping(payload),
            OpCode::Pong => Got::Pong(payload),
            OpCode::Close => Got::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            OpCode::Continuation => panic!("a fragment is no message"),
        });
    }
}

/// A frame as it is sent.
fn frame(out: &mut Vec<u8>, fin: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    let (mut head, used) = header(Opcode::Text, payload.len());
    head[0] = u8::from(fin) << 7 | opcode;
    head[1] |= 0x80;
    out.extend_from_slice(&head[..used]);
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// `bytes` cut into pieces of these lengths, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Lengths on either side of where headers change, and between.
fn payload_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0usize..300, 3 => 120usize..130, 1 => 65_530usize..65_540]
}

/// Text of about so many bytes, with characters of one to four.
fn text() -> impl Strategy<Value = String> {
    (payload_bytes(), "[a-zé€😀]{1,9}").prop_map(|(bytes, some)| {
        some.chars()
            .cycle()
            .scan(0, |used, c| {
                *used += c.len_utf8();
                (*used <= bytes).then_some(c)
            })
            .collect()
    })
}

fn small() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=CONTROL_BYTES_MAX)
}

fn control() -> impl Strategy<Value = Got> {
    prop_oneof![small().prop_map(Got::Ping), small().prop_map(Got::Pong)]
}

fn message() -> impl Strategy<Value = Got> {
    let binary = (payload_bytes(), any::<u8>())
        .prop_map(|(bytes, first)| Got::Binary((0..bytes).map(|at| first.wrapping_add(at as u8)).collect()));
    prop_oneof![4 => text().prop_map(Got::Text), 2 => binary, 1 => control()]
}

/// A message, where it is cut into fragments (thousandths of its length), and what is sent between them.
fn fragmented() -> impl Strategy<Value = (Got, Vec<(usize, Option<Got>)>)> {
    (message(), proptest::collection::vec((0usize..=1000, proptest::option::of(control())), 0..4))
}

fn close() -> impl Strategy<Value = (Option<u16>, String)> {
    let code = prop_oneof![1000u16..=1003, 1007u16..=1011, 3000u16..=4999];
    prop_oneof![Just((None, String::new())), (code.prop_map(Some), "[a-zé]{0,40}")]
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![4 => 1usize..16, 1 => 16usize..3_000], 1..20)
}

fn control_frame(out: &mut Vec<u8>, mask: [u8; 4], got: &Got) {
    match got {
        Got::Ping(bytes) => frame(out, true, 9, mask, bytes),
        Got::Pong(bytes) => frame(out, true, 10, mask, bytes),
        other => panic!("no control frame: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Good messages in any fragments, control frames between them, in any pieces.
    #[test]
    fn good_messages_are_read_alike(
        messages in proptest::collection::vec(fragmented(), 1..6),
        close in proptest::option::of(close()),
        mask in any::<[u8; 4]>(),
        lengths in lengths(),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (message, mut cuts) in messages {
            let (opcode, payload) = match &message {
                Got::Text(text) => (1, text.clone().into_bytes()),
                Got::Binary(payload) => (2, payload.clone()),
                control => {
                    control_frame(&mut bytes, mask, control);
                    expected.push(message);
                    continue;
                }
            };
            cuts.sort_by_key(|(at, _)| *at);
            let mut from = 0;
            for (n, (at, between)) in cuts.iter().enumerate() {
                let to = payload.len() * at / 1000;
                frame(&mut bytes, false, if n == 0 { opcode } else { 0 }, mask, &payload[from..to]);
                from = to;
                if let Some(control) = between {
                    control_frame(&mut bytes, mask, control);
                    expected.push(control.clone());
                }
            }
            frame(&mut bytes, true, if cuts.is_empty() { opcode } else { 0 }, mask, &payload[from..]);
            expected.push(message);
        }
        if let Some((code, reason)) = close {
            let head = code.map(u16::to_be_bytes);
            let payload = [head.as_ref().map_or(&[][..], |head| head), reason.as_bytes()].concat();
            frame(&mut bytes, true, 8, mask, &payload);
            expected.push(Got::Close(code));
        }
        let pieces = cut(&bytes, &lengths);
        prop_assert_eq!(ours(&pieces), (expected.clone(), Ok(false)));
        prop_assert_eq!(theirs(&pieces), expected);
    }

    /// Frames in no order, most of them wrong: as far as both read, they read the same, and where ours
    /// accepts whole messages theirs does too.
    #[test]
    fn any_frames_are_read_alike_as_far_as_both_accept_them(
        frames in proptest::collection::vec(
            (any::<bool>(), prop_oneof![8 => 0u8..=2, 4 => 9u8..=10, 1 => 0u8..=15], any::<[u8; 4]>(),
                prop_oneof![4 => text().prop_map(String::into_bytes), 1 => small()]),
            1..8,
        ),
        lengths in lengths(),
    ) {
        let mut bytes = Vec::new();
        // Behind a close nothing is owed to anybody.
        for (fin, opcode, mask, payload) in frames.iter().filter(|frame| frame.1 != 8) {
            frame(&mut bytes, *fin, *opcode, *mask, payload);
        }
        let pieces = cut(&bytes, &lengths);
        let ((ours, state), theirs) = (ours(&pieces), theirs(&pieces));
        // A fragment that can be no text is refused by theirs at once, by ours with its message.
        if state == Ok(false) {
            prop_assert_eq!(&ours, &theirs);
        }
        let both = ours.len().min(theirs.len());
        prop_assert_eq!(&ours[..both], &theirs[..both]);
    }
}
