//! A day of four stocks, trades and quotes merged, to two hundred clients of which five stall, at the pace of the slowest
//! that does not: whoever reads on loses nothing at all, which only then is certain.
//!
//! All rows to all clients would be 240 million deliveries, minutes of work for a small machine. What is chosen
//! instead keeps the fan-out at 200 sessions and every kind of subscription under load: 5.4 million deliveries.
//!
//! | clients | subscription | events each |
//! |---:|---|---:|
//! | 40 | trades of AIG | 25,351 |
//! | 40 | trades of IBM | 24,293 |
//! | 8 | trades of BAC | 88,172 |
//! | 4 | trades of SPY | 250,601 |
//! | 1 | everything | 1,221,344 |
//! | 102 | quotes of all, one in 250 ms | few |
//! | 2 stalled | quotes of all | 832,927 offered, conflated |
//! | 2 stalled | trades of all, `skip` | 388,417 offered, skipped |
//! | 1 stalled | trades of all, `disconnect` | cut |
//!
//! What happens when nothing holds the producer back is the business of `full_speed`.

use crate::harness::process::Process;
use crate::harness::{Kafka, until};
use crate::reader::{MARK, Market, Reader, units};
use crate::{alone, data, decimal, ticks};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_load::ClientOptions;
use tickgate_protocol::record::{Body, Status, Tick, TradingState};
use tickgate_sim::TimedTick;
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{ProducerConfig, Progress, produce};
use tickgate_sim::replay::{Format, ReplayError};

pub const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];
pub const TRADES: u64 = 388_417;
pub const TICKS: u64 = 1_221_344;
/// Ticks between two marks, and how many marks the slowest healthy client may be behind: 3,000 ticks of 230 bytes stay
/// under the 1 MiB at which the gateway acts, so whoever reads on is never slow.
const TICKS_PER_MARK: u64 = 500;
const MARKS_AHEAD: u64 = 5;

pub struct Facts {
    pub symbol: &'static str,
    pub trades: u64,
    pub volume: &'static str,
    pub vwap: f64,
    pub high: &'static str,
    pub low: &'static str,
    /// Quotes, and the last bid and ask: of SPY there are none.
    pub quotes: u64,
    pub last_quote: Option<(&'static str, &'static str)>,
}

#[rustfmt::skip]
pub const FACTS: [Facts; 4] = [
    Facts { symbol: "AIG", trades: 25_351, volume: "5300449", vwap: 48.92505, high: "49.18", low: "48.69",
        quotes: 539_967, last_quote: Some(("48.79", "49.09")) },
    Facts { symbol: "BAC", trades: 88_172, volume: "64411712", vwap: 13.86191, high: "14.12", low: "13.79",
        quotes: 238_427, last_quote: Some(("13.80", "13.86")) },
    Facts { symbol: "IBM", trades: 24_293, volume: "3960352", vwap: 182.50051, high: "183.31", low: "181.35",
        quotes: 54_533, last_quote: Some(("181.98", "186.00")) },
    Facts { symbol: "SPY", trades: 250_601, volume: "97062721", vwap: 167.90673, high: "168.90", low: "167.01",
        quotes: 0, last_quote: None },
];

impl Facts {
    /// A market in which no trade was lost.
    pub fn hold_of_trades(&self, market: &Market) {
        let symbol = self.symbol;
        assert_eq!((market.trades, market.volume), (self.trades, units(decimal(self.volume))), "{symbol}");
        assert!((market.vwap() - self.vwap).abs() < 5e-6, "{symbol} {}", market.vwap());
        let range = (Some(decimal(self.high)), Some(decimal(self.low)));
        assert_eq!((market.high, market.low), range, "{symbol}");
    }
}

/// The seven files merged by time, if they are there.
pub fn day() -> Option<impl Iterator<Item = Result<TimedTick, ReplayError>> + Send> {
    let names = ["aig/20131007_trade", "aig/20131007_quote", "bac/20131007_trade", "bac/20131007_quote"];
    let names = names.iter().chain(&["ibm/20131007_trade", "ibm/20131007_quote", "spy/20131007_trade"]);
    let files = names.map(|name| data(&format!("lean-us-equities/{name}.zip")));
    Some(ticks(&files.collect::<Option<Vec<_>>>()?, Format::Lean))
}

