//! Small files of every format: what is read, what is skipped, and what is said about files that cannot be read.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tickgate_protocol::record::{Body, Tick};
use tickgate_sim::replay::{self, Format, Options, ReplayError};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn read(path: &Path, format: Format) -> Vec<String> {
    replay::open(&[path], format)
        .unwrap()
        .map(|timed| {
            let timed = timed.unwrap();
            format!("{} {}", timed.offset_ns, String::from_utf8(timed.tick.to_json()).unwrap())
        })
        .collect()
}

fn error(path: &Path, format: Format) -> ReplayError {
    match replay::open(&[path], format) {
        Err(error) => error,
        Ok(mut replay) => replay.find_map(Result::err).expect("an error"),
    }
}

fn symbols(path: &Path, format: Format) -> Vec<String> {
    let ticks = replay::open(&[path], format).unwrap().map(|timed| timed.unwrap().tick);
    ticks.map(|tick| tick.symbol.into_owned()).collect()
}

#[test]
fn own_records_are_read_plain_gzipped_and_zipped() {
    let folder = Folder::new();
    let text = "{\"type\":\"trade\",\"symbol\":\"AAPL\",\"price\":\"487.50\",\"size\":\"100\",\"event_ns\":\"5000\"}\n\n\
        [{\"type\":\"quote\",\"symbol\":\"MSFT\",\"bid_price\":1.5,\"bid_size\":1,\"ask_price\":2,\"ask_size\":1,\"event_ns\":5007}]\n";
    let plain = folder.file("a.ndjson", text);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = folder.file("a.ndjson.gz", gzip.finish().unwrap());
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("a.ndjson", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(text.as_bytes()).unwrap();
    let zip = folder.file("a.zip", archive.finish().unwrap().into_inner());
    for path in [&plain, &gzip, &zip] {
        let ticks = read(path, Format::Auto);
        assert_eq!(ticks.len(), 2, "{}", path.display());
        assert!(
            ticks[0].starts_with("0 {\"type\":\"trade\",\"symbol\":\"AAPL\",\"price\":\"487.50\""),
            "{}",
            ticks[0]
        );
        assert!(ticks[1].starts_with("7 {\"type\":\"quote\",\"symbol\":\"MSFT\""), "{}", ticks[1]);
    }
}

#[test]
fn what_a_model_wrote_is_replayed_as_it_was() {
    use tickgate_sim::model::{Model, ModelConfig, Preset};
    let folder = Folder::new();
    let config = ModelConfig { symbols: 5, rate_per_s: 1_000.0, seed: 2 };
    let ticks: Vec<Tick<'static>> =
        Model::new(Preset::FuturesOpen, config).unwrap().take(2_000).map(|timed| timed.tick).collect();
    let lines: Vec<u8> = ticks.iter().flat_map(|tick| [tick.to_json(), b"\n".to_vec()].concat()).collect();
    let path = folder.file("model.ndjson", lines);
    let again: Vec<_> =
        replay::open(&[path], Format::Ndjson).unwrap().map(|timed| timed.unwrap().tick).collect();
    assert!(again == ticks);
}

#[test]
fn a_quote_needs_both_rows_at_the_same_time() {
    let folder = Folder::new();
    let rows = "34200000,0,0,494100,300,Q,1,0\n\
        34200001,491800,200,0,0,P,1,0\n\
        34200001,0,0,492000,300,N,1,0\n\
        34200002,491800,100,0,0,P,1,0\n\
        34200002,491900,100,0,0,P,1,0\n\
        34200003,0,0,492000,300,P,1,0\n\
        34200004,491900,100,0,0,Z,1,0\n";
    let path = folder.file("aig/20131007_quote.csv", rows);
    let mut replay = replay::open(&[&path], Format::LeanQuote).unwrap();
    let ticks: Vec<_> = (&mut replay).map(|timed| timed.unwrap().tick).collect();
    assert_eq!(ticks.len(), 1);
    let Body::Quote(quote) = &ticks[0].body else { panic!("{ticks:?}") };
    assert_eq!(
        (quote.bid_price.to_string(), quote.ask_price.to_string()),
        ("49.1800".into(), "49.2000".into())
    );
    assert_eq!((quote.venue.as_deref(), &*ticks[0].symbol), (Some("P/N"), "AIG"));
    // 09:30:00.001 in New York in October is 13:30:00.001 UTC.
    assert_eq!(ticks[0].event_ns, Some(1_381_152_600_001_000_000));
    assert_eq!(replay.skipped().next().unwrap().1.count("half a quote pair"), 5);
}

#[test]
fn fx_venues_have_their_own_clocks() {
    let folder = Folder::new();
    let fxcm = folder.file("fxcm/eurusd/20140508_quote.csv", "1000,1.39147,1.39148\n");
    let oanda = folder.file("oanda/eurusd/20140508_quote.csv", "1000,1.39147,1.39148\n");
    let other = folder.file("venue/eurusd/20140508_quote.csv", "1000,1.39147,1.39148\n");
    let event = |path: &Path, options: &Options| {
        let mut replay = replay::open_with(&[path], Format::LeanFx, options).unwrap();
        let tick = replay.next().unwrap().unwrap().tick;
        let Body::Quote(quote) = tick.body else { panic!("a quote") };
        (tick.event_ns.unwrap(), quote.venue.map(|venue| venue.into_owned()))
    };
    let midnight_ns = 1_399_507_200_000_000_000;
    let hour_ns = 3_600_000_000_000;
    let usual = Options::default();
    assert_eq!(event(&fxcm, &usual), (midnight_ns + 5 * hour_ns + 1_000_000_000, Some("FXCM".into())));
    assert_eq!(event(&oanda, &usual), (midnight_ns + 1_000_000_000, Some("OANDA".into())));
    assert!(error(&other, Format::LeanFx).to_string().contains("--utc-offset"));
    let tokyo = Options { utc_offset_s: Some(9 * 3_600), ..Options::default() };
    assert_eq!(event(&other, &tokyo), (midnight_ns - 9 * hour_ns + 1_000_000_000, None));
}

#[test]
fn diffs_before_a_snapshot_wait_for_it() {
    let diff = |time: u64, id: u64, previous: u64, price: &str| {
        format!(
            "{time} {{\"stream\":\"x@depth\",\"data\":{{\"e\":\"depthUpdate\",\"E\":1,\"T\":1,\"s\":\"BTCUSDT\",\
            \"U\":{id},\"u\":{id},\"pu\":{previous},\"b\":[[\"{price}\",\"1\"]],\"a\":[]}}}}\n"
        )
    };
    let snapshot =
        "104 {\"lastUpdateId\":12,\"E\":2,\"T\":2,\"bids\":[[\"5\",\"1\"]],\"asks\":[[\"9\",\"1\"]]}\n";
    let folder = Folder::new();
    let text = [
        diff(100, 10, 9, "1"),
        diff(101, 11, 10, "2"),
        diff(102, 12, 11, "3"),
        diff(103, 13, 12, "4"),
        snapshot.to_owned(),
        diff(105, 15, 14, "6"),
    ]
    .concat();
    let path = folder.file("capture.txt", text);
    let mut replay = replay::open(&[&path], Format::Auto).unwrap();
    let ticks: Vec<(u64, bool, String)> = (&mut replay)
        .map(|timed| {
            let timed = timed.unwrap();
            let Body::Book(book) = timed.tick.body else { panic!("books only") };
            (timed.offset_ns, book.snapshot, book.bids[0].0.to_string())
        })
        .collect();
    let expected = [(4, true, "5"), (4, false, "3"), (4, false, "4"), (5, false, "6")];
    assert_eq!(ticks, expected.map(|(offset, snapshot, bid)| (offset, snapshot, bid.to_owned())));
    let skipped = replay.skipped().next().unwrap().1;
    assert_eq!(skipped.count("depth diff older than the snapshot"), 2);
    // 14 is missing: it is told, and passed on.
    assert_eq!(skipped.count("gap before a depth diff (the recording lost messages)"), 1);
}

#[test]
fn bitmex_ids_become_prices() {
    let folder = Folder::new();
    let text = "wss://www.bitmex.com/realtime <-> 1.5\n\
        2.0: {\"info\":\"Welcome\"}\n\
        2.5: {\"table\":\"orderBookL2\",\"action\":\"partial\",\"data\":[\
        {\"symbol\":\"X\",\"id\":1,\"side\":\"Sell\",\"size\":5,\"price\":10.5},\
        {\"symbol\":\"X\",\"id\":2,\"side\":\"Buy\",\"size\":7,\"price\":1e1}]}\n\
        2.6: {\"table\":\"orderBookL2\",\"action\":\"update\",\"data\":[{\"symbol\":\"X\",\"id\":1,\"side\":\"Sell\",\"size\":6}]}\n\
        2.7: {\"table\":\"orderBookL2\",\"action\":\"update\",\"data\":[{\"symbol\":\"X\",\"id\":1,\"side\":\"Buy\",\"size\":3}]}\n\
        2.8: {\"table\":\"orderBookL2\",\"action\":\"delete\",\"data\":[{\"symbol\":\"X\",\"id\":2,\"side\":\"Buy\"}]}\n\
        2.9: {\"table\":\"orderBookL2\",\"action\":\"delete\",\"data\":[{\"symbol\":\"X\",\"id\":9,\"side\":\"Buy\"}]}\n";
    let path = folder.file("BITMEX.ws.0", text);
    let ticks = read(&path, Format::Auto);
    let shown: Vec<&str> = ticks.iter().map(|tick| &tick[..tick.find(",\"event_ns").unwrap()]).collect();
    let book = "{\"type\":\"book\",\"symbol\":\"X\",";
    assert_eq!(
        shown,
        [
            format!(
                "500000000 {book}\"bids\":[[\"10\",\"7\"]],\"asks\":[[\"10.5\",\"5\"]],\"snapshot\":true"
            ),
            format!("600000000 {book}\"bids\":[],\"asks\":[[\"10.5\",\"6\"]]"),
            format!("700000000 {book}\"bids\":[[\"10.5\",\"3\"]],\"asks\":[[\"10.5\",\"0\"]]"),
            format!("800000000 {book}\"bids\":[[\"10\",\"0\"]],\"asks\":[]"),
        ]
    );
}

#[test]
fn files_are_merged_by_time_and_ties_keep_the_order_of_the_files() {
    let folder = Folder::new();
    let a = folder.file("aaa/20131007_trade.csv", "10,100,1,P,0,0\n20,100,1,P,0,0\n30,100,1,P,0,0\n");
    let b = folder.file("bbb/20131007_trade.csv", "5,100,1,P,0,0\n20,100,1,P,0,0\n");
    let ticks = replay::open(&[a, b], Format::Lean).unwrap().map(|timed| timed.unwrap());
    let got: Vec<(u64, String)> =
        ticks.map(|timed| (timed.offset_ns / 1_000_000, timed.tick.symbol.into_owned())).collect();
    let expected = [(0, "BBB"), (5, "AAA"), (15, "AAA"), (15, "BBB"), (25, "AAA")];
    assert_eq!(got, expected.map(|(offset, symbol)| (offset, symbol.to_owned())));
}

#[test]
fn errors_name_file_line_and_expectation() {
    let folder = Folder::new();
    let lean = folder.file("aig/20131007_trade.csv", "10,100,1,P,0,0\n20,100,x,P,0,0\n");
    let short = folder.file("aig/20131008_trade.csv", "10,100,1,P,0\n");
    let ndjson = folder.file("a.ndjson", "{\"type\":\"trade\"}\n");
    let timeless = folder.file("b.ndjson", "{\"type\":\"trade\",\"symbol\":\"A\",\"price\":1,\"size\":1}\n");
    let binance = folder.file("c.txt", "123 {\"stream\":1,\"data\":{}}\n");
    let nameless = folder.file("d.txt", "123 {\"lastUpdateId\":1,\"bids\":[],\"asks\":[]}\n");
    for (path, format, line, expected) in [
        (&lean, Format::LeanTrade, 2, "time_ms,price,size"),
        (&short, Format::LeanTrade, 1, "time_ms,price,size"),
        (&ndjson, Format::Ndjson, 1, "`symbol` is missing"),
        (&timeless, Format::Ndjson, 1, "event_ns"),
        (&binance, Format::Auto, 1, "Binance"),
        (&nameless, Format::Auto, 1, "--symbol"),
    ] {
        let error = error(path, format);
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}:{line}: ", path.display())), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.exit_code(), 65, "{text}");
    }
}

