//! Order books: changes and snapshots of records applied, and what of them goes to whom.

use super::{Arrival, Engine, hold, push};
use crate::feed::symbols::encode;
use crate::stats::DiscardReason;
use smallvec::SmallVec;
use std::sync::Arc;
use tickgate_protocol::event::{Meta, Tail};
use tickgate_protocol::record::{self, Body, Tick};
use tickgate_protocol::{Channel, ConflateMs, Position};

impl Engine {
    /// Returns whether those who get every change were sent just what the ticks say.
    pub(super) fn apply_book(
        &mut self,
        id: u32,
        arrival: &Arrival,
        prev: Option<Position>,
        ticks: &[&Tick<'_>],
    ) -> bool {
        let Self { symbols, out, due, totals, config, levels, .. } = self;
        let state = &mut symbols[id as usize];
        let before = state.levels();
        // What the other books leave.
        let levels_max = config.book_levels_total_max.saturating_sub(*levels - before);
        let Some(newest) = ticks.last().map(|tick| arrival.meta(tick)) else { return false };
        let (book, book_meta) =
            &mut **state.book.get_or_insert_with(|| Box::new((Default::default(), newest)));
        let was_built = book.is_built();
        let mut touched = record::Book::default();
        let mut is_plain = true;
        let mut applied: SmallVec<[(Body<'_>, Meta); 1]> = SmallVec::new();
        for tick in ticks {
            let Body::Book(update) = &tick.body else { continue };
            let mut update = update.clone();
            let mut trimmed = record::Book::default();
            let mut trim = |is_bid, price| {
                let side = if is_bid { &mut trimmed.bids } else { &mut trimmed.asks };
                side.push((price, tickgate_protocol::Decimal::ZERO));
            };
            let is_applied = book.apply(&update, config.book_levels_max, &mut trim);
            book.trim(levels_max, &mut trim);
            is_plain &= is_applied && trimmed.bids.is_empty() && trimmed.asks.is_empty();
            if is_applied {
                totals.book_levels_trimmed += (trimmed.bids.len() + trimmed.asks.len()) as u64;
                update.bids.append(&mut trimmed.bids);
                update.asks.append(&mut trimmed.asks);
                touched.snapshot |= update.snapshot;
                touched.bids.extend_from_slice(&update.bids);
                touched.asks.extend_from_slice(&update.asks);
                applied.push((Body::Book(update), arrival.meta(tick)));
            } else {
                totals.discarded[DiscardReason::Building as usize] += 1;
            }
        }
        *levels = *levels - before + book.len();
        totals.book_levels = *levels as u64;
        let Some((_, meta)) = applied.last() else { return false };
        *book_meta = *meta;
        totals.books += u64::from(!was_built);
        for at in 0..state.streams.len() {
            let stream = state.streams[at].stream;
            if stream.channel != Channel::Book {
                continue;
            }
            state.streams[at].snapshot = None;
            if stream.conflate != ConflateMs::NONE {
                hold(state, at, ticks.len() as u32, arrival, due, out, totals);
                continue;
            }
            let Some((book, _)) = state.book.as_deref() else { continue };
            let stream_state = &mut state.streams[at];
            let event = match stream.depth.levels() {
                // A record that replaces the book does so for everyone.
                _ if touched.snapshot || !was_built => {
                    stream_state.view =
                        stream.depth.levels().map(|depth| crate::feed::book::View::new(book, depth));
                    let tail = Tail { prev: stream_state.last, snapshot: true, ..Tail::default() };
                    stream_state.last = Some(meta.position);
                    state.book_event(stream, None, tail)
                }
                None => {
                    let tail = Tail { prev, ..Tail::default() };
                    stream_state.last = Some(meta.position);
                    let updates = applied.iter().map(|(body, meta)| (body, *meta));
                    encode(&state.symbol, stream, updates, tail)
                }
                Some(depth) => {
                    let view = stream_state.view.get_or_insert_default();
                    view.advance(book, depth, &touched).and_then(|changes| {
                        let tail = Tail { prev: stream_state.last.replace(meta.position), ..Tail::default() };
                        let body = Body::Book(changes);
                        encode(&state.symbol, stream, std::iter::once((&body, *meta)), tail)
                    })
                }
            };
            if let Some(event) = event {
                totals.encoded += 1;
                totals.encoded_bytes += event.text.len() as u64;
                push(out, state.streams[at].shards(), &Arc::new(event));
            }
        }
        is_plain && was_built && !touched.snapshot
    }
}
