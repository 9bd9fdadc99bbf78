//! The invariants of ARCHITECTURE.md, one test for each, by its number.
//!
//! Here each is shown once and plainly; how it holds under random schedules, faults and load is the matter of the other
//! suites. What must not be anywhere is looked for in the sources.

mod harness;
mod raw;

use harness::session::{Session, position};
use harness::{Gateway, Kafka, SOON, next_events, quote, take_events, trade, until};
use raw::Raw;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tickgate_gateway::config::{Config, ceiling};
use tickgate_load::{Client, Incoming};
use tickgate_protocol::control::Control;
use tickgate_protocol::{Position, cursor};

kafkas!(
    invariant_5_order_is_partition_order_and_what_is_missing_was_announced,
    invariant_9_any_gateway_can_continue_any_client,
);

/// Queues and buffers so small that a client that stops to read meets a bound soon, and by bytes alone.
fn soon_full(config: &mut Config) {
    config.outbox.bytes_max = 64 << 10;
    config.outbox.write_bytes_max = 8 << 10;
    config.outbox.frame_bytes_max = 8 << 10;
    config.outbox.send_buffer_bytes = 4 << 10;
    config.outbox.notsent_lowat_bytes = 1 << 10;
    config.outbox.age_max_ms = 60_000;
    config.outbox.stall_timeout_ms = 120_000;
    config.session.heartbeat_ms = 0;
}

/// A client that reads nothing stands beside one that reads: the second gets everything at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_1_delivering_never_waits() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    config.shards = 1;
    soon_full(&mut config);
    let gateway = Gateway::start(config).await;
    let mut stalled = Raw::session_narrow(gateway.url(), Some(4 << 10)).await;
    let skipping = json!([{"channel": "trades", "symbols": ["*"], "on_slow": "skip"}]);
    stalled.say(&json!({"op": "subscribe", "subscriptions": skipping})).await;
    until("the stalled one is subscribed", || gateway.running().board().shard(0).subscriptions == 1).await;
    let mut healthy = gateway.client().await;
    healthy.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
    for n in 0..100 {
        let batch: Vec<Value> = (0..50).map(|i| trade("A", &(n * 50 + i).to_string())).collect();
        records.send_all(&batch);
        let events = take_events(&mut healthy, batch.len()).await;
        assert!(events.iter().all(|event| event["type"] == "trade"), "no gap: {events:?}");
    }
    let skipped = || gateway.running().board().shard(0).dropped[0];
    until("the stalled one lost what did not fit", || skipped() > 1_000).await;
    assert_eq!(gateway.running().board().feed().overload_events, 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_tick_is_encoded_once_however_many_subscribe() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let batch: Vec<Value> = (0..20)
        .map(|n| if n % 2 == 0 { trade("A", "1") } else { quote("A", "1", "2") })
        .chain([trade("UNWATCHED", "1"), quote("UNWATCHED", "1", "2")])
        .collect();
    let feed = || {
        let feed = gateway.running().board().feed();
        (feed.records, feed.encoded)
    };
    let mut clients: Vec<Client> = Vec::new();
    let mut encoded = Vec::new();
    for count in [0, 1, 500] {
        while clients.len() < count {
            let mut client = gateway.client().await;
            let wanted = ["trades", "quotes"].map(|channel| json!({"channel": channel, "symbols": ["A"]}));
            client.subscribe(&wanted).await.expect("an ack");
            clients.push(client);
        }
        let before = feed();
        records.send_all(&batch);
        for client in &mut clients {
            let mut events = 0;
            while events < 20 {
                let frame = next_events(client).await;
                events += frame.iter().filter(|event| event["snapshot"] != true).count();
            }
        }
        until("everything was read", || feed().0 == before.0 + batch.len() as u64).await;
        encoded.push(feed().1 - before.1);
    }
    assert_eq!(encoded, [0, 20, 20], "by nobody, one and five hundred");
    gateway.stop().await;
}

