//! See `checks/token.rs`, which the ordinary tests of the gateway run as well.
#![no_main]

#[path = "../checks/token.rs"]
mod token;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| token::check(input));
