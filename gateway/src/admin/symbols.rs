//! The hottest symbols, and what most sessions subscribed to.

use super::shards::ask;
use crate::clock;
use crate::feed::directory::Directory;
use crate::feed::request::Target;
use crate::ranking::Highest;
use crate::stats::{Question, TargetInfo, TargetsRequest, Which};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// What each shard names of what most of its sessions subscribed to. What is in no shard's list is subscribed to less than
/// the last of each list, taken together.
const CANDIDATES: usize = 1_000;
/// How long a copy of the totals is good to tell a rate of now, in nanoseconds.
const COPY_AGE_NS_MAX: u64 = 10_000_000_000;

/// What there is to say of symbols.
#[derive(Debug, serde::Serialize)]
pub(super) struct SymbolList {
    /// The time that rates are of.
    window_ms: u64,
    /// Highest rate first.
    hottest: Vec<Hot>,
    /// Most sessions first.
    most_subscribed: Vec<Wanted>,
    /// Shards that did not answer in time: their sessions are not counted.
    shards_without_answer: Vec<usize>,
}

#[derive(Debug, serde::Serialize)]
struct Hot {
    symbol: String,
    ticks_per_s: f64,
    /// Since the gateway started.
    ticks: u64,
}

#[derive(Debug, serde::Serialize)]
struct Wanted {
    /// A symbol, or a pattern, as clients name it.
    target: String,
    sessions: u64,
    /// One for each channel.
    subscriptions: u64,
}

/// Totals of all symbols as they were, so that there is a rate to tell. Nothing is kept while nobody asks.
#[derive(Debug)]
pub(super) struct Rates {
    /// At least this long is looked at.
    window: Duration,
    /// When they were taken, monotonic nanoseconds; two at the most, the older first.
    copies: Mutex<Vec<(u64, Arc<Vec<u64>>)>>,
}

impl Rates {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, copies: Mutex::default() }
    }

    /// Totals of a while ago, and when that was. Who asks first, or after a long time, waits for the while to pass. Cancel
    /// safe.
    async fn before(&self, directory: &Directory) -> (u64, Arc<Vec<u64>>) {
        loop {
            let now_ns = clock::mono_ns();
            let window_ns = self.window.as_nanos() as u64;
            let wait_ns = {
                let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
                copies.retain(|(taken_ns, _)| now_ns - taken_ns <= COPY_AGE_NS_MAX);
                let age_ns = |copy: Option<&(u64, _)>| copy.map(|(taken_ns, _)| now_ns - taken_ns);
                let before =
                    copies.iter().rev().find(|(taken_ns, _)| now_ns - taken_ns >= window_ns).cloned();
                // So the copies are a window apart, and one of them is always old enough, whoever else asks.
                if age_ns(copies.last()).is_none_or(|age_ns| age_ns >= window_ns) {
                    let outdated = copies.len().saturating_sub(1);
                    copies.drain(..outdated);
                    copies.push((now_ns, Arc::new(directory.activity().totals())));
                }
                match before {
                    Some(before) => return before,
                    None => window_ns.saturating_sub(age_ns(copies.last()).unwrap_or(0)),
                }
            };
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
        }
    }

    async fn hottest(&self, directory: &Directory, top: usize) -> (u64, Vec<Hot>) {
        let (taken_ns, before) = self.before(directory).await;
        let window_ns = (clock::mono_ns() - taken_ns).max(1);
        let now = directory.activity().totals();
        let mut highest = Highest::new(top);
        for (id, total) in now.iter().enumerate().filter(|(_, total)| **total > 0) {
            let came = total.saturating_sub(before.get(id).copied().unwrap_or(0));
            highest.offer((came, *total, Reverse(id as u32)));
        }
        let per_s = |came: u64| (came as f64 * 1e10 / window_ns as f64).round() / 10.0;
        let hot = highest.into_vec().into_iter().filter_map(|(came, ticks, Reverse(id))| {
            let symbol = directory.get(id)?;
            Some(Hot { symbol: symbol.name.to_string(), ticks_per_s: per_s(came), ticks })
        });
        (window_ns / 1_000_000, hot.collect())
    }
}

/// Looks at the feed's counts, and asks every shard, first for what most of its sessions subscribed to, then how many did to
/// what any of them named. Cancel safe: an answer that nobody waits for is dropped by the shard.
pub(super) async fn list(
    rates: &Rates,
    directory: &Directory,
    shards: &[mpsc::Sender<Question>],
    top: usize,
    patience: Duration,
) -> SymbolList {
    let targets = |which: Which| {
        ask(shards, move |reply| Question::Targets(TargetsRequest { which: which.clone(), reply }), patience)
    };
    let (named, mut silent) = targets(Which::Top(CANDIDATES.max(top))).await;
    let named: BTreeSet<Target> = named.into_iter().flatten().map(|info| info.target).collect();
    let (counted, silent_now) = targets(Which::These(named.into_iter().collect())).await;
    let mut sums: BTreeMap<Target, (u64, u64)> = BTreeMap::new();
    for TargetInfo { target, sessions, subscriptions } in counted.into_iter().flatten() {
        let sum = sums.entry(target).or_default();
        *sum = (sum.0 + sessions, sum.1 + subscriptions);
    }
    let mut highest = Highest::new(top);
    for (target, (sessions, subscriptions)) in sums {
        highest.offer((sessions, subscriptions, Reverse(target)));
    }
    let most_subscribed = highest.into_vec().into_iter().map(|(sessions, subscriptions, Reverse(target))| {
        Wanted { target: target.text(), sessions, subscriptions }
    });
    silent.extend(silent_now);
    silent.sort_unstable();
    silent.dedup();
    let (window_ms, hottest) = rates.hottest(directory, top).await;
    let most_subscribed = most_subscribed.collect();
    SymbolList { window_ms, hottest, most_subscribed, shards_without_answer: silent }
}

impl SymbolList {
    /// As two tables for a person.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<24} {:>12} {:>14}\n", "HOTTEST", "TICKS_PER_S", "TICKS");
        for hot in &self.hottest {
            let symbol = hot.symbol.escape_debug().to_string();
            let _ = writeln!(text, "{symbol:<24} {:>12.1} {:>14}", hot.ticks_per_s, hot.ticks);
        }
        let _ = writeln!(text, "\n{:<24} {:>12} {:>14}", "MOST SUBSCRIBED", "SESSIONS", "SUBSCRIPTIONS");
        for wanted in &self.most_subscribed {
            let target = wanted.target.escape_debug().to_string();
            let _ = writeln!(text, "{target:<24} {:>12} {:>14}", wanted.sessions, wanted.subscriptions);
        }
        if !self.shards_without_answer.is_empty() {
            let _ = writeln!(text, "shards without an answer: {:?}", self.shards_without_answer);
        }
        text
    }
}
