//! The examples, as the programs that they are. `cargo test -p tickgate-client` builds them; with `--test examples` alone they are as they were
//! built last.

#[path = "world/program.rs"]
mod program;
mod world;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;
use program::{Program, built, in_time, longer_and_longer};
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tickgate_client::event::FeedState;
use tickgate_client::{Event, Live, Subscription};
use tickgate_protocol::frame::Opcode;
use world::{Gateway, SOON, Wire, World, acked, book, find, quote, trade, trades, until};

/// Brokers and address of [`a_gateway_of_its_own`], and how far its clock is ahead in nanoseconds.
const BROKERS: &str = "TICKGATE_TEST_OWN_BROKERS";
const LISTEN: &str = "TICKGATE_TEST_OWN_LISTEN";
const AHEAD_NS: &str = "TICKGATE_TEST_OWN_AHEAD_NS";

/// The examples that are to be read by users.
const ALL: [&str; 6] = ["spread", "vwap", "imbalance", "latency", "resume", "capture"];

/// No example but `conformance` was ever run by a test. `latency` added times up until they were too many for their sum, and panicked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_say_something() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    world.send(&[book("A", json!([["9", "3"]]), json!([["11", "1"]]), true)]);
    world.has_read(&gateway).await;
    let expected = [
        ("spread", &["mean bps widest bps  crossed", "\nA "][..]),
        ("vwap", &["symbol ", "\nA ", " trades, 0 gaps"]),
        ("imbalance", &["symbol ", "\nA "]),
        (
            "latency",
            &["to the gateway: ", "from there to here, ", "conflated 0, 0 gaps, duplicates 0, bad frames 0"],
        ),
        (
            "resume",
            &[
                " of 1 symbol in 1 session, ",
                "1 symbol went on where they were, 0 did not, 0 had",
                "gaps 0, ",
            ],
        ),
    ];
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut number = 0;
    let mut left = String::new();
    for seconds in longer_and_longer(4) {
        let url = gateway.url();
        let mut running =
            expected.map(|(name, texts)| (Program::example(name, &url, &seconds.to_string()), name, texts));
        let deadline = Instant::now() + Duration::from_secs(seconds.into()) + SOON;
        let mut is_over = false;
        // So that there is a market for as long as they listen.
        while !is_over {
            pace.tick().await;
            number += 1;
            world.send(&[
                trade("A", number),
                quote("A", number),
                book("A", json!([["8", number.to_string()]]), json!([]), false),
            ]);
            is_over = running.iter_mut().all(|(program, ..)| program.child.try_wait().unwrap().is_some());
            assert!(Instant::now() < deadline, "they end by themselves");
        }
        left.clear();
        for (program, name, texts) in &mut running {
            let (status, printed) = program.end().await;
            if status != Some(0) || !texts.iter().all(|text| printed.contains(text)) {
                left += &format!("{name}, {texts:?}: {status:?} {printed}\n");
            }
        }
        if left.is_empty() {
            return;
        }
    }
    panic!("{left}");
}

