use super::*;
use proptest::prelude::*;

const LIMIT: usize = 1000;
const BOUNDS: Bounds = Bounds { message_bytes_max: LIMIT, fragments_max: FRAGMENTS_MAX };

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(&mut out, Opcode::Text, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    let mask = [7, 77, 177, 250];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k));
    out
}

fn read(chunks: &[Vec<u8>]) -> (Vec<String>, Option<Violation>, usize) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for chunk in chunks {
        if let Err(violation) =
            decoder.feed(&mut chunk.clone(), &BOUNDS, None, |m| seen.push(format!("{m:?}")))
        {
            return (seen, Some(violation), 0);
        }
    }
    (seen, None, decoder.held_bytes())
}

#[test]
fn a_fragmented_text_with_a_ping_inside() {
    let bytes = [masked(0x01, b"Hel"), masked(0x89, b"hi"), masked(0x00, b""), masked(0x80, b"lo")].concat();
    let whole = read(std::slice::from_ref(&bytes));
    assert_eq!(whole.0, ["Ping([104, 105])", "Text(\"Hello\")"]);
    let single: Vec<Vec<u8>> = bytes.iter().map(|b| vec![*b]).collect();
    assert_eq!(read(&single).0, whole.0);
    assert_eq!(whole.2, 0, "nothing is held after a whole message");
}

/// A header with a mask, and none of the payload that it declares.
fn declares(first: u8, length: &[u8]) -> Vec<u8> {
    let marker = if length.len() == 2 { 126 } else { 127 };
    [&[first, 0x80 | marker], length, &[1, 2, 3, 4]].concat()
}

