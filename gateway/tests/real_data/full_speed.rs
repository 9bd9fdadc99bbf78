//! The day of `equities` with nothing holding the producer back.
//!
//! Producer, broker, gateway and two hundred clients share whatever cores there are, so some of them fall behind, and
//! nobody can say beforehand which. What is certain is what the gateway promises whoever falls behind:
//!
//! | clients | subscription | whatever happens |
//! |---:|---|---|
//! | 60 | quotes of IBM | each update was sent or merged into a newer one, and the last state is the day's |
//! | 40 | quotes of BAC and IBM | the same |
//! | 15 | quotes of AIG | the same |
//! | 10 | quotes of all | the same |
//! | 15 | quotes of all, one in 250 ms | the same |
//! | 40 | trades of AIG and IBM, `skip` | each trade was sent or is in the count of a gap |
//! | 9 | trades of BAC, `skip` | the same |
//! | 5 | trades of SPY, `skip` | the same |
//! | 1 | everything | both |
//! | 2 stalled | quotes of all | conflated |
//! | 2 stalled | trades of all, `skip` | skipped |
//! | 1 stalled | trades of all, `disconnect` | cut, and nobody else is |
//!
//! A quote may always be conflated, so those who have quotes are never ended, nor told of a gap. A client of this process
//! that does not get its turn for a queue's worth of trades is slow, as far as the gateway can know: gaps of trades may
//! say `slow_consumer` for the healthy ones too. They hold `skip`, under which nobody is ended.