/// The example `resume` drops its own client, so that nothing had shown what it shows when it is the gateway that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_killed_and_nothing_is_missing() {
    let mut world = World::new();
    let (mut first, address) = own_gateway(&world.brokers(), "127.0.0.1:0", 0).await;
    let wire = Wire::to(address).await;
    let mut command = built("resume");
    command.args(["--url", &wire.url(), "--seconds", "3600", "--trades", "40"]);
    let mut resume = Program::start(&mut command);
    until("it has subscribed", || wire.has_said(&[r#""op":"ack""#])).await;
    let trades = |numbers: std::ops::RangeInclusive<u32>| -> Vec<_> {
        numbers.map(|number| trade(["A", "B"][number as usize % 2], number)).collect()
    };
    world.send(&trades(1..=20));
    until("they came, and a cursor", || wire.has_said(&[r#""price":"20""#, r#""op":"heartbeat""#])).await;
    first.kill();
    world.send(&trades(21..=30));
    let (_second, again) = own_gateway(&world.brokers(), &address.to_string(), 0).await;
    assert_eq!(again, address);
    world.send(&trades(31..=40));
    until("it has come back", || wire.has_said(&[r#""price":"39""#])).await;
    let has_printed = |text: &str| {
        let printed = resume.printed();
        assert!(!printed.contains("missing:"), "{printed}");
        printed.contains(text)
    };
    until("its first half is over", || {
        has_printed("the first client had 40 trades of 2 symbols in 2 sessions")
    })
    .await;
    world.send(&trades(41..=80));
    until("its second half is over", || resume.has_ended()).await;
    let has_printed = |text: &str| resume.printed().contains(text);
    for text in [
        "the second had 40 trades",
        "2 symbols went on where they were, 0 did not, 0 had no trade",
        "gaps 0, of which unannounced 0",
    ] {
        until(&format!("{text}: {}", resume.printed()), || has_printed(text)).await;
    }
}

/// A gateway that is a process of its own, and where it listens.
async fn own_gateway(brokers: &str, listen: &str, ahead_ns: i64) -> (Program, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", "a_gateway_of_its_own", "--nocapture"])
        .env(BROKERS, brokers)
        .env(LISTEN, listen)
        .env(AHEAD_NS, ahead_ns.to_string());
    let program = Program::start(&mut command);
    let address = || {
        let printed = program.printed();
        printed.lines().find_map(|line| line.strip_prefix("listening ")?.parse().ok())
    };
    until("a gateway listens", || address().is_some()).await;
    let address = address().expect("it was just there");
    (program, address)
}

/// What a capture has for columns: those of the Python client's.
const CAPTURED: &str = "message trades {
  REQUIRED BYTE_ARRAY symbol (STRING);
  REQUIRED DOUBLE price;
  REQUIRED DOUBLE size;
  OPTIONAL BYTE_ARRAY side (STRING);
  OPTIONAL BYTE_ARRAY trade_id (STRING);
  OPTIONAL BYTE_ARRAY venue (STRING);
  OPTIONAL BYTE_ARRAY conditions (STRING);
  REQUIRED BYTE_ARRAY seq (STRING);
  REQUIRED INT64 event_time (TIMESTAMP(NANOS,true));
  REQUIRED INT64 ingest_time (TIMESTAMP(NANOS,true));
  REQUIRED INT64 received_time (TIMESTAMP(NANOS,true));
  OPTIONAL INT64 send_time (TIMESTAMP(NANOS,true));
  OPTIONAL BYTE_ARRAY prev (STRING);
  REQUIRED INT64 merged;
  REQUIRED BOOLEAN snapshot;
  REQUIRED BOOLEAN replay;
}
";

/// Rows are written while it runs, Ctrl-C ends the file properly, and what was captured is read back as it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trades.parquet");
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wire = Wire::to(gateway.address).await;
    let mut command = built("capture");
    command.args(["--url", &wire.url(), "--seconds", "3600", "--rows", "10", "--out"]).arg(&file);
    let mut capture = Program::start(&mut command);
    until("it has subscribed", || wire.has_said(&[r#""op":"ack""#])).await;
    let first = json!({
        "type": "trade", "symbol": "B", "price": "0.25", "size": "7.5", "side": "sell", "trade_id": "t-1", "venue": "Q",
        "conditions": "@F", "event_ns": 1_381_150_800_000_000_001_i64, "send_ns": 1_381_150_800_000_000_002_i64,
    });
    world.send(&[first]);
    world.send(&(1..25).map(|number| trade("A", number)).collect::<Vec<_>>());
    until("it has written two row groups", || capture.printed().contains("20 trades so far")).await;
    assert!(!file.exists(), "it has its name when it is whole");
    capture.interrupt();
    let (status, printed) = capture.end().await;
    assert_eq!(status, Some(0), "{printed}");
    let rows = check_capture(&file);
    // Those behind the two may have been on their way.
    assert!((20..=25).contains(&rows), "{rows}");
    assert!(printed.contains(&format!("{rows} trades, 0 gaps")), "{printed}");
    assert!(printed.contains(&format!("written to {}", file.display())), "{printed}");
    let left = std::fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(left, 1, "nothing is left beside it");
}

/// Reads a capture of those trades; gives how many they are.
fn check_capture(file: &Path) -> usize {
    let file = SerializedFileReader::new(File::open(file).expect("it is there")).expect("it is whole");
    let mut schema = Vec::new();
    print_schema(&mut schema, file.metadata().file_metadata().schema());
    assert_eq!(String::from_utf8(schema).expect("text"), CAPTURED);
    let rows: Vec<HashMap<String, String>> = file
        .into_iter()
        .map(|row| {
            let row = row.expect("it is read");
            row.get_column_iter().map(|(name, field)| (name.clone(), field.to_string())).collect()
        })
        .collect();
    for (column, value) in [
        ("symbol", "\"B\""),
        ("price", "0.25"),
        ("size", "7.5"),
        ("side", "\"sell\""),
        ("trade_id", "\"t-1\""),
        ("venue", "\"Q\""),
        ("conditions", "\"@F\""),
        ("event_time", "1381150800000000001"),
        ("send_time", "1381150800000000002"),
        ("merged", "1"),
        ("snapshot", "false"),
        ("replay", "false"),
    ] {
        assert_eq!(rows[0][column], value, "{column}");
    }
    for (number, row) in rows.iter().enumerate().skip(1) {
        assert_eq!((&*row["symbol"], &*row["price"]), ("\"A\"", &*format!("{number}.0")));
        assert!(["side", "trade_id", "venue", "send_time"].iter().all(|column| row[*column] == "null"));
        assert!(number == 1 || row["prev"] == rows[number - 1]["seq"], "{row:?}");
        let is_of_now =
            |column: &str| row[column].parse::<i64>().is_ok_and(|ns| ns > 1_700_000_000_000_000_000);
        assert!(is_of_now("ingest_time") && is_of_now("received_time"), "{row:?}");
    }
    rows.len()
}

/// An address at which nobody is, something that is no stream, a URL that is none: what `main` returned was shown as Rust shows it to
/// programmers. And there is a manual.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_told_in_a_line() {
    // Held and not listened on, so that nobody else is there.
    let nobody = tokio::net::TcpSocket::new_v4().expect("a socket");
    nobody.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let nobody = format!("ws://{}", nobody.local_addr().expect("it has one"));
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let folder = tempfile::tempdir().expect("a folder");
    // Told once, however often it is tried.
    for (url, text) in [
        (nobody, "Connection refused (os error 111). Is a gateway there? (trying again)\n"),
        (format!("{}/v2", gateway.url()), "Is the path of the URL /v1/stream?\n"),
    ] {
        for name in ALL {
            let (status, printed) = in_time(name, &["--url", &url], folder.path(), &[text]).await;
            let lines: Vec<&str> =
                printed.lines().filter(|line| !line.contains("nothing is written")).collect();
            assert_eq!((status, lines.len()), (Some(1), 1), "{name}: {printed}");
            assert!(printed.starts_with(&format!("{url}: ")), "{name}: {printed}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left behind");
    let (status, printed) = Program::start(built("capture").arg("--help")).end().await;
    assert_eq!(status, Some(0));
    for text in
        ["Captures trades into a Parquet file", "--seconds <SECONDS>", "--out <OUT>", "Ctrl-C ends it early"]
    {
        assert!(printed.contains(text), "{text}: {printed}");
    }
}

/// `--seconds 0` and `--symbols ,` ended with 0, as if something had come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_that_means_nothing_is_refused() {
    let wrong: [(&[&str], &str); 10] = [
        (&["--seconds", "0"], "it has to be more than 0"),
        (&["--seconds=-1"], "it has to be more than 0"),
        (&["--seconds", "nan"], "it has to be more than 0"),
        (&["--seconds", "inf"], "it has to be more than 0"),
        (&["--seconds", "soon"], "it is no number"),
        (&["--symbols", ","], "a value is required"),
        (&["--symbols", "A,,B"], "a value is required"),
        (&["--symbols", ""], "a value is required"),
        (&["--symbols", "A, ,B"], "it is blank"),
        (&["--url", "https://localhost"], "expected ws://HOST:PORT/v1/stream, or wss://"),
    ];
    for name in ALL {
        for (args, text) in wrong {
            let (status, printed) = Program::start(built(name).args(args)).end().await;
            assert!(status == Some(2) && printed.contains(text), "{name} {args:?}: {status:?} {printed}");
        }
    }
    for name in ["spread", "vwap", "imbalance"] {
        let (status, printed) = Program::start(built(name).args(["--top", "0"])).end().await;
        assert!(status == Some(2) && printed.contains("0 is not in 1.."), "{name}: {status:?} {printed}");
    }
    // Found before anything is captured.
    let folder = tempfile::tempdir().expect("a folder");
    for out in [folder.path().join("nowhere").join("trades.parquet"), folder.path().to_owned()] {
        let (status, printed) = Program::start(built("capture").arg("--out").arg(&out)).end().await;
        assert_eq!((status, printed.lines().count()), (Some(2), 1), "{printed}");
        assert!(printed.starts_with("Error: cannot write "), "{printed}");
    }
}

/// Nothing came, and they ended with 0. What was refused was said to tick for nobody, and of what was not measured there were zeros. A
/// request that was refused as a whole was waited for until the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gets_nothing_is_told_why_and_ends_with_1() {
    let mut world = World::new();
    let gateway = world.gateway(|config| config.feeds[0].silence_ms = 3_600_000).await;
    // So that its feed is live.
    world.send(&[trade("C", 1), quote("OLD", 1)]);
    world.has_read(&gateway).await;
    let wire = Wire::to(gateway.address).await;
    wire.refuse();
    let folder = tempfile::tempdir().expect("a folder");
    for name in ALL {
        // For an hour, unless it is clear at once that nothing will come.
        let mut command = built(name);
        command.args(["--url", &gateway.url(), "--seconds", "3600", "--symbols", "A*L"]);
        let (status, printed) = Program::start(command.current_dir(folder.path())).end().await;
        assert_eq!(status, Some(1), "{name}: {printed}");
        let channels = if name == "latency" { 2 } else { 1 };
        assert_eq!(printed.matches("A*L: ").count(), channels, "{name}: {printed}");
        assert!(!printed.contains("yet"), "{name}: {printed}");
        // Nor is nothing a time.
        assert!(!printed.contains("0.000 ms"), "{name}: {printed}");

        let mut command = built(name);
        command.args(["--url", &wire.url(), "--seconds", "3600"]).current_dir(folder.path());
        let (status, printed) = Program::start(&mut command).end().await;
        assert!(status == Some(1) && printed.contains("subscription_limit"), "{name}: {status:?} {printed}");
        assert!(!printed.contains("yet"), "{name}: {printed}");

        let url = gateway.url();
        let texts = ["B: no record has named it yet", " of A,B yet. Are the symbols right"];
        let args = ["--url", &url, "--symbols", "A, B"];
        let (status, printed) = in_time(name, &args, folder.path(), &texts).await;
        assert_eq!(status, Some(1), "{name}: {printed}");
        if name == "latency" {
            let unknown = ["to the gateway: unknown", "from there to here: unknown"];
            assert!(unknown.iter().all(|text| printed.contains(text)), "{printed}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left behind");

    // Not the symbols are wrong.
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    world.stops();
    let is_down = |event: &Event| matches!(event, Event::Feed { state: FeedState::Down, .. }).then_some(());
    find(&mut live, "the feed is down", is_down).await;
    let is_down = ["feed ticks is down. The gateway does not hear from Kafka"];
    let (status, printed) = in_time("vwap", &["--url", &gateway.url()], folder.path(), &is_down).await;
    assert!(status == Some(1) && !printed.contains("Are the symbols right"), "{printed}");
    // A table of old states was all, with 0 and without a word.
    let is_down = ["nothing but states of before: the gateway's feed ticks is down."];
    let args = ["--url", &gateway.url(), "--symbols", "OLD"];
    let (status, printed) = in_time("spread", &args, folder.path(), &is_down).await;
    assert_eq!(status, Some(0), "{printed}");
}

/// Where nothing comes to the gateway, the symbols were blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_feed_is_not_blamed_on_the_symbols() {
    let world = World::new();
    let gateway = world.gateway(|config| config.feeds[0].silence_ms = 100).await;
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    let is_stale = |event: &Event| matches!(event, Event::Feed { state: FeedState::Stale, .. }).then_some(());
    find(&mut live, "the feed is stale", is_stale).await;
    let mut vwap = Program::example("vwap", &gateway.url(), "3600");
    let (status, printed) = vwap.interrupted_after("feed ticks is stale. Nothing has come to it").await;
    assert!(status == Some(1) && !printed.contains("Are the symbols right"), "{printed}");
}

/// A feed that was down, or symbols, were blamed as well where the gateway itself had gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_gone_is_not_blamed_on_what_it_had_said() {
    let world = World::new();
    for seconds in longer_and_longer(2) {
        let gateway = world.gateway(|config| config.feeds[0].silence_ms = 100).await;
        let wire = Wire::to(gateway.address).await;
        let mut vwap = Program::example("vwap", &wire.url(), &seconds.to_string());
        until("it was told of the feed", || wire.has_said(&[r#""op":"ack""#, r#""stale""#])).await;
        gateway.stops().await.expect("no panic");
        let (status, printed) = vwap.end_within(2 * SOON).await;
        // Otherwise its time was over before the gateway was gone.
        if printed.contains("(trying again)") {
            assert!(status == Some(1) && !printed.contains("yet"), "{printed}");
            return;
        }
    }
    panic!("it has never seen that the gateway had gone");
}

/// A disk that was full left what was written behind, under a name that nobody looks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wire = Wire::to(gateway.address).await;
    let capture = built("capture");
    let mut command = Command::new("sh");
    // Files of no byte, and an error instead of a signal.
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(capture.get_program());
    command.args(["--url", &wire.url(), "--seconds", "3600"]).current_dir(folder.path());
    let mut capture = Program::start(&mut command);
    until("it has subscribed", || wire.has_said(&[r#""op":"ack""#])).await;
    world.send(&[trade("A", 1)]);
    let (status, printed) = capture.interrupted_after("trades of * for").await;
    assert!(status == Some(1) && printed.contains("Error: "), "{status:?} {printed}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left behind");
}

/// What was gone, and said to be, and a second half in which all was refused, ended with 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_that_lacks_something_or_knows_nothing_ends_with_1() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let gap = json!([{"type": "gap", "channel": "trades", "symbol": "A", "cause": "overload"}]).to_string();
    for (is_gap, text) in [(true, "something is missing"), (false, "all was refused to the second client")] {
        let wire = Wire::to(gateway.address).await;
        let mut command = built("resume");
        command.args(["--url", &wire.url(), "--seconds", "3600", "--trades", "1"]);
        let mut resume = Program::start(&mut command);
        until("it has subscribed", || wire.has_said(&[r#""op":"ack""#])).await;
        if is_gap {
            wire.inject(Opcode::Text, gap.as_bytes());
            until("the gap was seen", || resume.printed().contains("missing: ")).await;
        } else {
            wire.refuse();
        }
        world.send(&[trade("A", 1)]);
        if is_gap {
            until("there is a second", || resume.printed().contains("and is gone")).await;
            until("it has subscribed", || wire.has_said(&[r#""op":"ack""#; 2])).await;
            world.send(&[trade("A", 2)]);
        }
        let (status, printed) = resume.end().await;
        assert!(status == Some(1) && printed.contains(text), "{status:?} {printed}");
    }
}

/// Each spread counts for as long as it stood, and of many symbols the busiest are shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spreads_are_weighted_and_the_busiest_are_shown() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let quoted = |symbol: &str, bid: u32, ask: u32, event_ns: i64| json!({"type": "quote", "symbol": symbol, "bid_price": bid.to_string(), "bid_size": "1", "ask_price": ask.to_string(), "ask_size": "1", "event_ns": event_ns});
    for (round, seconds) in longer_and_longer(4).enumerate() {
        let wire = Wire::to(gateway.address).await;
        // Others each time, of which nothing is known yet.
        let (a, b) = (format!("A{round}"), format!("B{round}"));
        let [symbols, seconds] = [format!("{a},{b}"), seconds.to_string()];
        let mut running = [&["--top", "1"][..], &["--all"], &[]].map(|args| {
            let mut command = built("spread");
            command.args(["--url", &wire.url(), "--seconds", &seconds, "--symbols", &symbols]);
            Program::start(command.args(args))
        });
        until("all have subscribed", || wire.has_said(&[r#""op":"ack""#; 3])).await;
        // 200 basis points for one second, none for three. Of a price of nothing there is no spread.
        world.send(&[
            quoted(&a, 99, 101, 1_000_000_000),
            quoted(&a, 100, 100, 2_000_000_000),
            quoted(&b, 0, 0, 1_000_000_000),
            quoted(&a, 198, 202, 5_000_000_000),
        ]);
        let mut all = Vec::new();
        for program in &mut running {
            all.push(program.end_within(4 * SOON).await);
        }
        let is_whole = |(_, printed): &(_, String)| {
            printed.lines().any(|line| line.split_whitespace().take(2).eq([&*a, "3"]))
        };
        if !all.iter().all(is_whole) {
            continue;
        }
        for ((status, printed), is_all) in all.iter().zip([false, true, true]) {
            assert_eq!(*status, Some(0), "{printed}");
            let rows = printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let rows: Vec<_> = rows.skip_while(|row| row.first() != Some(&"symbol")).collect();
            assert_eq!(rows[0].join(" "), "symbol quotes mean bps widest bps crossed", "{printed}");
            assert_eq!(rows[1], [&*a, "3", "50.00", "200.00", "1"], "{printed}");
            let then =
                if is_all { format!("{b} 1 - - 1") } else { "and 1 more: --all shows them".to_owned() };
            assert_eq!((rows[2].join(" "), rows.len()), (then, 3), "{printed}");
        }
        return;
    }
    panic!("they never had all of it");
}

/// Ctrl-C in the first half began the second one, in full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_in_the_first_half_ends_all_of_it() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wire = Wire::to(gateway.address).await;
    let mut resume = Program::example("resume", &wire.url(), "3600");
    until("it has subscribed", || wire.has_said(&[r#""op":"ack""#])).await;
    world.send(&[trade("A", 1)]);
    until("a trade came", || resume.printed().contains("trades of * for 1800 s")).await;
    resume.interrupt();
    let (status, printed) = resume.end().await;
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("the first client had 1 trade of 1 symbol in 1 session"), "{printed}");
    assert!(printed.contains("ended before there was a second: 0 gaps"), "{printed}");
}

/// A gateway whose clock is an hour ahead, or behind: that says nothing about how long its events take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_clock_is_wrong_is_no_later() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    for ahead_ns in [-HOUR_NS, HOUR_NS] {
        let mut world = World::new();
        let (_gateway, address) = own_gateway(&world.brokers(), "127.0.0.1:0", ahead_ns).await;
        let mut live = Live::builder(format!("ws://{address}")).connect().await.expect("a session");
        live.subscribe(Subscription::trades(["A"])).expect("room");
        assert!(acked(&mut live).await);
        world.send(&[trade("A", 1)]);
        assert_eq!(trades(&mut live, 1).await, ["1"]);
        // It was asked for its time before anything else.
        let stats = live.stats();
        let off_ns = stats.skew_ns.expect("it is known").abs_diff(ahead_ns);
        assert!(off_ns < HOUR_NS as u64 / 2, "{stats:?}");
        assert!(stats.latency.max_ns < HOUR_NS as u64 / 2, "{stats:?}");
    }
}

/// That process: of itself it tries nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_its_own() {
    let (Ok(brokers), Ok(listen)) = (std::env::var(BROKERS), std::env::var(LISTEN)) else { return };
    let ahead_ns = std::env::var(AHEAD_NS).ok().and_then(|ns| ns.parse().ok());
    tickgate_gateway::clock::shift_wall(ahead_ns.expect("a number"));
    let gateway = Gateway::of(brokers, |config| {
        config.listen = listen.parse().expect("an address");
        // The next one has to take what this one has signed.
        config.replay.cursor_key = "a key of the examples".to_owned();
    });
    let gateway = gateway.await;
    println!("\nlistening {}", gateway.address);
    // For as long as there is somebody who might kill it.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    drop(gateway);
}
