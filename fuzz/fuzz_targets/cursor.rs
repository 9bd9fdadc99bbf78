//! Cursors: no text makes the decoder panic, none is believed that was not signed, and all that was signed comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_protocol::Position;
use tickgate_protocol::cursor::{self, CursorKey};

fuzz_target!(|input: &[u8]| {
    let key = CursorKey::new(b"a secret of these targets");
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(cursor::decode(text, &key).is_err(), "nobody has signed it");
        let _ = cursor::decode_unverified(text);
        let _ = cursor::is_timed_unverified(text);
    }
    let positions: Vec<Position> = input
        .chunks_exact(13)
        .take(64)
        .map(|bytes| {
            let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            // Few epochs, so that topics have several partitions; 0 stands for times.
            Position {
                epoch: 1 + u32::from(bytes[0] % 3),
                partition: number(1),
                offset: u64::from(number(5)) << 32 | u64::from(number(9)),
            }
        })
        .collect();
    let text = cursor::encode(&positions, &key);
    let other = CursorKey::new(b"another one of these targets");
    assert!(cursor::decode(&text, &other).is_err(), "another key has signed it");
    let mut expected = positions;
    expected.sort_unstable();
    expected.dedup_by_key(|position| (position.epoch, position.partition));
    assert_eq!(cursor::decode(&text, &key).expect("it was signed").next, expected);
});
