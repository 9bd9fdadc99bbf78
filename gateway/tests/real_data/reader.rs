//! A client that verifies its session and rebuilds the market from it.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_load::book::BookKeeper;
use tickgate_load::scan::Scanned;
use tickgate_load::tally::Tally;
use tickgate_load::verify::{Asked, SessionVerifier};
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;
use tickgate_protocol::event::EventView;
use tickgate_protocol::{Channel, Decimal, Depth, Position};

/// Longest silence of a session that is not at its end.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest wait for the rest of a market that has ended, whatever else comes meanwhile.
const REST: Duration = Duration::from_secs(600);

/// What a client knows of one symbol.
#[derive(Default)]
pub struct Market {
    pub trades: u64,
    /// In units of 10^-8.
    pub volume: i128,
    /// Price times size, in units of 10^-16.
    pub value: i128,
    pub high: Option<Decimal>,
    pub low: Option<Decimal>,
    pub first_id: Option<u64>,
    pub last_id: Option<u64>,
    /// Whether each trade's id was the one after the last.
    pub ids_jump: bool,
    /// Trades that gaps say are missing.
    pub trades_lost: u64,
    pub quotes: u64,
    /// Bid and ask.
    pub last_quote: Option<(Decimal, Decimal)>,
    pub crossed: u64,
    pub locked: u64,
    pub book: Option<BookKeeper>,
    pub largest_book_levels: usize,
}

/// Trades or quotes of one symbol, counted without being read.
pub struct Counted {
    pub channel: Channel,
    pub symbol: String,
    /// Updates that the events stand for.
    pub updates: u64,
    /// The position of the newest.
    pub last: Option<Position>,
}

/// A session with everything that it was told.
pub struct Reader {
    client: Client,
    verifier: SessionVerifier,
    pub tally: Tally,
    pub markets: BTreeMap<String, Market>,
    pub counted: Vec<Counted>,
    /// Symbols whose `closed` was read: they end.
    pub ended: u64,
    pub close_code: Option<Option<u16>>,
    /// Whether the events are read, or only verified.
    reads: bool,
    /// The newest mark that came by, for whoever waits for it.
    pub mark: Arc<AtomicU64>,
}

/// What the symbol of marks is called.
pub const MARK: &str = "MARK";

