//! What of a record is wanted by who missed it.

use super::{Ask, Missed, Replayed, seam};
use crate::feed::directory::Directory;
use crate::feed::symbols::encode;
use std::sync::Arc;
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::{RecordDecoder, Tick};
use tickgate_protocol::{Channel, Position};

/// The events of the record that stands at a position, was appended at a time, and is read again at another, both in
/// nanoseconds since the Unix epoch. They are noted in the question.
pub fn of_record(
    decoder: &mut RecordDecoder,
    directory: &Directory,
    ask: &mut Ask,
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
    let wants = ask.wants.clone();
    let events = names.into_iter().filter_map(|(name, channel)| {
        let want = find(&wants, name, channel)?;
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

/// The want that an event is for, whether its client has it or not.
fn find<'a>(wants: &'a [Missed], name: &str, channel: Channel) -> Option<&'a Missed> {
    if channel == Channel::Book {
        return None;
    }
    wants.iter().find(|want| want.stream.channel == channel && want.target.matches(name))
}
