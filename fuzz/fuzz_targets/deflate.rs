//! Compression: any offer is answered or passed over, any payload expands within its bound or is refused, and what was
//! compressed comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_protocol::deflate::{Deflater, Inflater, LEVEL, WINDOW_BITS, negotiate};

fuzz_target!(|input: &[u8]| {
    let [cap, bytes @ ..] = input else { return };
    if let Some(params) = negotiate([bytes], WINDOW_BITS) {
        let answer = params.answer();
        assert!(answer.starts_with("permessage-deflate; server_no_context_takeover"));
        assert!(params.server_max_window_bits.is_none_or(|bits| bits == WINDOW_BITS), "{answer}");
    }
    let bytes_max = usize::from(*cap) * 64;
    let mut inflater = Inflater::default();
    if let Ok(message) = inflater.inflate(bytes, bytes_max) {
        assert!(message.len() <= bytes_max);
    }
    // After whatever that was.
    if let Some(payload) = Deflater::new(LEVEL, WINDOW_BITS).deflate(bytes) {
        assert!(payload.len() < bytes.len());
        assert_eq!(inflater.inflate(payload, bytes.len()).expect("it was compressed"), bytes);
    }
});
