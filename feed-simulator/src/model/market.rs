//! What prints become: trades, quotes, book diffs and status changes of instruments with prices, spreads and sizes.

use super::draw;
use super::hawkes::Print;
use super::ladder::{Change, Ladder};
use super::touch::Touch;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{Body, Book, Quote, Side, Status, Trade, TradingState};

/// An instrument as it starts.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) symbol: String,
    pub(crate) price: f64,
    /// Price of one tick.
    pub(crate) tick: Decimal,
    /// Size of one lot.
    pub(crate) lot: Decimal,
    /// Mean spread in ticks (ignored where there is a book: its spread results from the orders).
    pub(crate) spread_mean: f64,
    /// Mean size of an order in lots.
    pub(crate) lots_mean: f64,
}

/// The mix of events of a market.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MarketSpec {
    /// Share of orders that trade; the prints of such an order are trades and quotes in turn.
    pub(crate) aggressive: f64,
    /// Share of the other prints that are book diffs; 0 for markets without a book.
    pub(crate) book: f64,
    /// Levels a side.
    pub(crate) depth: usize,
    /// Share of quotes that are locked (bid = ask).
    pub(crate) locked: f64,
    /// Share of quotes that are crossed (bid over ask).
    pub(crate) crossed: f64,
    /// Where trades and quotes come from; empty where a feed does not say.
    pub(crate) venues: &'static [&'static str],
    /// Whether trades say which side was the aggressor.
    pub(crate) sides: bool,
    /// Halts per quote.
    pub(crate) halts: f64,
}

#[derive(Debug)]
enum Prices {
    Touch(Touch),
    Ladder(Box<Ladder>),
}

#[derive(Debug)]
struct Instrument {
    tick: Decimal,
    lot: Decimal,
    lots_mean: f64,
    trades: u64,
    state: TradingState,
    prices: Prices,
}

/// All instruments of a model.
#[derive(Debug)]
pub(crate) struct Market {
    spec: MarketSpec,
    rng: ChaCha8Rng,
    instruments: Vec<Instrument>,
}

impl Market {
    pub(crate) fn new(spec: MarketSpec, listings: &[Listing], mut rng: ChaCha8Rng) -> Self {
        let instruments = listings
            .iter()
            .map(|listing| {
                let bid = ((listing.price / listing.tick.to_f64()) as i64).max(spec.depth as i64 * 2 + 10);
                let lots_mean = listing.lots_mean;
                Instrument {
                    tick: listing.tick,
                    lot: listing.lot,
                    lots_mean,
                    trades: 0,
                    state: TradingState::Trading,
                    prices: if spec.book > 0.0 {
                        Prices::Ladder(Box::new(Ladder::new(bid, spec.depth, lots_mean * 4.0, &mut rng)))
                    } else {
                        Prices::Touch(Touch::new(bid, listing.spread_mean, lots_mean, &mut rng))
                    },
                }
            })
            .collect();
        Self { spec, rng, instruments }
    }

    /// Whether the symbol has a book that no record has told of yet.
    pub(crate) fn wants_snapshot(&self, symbol: u32) -> bool {
        matches!(&self.instruments[symbol as usize].prices, Prices::Ladder(ladder) if !ladder.is_published())
    }

