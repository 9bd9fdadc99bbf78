//! Requests of a client: an answer to any text, and no more names than it has room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_protocol::command::Request;

/// What an answer that refuses a request takes at most, whatever stands in the request.
const MESSAGE_BYTES_MAX: usize = 1_024;

fuzz_target!(|text: &str| {
    let id = Request::id_of(text);
    match Request::parse(text) {
        Ok(request) => {
            assert!(request.command.names() <= text.len());
            assert_eq!(request.id, id);
        }
        Err(bad) => assert!(bad.message.len() <= MESSAGE_BYTES_MAX, "{} bytes", bad.message.len()),
    }
});
