//! What every model promises: determinism, order, mean rate, mix, consistent books.

use super::*;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, HashSet};
use tickgate_protocol::Decimal;
use tickgate_protocol::record::RecordDecoder;

fn model(preset: Preset, symbols: usize, rate_per_s: f64, seed: u64) -> Model {
    Model::new(preset, ModelConfig { symbols, rate_per_s, seed }).unwrap()
}

fn bytes(preset: Preset, seed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for timed in model(preset, 50, 2_000.0, seed).take(20_000) {
        out.extend_from_slice(&timed.offset_ns.to_le_bytes());
        timed.tick.write_json(&mut out);
    }
    out
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    for preset in Preset::ALL {
        assert!(bytes(preset, 1) == bytes(preset, 1), "{}", preset.name());
        assert!(bytes(preset, 1) != bytes(preset, 2), "{}", preset.name());
    }
}

#[test]
fn ticks_come_in_time_order_and_read_back_as_records() {
    for preset in Preset::ALL {
        let mut decoder = RecordDecoder::new(1 << 20);
        let mut last_ns = 0;
        for timed in model(preset, 40, 3_000.0, 5).take(30_000) {
            assert!(timed.offset_ns >= last_ns, "{}", preset.name());
            last_ns = timed.offset_ns;
            let json = timed.tick.to_json();
            let read = decoder.ticks(&json).unwrap();
            assert_eq!(read.as_slice(), [Ok(timed.tick)], "{}", preset.name());
        }
    }
}