fn subscriptions(channel: &str, symbols: &[&str], options: Value) -> Vec<Value> {
    let mut subscription = json!({"channel": channel, "symbols": symbols});
    for (name, value) in options.as_object().expect("options") {
        subscription[name] = value.clone();
    }
    vec![subscription]
}

/// With the ends of symbols, and the marks.
fn and_ends(mut subscriptions: Vec<Value>, symbols: &[&str]) -> Vec<Value> {
    let with_marks: Vec<&str> = symbols.iter().copied().chain([MARK]).collect();
    subscriptions.push(json!({"channel": "status", "symbols": with_marks}));
    subscriptions
}

/// The ticks with a mark after every few hundred, no further ahead than the slowest client's mark allows, and the ends of
/// all symbols.
fn at_the_pace_of(
    marks: Vec<Arc<AtomicU64>>,
    ticks: impl Iterator<Item = Result<TimedTick, ReplayError>> + Send,
) -> impl Iterator<Item = Result<TimedTick, ReplayError>> + Send {
    let status = |symbol: &str, state| {
        let body = Body::Status(Status { state, reason: None });
        let tick = Tick { symbol: symbol.to_owned().into(), event_ns: Some(1), send_ns: None, body };
        Ok(TimedTick { offset_ns: 0, tick })
    };
    let mut sent = 0;
    let paced = ticks.flat_map(move |tick| {
        sent += 1;
        let mark = (sent % TICKS_PER_MARK == 0).then(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            let marked = sent / TICKS_PER_MARK;
            while marks.iter().any(|mark| mark.load(Ordering::Relaxed) + MARKS_AHEAD < marked) {
                assert!(Instant::now() < deadline, "a healthy client is stuck behind mark {marked}");
                // tidy: allow(sleep) it only paces the polling, which has a bound
                std::thread::sleep(Duration::from_micros(200));
            }
            status(MARK, TradingState::Trading)
        });
        std::iter::once(tick).chain(mark)
    });
    paced.chain(SYMBOLS.map(move |symbol| status(symbol, TradingState::Closed)))
}