#[test]
fn invariant_3_nothing_grows_without_bound() {
    type Change = fn(&mut Config);
    for file in
        sources(&["protocol/src", "gateway/src", "embedded-broker/src", "feed-simulator/src", "loadgen/src"])
    {
        // A channel says how much it holds; a queue of the standard library's channel would not.
        for forbidden in ["unbounded", "mpsc::channel()", "mpsc::channel::<"] {
            assert!(!file.code.contains(forbidden), "{} has `{forbidden}`", file.path.display());
        }
    }
    let config = Config::default();
    let terms = ceiling::memory_ceiling(&config);
    assert_eq!(ceiling::sum(&terms), terms.iter().map(|term| term.bytes).sum::<u64>());
    let table = ceiling::table(&terms);
    assert!(terms.iter().all(|term| table.contains(term.name)), "every term is shown:\n{table}");
    // Each bound is a term: raised, it raises the sum.
    let sum = |change: Change| {
        let mut config = Config::default();
        change(&mut config);
        ceiling::sum(&ceiling::memory_ceiling(&config))
    };
    let before = sum(|_| ());
    let changes: [(&str, Change); 7] = [
        ("outbox.total_bytes_max", |c| c.outbox.total_bytes_max *= 2),
        ("session.inbox_bytes_max", |c| c.session.inbox_bytes_max *= 2),
        ("limits.sessions_max", |c| c.limits.sessions_max *= 2),
        ("limits.subscriptions_total_max", |c| c.limits.subscriptions_total_max *= 2),
        ("limits.reading_bytes_total_max", |c| c.limits.reading_bytes_total_max *= 2),
        ("kafka.symbols_max", |c| c.kafka.symbols_max *= 2),
        ("kafka.book_levels_total_max", |c| c.kafka.book_levels_total_max *= 2),
    ];
    for (name, change) in changes {
        assert!(sum(change) > before, "{name} is no term of the ceiling");
    }
}

/// Clients that keep up, that conflate, that skip, that are cut and that hang up: the books close for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_the_books_close() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let mut config = kafka.config(&topic);
    soon_full(&mut config);
    let gateway = Gateway::start(config).await;
    let mut stalled = Vec::new();
    for (channel, policy) in [("quotes", "conflate"), ("trades", "skip"), ("trades", "disconnect")] {
        let mut raw = Raw::session_narrow(gateway.url(), Some(4 << 10)).await;
        let wanted = json!([{"channel": channel, "symbols": ["*"], "on_slow": policy}]);
        raw.say(&json!({"op": "subscribe", "subscriptions": wanted})).await;
        stalled.push(raw);
    }
    let wanted = ["trades", "quotes"].map(|channel| json!({"channel": channel, "symbols": ["*"]}));
    let mut healthy = gateway.client().await;
    healthy.subscribe(&wanted).await.expect("an ack");
    let board = gateway.running().board();
    let subscribed = || (0..2).map(|shard| board.shard(shard).subscriptions).sum::<u64>() == 5;
    until("all are subscribed", subscribed).await;
    for n in 0..60usize {
        let one =
            |i: usize| [trade("A", "1"), quote("B", "1", "2"), quote("C", "1", &(n * 25 + i).to_string())];
        let batch: Vec<Value> = (0..25).flat_map(one).collect();
        records.send_all(&batch);
        take_events(&mut healthy, batch.len()).await;
        let (offered, sent, conflated, dropped, held) = gateway.books();
        assert_eq!(offered, sent + conflated + dropped + held, "at every moment");
    }
    until("something was conflated and something dropped", || gateway.books().2 > 0 && gateway.books().3 > 0)
        .await;
    drop((stalled, healthy));
    let open = || (0..2).map(|shard| board.shard(shard).sessions).sum::<u64>();
    until("all sessions are gone", || open() == 0).await;
    let (offered, sent, conflated, dropped, held) = gateway.books();
    assert_eq!((offered, held), (sent + conflated + dropped, 0), "at the end");
    gateway.metric_is("tickgate_books_imbalance_events", 0.0).await;
    gateway.metric_is("tickgate_events_offered_total", offered as f64).await;
    gateway.stop().await;
}

