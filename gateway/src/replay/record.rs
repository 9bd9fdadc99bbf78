//! What of a record is wanted by who missed it.

use super::wants::Wants;
use super::{Ask, Replayed, seam};
use crate::feed::directory::Directory;
use crate::feed::symbols::encode;
use std::sync::Arc;
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::{RecordDecoder, Tick};
use tickgate_protocol::{Channel, Position};

/// The events of the record that stands at a position, was appended at a time, and is read again at another, both in
/// nanoseconds since the Unix epoch. They are noted in the question, whose wants are `by_name`.
pub fn of_record(
    decoder: &mut RecordDecoder,
    directory: &Directory,
    ask: &mut Ask,
    by_name: &Wants<'_>,
    (position, append_ns, ingest_ns): (Position, i64, i64),
    value: &[u8],
) -> Vec<Replayed> {
    // What cannot be read was counted when it was new.
    let Ok(ticks) = decoder.ticks(value) else { return Vec::new() };
    let ticks: Vec<&Tick<'_>> = ticks.iter().filter_map(|tick| tick.as_ref().ok()).collect();
    let mut names: Vec<(&str, Channel)> = Vec::new();
    for tick in &ticks {
        let name = (&*tick.symbol, tick.body.channel());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let events = names.into_iter().filter_map(|(name, channel)| {
        // Of a book nothing is read again.
        let want = by_name.first(channel, name).filter(|_| channel != Channel::Book)?;
        if want.after == Some(position) {
            ask.confirm(want, directory.meet_again(name)?.id);
        }
        if !want.has_at(position) {
            return None;
        }
        let symbol = directory.meet_again(name)?;
        let (prev, gap) = seam(&ask.last, &ask.lost, want, (symbol.id, position), None);
        let is_its = |tick: &&&Tick<'_>| tick.symbol == name && tick.body.channel() == channel;
        let updates = ticks.iter().filter(is_its).map(|tick| {
            let event_ns = tick.event_ns.unwrap_or(append_ns);
            (&tick.body, Meta { position, event_ns, ingest_ns, send_ns: tick.send_ns })
        });
        let event = encode(&symbol, want.stream, updates, Tail { prev, replay: true, ..Tail::default() })?;
        ask.note((symbol.id, channel), position);
        Some(Replayed { append_ns, event: Arc::new(event), gap })
    });
    events.collect()
}
