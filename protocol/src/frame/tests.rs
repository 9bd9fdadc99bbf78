use super::*;
use proptest::prelude::*;

const LIMIT: usize = 1000;

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
        if let Err(violation) = decoder.feed(&mut chunk.clone(), LIMIT, |m| seen.push(format!("{m:?}"))) {
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

#[test]
fn every_violation_has_its_close_code() {
    let unmasked = vec![0x81, 1, b'x'];
    let oversize = vec![0x81, 0xff, 0, 0, 0, 0, 0, 16, 0, 0];
    for (bytes, violation, code) in [
        (unmasked, Violation::Unmasked, 1002),
        (masked(0xc1, b"x"), Violation::ReservedBits, 1002),
        (masked(0x83, b"x"), Violation::Opcode, 1002),
        (masked(0x09, b"x"), Violation::Control, 1002),
        (masked(0x8a, &[0; 126]), Violation::Control, 1002),
        (masked(0x88, &[0; 126]), Violation::Control, 1002),
        (masked(0x80, b"x"), Violation::Sequence, 1002),
        ([masked(0x01, b"x"), masked(0x01, b"y")].concat(), Violation::Sequence, 1002),
        (vec![0x81, 0xfe, 0, 5], Violation::Length, 1002),
        (vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::Length, 1002),
        (oversize, Violation::TooBig, 1009),
        (masked(0x88, b"x"), Violation::Close, 1002),
        (masked(0x88, &1005u16.to_be_bytes()), Violation::Close, 1002),
        (masked(0x81, &[0xff]), Violation::NotUtf8, 1007),
        // A text that ends inside a character, in fragments: must not be cut to what is whole.
        ([masked(0x01, b"a"), masked(0x80, &[0xe2, 0x82])].concat(), Violation::NotUtf8, 1007),
    ] {
        let (_, seen, _) = read(&[bytes]);
        assert_eq!(seen, Some(violation));
        assert_eq!(violation.close_code(), code);
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
            if decoder.feed(&mut chunk, LIMIT, |_| ()).is_err() { break; }
        }
        prop_assert!(decoder.partial.len() + decoder.message.len() <= 2 * LIMIT + 14);
    }
}
