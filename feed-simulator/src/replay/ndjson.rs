//! Our own records, one JSON object (or array) a line, as Kafka holds them. `event_ns` is the time.

use super::lines::Lines;
use super::{Decode, ReplayError, Skipped, Stamp};
use tickgate_protocol::record::{RecordDecoder, RecordError, Tick};

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Ndjson {
    lines: Lines,
    decoder: RecordDecoder,
    skipped: Skipped,
}

impl Ndjson {
    pub(crate) fn new(lines: Lines) -> Self {
        Self { lines, decoder: RecordDecoder::new(super::lines::LINE_BYTES_MAX), skipped: Skipped::default() }
    }
}

/// What was expected instead of `line`. The decoder is made for speed and does not say where JSON breaks off.
fn wrong(line: &[u8], error: &RecordError) -> String {
    match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
        Err(json) if json.is_eof() => "one whole record of JSON, but the line breaks off".to_owned(),
        Err(json) => format!("one record of JSON, but character {} is out of place", json.column()),
        Ok(_) => format!("one record of JSON: {error}"),
    }
}

impl Decode for Ndjson {
    fn read(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let before = ticks.len();
        let bad = |error| self.lines.expected(wrong(self.lines.line(), &error));
        for tick in self.decoder.ticks(self.lines.line()).map_err(bad)? {
            ticks.push(tick.map_err(bad)?.into_owned());
        }
        match ticks.get(before).map(|tick| tick.event_ns) {
            Some(Some(time_ns)) => Ok(Some(Stamp { time_ns })),
            _ => Err(self.lines.expected("a record with `event_ns`, which says when it is due")),
        }
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}
