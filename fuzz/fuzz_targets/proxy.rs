//! See `checks/proxy.rs`, which the ordinary tests of the gateway run as well.
#![no_main]

#[path = "../checks/proxy.rs"]
mod proxy;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| proxy::check(input));
