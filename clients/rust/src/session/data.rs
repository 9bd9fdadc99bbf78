//! Data frames: what of them is handed out, and what is said about it.

use super::{Kind, Session};
use crate::chains::Judged;
use crate::event::{Cause, Event, Gap, check, own};
use crate::subscription::to_json;
use serde_json::json;
use tickgate_protocol::checker::Verdict;
use tickgate_protocol::event::EventView;
use tickgate_protocol::{Channel, Position};

impl Session {
    pub(super) fn data(&mut self, text: &[u8], received_ns: i64) -> Result<(), String> {
        let views: Vec<EventView<'_>> = serde_json::from_slice(text)
            .map_err(|error| format!("a data frame that cannot be read: {error}"))?;
        views.iter().try_for_each(check)?;
        self.chains.begin_frame();
        self.out.events.reserve(views.len());
        for view in views {
            match (view.channel(), view.seq) {
                (Some(channel), _) if view.is_gap() => self.gap(channel, &view),
                (Some(channel), Some(seq)) => self.event(channel, seq, view, received_ns),
                _ => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, channel: Channel, seq: Position, view: EventView<'_>, received_ns: i64) {
        let Self { chains, wanted, .. } = self;
        let judged = chains.event(channel, seq, &view, || wanted.depth(channel, &view.symbol));
        let Judged { symbol, depth, verdict, last, is_resync } = judged;
        match verdict {
            Verdict::Duplicate => {
                self.out.counts.duplicates += 1;
                return;
            }
            Verdict::Unverified => self.out.counts.unverified += 1,
            Verdict::Unannounced => {
                self.out.counts.unannounced += 1;
                let (symbol, cause) = (symbol.clone(), Cause::Unannounced);
                self.out.events.push(Event::Gap(Gap {
                    channel,
                    symbol,
                    cause,
                    after: last,
                    upto: view.prev,
                    count: None,
                }));
            }
            Verdict::First | Verdict::InOrder | Verdict::Snapshot => {}
        }
        if !view.replay && !view.snapshot && !self.awaited.is_empty() {
            // Live events of a name wait for its replay.
            self.awaited.remove(&(channel, symbol.clone()));
            self.settle();
        }
        if is_resync {
            self.out.events.push(Event::Resync { channel, symbol: symbol.clone() });
        }
        self.out.events.extend(own(view, symbol.clone(), depth, received_ns));
        if verdict == Verdict::Unannounced && channel == Channel::Book {
            self.renew(&symbol);
        }
    }

    fn gap(&mut self, channel: Channel, view: &EventView<'_>) {
        let Some(cause) = view.cause else { return };
        let (after, upto, count) = (view.after, view.upto, view.count);
        let gap = tickgate_protocol::event::Gap { after, upto, count, cause };
        let Self { chains, wanted, .. } = self;
        let depth = || wanted.depth(channel, &view.symbol);
        if let Some(symbol) = chains.gap(channel, &view.symbol, &gap, depth) {
            let cause = Cause::Announced(cause);
            self.out.events.push(Event::Gap(Gap { channel, symbol, cause, after, upto, count }));
        }
    }

    /// A book has broken: its subscription is begun anew, for the sake of a snapshot.
    fn renew(&mut self, symbol: &str) {
        let channel = Channel::Book;
        let Some(name) = self.wanted.covering(channel, symbol).cloned() else { return };
        let Some(held) = self.wanted.get_mut(channel, &name).filter(|held| !held.is_renewing) else { return };
        held.is_renewing = true;
        let subscription = to_json(channel, &[&*name], held.options, None);
        let release =
            json!({"op": "unsubscribe", "subscriptions": [{"channel": channel.name(), "symbols": [&*name]}]});
        self.send(release, Kind::Release, false);
        self.send(
            json!({"op": "subscribe", "subscriptions": [subscription]}),
            Kind::Renew((channel, name)),
            false,
        );
    }
}
