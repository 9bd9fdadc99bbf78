//! The recorded files, read through the public API, against facts that were measured independently of this program.
//!
//! The files are not part of the repository: `TICKGATE_TEST_DATA` names the folder. Without it each test says that it was left out.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use tickgate_protocol::Decimal;
use tickgate_protocol::record::{Body, Level, Side, Tick};
use tickgate_sim::replay::{self, Between, Format, Options, Replay};
use tickgate_sim::stats::{PeakCounter, Peaks};

fn data(file: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TICKGATE_TEST_DATA") else {
        eprintln!("LEFT OUT: {file}: TICKGATE_TEST_DATA does not name the folder with the recordings");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    assert!(path.exists(), "{} is missing", path.display());
    Some(path)
}

fn equities() -> Option<Vec<PathBuf>> {
    ["aig/20131007_trade", "aig/20131007_quote", "bac/20131007_trade", "bac/20131007_quote"]
        .into_iter()
        .chain(["ibm/20131007_trade", "ibm/20131007_quote", "spy/20131007_trade"])
        .map(|name| data(&format!("lean-us-equities/{name}.zip")))
        .collect()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Peaks of rows (or messages) and of ticks.
fn peaks(mut replay: Replay) -> [Peaks; 2] {
    let mut counters = [PeakCounter::default(), PeakCounter::default()];
    let mut ticks = Vec::new();
    let mut last_ns = 0;
    while let Some(stamp) = replay.next_message(&mut ticks).unwrap() {
        assert!(stamp.time_ns >= last_ns, "time goes back");
        last_ns = stamp.time_ns;
        counters[0].add(stamp.time_ns as u64, 1);
        if !ticks.is_empty() {
            counters[1].add(stamp.time_ns as u64, ticks.len() as u64);
        }
        ticks.clear();
    }
    counters.map(|counter| counter.peaks())
}

/// A client's books: levels by symbol and side.
#[derive(Default)]
struct Books(HashMap<String, [BTreeMap<Decimal, Decimal>; 2]>);

impl Books {
    fn apply(&mut self, tick: &Tick<'_>) {
        let Body::Book(book) = &tick.body else { return };
        if book.snapshot {
            self.0.insert(tick.symbol.to_string(), Default::default());
        }
        let sides = self.0.get_mut(&*tick.symbol).expect("a snapshot comes first");
        let apply = |side: &mut BTreeMap<Decimal, Decimal>, levels: &[Level]| {
            for (price, size) in levels {
                if size.is_zero() {
                    side.remove(price)
                } else {
                    side.insert(*price, *size)
                };
            }
        };
        apply(&mut sides[0], &book.bids);
        apply(&mut sides[1], &book.asks);
    }

    fn best(&self, symbol: &str) -> (Decimal, Decimal) {
        let sides = &self.0[symbol];
        (*sides[0].last_key_value().unwrap().0, *sides[1].first_key_value().unwrap().0)
    }
}

struct Tape {
    rows: u64,
    volume: Decimal,
    vwap: f64,
    high: Decimal,
    low: Decimal,
}

fn tape(replay: Replay, symbol: &str) -> Tape {
    let (mut rows, mut volume, mut notional) = (0, 0i64, 0i128);
    let (mut high, mut low) = (decimal("0"), decimal("1000000"));
    for timed in replay {
        let tick = timed.unwrap().tick;
        assert_eq!(tick.symbol, symbol);
        let Body::Trade(trade) = tick.body else { panic!("{tick:?}") };
        assert_eq!((trade.price.scale(), trade.size.scale()), (4, 0));
        rows += 1;
        volume += trade.size.mantissa();
        notional += i128::from(trade.size.mantissa()) * i128::from(trade.price.mantissa());
        high = high.max(trade.price);
        low = low.min(trade.price);
    }
    let vwap = notional as f64 / volume as f64 / 10_000.0;
    Tape { rows, volume: Decimal::new(volume, 0).unwrap(), vwap, high, low }
}

#[test]
fn equity_trades_have_the_volumes_prices_and_rows_of_the_day() {
    for (symbol, rows, volume, vwap, high, low) in [
        ("AIG", 25_351, "5300449", 48.92505, "49.18", "48.69"),
        ("BAC", 88_172, "64411712", 13.86191, "14.12", "13.79"),
        ("IBM", 24_293, "3960352", 182.50051, "183.31", "181.35"),
        ("SPY", 250_601, "97062721", 167.90673, "168.90", "167.01"),
    ] {
        let file = format!("lean-us-equities/{}/20131007_trade.zip", symbol.to_lowercase());
        let Some(path) = data(&file) else { return };
        let tape = tape(replay::open(&[path], Format::LeanTrade).unwrap(), symbol);
        assert_eq!(tape.rows, rows, "{symbol}");
        assert_eq!(tape.volume, decimal(volume), "{symbol}");
        assert!((tape.vwap - vwap).abs() < 0.000_005, "{symbol}: {}", tape.vwap);
        assert_eq!((tape.high, tape.low), (decimal(high), decimal(low)), "{symbol}");
    }
}

#[test]
fn equity_times_are_new_york_in_summer() {
    let Some(path) = data("lean-us-equities/spy/20131007_trade.zip") else { return };
    // 2013-10-07 09:30:00 and 16:00:00 in New York are 13:30 and 20:00 UTC.
    let open_ns = 1_381_152_600_000_000_000i64;
    let close_ns = open_ns + 23_400_000_000_000;
    let mut seconds: HashMap<i64, u32> = HashMap::new();
    for timed in replay::open(&[path], Format::LeanTrade).unwrap() {
        let event_ns = timed.unwrap().tick.event_ns.unwrap();
        *seconds.entry(event_ns.div_euclid(1_000_000_000)).or_default() += 1;
    }
    assert_eq!(seconds[&(open_ns / 1_000_000_000)], 528);
    assert_eq!(seconds[&(close_ns / 1_000_000_000)], 265);
}

#[test]
fn equity_quote_rows_pair_up_to_updates() {
    for (symbol, rows, updates, peaks_of_rows) in [
        ("aig", 1_079_935, 539_967, [966, 482, 224]),
        ("bac", 476_855, 238_427, [1_642, 1_416, 780]),
        ("ibm", 109_067, 54_533, [460, 314, 114]),
    ] {
        let Some(path) = data(&format!("lean-us-equities/{symbol}/20131007_quote.zip")) else { return };
        let [by_row, by_tick] = peaks(replay::open(&[path], Format::LeanQuote).unwrap());
        assert_eq!((by_row.events, by_tick.events), (rows, updates), "{symbol}");
        assert_eq!(by_row.peaks, peaks_of_rows, "{symbol}");
    }
}

#[test]
fn real_quotes_lock_and_cross_and_are_passed_on() {
    let Some(path) = data("lean-us-equities/aig/20131007_quote.zip") else { return };
    let options = Options { between: Some("13:30-20:00".parse().unwrap()), ..Options::default() };
    let (mut quotes, mut locked, mut crossed) = (0u32, 0u32, 0u32);
    for timed in replay::open_with(&[path], Format::Lean, &options).unwrap() {
        let Body::Quote(quote) = timed.unwrap().tick.body else { panic!("quotes only") };
        quotes += 1;
        locked += u32::from(quote.bid_price == quote.ask_price);
        crossed += u32::from(quote.bid_price > quote.ask_price);
    }
    let percent = |count: u32| f64::from(count) / f64::from(quotes) * 100.0;
    assert!((percent(locked) - 2.6).abs() < 0.05, "{}", percent(locked));
    assert!((percent(crossed) - 0.02).abs() < 0.005, "{}", percent(crossed));
}

#[test]
fn the_seven_equity_files_merge_by_time() {
    let Some(paths) = equities() else { return };
    let [by_row, by_tick] = peaks(replay::open(&paths, Format::Lean).unwrap());
    assert_eq!(by_row.events, 2_054_274);
    assert_eq!(by_row.peaks, [2_126, 1_773, 846]);
    assert!((by_row.mean_per_s() - 35.7).abs() < 0.05);
    assert_eq!(by_tick.events, 1_221_344);

    let regular: Between = "13:30-20:00".parse().unwrap();
    let options = Options { between: Some(regular), ..Options::default() };
    let [_, by_tick] = peaks(replay::open_with(&paths, Format::Auto, &options).unwrap());
    assert_eq!(by_tick.events, 1_207_110);
    assert_eq!(by_tick.peaks, [1_291, 1_135, 516]);
    assert!((by_tick.mean_per_s() - 51.6).abs() < 0.05);
}

#[test]
fn replayed_offsets_keep_the_spacing_of_the_recording() {
    let Some(path) = data("lean-us-equities/ibm/20131007_trade.zip") else { return };
    let mut first_ns = None;
    for timed in replay::open(&[path], Format::Lean).unwrap() {
        let timed = timed.unwrap();
        let event_ns = timed.tick.event_ns.unwrap();
        let first_ns = *first_ns.get_or_insert(event_ns);
        assert_eq!(timed.offset_ns as i64, event_ns - first_ns);
    }
}

#[test]
fn fx_quotes_have_the_rows_peaks_and_crossings_of_the_day() {
    for (file, rows, peaks_of_rows, crossed, locked, high) in [
        ("fxcm/eurusd", 167_466, [124, 26, 6], Some(18_285), Some(19_051), Some("1.3994")),
        ("fxcm/nzdusd", 103_173, [48, 26, 6], Some(2_132), Some(1_553), None),
        ("oanda/eurusd", 87_833, [132, 34, 11], Some(0), None, Some("1.3993")),
    ] {
        let Some(path) = data(&format!("lean-fx/{file}/20140508_quote.zip")) else { return };
        let [by_row, by_tick] = peaks(replay::open(&[&path], Format::LeanFx).unwrap());
        assert_eq!((by_row.events, by_tick.events), (rows, rows), "{file}");
        assert_eq!(by_row.peaks, peaks_of_rows, "{file}");
        let (mut crosses, mut locks) = (0, 0);
        let mut best = (decimal("0"), 0);
        for timed in replay::open(&[&path], Format::LeanFx).unwrap() {
            let tick = timed.unwrap().tick;
            assert_eq!(tick.symbol.to_lowercase(), file.split('/').nth(1).unwrap());
            let Body::Quote(quote) = tick.body else { panic!("quotes only") };
            assert!(quote.bid_size.is_zero() && quote.ask_size.is_zero());
            crosses += u32::from(quote.bid_price > quote.ask_price);
            locks += u32::from(quote.bid_price == quote.ask_price);
            best = best.max((quote.bid_price, tick.event_ns.unwrap()));
        }
        assert_eq!(crosses, crossed.unwrap_or(crosses), "{file}");
        assert_eq!(locks, locked.unwrap_or(locks), "{file}");
        if let Some(high) = high {
            // Both venues reach the high of the day before it falls at 12:46 UTC: their clocks were read right.
            assert!((best.0.to_f64() - decimal(high).to_f64()).abs() < 0.000_06, "{file}: {}", best.0);
            let minute = (best.1 / 60_000_000_000).rem_euclid(1_440);
            assert!(
                (12 * 60 + 30..=12 * 60 + 46).contains(&minute),
                "{file}: {}:{}",
                minute / 60,
                minute % 60
            );
        }
    }
}

#[test]
fn binance_captures_end_with_the_exact_books_and_trades() {
    struct Facts {
        file: &'static str,
        symbol: &'static str,
        messages: u64,
        counts: [u64; 3],
        peaks: [u64; 3],
        ids: [u64; 2],
        size: &'static str,
        best: [&'static str; 2],
        levels: [usize; 2],
    }
    for facts in [
        Facts {
            file: "btcusdt_20240808.gz",
            symbol: "BTCUSDT",
            messages: 93_954,
            counts: [66_089, 21_313, 6_547],
            peaks: [2_527, 1_457, 648],
            ids: [5_266_583_935, 5_266_605_247],
            size: "2429.366",
            best: ["61659.7", "61659.8"],
            levels: [5_018, 4_578],
        },
        Facts {
            file: "ethusdt_20240808.gz",
            symbol: "ETHUSDT",
            messages: 74_655,
            counts: [53_992, 14_076, 6_581],
            peaks: [1_166, 418, 259],
            ids: [4_308_068_523, 4_308_082_598],
            size: "9164.948",
            best: ["2681.38", "2681.39"],
            levels: [3_181, 3_013],
        },
    ] {
        let Some(path) = data(&format!("binance-usdm-futures/{}", facts.file)) else { return };
        let [by_message, _] = peaks(replay::open(&[&path], Format::Binance).unwrap());
        assert_eq!(by_message.events, facts.messages, "{}", facts.symbol);
        assert_eq!(by_message.peaks, facts.peaks, "{}", facts.symbol);

        let mut replay = replay::open(&[&path], Format::Auto).unwrap();
        let mut books = Books::default();
        let (mut quotes, mut diffs, mut snapshots) = (0, 0, 0);
        let (mut ids, mut size) = (Vec::new(), 0i64);
        for timed in &mut replay {
            let tick = timed.unwrap().tick;
            assert_eq!(tick.symbol, facts.symbol);
            books.apply(&tick);
            match &tick.body {
                Body::Quote(_) => quotes += 1,
                Body::Trade(trade) => {
                    assert_eq!(trade.size.scale(), 3);
                    assert!(trade.side.is_some());
                    ids.push(trade.trade_id.as_ref().unwrap().parse::<u64>().unwrap());
                    size += trade.size.mantissa();
                }
                Body::Book(book) => {
                    if book.snapshot {
                        snapshots += 1;
                        assert_eq!((book.bids.len(), book.asks.len()), (1_000, 1_000));
                    } else {
                        diffs += 1;
                    }
                    let (bid, ask) = books.best(facts.symbol);
                    assert!(bid < ask, "{}: {bid} {ask}", facts.symbol);
                }
                Body::Status(_) => panic!("{tick:?}"),
            }
        }
        assert_eq!(([quotes, ids.len() as u64, diffs], snapshots), (facts.counts, 1), "{}", facts.symbol);
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{}: trade ids", facts.symbol);
        assert_eq!([ids[0], ids[ids.len() - 1]], facts.ids, "{}", facts.symbol);
        assert_eq!(Decimal::new(size, 3).unwrap(), decimal(facts.size), "{}", facts.symbol);
        let (bid, ask) = books.best(facts.symbol);
        assert_eq!([bid, ask], facts.best.map(decimal), "{}", facts.symbol);
        assert_eq!(books.0[facts.symbol].each_ref().map(BTreeMap::len), facts.levels, "{}", facts.symbol);
        let (_, skipped) = replay.skipped().next().unwrap();
        let kinds: Vec<_> = skipped.counts().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["depth diff older than the snapshot"], "{}", facts.symbol);
    }
}

#[test]
fn binance_prices_keep_their_text_and_makers_give_the_side() {
    let Some(path) = data("binance-usdm-futures/btcusdt_20240808.gz") else { return };
    let first = replay::open(&[path], Format::Binance)
        .unwrap()
        .map(|timed| timed.unwrap().tick)
        .find(|tick| matches!(tick.body, Body::Trade(_)))
        .unwrap();
    let Body::Trade(trade) = first.body else { unreachable!() };
    assert_eq!((trade.price.to_string().as_str(), trade.size.to_string().as_str()), ("61800.30", "0.006"));
    assert_eq!((trade.side, trade.conditions), (Some(Side::Buy), None));
    assert_eq!(first.event_ns, Some(1_723_161_256_322_000_000));
}

#[test]
fn cryptofeed_binance_passes_diffs_on_and_counts_what_it_skips() {
    let Some(path) = data("cryptofeed-captures/BINANCE_DELIVERY.ws.1.0") else { return };
    let [by_message, _] = peaks(replay::open(&[&path], Format::Cryptofeed).unwrap());
    assert_eq!((by_message.events, by_message.peaks), (4_371, [1_453, 1_358, 977]));
    let mut replay = replay::open(&[&path], Format::Auto).unwrap();
    let mut counts = [0; 3];
    let mut symbols = BTreeMap::new();
    for timed in &mut replay {
        let tick = timed.unwrap().tick;
        *symbols.entry(tick.symbol.to_string()).or_insert(0) += 1;
        counts[match tick.body {
            Body::Quote(_) => 0,
            Body::Book(_) => 1,
            _ => 2,
        }] += 1;
    }
    assert_eq!(counts, [2_240, 2_047, 51]);
    assert_eq!(symbols.len(), 10, "{symbols:?}");
    assert_eq!(replay.skipped().next().unwrap().1.count("kline"), 33);
}

#[test]
fn cryptofeed_bitmex_books_are_rebuilt_from_level_ids() {
    let Some(path) = data("cryptofeed-captures/BITMEX.ws.1.0") else { return };
    let [by_message, _] = peaks(replay::open(&[&path], Format::Cryptofeed).unwrap());
    assert_eq!((by_message.events, by_message.peaks), (2_120, [268, 89, 47]));
    let mut replay = replay::open(&[&path], Format::Auto).unwrap();
    let mut books = Books::default();
    let mut largest_bytes = 0;
    for timed in &mut replay {
        let tick = timed.unwrap().tick;
        books.apply(&tick);
        largest_bytes = largest_bytes.max(tick.to_json().len());
    }
    assert_eq!(books.0.len(), 10);
    for (symbol, bid, ask) in
        [("XBTUSD", "32186.5", "32187"), ("SOLUSDT", "27.47", "27.503"), ("ADAUSDT", "1.17577", "1.17735")]
    {
        assert_eq!(books.best(symbol), (decimal(bid), decimal(ask)), "{symbol}");
    }
    let levels: usize = books.0["XBTUSD"].iter().map(BTreeMap::len).sum();
    assert_eq!(levels, 9_352);
    assert!(largest_bytes > 150_000, "{largest_bytes}");
    let (_, skipped) = replay.skipped().next().unwrap();
    assert_eq!(skipped.count("welcome or acknowledgement"), 31);
    assert_eq!(skipped.count("level with an unknown id") + skipped.count("level before its partial"), 0);
}
