//! Values of Kafka records: what was read of one, written again and read again, is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickgate_protocol::record::{RecordDecoder, Tick};

const RECORD_BYTES_MAX: usize = 64 << 10;

fuzz_target!(|value: &[u8]| {
    let mut decoder = RecordDecoder::new(RECORD_BYTES_MAX);
    let Ok(ticks) = decoder.ticks(value) else { return };
    let ticks: Vec<Tick<'static>> = ticks.into_iter().flatten().map(Tick::into_owned).collect();
    for tick in ticks {
        let json = tick.to_json();
        let mut again = RecordDecoder::new(usize::MAX);
        let mut read = again.ticks(&json).expect("what was written can be read");
        assert_eq!(read.len(), 1);
        assert_eq!(read.pop(), Some(Ok(tick)));
    }
});