/// The books of the gateway close with nothing held.
pub async fn books_close(gateway: &Process) {
    until("the books of the gateway close with nothing held", || {
        let of = |name: &str| gateway.metric(name, "");
        let gone = of("tickgate_events_sent_total")
            + of("tickgate_events_conflated_total")
            + of("tickgate_events_dropped_total");
        of("tickgate_events_offered_total") == gone
            && of("tickgate_events_held") == 0.0
            && of("tickgate_books_imbalance_events") == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_stocks_at_the_pace_of_the_slowest_reaches_every_healthy_client_whole() {
    let Some(day) = day() else { return };
    let _alone = alone().await;
    let kafka = Kafka::embedded();
    let topic = kafka.topic(4).await;
    // Nobody is cut for standing still this long, so that what cuts the stalled is their policy alone.
    let gateway =
        Process::start(&kafka, &topic, &["outbox.stall_timeout_ms=600000", "session.heartbeat_ms=1000"]);
    let ceiling: u64 = gateway.metric("tickgate_limit_memory_bytes", "") as u64;

    let options = ClientOptions::default();
    let mut healthy = Vec::new();
    for (count, symbol) in [(40, "AIG"), (40, "IBM"), (8, "BAC"), (4, "SPY")] {
        for _ in 0..count {
            let wanted = and_ends(subscriptions("trades", &[symbol], json!({})), &[symbol]);
            healthy.push((Reader::open(&gateway.url, &options, &wanted, true).await, 1));
        }
    }
    let mut everything = subscriptions("trades", &SYMBOLS, json!({}));
    everything.extend(subscriptions("quotes", &SYMBOLS, json!({})));
    healthy.push((Reader::open(&gateway.url, &options, &and_ends(everything, &SYMBOLS), true).await, 4));
    for _ in 0..102 {
        let wanted = and_ends(subscriptions("quotes", &["*"], json!({"conflate_ms": 250})), &SYMBOLS);
        healthy.push((Reader::open(&gateway.url, &options, &wanted, true).await, 4));
    }
    let narrow = ClientOptions { recv_buffer_bytes: Some(16 << 10), ..ClientOptions::default() };
    let mut stalled = Vec::new();
    for (channel, policy) in [
        ("quotes", "conflate"),
        ("quotes", "conflate"),
        ("trades", "skip"),
        ("trades", "skip"),
        ("trades", "disconnect"),
    ] {
        let mut wanted = subscriptions(channel, &SYMBOLS, json!({"on_slow": policy}));
        wanted.push(json!({"channel": "status", "symbols": SYMBOLS}));
        stalled.push(Reader::open(&gateway.url, &narrow, &wanted, true).await);
    }
    assert_eq!(healthy.len() + stalled.len(), 200);

    let marks: Vec<Arc<AtomicU64>> = healthy.iter().map(|(reader, _)| reader.mark.clone()).collect();
    let reading: Vec<_> =
        healthy.into_iter().map(|(r, symbols)| tokio::spawn(r.until_the_end(symbols))).collect();
    let started = Instant::now();
    let mut config = ProducerConfig::new(kafka.address(), &topic);
    config.speed = Speed::Max;
    let source = at_the_pace_of(marks, day);
    let sent = tokio::task::spawn_blocking(move || {
        produce(source, &config, &Arc::new(Progress::default()), &AtomicBool::new(false))
    });
    let sent = sent.await.expect("no panic").expect("it is sent");
    assert_eq!((sent.delivery_errors, sent.delivered), (0, TICKS + TICKS / TICKS_PER_MARK + 4), "{sent:?}");
    let mut deliveries = 0;
    for (at, reader) in reading.into_iter().enumerate() {
        let reader = reader.await.expect("it reads to the end");
        reader.is_sound();
        assert_eq!((reader.tally.gaps, reader.close_code), (0, None), "client {at}");
        deliveries += reader.tally.events;
        for facts in FACTS.iter().filter(|facts| reader.markets.contains_key(facts.symbol)) {
            let market = &reader.markets[facts.symbol];
            if market.trades == 0 {
                continue;
            }
            facts.hold_of_trades(market);
        }
    }
    let took = started.elapsed();
    let peak = gateway.peak_bytes();
    assert!(peak < ceiling, "{peak} of {ceiling} bytes");
    assert_eq!(gateway.metric("tickgate_feed_overload_events_total", ""), 0.0, "the gateway itself kept up");

    // Now the stalled read what is left for them.
    for (at, reader) in stalled.into_iter().enumerate() {
        let reader = reader.until_the_end(SYMBOLS.len() as u64).await;
        reader.is_sound();
        let trades: u64 = reader.markets.values().map(|market| market.trades).sum();
        match at {
            0 | 1 => {
                assert_eq!((reader.close_code, reader.tally.gaps), (None, 0), "{:?}", reader.tally);
                assert!(reader.tally.conflated > 500_000, "{:?}", reader.tally);
            }
            2 | 3 => {
                assert_eq!(reader.close_code, None);
                assert!(reader.tally.gap_events > TRADES / 2, "{:?}", reader.tally);
                assert_eq!(trades + reader.tally.gap_events, TRADES, "what was skipped was counted");
            }
            _ => assert_eq!(reader.close_code, Some(Some(4490)), "{:?}", reader.tally),
        }
    }
    books_close(&gateway).await;
    assert_eq!(gateway.metric("tickgate_sessions_closed_total", "slow_consumer"), 1.0);
    eprintln!(
        "{TICKS} ticks and {deliveries} deliveries in {took:.1?}: {:.0} ticks/s, {:.0} deliveries/s, at most {} MiB of {} MiB",
        TICKS as f64 / took.as_secs_f64(),
        deliveries as f64 / took.as_secs_f64(),
        peak >> 20,
        ceiling >> 20,
    );
}
