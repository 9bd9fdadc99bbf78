//! Two futures captures at ten times their speed through two gateways at once.

use crate::harness::{Gateway, Kafka};
use crate::kafkas;
use crate::reader::{Reader, end, units};
use crate::{alone, data, decimal, roomy, ticks};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};
use tickgate_load::ClientOptions;
use tickgate_sim::pacing::Speed;
use tickgate_sim::producer::{ProducerConfig, Progress, produce};
use tickgate_sim::replay::Format;

struct Facts {
    symbol: &'static str,
    quotes: u64,
    ids: [u64; 2],
    volume: &'static str,
    best: [&'static str; 2],
    levels: (usize, usize),
}

const FACTS: [Facts; 2] = [
    Facts {
        symbol: "BTCUSDT",
        quotes: 66_089,
        ids: [5_266_583_935, 5_266_605_247],
        volume: "2429.366",
        best: ["61659.7", "61659.8"],
        levels: (5_018, 4_578),
    },
    Facts {
        symbol: "ETHUSDT",
        quotes: 53_992,
        ids: [4_308_068_523, 4_308_082_598],
        volume: "9164.948",
        best: ["2681.38", "2681.39"],
        levels: (3_181, 3_013),
    },
];

kafkas!(captures_at_ten_times_their_speed_arrive_whole_at_two_gateways);

async fn captures_at_ten_times_their_speed_arrive_whole_at_two_gateways(kafka: Kafka) {
    let files = ["btcusdt_20240808.gz", "ethusdt_20240808.gz"]
        .map(|file| data(&format!("binance-usdm-futures/{file}")));
    let Some(files) = files.into_iter().collect::<Option<Vec<_>>>() else { return };
    let _alone = alone().await;
    let topic = kafka.topic(4).await;
    let gateways = [Gateway::start(roomy(&kafka, &topic)).await, Gateway::start(roomy(&kafka, &topic)).await];
    let mut readers = Vec::new();
    for gateway in &gateways {
        let symbols = FACTS.map(|facts| facts.symbol);
        let subscriptions =
            ["trades", "quotes", "book", "status"].map(|c| json!({"channel": c, "symbols": symbols}));
        let reader = Reader::open(gateway.url(), &ClientOptions::default(), &subscriptions, true).await;
        readers.push(tokio::spawn(reader.until_the_end(FACTS.len() as u64)));
    }
    let mut config = ProducerConfig::new(kafka.address(), &topic);
    config.speed = Speed::Times(10.0);
    // The recorder's clock ran behind the venue's; here the venue's runs ahead of the gateway's in the same way.
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
    let mut shift_ns = None;
    let source = ticks(&files, Format::Binance).map(move |timed| {
        timed.map(|mut timed| {
            let event_ns = timed.tick.event_ns.as_mut().expect("captures have times");
            *event_ns += *shift_ns.get_or_insert(now_ns + 1_220_000_000 - *event_ns);
            timed
        })
    });
    let sent = tokio::task::spawn_blocking(move || {
        produce(source, &config, &Arc::new(Progress::default()), &AtomicBool::new(false))
    });
    let sent = sent.await.expect("no panic").expect("it is sent");
    assert_eq!((sent.delivery_errors, sent.delivered), (0, sent.records), "{sent:?}");
    kafka.producer(&topic).send_all(&FACTS.map(|facts| end(facts.symbol)));

    for (reader, gateway) in readers.into_iter().zip(gateways) {
        let reader = reader.await.expect("it reads to the end");
        reader.is_sound();
        assert_eq!(reader.tally.gaps, 0, "{:?}", reader.tally);
        for facts in &FACTS {
            let market = &reader.markets[facts.symbol];
            assert_eq!(market.quotes, facts.quotes, "{}", facts.symbol);
            assert_eq!([market.first_id, market.last_id], facts.ids.map(Some), "{}", facts.symbol);
            assert!(!market.ids_jump, "{}: ids are contiguous", facts.symbol);
            assert_eq!(market.trades, facts.ids[1] - facts.ids[0] + 1, "{}", facts.symbol);
            assert_eq!(market.volume, units(decimal(facts.volume)), "{}", facts.symbol);
            let book = market.book.as_ref().expect("a book");
            let best = [book.best_bid(), book.best_ask()].map(|level| level.expect("a level").0);
            assert_eq!(best, facts.best.map(decimal), "{}", facts.symbol);
            assert_eq!(book.level_counts(), facts.levels, "{}", facts.symbol);
        }
        assert!(gateway.running().board().feed().clock_ahead > 100_000, "the venue's clock ran ahead");
        assert_eq!(gateway.stop().await, 0);
    }
}
