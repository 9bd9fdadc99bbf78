//! Models of markets: seeded, endless, the same for the same seed whatever the clock does.
//!
//! Arrivals (a Hawkes process) decide when something is printed for which symbol; a market turns each print into a tick; a calendar adds
//! what happens by the clock (book snapshots, auctions, the end of halts). All three have their own stream of the seed.

mod calendar;
mod constant;
mod crypto;
mod draw;
mod equities;
mod futures;
mod fx;
pub(crate) mod hawkes;
mod ladder;
mod market;
mod marks;
mod modulation;
mod names;
pub mod popularity;
mod touch;

use crate::TimedTick;
use calendar::{Calendar, Entry};
use constant::Even;
use hawkes::{ArrivalSpec, Arrivals, Print};
use market::{Listing, Market, MarketSpec};
use std::borrow::Cow;
use std::collections::VecDeque;
use tickgate_protocol::record::{Body, Tick, TradingState};

/// Most symbols of a model.
pub const SYMBOLS_MAX: usize = 100_000;
/// Highest mean rate of a model, in ticks per second.
pub const RATE_MAX_PER_S: f64 = 10_000_000.0;
/// The `event_ns` of offset zero: 2026-01-05 14:30:00 UTC.
pub const EPOCH_NS: i64 = 1_767_623_400_000_000_000;

/// A book is told whole once a minute, so that whoever comes late has it soon.
const SNAPSHOT_EVERY_NS: u64 = 60_000_000_000;
const HALT_NS: u64 = 5_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Which market is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Trades and best bid/offer of US shares
    UsEquities,
    /// Trades, best bid/offer and books of perpetual swaps
    CryptoPerp,
    /// Best bid/offer of currency pairs
    Fx,
    /// Futures through an opening auction and burst, once a minute
    FuturesOpen,
    /// Evenly spaced, for comparisons only
    Constant,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] =
        [Self::UsEquities, Self::CryptoPerp, Self::Fx, Self::FuturesOpen, Self::Constant];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsEquities => "us-equities",
            Self::CryptoPerp => "crypto-perp",
            Self::Fx => "fx",
            Self::FuturesOpen => "futures-open",
            Self::Constant => "constant",
        }
    }

    fn listings(self, symbols: usize) -> Vec<Listing> {
        match self {
            Self::UsEquities | Self::Constant => equities::listings(symbols),
            Self::CryptoPerp => crypto::listings(symbols),
            Self::Fx => fx::listings(symbols),
            Self::FuturesOpen => futures::listings(symbols),
        }
    }

    const fn market(self) -> MarketSpec {
        match self {
            Self::UsEquities => equities::MARKET,
            Self::Constant => MarketSpec { halts: 0.0, ..equities::MARKET },
            Self::CryptoPerp => crypto::MARKET,
            Self::Fx => fx::MARKET,
            Self::FuturesOpen => futures::MARKET,
        }
    }

    const fn arrivals(self) -> Option<ArrivalSpec> {
        match self {
            Self::UsEquities => Some(equities::ARRIVALS),
            Self::CryptoPerp => Some(crypto::ARRIVALS),
            Self::Fx => Some(fx::ARRIVALS),
            Self::FuturesOpen => Some(futures::ARRIVALS),
            Self::Constant => None,
        }
    }
}

/// How large, how fast and which of all possible courses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelConfig {
    /// Symbols, 1 to [`SYMBOLS_MAX`].
    pub symbols: usize,
    /// Mean ticks per second over all symbols, above 0 and at most [`RATE_MAX_PER_S`].
    pub rate_per_s: f64,
    /// The same seed gives the same ticks.
    pub seed: u64,
}

/// Why there is no such model.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The number of symbols is out of range.
    #[error("{0} symbols: 1 to {SYMBOLS_MAX} are possible")]
    Symbols(usize),
    /// The rate is out of range.
    #[error("{0} ticks per second: more than 0 and at most {RATE_MAX_PER_S} are possible")]
    Rate(f64),
}

/// An endless stream of ticks in time order.
#[derive(Debug)]
pub struct Model {
    symbols: Vec<String>,
    source: Source,
    market: Market,
    calendar: Calendar,
    next: Print,
    ready: VecDeque<TimedTick>,
}

#[derive(Debug)]
enum Source {
    Hawkes(Box<Arrivals>),
    Even(Box<Even>),
}

impl Iterator for Source {
    type Item = Print;

    fn next(&mut self) -> Option<Print> {
        match self {
            Self::Hawkes(arrivals) => arrivals.next(),
            Self::Even(even) => even.next(),
        }
    }
}