#[test]
fn every_violation_has_its_close_code() {
    use Violation::*;
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let table: &[(&str, Vec<u8>, Violation, u16)] = &[
        ("unmasked text", vec![0x81, 1, b'x'], Unmasked, 1002),
        ("unmasked ping", vec![0x89, 0], Unmasked, 1002),
        ("unmasked close", vec![0x88, 2, 3, 0xe8], Unmasked, 1002),
        ("unmasked, of any length", vec![0x82, 127], Unmasked, 1002),
        ("RSV1 without an extension", masked(0xc1, b"x"), ReservedBits, 1002),
        ("RSV2", masked(0xa1, b"x"), ReservedBits, 1002),
        ("RSV3", masked(0x91, b"x"), ReservedBits, 1002),
        ("RSV1 on a ping", masked(0xc9, b"x"), ReservedBits, 1002),
        ("RSV1 on a close", masked(0xc8, b""), ReservedBits, 1002),
        ("RSV1 on a continuation", two(masked(0x01, b"x"), masked(0xc0, b"y")), ReservedBits, 1002),
        ("opcode 3", masked(0x83, b"x"), Opcode, 1002),
        ("opcode 7", masked(0x87, b"x"), Opcode, 1002),
        ("opcode 11", masked(0x8b, b"x"), Opcode, 1002),
        ("opcode 15", masked(0x8f, b"x"), Opcode, 1002),
        ("a ping in fragments", masked(0x09, b"x"), Control, 1002),
        ("a close in fragments", masked(0x08, b""), Control, 1002),
        ("a ping of 126 bytes", masked(0x89, &[0; 126]), Control, 1002),
        ("a pong of 126 bytes", masked(0x8a, &[0; 126]), Control, 1002),
        ("a close of 126 bytes", masked(0x88, &[0; 126]), Control, 1002),
        ("a ping of 8 bytes of length", declares(0x89, &[0; 8]), Control, 1002),
        ("continuation of nothing", masked(0x80, b"x"), Sequence, 1002),
        ("continuation of nothing, to go on", masked(0x00, b"x"), Sequence, 1002),
        ("text in a text", two(masked(0x01, b"x"), masked(0x81, b"y")), Sequence, 1002),
        ("two that are not final", two(masked(0x01, b"x"), masked(0x01, b"y")), Sequence, 1002),
        ("binary in a text", two(masked(0x01, b"x"), masked(0x02, b"y")), Sequence, 1002),
        ("5 in two bytes", declares(0x81, &[0, 5]), Length, 1002),
        ("125 in two bytes", declares(0x81, &[0, 125]), Length, 1002),
        ("65535 in eight bytes", declares(0x81, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]), Length, 1002),
        ("one byte too many", declares(0x81, &1001u16.to_be_bytes()), TooBig, 1009),
        ("1 MiB", declares(0x81, &(1u64 << 20).to_be_bytes()), TooBig, 1009),
        ("2^63 - 1", declares(0x82, &(u64::MAX >> 1).to_be_bytes()), TooBig, 1009),
        ("2^63", declares(0x82, &(1u64 << 63).to_be_bytes()), TooBig, 1009),
        ("2^64 - 1", declares(0x82, &u64::MAX.to_be_bytes()), TooBig, 1009),
        ("too much in two", two(masked(0x02, &[0; 600]), masked(0x80, &[0; 401])), TooBig, 1009),
        ("a close of one byte", masked(0x88, b"x"), Close, 1002),
        ("close 0", masked(0x88, &0u16.to_be_bytes()), Close, 1002),
        ("close 999", masked(0x88, &999u16.to_be_bytes()), Close, 1002),
        ("close 1005", masked(0x88, &1005u16.to_be_bytes()), Close, 1002),
        ("close 1006", masked(0x88, &1006u16.to_be_bytes()), Close, 1002),
        ("close 1015", masked(0x88, &1015u16.to_be_bytes()), Close, 1002),
        ("close 2999", masked(0x88, &2999u16.to_be_bytes()), Close, 1002),
        ("close 5000", masked(0x88, &5000u16.to_be_bytes()), Close, 1002),
        ("a reason that is no text", masked(0x88, &[3, 0xe8, 0xff]), NotUtf8, 1007),
        ("no text", masked(0x81, &[0xff]), NotUtf8, 1007),
        ("a surrogate", masked(0x81, &[0xed, 0xa0, 0x80]), NotUtf8, 1007),
        ("ends in a character", masked(0x81, &[b'a', 0xe2, 0x82]), NotUtf8, 1007),
        // Must not be cut to what is whole.
        ("fragments that do", two(masked(0x01, b"a"), masked(0x80, &[0xe2, 0x82])), NotUtf8, 1007),
    ];
    for (what, bytes, violation, code) in table {
        // As it is, and byte by byte: what comes in pieces is judged alike.
        let single: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
        for chunks in [std::slice::from_ref(bytes), &single] {
            let (seen, found, _) = read(chunks);
            assert_eq!((found, seen), (Some(*violation), Vec::new()), "{what}");
        }
        assert_eq!(violation.close_code(), *code, "{what}");
    }
}

/// A million empty fragments are no byte of a message.
#[test]
fn fragments_are_counted_however_empty_they_are() {
    let mut decoder = Decoder::default();
    let mut feed = |mut bytes: Vec<u8>| {
        let mut seen = Vec::new();
        decoder.feed(&mut bytes, &BOUNDS, None, |m| seen.push(format!("{m:?}"))).map(|()| seen)
    };
    for round in 0..2 {
        assert_eq!(feed(masked(0x01, b"")), Ok(vec![]), "{round}");
        for _ in 0..FRAGMENTS_MAX - 2 {
            assert_eq!(feed(masked(0x00, b"")), Ok(vec![]));
            // What is between them is none of them.
            assert_eq!(feed(masked(0x8a, b"")), Ok(vec!["Pong([])".to_owned()]));
        }
        assert_eq!(feed(masked(0x80, b"")), Ok(vec!["Text(\"\")".to_owned()]), "each message has its own");
    }
    assert_eq!(feed(masked(0x01, b"")), Ok(vec![]));
    for _ in 0..FRAGMENTS_MAX - 1 {
        assert_eq!(feed(masked(0x00, b"")), Ok(vec![]));
    }
    assert_eq!(feed(masked(0x80, b"")), Err(Violation::Fragments));
    assert_eq!(Violation::Fragments.close_code(), 1008);
    assert!(Violation::Fragments.to_string().contains(&FRAGMENTS_MAX.to_string()));
}

