//! Indicative FX streams and captures of many symbols: nothing about them is repaired.

use crate::harness::{Gateway, Kafka};
use crate::reader::{Reader, end};
use crate::{alone, data, decimal, roomy, ticks};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tickgate_load::ClientOptions;
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{ProducerConfig, Progress, produce};
use tickgate_sim::replay::Format;

/// Sends whole files and gives what one client made of them. Its queue has room for all of it, so that it loses
/// nothing however fast the files are sent.
async fn replayed(files: &[PathBuf], format: Format, speed: Speed) -> Reader {
    let _alone = alone().await;
    let kafka = Kafka::embedded();
    let topic = kafka.topic(2).await;
    let gateway = Gateway::start(roomy(&kafka, &topic)).await;
    let all = ["trades", "quotes", "book", "status"].map(|c| json!({"channel": c, "symbols": ["*"]}));
    let reader = Reader::open(gateway.url(), &ClientOptions::default(), &all, true).await;

    let symbols: BTreeSet<String> =
        ticks(files, format).map(|timed| timed.expect("readable").tick.symbol.into_owned()).collect();
    let reading = tokio::spawn(reader.until_the_end(symbols.len() as u64));
    let mut config = ProducerConfig::new(kafka.address(), &topic);
    config.speed = speed;
    let source = ticks(files, format);
    let sent = tokio::task::spawn_blocking(move || {
        produce(source, &config, &Arc::new(Progress::default()), &AtomicBool::new(false))
    });
    let sent = sent.await.expect("no panic").expect("it is sent");
    assert_eq!((sent.delivery_errors, sent.delivered), (0, sent.records), "{sent:?}");
    let ends: Vec<_> = symbols.iter().map(|symbol| end(symbol)).collect();
    kafka.producer(&topic).send_all(&ends);
    let reader = reading.await.expect("it reads to the end");
    reader.is_sound();
    assert_eq!(reader.tally.gaps, 0, "{:?}", reader.tally);
    gateway.stop().await;
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossed_and_locked_quotes_are_passed_on() {
    let facts = [
        ("fxcm/eurusd", 167_466, Some((18_285, 19_051))),
        ("fxcm/nzdusd", 103_173, Some((2_132, 1_553))),
        ("oanda/eurusd", 87_833, None),
    ];
    for (folder, quotes, crosses) in facts {
        let Some(file) = data(&format!("lean-fx/{folder}/20140508_quote.zip")) else { return };
        let reader = replayed(&[file], Format::LeanFx, Speed::Max).await;
        let market = reader.markets.values().next().expect("one symbol");
        assert_eq!((reader.markets.len(), market.quotes), (1, quotes), "{folder}");
        match crosses {
            Some(crosses) => assert_eq!((market.crossed, market.locked), crosses, "{folder}"),
            None => assert_eq!(market.crossed, 0, "{folder}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_of_many_symbols_end_where_they_should() {
    let Some(file) = data("cryptofeed-captures/BITMEX.ws.1.0") else { return };
    let reader = replayed(&[file], Format::Cryptofeed, Speed::Max).await;
    for (symbol, bid, ask) in
        [("XBTUSD", "32186.5", "32187"), ("SOLUSDT", "27.47", "27.503"), ("ADAUSDT", "1.17577", "1.17735")]
    {
        let book = reader.markets[symbol].book.as_ref().expect("a book");
        let best = (book.best_bid().expect("a bid").0, book.best_ask().expect("an ask").0);
        assert_eq!(best, (decimal(bid), decimal(ask)), "{symbol}");
    }
    let book = &reader.markets["XBTUSD"];
    let (bids, asks) = book.book.as_ref().expect("a book").level_counts();
    assert_eq!(bids + asks, 9_352);
    assert!(book.largest_book_levels > 9_000, "the first state comes whole: {}", book.largest_book_levels);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stalled_and_caught_up_is_replayed_as_it_was() {
    let Some(file) = data("cryptofeed-captures/BINANCE_DELIVERY.ws.1.0") else { return };
    let reader = replayed(&[file], Format::Cryptofeed, Speed::Times(10.0)).await;
    assert_eq!(reader.markets.len(), 10);
    let count = |of: fn(&crate::reader::Market) -> u64| reader.markets.values().map(of).sum::<u64>();
    assert_eq!((count(|m| m.quotes), count(|m| m.trades)), (2_240, 51));
    // Its diffs have no snapshot to build on: the books stay in building, nothing is made up.
    assert!(reader.markets.values().all(|market| market.book.is_none()));
}
