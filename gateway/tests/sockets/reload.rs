//! Another configuration while the gateway runs: the real program, SIGHUP, and a client that stays.

use crate::harness::process::Process;
use crate::harness::{Kafka, SOON, take_events, trade};
use crate::issuer::Issuer;
use crate::raw::{Raw, handshake};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;
use tickgate_protocol::cursor::{self, CursorKey};

const OLD: &str = "the secret that was";
const NEW: &str = "the secret to come";

/// A gateway with a file of its own, and how often it was told to read it.
struct Reloaded {
    process: Process,
    file: PathBuf,
    counts: [f64; 2],
    _dir: TempDir,
}

impl Reloaded {
    fn start(kafka: &Kafka, topic: &str, text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("gate.toml");
        std::fs::write(&file, text).expect("it is written");
        let process = Process::start_as(kafka, topic, &["session.heartbeat_ms=100"], |command| {
            command.arg("--config").arg(&file).env_remove("TICKGATE_LOG");
        });
        Self { process, file, counts: [0.0; 2], _dir: dir }
    }

    /// Lets it read this text; it has to be taken over, or refused.
    fn read(&mut self, text: &str, is_right: bool) {
        std::fs::write(&self.file, text).expect("it is written");
        self.counts[usize::from(!is_right)] += 1.0;
        self.process.signal("HUP");
        let counts = || {
            ["ok", "refused"]
                .map(|result| self.process.metric("tickgate_config_reloads_total", &format!("\"{result}\"")))
        };
        let deadline = Instant::now() + SOON;
        while counts() != self.counts {
            assert!(
                Instant::now() < deadline,
                "{:?}, not {:?}: {}",
                counts(),
                self.counts,
                self.process.log()
            );
            std::thread::yield_now();
        }
    }

    /// A client of all trades that begins at `cursor`, or the error it gets.
    async fn resume(&self, cursor: Option<&str>) -> Result<Client, String> {
        let mut client =
            Client::connect(&self.process.url, &ClientOptions::default()).await.expect("a session");
        let all = json!([{"channel": "trades", "symbols": ["*"]}]);
        let mut request = json!({"op": "subscribe", "subscriptions": all});
        if let Some(cursor) = cursor {
            request["cursor"] = json!(cursor);
        }
        client.request(request).await.map(|_| client).map_err(|error| error.to_string())
    }
}

/// The next cursor of a heartbeat that was signed with this secret.
async fn cursor_of(client: &mut Client, secret: &str) -> String {
    let key = CursorKey::new(secret.as_bytes());
    let deadline = Instant::now() + SOON;
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::Heartbeat { cursor, .. }), .. }) => {
                if cursor::decode(&cursor, &key).is_ok() {
                    return cursor;
                }
            }
            Some(Incoming::Closed { code, .. }) => panic!("closed with {code:?}"),
            Some(_) => {}
            None => panic!("no heartbeat"),
        }
        assert!(Instant::now() < deadline, "no cursor by `{secret}`");
    }
}

fn prices(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["price"].as_str().expect("a price")).collect()
}

/// SIGHUP ended the process; and who changed the secret of a cluster had to make every cursor worthless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_changed_under_open_sessions() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let keys =
        |signs: &str, also: &str| format!("[replay]\ncursor_key = '{signs}'\ncursor_key_also = '{also}'\n");
    let mut gate = Reloaded::start(&kafka, &topic, &keys(OLD, ""));
    let mut staying = gate.resume(None).await.expect("an ack");
    records.send(&trade("A", "1"));
    assert_eq!(prices(&take_events(&mut staying, 1).await), ["1"]);
    // Its positions pass what it was given.
    let old = loop {
        let cursor = cursor_of(&mut staying, OLD).await;
        if cursor::decode_unverified(&cursor).expect("a cursor").iter().any(|next| next.offset == 1) {
            break cursor;
        }
    };
    for (signs, also) in [(OLD, NEW), (NEW, OLD)] {
        gate.read(&keys(signs, also), true);
        // Though nothing comes from the feed, it is signed anew.
        let cursor = cursor_of(&mut staying, signs).await;
        assert!(gate.resume(Some(&cursor)).await.is_ok());
    }
    records.send(&trade("A", "2"));
    let mut resumed = gate.resume(Some(&old)).await.expect("an old cursor is still good");
    assert_eq!(prices(&take_events(&mut resumed, 1).await), ["2"]);
    assert_eq!(prices(&take_events(&mut staying, 1).await), ["2"], "and who was there lost nothing");

    gate.read(&keys(NEW, ""), true);
    let refused = gate.resume(Some(&old)).await.map(drop).expect_err("nothing accepts it any more");
    assert!(refused.contains("`cursor`: its signature does not match"), "{refused}");
    let log = gate.process.log();
    assert!(!log.contains(OLD) && !log.contains(NEW), "secrets in the log: {log}");
    assert!(!gate.process.get("/config").contains(NEW));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_changes_and_what_needs_a_restart_is_named() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut gate = Reloaded::start(&kafka, &topic, "");
    gate.resume(None).await.expect("an ack");
    assert!(!gate.process.log().contains("\"opened\""), "{}", gate.process.log());
    gate.read("log = 'debug'\n[limits]\nsessions_max = 77\n[outbox]\nage_max_ms = 700\n", true);
    gate.resume(None).await.expect("an ack");
    gate.process.logged("\"message\":\"opened\"", "\n");
    let named = gate.process.logged("changed, and stay as they are until a restart\",\"keys\":\"", "\"");
    assert_eq!(named, "limits.sessions_max, outbox.age_max_ms");
    assert_eq!(gate.process.metric("tickgate_config_keys_waiting", ""), 2.0);
    let shown = gate.process.get("/config");
    assert!(shown.contains("log = \"debug\"") && shown.contains("sessions_max = 10000"), "{shown}");
    gate.read("log = 'debug'\n", true);
    assert_eq!(gate.process.metric("tickgate_config_keys_waiting", ""), 0.0);
}