    /// The whole book of a symbol, as far as it has one.
    pub(crate) fn snapshot(&mut self, symbol: u32) -> Option<Body<'static>> {
        let instrument = &mut self.instruments[symbol as usize];
        let Prices::Ladder(ladder) = &mut instrument.prices else { return None };
        let (bids, asks) = ladder.snapshot();
        Some(Body::Book(instrument.book(bids, asks, true)))
    }

    /// Changes what a symbol may do; in an auction and while halted nothing trades.
    pub(crate) fn status(
        &mut self,
        symbol: u32,
        state: TradingState,
        reason: Option<&'static str>,
    ) -> Body<'static> {
        self.instruments[symbol as usize].state = state;
        Body::Status(Status { state, reason: reason.map(Cow::Borrowed) })
    }

    /// What a print says.
    pub(crate) fn body(&mut self, print: Print) -> Body<'static> {
        let spec = self.spec;
        let rng = &mut self.rng;
        let instrument = &mut self.instruments[print.symbol as usize];
        // One bit of the order is its side, the others decide whether it trades: an order is one thing throughout.
        let side = if print.order & 1 == 0 { Side::Buy } else { Side::Sell };
        let aggressive = f64::from(print.order >> 1) < spec.aggressive * f64::from(1u32 << 31);
        if aggressive && print.index.is_multiple_of(2) && instrument.state == TradingState::Trading {
            return Body::Trade(instrument.trade(spec, side, rng));
        }
        if instrument.state == TradingState::Trading && draw::chance(spec.halts, rng) {
            return self.status(print.symbol, TradingState::Halted, Some("volatility pause"));
        }
        if !aggressive
            && draw::chance(spec.book, rng)
            && let Some(book) = instrument.diff(rng)
        {
            return Body::Book(book);
        }
        Body::Quote(instrument.quote(spec, rng))
    }
}

impl Instrument {
    fn price(&self, ticks: i64) -> Decimal {
        times(self.tick, ticks)
    }

    fn size(&self, lots: u32) -> Decimal {
        times(self.lot, i64::from(lots))
    }

    fn book(&self, bids: Vec<Change>, asks: Vec<Change>, snapshot: bool) -> Book {
        let levels = |changes: Vec<Change>| {
            changes.into_iter().map(|(ticks, lots)| (self.price(ticks), self.size(lots))).collect()
        };
        Book { bids: levels(bids), asks: levels(asks), snapshot }
    }

    fn trade(&mut self, spec: MarketSpec, side: Side, rng: &mut ChaCha8Rng) -> Trade<'static> {
        self.trades += 1;
        let wanted = draw::lots(self.lots_mean * 0.5, rng);
        let (ticks, lots) = match &mut self.prices {
            Prices::Touch(touch) => touch.take(side, wanted, rng),
            Prices::Ladder(ladder) => ladder.take(side, wanted, rng),
        };
        Trade {
            price: self.price(ticks),
            size: self.size(lots),
            side: spec.sides.then_some(side),
            trade_id: Some(Cow::Owned(self.trades.to_string())),
            venue: venue(spec.venues, rng),
            conditions: None,
        }
    }

    fn quote(&mut self, spec: MarketSpec, rng: &mut ChaCha8Rng) -> Quote<'static> {
        let ((bid, bid_lots), (mut ask, ask_lots)) = match &mut self.prices {
            Prices::Touch(touch) => {
                touch.turn(rng);
                ((touch.bid, touch.bid_lots), (touch.ask, touch.ask_lots))
            }
            Prices::Ladder(ladder) => {
                ladder.turn(rng);
                ladder.best()
            }
        };
        // One venue's quote that another has not caught up with yet: over with the next update.
        let drawn: f64 = rng.random();
        if drawn < spec.locked {
            ask = bid;
        } else if drawn < spec.locked + spec.crossed {
            ask = (bid - 1).max(1);
        }
        Quote {
            bid_price: self.price(bid),
            bid_size: self.size(bid_lots),
            ask_price: self.price(ask),
            ask_size: self.size(ask_lots),
            venue: venue(spec.venues, rng),
        }
    }

    fn diff(&mut self, rng: &mut ChaCha8Rng) -> Option<Book> {
        let Prices::Ladder(ladder) = &mut self.prices else { return None };
        ladder.turn(rng);
        let (bids, asks) = ladder.diff();
        if bids.is_empty() && asks.is_empty() { None } else { Some(self.book(bids, asks, false)) }
    }
}

fn venue<R: Rng>(venues: &'static [&'static str], rng: &mut R) -> Option<Cow<'static, str>> {
    // The minimum of two draws: the first venues of the list have most of the activity.
    let last = venues.len().checked_sub(1)?;
    let drawn = rng.random_range(0..=last).min(rng.random_range(0..=last));
    Some(Cow::Borrowed(venues[drawn]))
}

fn times(unit: Decimal, count: i64) -> Decimal {
    Decimal::new(unit.mantissa().saturating_mul(count), unit.scale())
        .expect("the scale of a decimal is valid")
}
