//! The market that every part of an experiment agrees on: names of symbols, who subscribes to what, and records.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::Write as _;

/// What stands before the time at which a tick was due, in records and in events made of them.
pub const DUE: &[u8] = br#""send_ns":""#;
/// Longest text of a trade, which a record is filled up with.
const TEXT_BYTES_MAX: usize = 64;

/// The name of a symbol, `width` digits behind a letter.
pub fn symbol(index: usize, width: usize) -> String {
    format!("S{index:0width$}")
}

/// The symbols that a client subscribes to: everyone draws without replacement, or client `n` takes symbol `n` alone.
pub fn subscriptions(client: usize, symbols: usize, per_client: usize) -> Vec<usize> {
    if per_client >= symbols {
        return (0..symbols).collect();
    }
    if per_client == 1 {
        return vec![client % symbols];
    }
    let mut rng = StdRng::seed_from_u64(client as u64);
    rand::seq::index::sample(&mut rng, symbols, per_client).into_vec()
}

/// Whether a client is one of `percent` of them, which are spread evenly.
pub fn is_chosen(client: usize, percent: usize) -> bool {
    (client * percent) % 100 < percent
}

/// Subscribers of each symbol among `clients`, leaving out those that `leave_out` chooses.
pub fn subscribers(clients: usize, symbols: usize, per_client: usize, leave_out: usize) -> Vec<u64> {
    let mut counts = vec![0; symbols];
    for client in (0..clients).filter(|client| !is_chosen(*client, leave_out)) {
        for symbol in subscriptions(client, symbols, per_client) {
            counts[symbol] += 1;
        }
    }
    counts
}

/// Draws symbols: by Zipf's law, or in turn when the exponent is zero.
#[derive(Debug)]
pub struct Draw {
    cumulated: Vec<f64>,
    rng: StdRng,
    next: usize,
    symbols: usize,
}

impl Draw {
    pub fn new(symbols: usize, exponent: f64) -> Self {
        let mut cumulated = Vec::new();
        if exponent > 0.0 {
            let mut sum = 0.0;
            cumulated.extend((1..=symbols).map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            }));
        }
        Self { cumulated, rng: StdRng::seed_from_u64(1), next: 0, symbols }
    }

    pub fn next(&mut self) -> usize {
        let Some(sum) = self.cumulated.last() else {
            self.next = (self.next + 1) % self.symbols;
            return self.next;
        };
        let at = self.rng.random::<f64>() * sum;
        self.cumulated.partition_point(|c| *c < at).min(self.symbols - 1)
    }
}

/// Appends a record of about `bytes` bytes, without an end of line.
pub fn record(out: &mut Vec<u8>, symbol: &str, number: u64, due_ns: i64, bytes: usize) {
    let start = out.len();
    let cents = number % 100;
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        r#"{{"type":"trade","symbol":"{symbol}","price":"101.{cents:02}","size":"{}","event_ns":"{due_ns}","send_ns":"{due_ns}""#,
        100 + number % 900,
    );
    for name in ["trade_id", "venue", "conditions", "note"] {
        let overhead = name.len() + 6;
        let left = (bytes + start).saturating_sub(out.len() + 1 + overhead);
        let len = if name == "note" { left } else { left.min(TEXT_BYTES_MAX) };
        if len > 0 {
            let _ = write!(out, r#","{name}":"{:x<len$}""#, "");
        }
    }
    out.push(b'}');
}

/// The symbol that a record names.
pub fn symbol_of(record: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = br#""symbol":""#;
    let at = memchr::memmem::find(record, NAME)? + NAME.len();
    let len = memchr::memchr(b'"', &record[at..])?;
    Some(&record[at..at + len])
}

/// The symbols that a subscribe request names.
pub fn symbols_of(request: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: &[u8] = br#""symbols":["#;
    let list = memchr::memmem::find(request, NAME).map_or(&[][..], |at| &request[at + NAME.len()..]);
    let list = &list[..memchr::memchr(b']', list).unwrap_or(0)];
    list.split(|byte| *byte == b',')
        .map(|name| name.trim_ascii())
        .filter_map(|name| name.strip_prefix(b"\"")?.strip_suffix(b"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickgate_protocol::record::RecordDecoder;

    #[test]
    fn records_have_the_length_asked_for_and_are_read_by_the_product() {
        let due_ns = 1_790_000_000_000_000_000;
        for bytes in [150, 200, 512] {
            let mut text = Vec::new();
            record(&mut text, &symbol(7, 4), 12, due_ns, bytes);
            assert_eq!(text.len(), bytes);
            assert_eq!(symbol_of(&text), Some(&b"S0007"[..]));
            let mut decoder = RecordDecoder::new(1 << 20);
            let ticks = decoder.ticks(&text).unwrap();
            assert_eq!(ticks[0].as_ref().unwrap().send_ns, Some(due_ns));
        }
    }

    #[test]
    fn subscribers_add_up() {
        assert_eq!(subscribers(1_000, 100, 10, 0).iter().sum::<u64>(), 10_000);
        assert_eq!(subscribers(1_000, 100, 10, 10).iter().sum::<u64>(), 9_000);
        assert_eq!((0..100).filter(|client| is_chosen(*client, 1)).count(), 1);
        assert_eq!((0..1_000).filter(|client| is_chosen(*client, 50)).count(), 500);
    }

    #[test]
    fn requests_name_symbols() {
        let request = br#"{"op":"subscribe","subscriptions":[{"channel":"trades","symbols":["A","B"]}]}"#;
        assert_eq!(symbols_of(request).collect::<Vec<_>>(), [b"A", b"B"]);
    }
}