impl Model {
    /// A model of `preset`.
    ///
    /// # Errors
    /// When `config` is out of range.
    pub fn new(preset: Preset, config: ModelConfig) -> Result<Self, ModelError> {
        let ModelConfig { symbols, rate_per_s, seed } = config;
        if symbols == 0 || symbols > SYMBOLS_MAX {
            return Err(ModelError::Symbols(symbols));
        }
        if !(rate_per_s > 0.0 && rate_per_s <= RATE_MAX_PER_S) {
            return Err(ModelError::Rate(rate_per_s));
        }
        let listings = preset.listings(symbols);
        let market = Market::new(preset.market(), &listings, hawkes::rng(seed, 2));
        let arrivals_rng = hawkes::rng(seed, 1);
        let mut source = match preset.arrivals() {
            Some(spec) => Source::Hawkes(Box::new(Arrivals::new(spec, symbols, rate_per_s, arrivals_rng))),
            None => Source::Even(Box::new(Even::new(symbols, rate_per_s, arrivals_rng))),
        };
        let mut calendar = Calendar::default();
        for symbol in 0..symbols as u32 {
            if preset == Preset::FuturesOpen {
                calendar.add(0, Entry::Auction, symbol);
                calendar.add(seconds(futures::SESSION.auction_s), Entry::Open, symbol);
            }
            if preset.market().book > 0.0 {
                // Spread out: a thousand snapshots at one instant would be an event of their own.
                calendar.add(u64::from(symbol) * NS_PER_S / symbols as u64, Entry::FirstSnapshot, symbol);
                let phase_ns = (u64::from(symbol) + 1) * (SNAPSHOT_EVERY_NS / symbols as u64);
                calendar.add(phase_ns, Entry::Snapshot, symbol);
            }
        }
        let next = source.next().expect("arrivals never end");
        let symbols = listings.into_iter().map(|listing| listing.symbol).collect();
        Ok(Self { symbols, source, market, calendar, next, ready: VecDeque::new() })
    }

    /// Every symbol, the most active first.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    fn queue(&mut self, offset_ns: u64, symbol: u32, body: Body<'static>) {
        let tick = Tick {
            symbol: Cow::Owned(self.symbols[symbol as usize].clone()),
            event_ns: Some(EPOCH_NS + offset_ns as i64),
            send_ns: None,
            body,
        };
        self.ready.push_back(TimedTick { offset_ns, tick });
    }

    fn enter(&mut self, at_ns: u64, entry: Entry, symbol: u32) {
        match entry {
            Entry::FirstSnapshot if !self.market.wants_snapshot(symbol) => {}
            Entry::FirstSnapshot => self.snapshot(at_ns, symbol),
            Entry::Snapshot => {
                self.snapshot(at_ns, symbol);
                self.calendar.add(at_ns + SNAPSHOT_EVERY_NS, Entry::Snapshot, symbol);
            }
            Entry::Auction => {
                self.change(at_ns, symbol, TradingState::Auction, "opening auction");
                self.calendar.add(at_ns + seconds(futures::SESSION.period_s), Entry::Auction, symbol);
            }
            Entry::Open => {
                self.change(at_ns, symbol, TradingState::Trading, "open");
                self.calendar.add(at_ns + seconds(futures::SESSION.period_s), Entry::Open, symbol);
            }
            Entry::Resume => self.change(at_ns, symbol, TradingState::Trading, "resumed"),
        }
    }

    fn change(&mut self, at_ns: u64, symbol: u32, state: TradingState, reason: &'static str) {
        let body = self.market.status(symbol, state, Some(reason));
        self.queue(at_ns, symbol, body);
    }

    fn snapshot(&mut self, at_ns: u64, symbol: u32) {
        if let Some(body) = self.market.snapshot(symbol) {
            self.queue(at_ns, symbol, body);
        }
    }

    fn print(&mut self) {
        let print = std::mem::replace(&mut self.next, self.source.next().expect("arrivals never end"));
        if self.market.wants_snapshot(print.symbol) {
            self.snapshot(print.offset_ns, print.symbol);
        }
        let body = self.market.body(print);
        if matches!(&body, Body::Status(_)) {
            self.calendar.add(print.offset_ns + HALT_NS, Entry::Resume, print.symbol);
        }
        self.queue(print.offset_ns, print.symbol, body);
    }
}

impl Iterator for Model {
    type Item = TimedTick;

    fn next(&mut self) -> Option<TimedTick> {
        loop {
            if let Some(tick) = self.ready.pop_front() {
                return Some(tick);
            }
            match self.calendar.pop(self.next.offset_ns) {
                Some((at_ns, entry, symbol)) => self.enter(at_ns, entry, symbol),
                None => self.print(),
            }
        }
    }
}

fn seconds(seconds: f64) -> u64 {
    (seconds * NS_PER_S as f64) as u64
}

#[cfg(test)]
mod tests;