async fn invariant_5_order_is_partition_order_and_what_is_missing_was_announced(kafka: Kafka) {
    let topic = kafka.topic(3).await;
    let records = kafka.producer(&topic);
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let mut session = Session::everything(&gateway).await;
    let symbols = ["A", "B", "C", "D", "E"];
    let total = 500;
    let all: Vec<Value> = (0..total)
        .map(|n| {
            let symbol = symbols[n % symbols.len()];
            if n % 3 == 0 { quote(symbol, &n.to_string(), "1") } else { trade(symbol, &n.to_string()) }
        })
        .collect();
    records.send_all(&all);
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for event in session.events(total).await {
        let symbol = event["symbol"].as_str().expect("a symbol").to_owned();
        let number = event["price"].as_str().or(event["bid_price"].as_str()).expect("a number");
        let (_, _, offset) = position(&event, "seq").expect("a position");
        let now = (offset, number.parse().expect("a number"));
        // Trades and quotes together: the order of the partition, across channels.
        if let Some(before) = last.insert(symbol, now) {
            assert!(before.0 < now.0 && before.1 < now.1, "{before:?} comes before {now:?}");
        }
    }
    let tally = session.verify();
    assert_eq!(
        (tally.unannounced, tally.duplicates, tally.unverified, tally.gaps),
        (0, 0, 0, 0),
        "{tally:?}"
    );
    gateway.stop().await;
}

#[test]
fn invariant_6_protocol_outbox_and_table_need_no_runtime_and_no_clock() {
    let files = sources(&[
        "protocol/src",
        "gateway/src/outbox",
        "gateway/src/outbox.rs",
        "gateway/src/shard/table.rs",
    ]);
    assert!(files.len() > 10, "the sources were found");
    for file in files {
        for forbidden in ["tokio", "std::time", "SystemTime", "Instant", "clock::"] {
            assert!(!file.code.contains(forbidden), "{} has `{forbidden}`", file.path.display());
        }
    }
}

#[test]
fn invariant_7_clocks_names_and_the_environment_have_one_place_each() {
    let files = sources(&["protocol/src", "gateway/src"]);
    let nowhere_but = |forbidden: &str, allowed: &[&str]| {
        for file in &files {
            let is_allowed = allowed.iter().any(|end| file.path.to_string_lossy().contains(end));
            assert!(
                is_allowed || !file.code.contains(forbidden),
                "{} has `{forbidden}`",
                file.path.display()
            );
        }
    };
    for clock in ["SystemTime", "std::time::Instant", "time::{Duration, Instant}", "time::{Instant"] {
        // Deadlines of tokio's timers are no readings of time.
        nowhere_but(clock, &["gateway/src/clock.rs", "gateway/src/admin/shards.rs"]);
    }
    for variable in ["env::var", "env::vars", "env::set_var"] {
        nowhere_but(variable, &["gateway/src/config/load.rs"]);
    }
    nowhere_but("\"tickgate_", &["gateway/src/metrics.rs", "gateway/src/metrics/"]);
}

/// A log that can be looked into.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client writes its text wherever it can: no metric carries it, and it cannot forge a line of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_8_no_text_of_a_client_is_a_label_or_a_line() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).expect("the first in this process");
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let gateway = Gateway::start(kafka.config(&topic)).await;
    let evil = "marker\nforged ERROR all is lost\r\n\u{1b}[2Jforged";
    let mut raw = Raw::session(gateway.url()).await;
    for message in [
        json!({"op": evil}),
        json!({"op": "ping", "id": evil}),
        json!({"op": "auth", "token": evil}),
        json!({"op": "subscribe", "subscriptions": [{"channel": evil, "symbols": [evil, "marker-1"]}]}),
        json!({"op": "subscribe", "subscriptions": [{"channel": "trades", "symbols": [evil, "marker-2", "marker-3*"]}]}),
        json!({"op": "subscribe", "cursor": evil, "subscriptions": [{"channel": "trades", "symbols": ["A"]}]}),
        json!({"op": "ping", "id": "last"}),
    ] {
        raw.say(&message).await;
    }
    loop {
        let (_, payload) = raw.frame().await.expect("it stays");
        if payload.windows(6).any(|window| window == b"\"last\"") {
            break;
        }
    }
    // And a goodbye that is no UTF-8 text but could be printed.
    raw.send(&raw::frame(true, raw::CLOSE, &[&1000u16.to_be_bytes()[..], b"marker\nforged"].concat())).await;
    raw.closed().await;
    // A producer's text is no label either.
    kafka.producer(&topic).raw("marker", None, br#"{"type":"marker\nforged","symbol":"marker"}"#);
    until("it was read", || gateway.running().board().feed().records == 1).await;
    let (status, metrics) = gateway.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(!metrics.contains("marker") && !metrics.contains("forged"), "{metrics}");
    gateway.stop().await;
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(!log.is_empty(), "something was logged");
    assert!(!log.lines().any(|line| line.starts_with("forged")), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "{log}");
}