impl Reader {
    /// Connects, subscribes and waits for the `ack`, in which everything is `ok`.
    pub async fn open(url: &str, options: &ClientOptions, subscriptions: &[Value], reads: bool) -> Self {
        let client = Client::connect(url, options).await.expect("a session");
        let mut reader = Self {
            client,
            verifier: SessionVerifier::default(),
            tally: Tally::default(),
            markets: BTreeMap::new(),
            counted: Vec::new(),
            ended: 0,
            close_code: None,
            reads,
            mark: Arc::default(),
        };
        reader.verifier.sent(1, Asked::Subscribe);
        let request = json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions});
        reader.client.send(&request).await.expect("it is sent");
        loop {
            if let Some(Control::Ack { results, .. }) = reader.step().await {
                assert!(results.iter().all(|result| result.ok), "{results:?}");
                return reader;
            }
        }
    }

    /// Reads until `symbols` have ended or the session has.
    pub async fn until_the_end(mut self, symbols: u64) -> Self {
        while self.ended < symbols && self.close_code.is_none() {
            self.step().await;
        }
        self
    }

    /// Reads until so many events are accounted for: sent, merged into a newer state, or counted by a gap; or until the
    /// session has ended.
    pub async fn until_accounted_for(mut self, total: u64) -> Self {
        let deadline = Instant::now() + REST;
        while self.accounted_for() < total && self.close_code.is_none() {
            assert!(Instant::now() < deadline, "{} of {total}: {:?}", self.accounted_for(), self.tally);
            self.step().await;
        }
        self
    }

    pub fn accounted_for(&self) -> u64 {
        self.counted.iter().map(|counted| counted.updates).sum::<u64>() + self.tally.gap_events
    }

    async fn step(&mut self) -> Option<Control> {
        let Some(incoming) = self.client.next_within(SILENCE).await else {
            panic!("nothing for {SILENCE:?}: {:?}", self.tally)
        };
        match incoming {
            Incoming::Closed { code, .. } => {
                self.close_code = Some(code);
                None
            }
            Incoming::Control { frame, .. } => {
                self.verifier.message(frame.as_bytes(), frame.received_ns, &mut self.tally, |_, _| ())
            }
            Incoming::Events(frame) => {
                let Self { verifier, tally, ended, mark, counted, .. } = self;
                verifier.message(frame.as_bytes(), frame.received_ns, tally, |event, _| {
                    match event.channel {
                        Some(Channel::Status) if event.symbol == MARK => {
                            mark.fetch_add(u64::from(event.merged), Ordering::Relaxed);
                        }
                        Some(Channel::Status) => *ended += 1,
                        Some(channel) => count(counted, channel, event),
                        None => {}
                    }
                });
                if self.reads {
                    for event in frame.events().expect("events") {
                        self.event(&event);
                    }
                }
                None
            }
        }
    }

    fn event(&mut self, event: &EventView<'_>) {
        let lost = match (event.is_gap(), event.channel()) {
            (true, Some(Channel::Trades)) => event.count.unwrap_or(0),
            (true, _) | (_, Some(Channel::Status)) => return,
            (false, _) => 0,
        };
        if !self.markets.contains_key(&*event.symbol) {
            self.markets.insert(event.symbol.to_string(), Market::default());
        }
        let market = self.markets.get_mut(&*event.symbol).expect("it was just inserted");
        match &*event.kind {
            "gap" => market.trades_lost += lost,
            "trade" => market.trade(event),
            "quote" => {
                let (bid, ask) = (event.bid_price.expect("a bid"), event.ask_price.expect("an ask"));
                market.quotes += 1;
                market.last_quote = Some((bid, ask));
                market.crossed += u64::from(bid > ask);
                market.locked += u64::from(bid == ask);
            }
            "book" => {
                let levels =
                    event.bids.as_ref().map_or(0, Vec::len) + event.asks.as_ref().map_or(0, Vec::len);
                market.largest_book_levels = market.largest_book_levels.max(levels);
                market.book.get_or_insert_with(|| BookKeeper::new(Depth::ALL)).apply(event);
            }
            other => panic!("{other}"),
        }
    }

    /// Nothing was lost, doubled or out of order, and nothing came that was not asked for.
    pub fn is_sound(&self) {
        let tally = &self.tally;
        let faults = [
            tally.unannounced,
            tally.duplicates,
            tally.unverified,
            tally.unasked,
            tally.gaps_misfit,
            tally.behind_cursor,
            tally.unreadable,
        ];
        assert_eq!(faults, [0; 7], "{tally:?}");
    }
}

fn count(all: &mut Vec<Counted>, channel: Channel, event: &Scanned<'_>) {
    let found = all.iter().position(|c| c.channel == channel && c.symbol == event.symbol);
    let at = found.unwrap_or_else(|| {
        all.push(Counted { channel, symbol: event.symbol.to_owned(), updates: 0, last: None });
        all.len() - 1
    });
    all[at].updates += u64::from(event.merged);
    all[at].last = event.seq;
}

impl Market {
    fn trade(&mut self, event: &EventView<'_>) {
        let (price, size) = (event.price.expect("a price"), event.size.expect("a size"));
        self.trades += 1;
        self.volume += units(size);
        self.value += units(price) * units(size);
        self.high = self.high.max(Some(price));
        self.low = Some(self.low.map_or(price, |low| low.min(price)));
        if let Some(id) = event.trade_id.as_deref().and_then(|id| id.parse::<u64>().ok()) {
            self.ids_jump |= self.last_id.is_some_and(|last| id != last + 1);
            self.first_id.get_or_insert(id);
            self.last_id = Some(id);
        }
    }

    /// Volume-weighted average price.
    pub fn vwap(&self) -> f64 {
        self.value as f64 / self.volume as f64 / 1e8
    }
}

/// A number in units of 10^-8, exactly.
pub fn units(number: Decimal) -> i128 {
    let scale = u32::from(number.scale());
    assert!(scale <= 8, "{number} is finer than a hundred-millionth");
    i128::from(number.mantissa()) * 10i128.pow(8 - scale)
}

/// The record that ends a symbol: everything of it stands before.
pub fn end(symbol: &str) -> Value {
    json!({"type": "status", "symbol": symbol, "state": "closed", "event_ns": 1})
}
