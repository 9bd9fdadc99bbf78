//! Captures of the cryptofeed library: `<capture time, s>: <the websocket's JSON>`, and `wss://…` lines about the connection.
//!
//! The messages are the venue's own. Those of Binance are read as in a raw capture, except that there is no snapshot in such a
//! file: depth diffs are passed on as they are, and no complete book results. Those of BitMEX start with one.

use super::lines::Lines;
use super::{Decode, ReplayError, Skipped, Stamp, binance, bitmex};
use tickgate_protocol::record::Tick;

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Cryptofeed {
    lines: Lines,
    binance: binance::Decoder,
    bitmex: bitmex::Decoder,
    skipped: Skipped,
}

impl Cryptofeed {
    pub(crate) fn new(lines: Lines) -> Self {
        Self {
            lines,
            binance: binance::Decoder::new(false, None),
            bitmex: bitmex::Decoder::default(),
            skipped: Skipped::default(),
        }
    }

    fn decode(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, String> {
        let line = std::str::from_utf8(self.lines.line()).map_err(|_| "UTF-8".to_owned())?;
        if line.starts_with("wss://") || line.starts_with("https://") {
            return Ok(None);
        }
        let expected = || "<capture time in s>: <JSON>, or wss://…".to_owned();
        let (time, json) = line.split_once(": ").ok_or_else(expected)?;
        let time_ns = seconds_ns(time).ok_or_else(expected)?;
        if json.starts_with("{\"stream\"") || json.starts_with("{\"e\"") {
            self.binance.decode(json, ticks)?;
        } else {
            self.bitmex.decode(json, time_ns, ticks)?;
        }
        self.skipped = self.binance.skipped.plus(&self.bitmex.skipped);
        Ok(Some(Stamp { time_ns }))
    }
}

impl Decode for Cryptofeed {
    fn read(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        while self.lines.advance()? {
            let decoded = self.decode(ticks).map_err(|expected| self.lines.expected(expected))?;
            if decoded.is_some() {
                return Ok(decoded);
            }
        }
        Ok(None)
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

/// Reads `1626916403.8469708` without a detour over doubles.
fn seconds_ns(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let nanos: i64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(1_000_000_000)?.checked_add(nanos * 10i64.pow(9 - fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::seconds_ns;

    #[test]
    fn seconds_with_any_number_of_digits() {
        assert_eq!(seconds_ns("1626916403.8469708"), Some(1_626_916_403_846_970_800));
        assert_eq!(seconds_ns("1626916403.847065"), Some(1_626_916_403_847_065_000));
        assert_eq!(seconds_ns("1626916403"), Some(1_626_916_403_000_000_000));
        for bad in ["", "x", "1.2.3", "1.-5", "1.1234567890", "99999999999999999999"] {
            assert_eq!(seconds_ns(bad), None, "{bad}");
        }
    }
}