#[test]
fn files_that_are_not_what_they_seem_are_errors() {
    let folder = Folder::new();
    assert_eq!(error(&folder.0.path().join("missing.gz"), Format::Auto).exit_code(), 66);
    for (name, content) in [
        ("20131007_trade.zip", b"PK\x03\x04 but no archive".as_slice()),
        ("empty.txt", b""),
        ("prose.txt", b"It was a dark and stormy night;\n"),
        ("cut.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
    ] {
        let error = error(&folder.file(name, content), Format::Auto);
        assert_eq!(error.exit_code(), 65, "{name}: {error}");
    }
}

#[test]
fn a_damaged_archive_is_an_error_and_not_the_end() {
    let folder = Folder::new();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("a.csv", stored).unwrap();
    archive.write_all(b"10,100,1,P,0,0\n20,100,1,P,0,0\n").unwrap();
    let mut bytes = archive.finish().unwrap().into_inner();
    let at = bytes.windows(6).position(|window| window == b"20,100").unwrap();
    bytes[at] = b'3';
    let path = folder.file("aig/20131007_trade.zip", bytes);
    let text = error(&path, Format::LeanTrade).to_string();
    assert!(text.contains("checksum"), "{text}");
}

#[test]
fn overlong_lines_are_refused() {
    let folder = Folder::new();
    let path = folder.file("a.ndjson", vec![b'{'; replay::LINE_BYTES_MAX + 10]);
    assert!(error(&path, Format::Ndjson).to_string().contains("at most"));
}

#[test]
fn symbols_can_be_given_where_names_do_not_tell() {
    let folder = Folder::new();
    let path = folder.file("some folder/20131007_trade.csv", "10,100,1,P,0,0\n");
    assert_eq!(symbols(&path, Format::Lean), ["SOME FOLDER"]);
    let options = Options { symbol: Some("AIG".into()), ..Options::default() };
    let tick = replay::open_with(&[path], Format::Lean, &options).unwrap().next().unwrap().unwrap().tick;
    assert_eq!(tick.symbol, "AIG");
}

mod garbage {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever is in a file: ticks or an error, never a panic, and an error is the end.
        #[test]
        fn never_panics(lines in prop::collection::vec("[0-9.]{0,14}[ :,]{0,2}[\\PC]{0,40}", 0..6), format in 0usize..7) {
            let format = [Format::Auto, Format::LeanTrade, Format::LeanQuote, Format::LeanFx, Format::Binance,
                Format::Cryptofeed, Format::Ndjson][format];
            let folder = Folder::new();
            let path = folder.file("fxcm/x/20140508_quote.csv", lines.join("\n"));
            if let Ok(replay) = replay::open(&[path], format) {
                let results: Vec<bool> = replay.map(|timed| timed.is_ok()).collect();
                let errors = results.iter().filter(|ok| !**ok).count();
                prop_assert!(errors == 0 || (errors == 1 && results.last() == Some(&false)));
            }
        }
    }
}

#[test]
fn absurd_times_are_survived() {
    let folder = Folder::new();
    let quote = "{\"stream\":\"x\",\"data\":{\"e\":\"bookTicker\",\"E\":9223372036854775807,\"s\":\"X\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}}";
    let path =
        folder.file("capture.txt", format!("-9223372036854775808 {quote}\n9223372036854775807 {quote}\n"));
    assert_eq!(read(&path, Format::Binance).len(), 2);
}