use crate::equities::{FACTS, Facts, SYMBOLS, TICKS, TRADES, books_close, day};
use crate::harness::process::Process;
use crate::harness::{Kafka, until};
use crate::reader::Reader;
use crate::{alone, decimal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_load::ClientOptions;
use tickgate_protocol::{Channel, Position};
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{ProducerConfig, Progress, produce};

/// How many clients of each kind read what they count: that costs ten times as much, and all are sent the same bytes.
const READING: usize = 2;
const QUOTES: u64 = TICKS - TRADES;

/// How many clients have these subscriptions.
fn healthy() -> [(usize, Value); 9] {
    let quotes = |symbols: &[&str]| json!({"channel": "quotes", "symbols": symbols});
    let trades = |symbols: &[&str]| json!({"channel": "trades", "symbols": symbols, "on_slow": "skip"});
    let some = json!({"channel": "quotes", "symbols": ["AIG", "BAC", "IBM"], "conflate_ms": 250});
    [
        (60, json!([quotes(&["IBM"])])),
        (40, json!([quotes(&["BAC", "IBM"])])),
        (15, json!([quotes(&["AIG"])])),
        (10, json!([quotes(&["AIG", "BAC", "IBM"])])),
        (15, json!([some])),
        (40, json!([trades(&["AIG", "IBM"])])),
        (9, json!([trades(&["BAC"])])),
        (5, json!([trades(&["SPY"])])),
        (1, json!([trades(&SYMBOLS), quotes(&["AIG", "BAC", "IBM"])])),
    ]
}

fn symbols(subscription: &Value) -> usize {
    subscription["symbols"].as_array().map_or(0, Vec::len)
}

fn has(subscription: &Value, channel: &str, symbol: &str) -> bool {
    let symbols = subscription["symbols"].as_array().expect("symbols");
    subscription["channel"] == channel && symbols.iter().any(|s| s == symbol)
}

/// What the day has of these subscriptions: for each symbol its trades and its quotes.
fn wanted(subscriptions: &[Value]) -> Vec<(&'static Facts, u64, u64)> {
    let of = |channel, facts: &Facts, count| {
        if subscriptions.iter().any(|s| has(s, channel, facts.symbol)) { count } else { 0 }
    };
    let all = FACTS.iter().map(|f| (f, of("trades", f, f.trades), of("quotes", f, f.quotes)));
    all.filter(|(_, trades, quotes)| trades + quotes > 0).collect()
}

fn total(subscriptions: &[Value]) -> u64 {
    wanted(subscriptions).iter().map(|(_, trades, quotes)| trades + quotes).sum()
}

/// Each trade and each quote of the day was sent, merged or announced, in order, and the state is the day's last.
///
/// `lasts` are the positions of the last quotes, equal for everybody who has them. Who reads what it counts compares their
/// prices with the day's too, and its trades if it has all of them.
fn is_accounted_for(reader: &Reader, asked: &[Value], lasts: &mut BTreeMap<&str, Position>, who: &str) {
    reader.is_sound();
    assert_eq!(reader.close_code, None, "{who}: {:?}", reader.tally);
    assert_eq!(reader.accounted_for(), total(asked), "{who}: {:?}", reader.tally);
    for (facts, trades, quotes) in wanted(asked) {
        let symbol = facts.symbol;
        let counted = |channel| reader.counted.iter().find(|c| c.channel == channel && c.symbol == symbol);
        if quotes > 0 {
            let counted = counted(Channel::Quotes).expect("quotes");
            let last = counted.last.expect("a position");
            assert_eq!(counted.updates, quotes, "{who} {symbol}: no quote is ever lost");
            assert_eq!(*lasts.entry(symbol).or_insert(last), last, "{who} {symbol}");
        }
        let Some(market) = reader.markets.get(symbol) else { continue };
        if quotes > 0 {
            let last = facts.last_quote.map(|(bid, ask)| (decimal(bid), decimal(ask)));
            assert_eq!(market.last_quote, last, "{who} {symbol}");
        }
        assert_eq!(market.trades + market.trades_lost, trades, "{who} {symbol}");
        if trades > 0 && market.trades_lost == 0 {
            facts.hold_of_trades(market);
        }
    }
    let causes = &reader.tally.gaps_by_cause;
    assert!(causes.keys().all(|cause| cause == "overload" || cause == "slow_consumer"), "{who}: {causes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_stocks_at_full_speed_is_accounted_for_whoever_falls_behind() {
    let Some(day) = day() else { return };
    let _alone = alone().await;
    // Room for the day: what the gateway has not read yet must not be taken away by retention.
    let broker = BrokerConfig { partition_bytes_max: 1 << 30, ..BrokerConfig::default() };
    let kafka = Kafka::Embedded(Broker::start(broker).expect("a free port"));
    let topic = kafka.topic(4).await;
    // Queues so short that all of them together stay under `outbox.total_bytes_max`: no session ends for what the others
    // hold. Nobody is cut for standing still this long, so that what cuts the stalled is their policy alone.
    let settings = ["outbox.bytes_max=262144", "outbox.stall_timeout_ms=600000"];
    let gateway = Process::start(&kafka, &topic, &settings);
    let ceiling = gateway.metric("tickgate_limit_memory_bytes", "") as u64;

    let mut clients = Vec::new();
    for (count, subscriptions) in healthy() {
        let subscriptions = subscriptions.as_array().expect("a list").clone();
        for at in 0..count {
            let options = ClientOptions::default();
            let reader = Reader::open(&gateway.url, &options, &subscriptions, at < READING).await;
            clients.push((reader, subscriptions.clone()));
        }
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
        let asked = vec![json!({"channel": channel, "symbols": SYMBOLS, "on_slow": policy})];
        stalled.push((Reader::open(&gateway.url, &narrow, &asked, true).await, asked));
    }
    assert_eq!(clients.len() + stalled.len(), 200);
    let everybody = clients.iter().chain(&stalled);
    let subscribed: usize = everybody.map(|(_, asked)| asked.iter().map(symbols).sum::<usize>()).sum();
    let held = || gateway.metric("tickgate_subscriptions_held", "") as usize;
    until("all are subscribed", || held() == subscribed).await;

    let started = Instant::now();
    let mut config = ProducerConfig::new(kafka.address(), &topic);
    config.speed = Speed::Max;
    // However long a busy machine lets it wait: a record that is given up in the producer was never the gateway's.
    config.properties.push(("message.timeout.ms".to_owned(), "600000".to_owned()));
    config.flush_timeout = Duration::from_secs(600);
    let producing = tokio::task::spawn_blocking(move || {
        produce(day, &config, &Arc::new(Progress::default()), &AtomicBool::new(false))
    });
    let mut reading = Vec::new();
    for (reader, subscriptions) in clients {
        let total = total(&subscriptions);
        reading.push((tokio::spawn(reader.until_accounted_for(total)), subscriptions));
    }
    let sent = producing.await.expect("no panic").expect("it is sent");
    assert_eq!((sent.delivery_errors, sent.delivered), (0, TICKS), "{sent:?}");
    let sent_after = started.elapsed();
    let (mut events, mut lost, mut done, mut lasts) = (0, 0, Vec::new(), BTreeMap::new());
    for (at, (reading, subscriptions)) in reading.into_iter().enumerate() {
        let reader = reading.await.expect("it reads to the end");
        is_accounted_for(&reader, &subscriptions, &mut lasts, &format!("client {at}"));
        events += reader.tally.events;
        lost += reader.tally.gap_events;
        done.push(reader);
    }
    let took = started.elapsed();

    // Whoever may be neither conflated nor skipped is cut, at the latest for the age of what it does not take. It hears of
    // that when it reads; the first thing that it loses is its subscriptions.
    let left = subscribed - SYMBOLS.len();
    until("the one is cut", || held() == left).await;
    for (at, (reader, subscriptions)) in stalled.into_iter().enumerate() {
        let reader = reader.until_accounted_for(total(&subscriptions)).await;
        let tally = &reader.tally;
        match at {
            0 | 1 => {
                is_accounted_for(&reader, &subscriptions, &mut lasts, "conflated");
                assert!(tally.conflated > QUOTES / 2, "{tally:?}");
            }
            2 | 3 => {
                is_accounted_for(&reader, &subscriptions, &mut lasts, "skipped");
                assert!(tally.gap_events > TRADES / 2, "{tally:?}");
                assert!(tally.gaps_by_cause.contains_key("slow_consumer"), "{tally:?}");
            }
            _ => {
                reader.is_sound();
                assert_eq!(reader.close_code, Some(Some(4490)), "{tally:?}");
            }
        }
    }
    books_close(&gateway).await;
    assert_eq!(gateway.metric("tickgate_sessions_closed_total", "slow_consumer"), 1.0, "nobody else");
    drop(done);
    assert_eq!(gateway.metric("tickgate_feed_lost_offsets_total", ""), 0.0);
    let peak = gateway.peak_bytes();
    assert!(peak < ceiling, "{peak} of {ceiling} bytes");
    eprintln!(
        "{TICKS} ticks sent in {sent_after:.1?}, all accounted for in {took:.1?}: {events} events read, {lost} trades \
         announced as lost, {} events late at the gateway, at most {} MiB of {} MiB",
        gateway.metric("tickgate_feed_overload_events_total", ""),
        peak >> 20,
        ceiling >> 20,
    );
}