/// Two gateways that have nothing in common but Kafka say the same positions, so either takes over from the other.
async fn invariant_9_any_gateway_can_continue_any_client(kafka: Kafka) {
    let topic = kafka.topic(3).await;
    let records = kafka.producer(&topic);
    let all: Vec<Value> = (0..60)
        .map(|n| match n % 2 {
            0 => trade(&format!("S{}", n % 7), &n.to_string()),
            _ => quote(&format!("S{}", n % 7), "1", &n.to_string()),
        })
        .collect();
    let mut told = Vec::new();
    for shards in [1, 2] {
        let mut config = kafka.config(&topic);
        config.shards = shards;
        config.session.heartbeat_ms = 100;
        told.push(Gateway::start(config).await);
    }
    let mut clients = Vec::new();
    for gateway in &told {
        let mut client = gateway.client().await;
        let wanted = ["trades", "quotes"].map(|channel| json!({"channel": channel, "symbols": ["*"]}));
        client.subscribe(&wanted).await.expect("an ack");
        clients.push(client);
    }
    records.send_all(&all);
    let mut heard = Vec::new();
    for client in &mut clients {
        let mut positions: Vec<_> = take_events(client, all.len())
            .await
            .iter()
            .map(|event| {
                [&event["symbol"], &event["type"], &event["seq"], &event["prev"]].map(Value::to_string)
            })
            .collect();
        positions.sort();
        heard.push((positions, cursor_over(client, all.len() as u64).await));
    }
    assert_eq!(heard[0], heard[1]);
    let cursor = &heard[0].1;
    assert!(!cursor.is_empty() && cursor.iter().all(|position| position.epoch == cursor[0].epoch));
    for gateway in told {
        gateway.stop().await;
    }
}

/// The cursor of the first heartbeat that covers `records` records.
async fn cursor_over(client: &mut Client, records: u64) -> Vec<Position> {
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Heartbeat { cursor, .. }), .. }) => {
                let positions = cursor::decode_unverified(&cursor).expect("a cursor");
                if positions.iter().map(|next| next.offset).sum::<u64>() == records {
                    return positions;
                }
            }
            Some(_) => {}
            None => panic!("no heartbeat covers {records} records"),
        }
    }
}

#[test]
fn invariant_10_every_error_of_the_configuration_is_told_before_anything_starts() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"listen = \"nowhere\"\n[outbox]\nbytes_max = \"many\"\n[kafka]\nrefresh = 1\n")
        .expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tickgate"))
        .args(["run", "--config", file.path().to_str().expect("a path"), "--set", "drain.spread_ms=-1"])
        .env("TICKGATE_SESSION_HEARTBEAT_MS", "often")
        .output()
        .expect("it starts");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(64), "{told}");
    for expected in ["listen", "outbox.bytes_max", "kafka.refresh", "drain.spread_ms", "session.heartbeat_ms"]
    {
        assert!(told.contains(expected), "{expected} is missing:\n{told}");
    }
    assert!(!told.contains("memory ceiling") && !told.contains("ws://"), "nothing was started:\n{told}");
}

struct Source {
    path: PathBuf,
    /// Its text without comments.
    code: String,
}

/// The Rust sources under `roots`, unit tests included.
fn sources(roots: &[&str]) -> Vec<Source> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace");
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = roots.iter().map(|root| workspace.join(root)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = lines.collect::<Vec<_>>().join("\n");
            files.push(Source { path, code });
        }
    }
    assert!(!files.is_empty(), "no sources at {roots:?}");
    files
}