#[test]
fn a_declared_length_allocates_nothing() {
    for declared in [1_001, 1 << 20, u64::MAX >> 1, 1 << 63, u64::MAX] {
        let mut decoder = Decoder::default();
        // Two bytes of length for what fits them, as else that would be the violation.
        let length = declared.to_be_bytes();
        let length = if declared <= 0xffff { &length[6..] } else { &length };
        let fed = decoder.feed(&mut declares(0x82, length), &BOUNDS, None, |_| ());
        assert_eq!((fed, decoder.held_bytes()), (Err(Violation::TooBig), 0), "{declared}");
    }
    // What is within the limit is held as it comes, not as it is announced.
    let mut decoder = Decoder::default();
    assert_eq!(decoder.feed(&mut declares(0x82, &1_000u16.to_be_bytes()), &BOUNDS, None, |_| ()), Ok(()));
    assert!((8..64).contains(&decoder.held_bytes()), "{}", decoder.held_bytes());
}

/// Every pair of places where a stream can be cut.
#[test]
fn every_split_reads_the_same() {
    let bytes = [
        masked(0x01, "a€".as_bytes()),
        masked(0x89, b"p"),
        masked(0x00, b""),
        masked(0x80, &[b'z'; 130]),
        masked(0x82, &[0, 255]),
        masked(0x8a, b""),
        masked(0x88, &[3, 0xe8, b'o', b'k']),
    ]
    .concat();
    let whole = read(std::slice::from_ref(&bytes));
    assert_eq!((whole.0.len(), whole.1), (5, None));
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]].map(<[u8]>::to_vec);
            assert_eq!(read(&pieces), whole, "{first} {second}");
        }
    }
}

#[test]
fn fragments_cannot_outgrow_the_limit() {
    let mut frames = vec![masked(0x01, &[b'a'; 600])];
    frames.push(masked(0x00, &[b'a'; 401]));
    assert_eq!(read(&frames).1, Some(Violation::TooBig));
    // A ping between the fragments is measured by its own limit.
    let fits = [masked(0x01, &[b'a'; 1000]), masked(0x89, b"p"), masked(0x80, b"")];
    assert_eq!(read(&fits).1, None);
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let mut out = Vec::new();
    write_close(&mut out, 4490, &"é".repeat(100));
    assert_eq!(usize::from(out[1]), out.len() - 2);
    assert!(std::str::from_utf8(&out[4..]).is_ok() && out.len() <= 127);
}

proptest! {
    #[test]
    fn reads_the_same_in_any_pieces(
        payloads in proptest::collection::vec(("[a-zé]{0,300}", 1usize..4), 1..6),
        cuts in proptest::collection::vec(1usize..50, 1..200),
    ) {
        let mut bytes = Vec::new();
        for (text, pieces) in &payloads {
            let raw = text.as_bytes();
            let size = raw.len().div_ceil(*pieces).max(1);
            let parts: Vec<&[u8]> = if raw.is_empty() { vec![raw] } else { raw.chunks(size).collect() };
            for (i, part) in parts.iter().enumerate() {
                let fin = if i + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(masked(fin | u8::from(i == 0), part));
            }
        }
        let mut chunks = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(head.to_vec());
            rest = tail;
        }
        let (seen, violation, held) = read(&chunks);
        prop_assert_eq!(violation, None);
        let expected: Vec<String> = payloads.iter().map(|(text, _)| format!("Text({text:?})")).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(held, 0);
    }

    #[test]
    fn never_panics_and_never_holds_more_than_the_limit(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let mut decoder = Decoder::default();
        for mut chunk in chunks {
            if decoder.feed(&mut chunk, &BOUNDS, None, |_| ()).is_err() { break; }
        }
        prop_assert!(decoder.partial.len() + decoder.message.len() <= 2 * LIMIT + 14);
    }
}