#[test]
fn the_rate_is_the_mean_rate() {
    for preset in Preset::ALL {
        // Whole minutes, because that is what a session of futures-open lasts.
        let mut rates: Vec<f64> = (1..=5)
            .map(|seed| {
                let ticks =
                    model(preset, 500, 2_000.0, seed).take_while(|timed| timed.offset_ns < 120 * NS_PER_S);
                ticks.count() as f64 / 120.0
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        assert!((rates[2] / 2_000.0 - 1.0).abs() < 0.15, "{}: {rates:?}", preset.name());
    }
}

#[test]
fn symbols_are_plausible_and_unique() {
    for (preset, first) in [
        (Preset::UsEquities, ["AAPL", "MSFT"]),
        (Preset::CryptoPerp, ["BTCUSDT", "ETHUSDT"]),
        (Preset::Fx, ["EURUSD", "USDJPY"]),
        (Preset::FuturesOpen, ["ESZ6", "NQZ6"]),
    ] {
        let model = model(preset, 10_000, 1.0, 1);
        assert_eq!(model.symbols()[..2], first);
        assert_eq!(model.symbols().iter().collect::<HashSet<_>>().len(), 10_000, "{}", preset.name());
        assert!(model.symbols().iter().all(|symbol| tickgate_protocol::is_symbol(symbol)));
    }
}

fn mix(preset: Preset) -> FxHashMap<&'static str, f64> {
    let mut counts = FxHashMap::default();
    for timed in model(preset, 20, 5_000.0, 9).take(200_000) {
        *counts.entry(timed.tick.body.channel().event_type()).or_insert(0.0) += 1.0 / 200_000.0;
    }
    counts
}

#[test]
fn channels_are_mixed_like_the_real_feeds() {
    let equities = mix(Preset::UsEquities);
    let quotes_per_trade = equities["quote"] / equities["trade"];
    assert!((3.0..5.0).contains(&quotes_per_trade), "{equities:?}");
    assert!(equities["status"] > 0.0 && equities["status"] < 0.001, "{equities:?}");
    let crypto = mix(Preset::CryptoPerp);
    for (kind, real) in [("quote", 0.70), ("trade", 0.227), ("book", 0.07)] {
        assert!((crypto[kind] / real - 1.0).abs() < 0.25, "{kind}: {crypto:?}");
    }
    assert_eq!(mix(Preset::Fx).keys().copied().collect::<Vec<_>>(), ["quote"]);
    let futures = mix(Preset::FuturesOpen);
    assert!(["quote", "trade", "book", "status"].iter().all(|kind| futures[kind] > 0.0), "{futures:?}");
}

#[test]
fn quotes_lock_and_cross_as_often_as_the_real_ones() {
    for (preset, locked, crossed) in [(Preset::UsEquities, 0.026, 0.000_2), (Preset::Fx, 0.114, 0.109)] {
        let (mut quotes, mut locks, mut crosses) = (0.0, 0.0, 0.0);
        for timed in model(preset, 20, 5_000.0, 4).take(300_000) {
            if let Body::Quote(quote) = timed.tick.body {
                quotes += 1.0;
                locks += f64::from(u8::from(quote.bid_price == quote.ask_price));
                crosses += f64::from(u8::from(quote.bid_price > quote.ask_price));
            }
        }
        assert!((locks / quotes / locked - 1.0_f64).abs() < 0.2, "{}: {}", preset.name(), locks / quotes);
        assert!(
            (crosses / quotes / crossed - 1.0_f64).abs() < 0.6,
            "{}: {}",
            preset.name(),
            crosses / quotes
        );
    }
}

#[test]
fn books_start_with_a_snapshot_and_never_cross() {
    for preset in [Preset::CryptoPerp, Preset::FuturesOpen] {
        let mut books: FxHashMap<String, [BTreeMap<Decimal, Decimal>; 2]> = FxHashMap::default();
        let mut snapshots = 0;
        for timed in model(preset, 30, 1_000.0, 11).take_while(|timed| timed.offset_ns < 130 * NS_PER_S) {
            let symbol = timed.tick.symbol.into_owned();
            let Body::Book(book) = timed.tick.body else { continue };
            if book.snapshot {
                snapshots += 1;
                books.insert(symbol.clone(), Default::default());
            }
            let sides = books.get_mut(&symbol).expect("a snapshot comes before any diff");
            for (side, levels) in sides.iter_mut().zip([book.bids, book.asks]) {
                for (price, size) in levels {
                    if size.is_zero() {
                        side.remove(&price)
                    } else {
                        side.insert(price, size)
                    };
                }
            }
            let bid = sides[0].last_key_value().expect("bids").0;
            let ask = sides[1].first_key_value().expect("asks").0;
            assert!(bid < ask, "{}: {symbol} {bid} {ask}", preset.name());
        }
        assert_eq!(books.len(), 30);
        assert!((30 * 3..=30 * 3 + 8).contains(&snapshots), "{}: {snapshots}", preset.name());
    }
}

#[test]
fn nothing_trades_in_an_auction_or_a_halt() {
    for preset in [Preset::FuturesOpen, Preset::UsEquities] {
        let mut states: FxHashMap<String, TradingState> = FxHashMap::default();
        let mut changes = 0;
        for timed in model(preset, 20, 5_000.0, 3).take(400_000) {
            let symbol = timed.tick.symbol.into_owned();
            match timed.tick.body {
                Body::Status(status) => {
                    changes += 1;
                    states.insert(symbol, status.state);
                }
                Body::Trade(_) => {
                    let state = states.get(&symbol).copied().unwrap_or(TradingState::Trading);
                    assert_eq!(state, TradingState::Trading, "{symbol}");
                }
                _ => {}
            }
        }
        assert!(changes > 2, "{}", preset.name());
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let config = ModelConfig { symbols: 1, rate_per_s: 1.0, seed: 1 };
    for config in [
        ModelConfig { symbols: 0, ..config },
        ModelConfig { symbols: SYMBOLS_MAX + 1, ..config },
        ModelConfig { rate_per_s: 0.0, ..config },
        ModelConfig { rate_per_s: f64::NAN, ..config },
        ModelConfig { rate_per_s: f64::INFINITY, ..config },
    ] {
        assert!(Model::new(Preset::Constant, config).is_err(), "{config:?}");
    }
}