/// A level that was changed in the file, and hidden by a variable, was "nothing to take over"; so was everything to a gateway
/// that was started without a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_over_is_said() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut gate = Reloaded::start(&kafka, &topic, "[session]\nheartbeat_ms = 100\n");
    gate.read("log = 'debug'\n[session]\nheartbeat_ms = 200\n[limits]\nsessions_max = 10000\n", true);
    let named = gate.process.logged("not as the file says, as something else sets them\",\"keys\":\"", "\"");
    assert_eq!(named, "session.heartbeat_ms (--set)");

    let process = Process::start(&kafka, &topic, &[]);
    process.signal("HUP");
    process.logged("there is no configuration file to read again: started without --config", "\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut gate = Reloaded::start(&kafka, &topic, &format!("[replay]\ncursor_key = '{OLD}'\n"));
    let mut client = gate.resume(None).await.expect("an ack");
    let before = gate.process.get("/config");
    let config = |answer: &str| answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
    let broken = format!("log = 'loud'\nnonsense = 1\n[replay]\ncursor_key = '{NEW}'\n");
    gate.read(&broken, false);
    let told = gate.process.logged("reload refused, everything stays as it is: ", "\"}");
    for wanted in ["has 2 errors", "gate.toml:1: log: must be a level", "gate.toml:2: nonsense: unknown key"]
    {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    std::fs::remove_file(&gate.file).expect("it is there");
    gate.counts[1] += 1.0;
    gate.process.signal("HUP");
    gate.process.logged("gate.toml: cannot be read", "\n");
    assert_eq!(config(&gate.process.get("/config")), config(&before));
    cursor_of(&mut client, OLD).await;
    kafka.producer(&topic).send(&trade("A", "1"));
    take_events(&mut client, 1).await;
    gate.read("", true);
}

/// The answer to who shows this, and its session if there is one.
async fn shows(url: &str, credential: &str) -> (String, Raw) {
    let mut raw = Raw::connect(url).await;
    raw.send(handshake(&format!("Authorization: Bearer {credential}\r\n")).as_bytes()).await;
    let head = raw.head().await;
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    if status == "101" {
        assert_eq!(raw.json().await["op"], "hello");
    }
    (status, raw)
}

/// One API key of these tests, as its file has it.
fn api_key(key: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[keys]]\nname = 'desk'\nsha256 = '{hash}'\nsymbols = ['*']\n")
}

/// Keys and lists that a reload takes over count for whoever comes; sessions of tokens stay, those of keys that are gone end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_changed_under_open_sessions() {
    const KEYS: [&str; 2] = ["the-api-key-that-was-0123456789", "the-api-key-to-come-0123456789"];
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let (old, new) = (Issuer::new("2025"), Issuer::new("2026"));
    let (set, keys) = (old.file("set.json"), old.file("keys.toml"));
    let write = |issuer: &Issuer, key: &str| {
        std::fs::write(&set, issuer.set()).expect("it is written");
        std::fs::write(&keys, api_key(key)).expect("it is written");
    };
    let text = |audience: &str| {
        format!(
            "[auth]\nmode = 'required'\nissuers = ['{}']\naudiences = ['{audience}']\njwks_file = '{}'\n\
             api_keys_file = '{}'\n",
            crate::issuer::NAME,
            set.display(),
            keys.display()
        )
    };
    write(&old, KEYS[0]);
    let mut gate = Reloaded::start(&kafka, &topic, &text(crate::issuer::AUDIENCE));
    let answers = async |gate: &Reloaded| {
        let mut answers = Vec::new();
        for credential in [old.token().as_str(), new.token().as_str(), KEYS[0], KEYS[1]] {
            answers.push(shows(&gate.process.url, credential).await.0);
        }
        answers
    };
    let (_, mut staying) = shows(&gate.process.url, &old.token()).await;
    let all = json!([{"channel": "trades", "symbols": ["*"]}]);
    staying.say(&json!({"op": "set", "heartbeat_ms": 0})).await;
    staying.say(&json!({"op": "subscribe", "subscriptions": all})).await;
    let (_, mut desk) = shows(&gate.process.url, KEYS[0]).await;
    desk.say(&json!({"op": "set", "heartbeat_ms": 0})).await;
    assert_eq!(desk.json().await["op"], "ack");
    assert_eq!(answers(&gate).await, ["101", "401", "101", "401"]);

    // What cannot be read leaves all as it is.
    std::fs::write(&keys, "[[keys]]\n").expect("it is written");
    gate.read(&text(crate::issuer::AUDIENCE), false);
    assert_eq!(answers(&gate).await, ["101", "401", "101", "401"]);

    write(&new, KEYS[1]);
    gate.read(&text(crate::issuer::AUDIENCE), true);
    assert_eq!(answers(&gate).await, ["401", "101", "401", "101"]);
    assert_eq!(desk.json().await["code"], "unauthenticated");
    assert_eq!(desk.closed().await.0, 4401);

    gate.read(&text("somebody else"), true);
    assert_eq!(answers(&gate).await, ["401", "401", "401", "101"], "an API key is for nobody in particular");
    records.send(&trade("A", "1"));
    loop {
        if let Value::Array(events) = staying.json().await {
            assert_eq!(prices(&events), ["1"]);
            break;
        }
    }
}
