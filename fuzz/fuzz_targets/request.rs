//! See `checks/request.rs`, which the ordinary tests of the gateway run as well.
#![no_main]

#[path = "../checks/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| request::check(input));
