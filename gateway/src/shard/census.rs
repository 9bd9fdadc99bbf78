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
            while let Some(next) = shard.borrow().count_from(node, &mut seen, &mut highest) {
                node = next;
                yield_now().await;
            }
            highest.into_vec()
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
