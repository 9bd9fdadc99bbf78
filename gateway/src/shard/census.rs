//! How many sessions subscribed to what, counted a little at a time: there may be a million subscriptions, and every tick
//! would wait for them.

use super::Shard;
use super::socket::Socket;
use crate::ranking::Highest;
use crate::stats::{TargetInfo, Which};
use std::cell::RefCell;
use tokio::task::yield_now;

/// Subscriptions looked at before everything else has its turn: some 50 µs.
const STEP: u64 = 20_000;

/// Counts. What is subscribed or ended meanwhile may be in it or not.
pub(super) async fn take<S: Socket>(shard: &RefCell<Shard<S>>, which: &Which) -> Vec<TargetInfo> {
    let mut seen = Vec::new();
    match which {
        Which::Top(top) => {
            let mut highest = Highest::new(*top);
            let mut node = 0;
            loop {
                let next = shard.borrow().count_from(node, &mut seen, &mut highest);
                let Some(next) = next else { return highest.into_vec() };
                node = next;
                yield_now().await;
            }
        }
        Which::These(targets) => {
            let mut counted = Vec::with_capacity(targets.len());
            let mut steps = 0;
            for target in targets.iter() {
                let info = {
                    let shard = shard.borrow();
                    let found = shard.table.node(target).and_then(|node| shard.table.count(node, &mut seen));
                    found.map(|(target, sessions, subscriptions)| TargetInfo {
                        sessions,
                        subscriptions,
                        target: target.clone(),
                    })
                };
                steps += 1 + info.as_ref().map_or(0, |info| info.subscriptions);
                counted.extend(info);
                if steps >= STEP {
                    steps = 0;
                    yield_now().await;
                }
            }
            counted
        }
    }
}

impl<S: Socket> Shard<S> {
    /// Counts from a node on, and gives the one to go on with, if there are more.
    fn count_from(&self, node: u32, seen: &mut Vec<u32>, highest: &mut Highest<TargetInfo>) -> Option<u32> {
        let mut steps = 0;
        for node in node..self.table.nodes_end() {
            if steps >= STEP {
                return Some(node);
            }
            steps += 1;
            if let Some((target, sessions, subscriptions)) = self.table.count(node, seen) {
                steps += subscriptions;
                highest.offer(TargetInfo { sessions, subscriptions, target: target.clone() });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::event::Stream;
    use crate::feed::request::Target;
    use crate::shard::table::Subscriber;
    use crate::shard::trial::shared;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use tickgate_protocol::{Channel, OnSlow};

    /// The shard stayed borrowed while everything else had its turn, which then panicked.
    #[test]
    fn others_have_their_turn_while_it_counts() {
        const SESSIONS: u32 = 2_000;
        const SYMBOLS: u32 = 30;
        let shard: Shard = Shard::new(0, shared(Config { shards: 1, ..Config::default() }), Arc::default());
        let shard = RefCell::new(shard);
        let target = |symbol: u32| Target::parse(&format!("S{symbol}"));
        for (symbol, session) in
            (0..SYMBOLS).flat_map(|symbol| (symbol..SESSIONS).map(move |session| (symbol, session)))
        {
            let subscriber = Subscriber::new(session, symbol, OnSlow::Skip);
            let stream = Stream::whole(Channel::Trades);
            shard.borrow_mut().table.insert(&target(symbol), stream, subscriber);
        }
        for session in 0..7 {
            let subscriber = Subscriber::new(session, 99, OnSlow::Skip);
            shard.borrow_mut().table.insert(&target(3), Stream::whole(Channel::Quotes), subscriber);
        }
        let info = |symbol: u32, sessions: u32, subscriptions: u32| TargetInfo {
            sessions: sessions.into(),
            subscriptions: subscriptions.into(),
            target: target(symbol),
        };
        let these = Arc::from_iter((0..SYMBOLS).chain([1_000]).map(target));
        for (which, expected, len) in [
            // Three of the seven were not among those who have its trades.
            (Which::Top(4), vec![info(3, SESSIONS, SESSIONS + 4), info(0, SESSIONS, SESSIONS)], 4),
            (Which::These(these), vec![info(0, SESSIONS, SESSIONS), info(1, SESSIONS - 1, SESSIONS - 1)], 30),
        ] {
            let mut counting = pin!(take(&shard, &which));
            let mut turns = 0;
            let counted = loop {
                match counting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(counted) => break counted,
                    Poll::Pending => turns += usize::from(shard.try_borrow_mut().is_ok()),
                }
            };
            assert_eq!((turns, counted.len()), (2, len), "{which:?}");
            assert_eq!(counted[..2], expected, "{which:?}");
        }
    }
}
