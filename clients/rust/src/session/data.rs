//! Data frames: what of them is handed out, and what is said about it.

use super::{Kind, Session};
use crate::chains::{Changes, Judged};
use crate::event::{Cause, Event, Gap, check, own};
use crate::subscription::to_json;
use crate::wanted::Held;
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
        let Judged { symbol, depth, verdict, last, is_resync, changes } = judged;
        match verdict {
            Verdict::Duplicate => {
                self.out.counts.duplicates += 1;
                return;
            }
            Verdict::Unverified => self.out.counts.unverified += 1,
            Verdict::Unannounced => {
                self.out.counts.unannounced += 1;
                let (symbol, cause) = (symbol.clone(), Cause::Unannounced);
                let gap = Gap { after: last, upto: view.prev, ..Gap::new(channel, symbol, cause) };
                self.out.events.push(Event::Gap(gap));
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
        match changes {
            Changes::Something => {}
            Changes::Unknown => self.without_state(&symbol),
            Changes::Lost => self.renew(&symbol),
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
            self.out.events.push(Event::Gap(Gap { after, upto, count, ..Gap::new(channel, symbol, cause) }));
        }
    }

    /// Changes of a book come of which no state ever did: that was lost with a session.
    fn without_state(&mut self, symbol: &str) {
        let Self { chains, wanted, .. } = self;
        let name = wanted.covering(Channel::Book, symbol);
        let held = name.and_then(|name| wanted.get(Channel::Book, name));
        let is_elsewhere = held.is_none_or(|held| held.begin.is_some() || held.behind.is_some());
        chains.without_state(symbol, is_elsewhere);
        if !is_elsewhere {
            self.renew(symbol);
        }
    }

    /// A book has broken: its subscription is begun anew, for the sake of a snapshot. While a replay may still be under way, of which
    /// nobody would hear the end, it is not: before the session is live, or while its user waits for that end. Then it is done as soon
    /// as that is over.
    pub(super) fn renew(&mut self, symbol: &str) {
        let channel = Channel::Book;
        if !self.is_live {
            return;
        }
        let Some(name) = self.wanted.covering(channel, symbol).cloned() else { return };
        let may = |held: &&mut Held| !held.is_renewing && !held.owes_done;
        let Some(held) = self.wanted.get_mut(channel, &name).filter(may) else { return };
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
