//! Who is let in: tokens by each way, and what becomes of everybody else.

use crate::harness::process::Process;
use crate::harness::world::World;
use crate::harness::{Gateway, Kafka, trade, until};
use crate::issuer::Issuer;
use crate::raw::{BINARY, PING, PONG, Raw, frame, handshake, header, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::{AuthFailure, AuthWay, RefuseReason, ShardTotals};

async fn world(issuer: &Issuer, change: impl FnOnce(&mut Config)) -> World {
    World::new(1, |config| {
        issuer.asked_by(config);
        change(config);
    })
    .await
}

/// Something of all shards, as last published.
fn sum(gateway: &Gateway, of: impl Fn(&ShardTotals) -> u64) -> u64 {
    let board = gateway.running().board();
    (0..board.shard_count()).map(|shard| of(&board.shard(shard))).sum()
}

async fn refused(gateway: &Gateway, reason: RefuseReason, count: u64) {
    let what = format!("{count} refused as {}", reason.label());
    until(&what, || sum(gateway, |totals| totals.refused[reason as usize]) == count).await;
}

fn bearer(token: &str) -> String {
    handshake(&format!("Authorization: Bearer {token}\r\n"))
}

fn protocol(token: &str) -> String {
    handshake(&format!("Sec-WebSocket-Protocol: tickgate.v1.json, tickgate.bearer.{token}\r\n"))
}

fn auth(token: &str) -> Value {
    json!({ "op": "auth", "id": 1, "token": token })
}

/// A connection in the lobby, whose `hello` has come, and the name of its session.
async fn in_lobby(url: &str) -> (Raw, String) {
    let mut raw = Raw::connect(url).await;
    raw.send(handshake("").as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    let hello = raw.json().await;
    assert_eq!((&hello["op"], &hello["auth"]), (&json!("hello"), &json!("required")));
    (raw, hello["session"].as_str().expect("a name").to_owned())
}

/// What a connection is told as it is put out of the lobby.
async fn put_out(raw: &mut Raw, code: &str) -> u16 {
    let error = raw.json().await;
    assert_eq!(
        (&error["op"], &error["code"], &error["fatal"]),
        (&json!("error"), &json!(code), &json!(true))
    );
    let (number, name) = raw.closed().await;
    assert_eq!((error["number"].as_u64(), name.as_str()), (Some(number.into()), code));
    raw.ended().await;
    number
}

#[tokio::test]
async fn a_good_token_is_taken_by_each_way() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let token = issuer.token();
    for ask in [bearer(&token), protocol(&token)] {
        let mut raw = Raw::connect(world.gateway.url()).await;
        raw.send(ask.as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains(&token), "{head}");
        let is_offered = ask.contains("Sec-WebSocket-Protocol");
        assert_eq!(head.to_lowercase().contains("sec-websocket-protocol: tickgate.v1.json\r\n"), is_offered);
        assert_eq!(raw.json().await["auth"], "accepted");
        raw.say(&json!({ "op": "ping", "id": 2 })).await;
        assert_eq!(raw.json().await["op"], "pong");
    }
    // In the lobby pings are answered, and what comes behind the token is the session's.
    let (mut raw, name) = in_lobby(world.gateway.url()).await;
    raw.send(&frame(true, PING, b"there?")).await;
    assert_eq!(raw.frame().await, Some((PONG, b"there?".to_vec())));
    let subscribe =
        json!({ "op": "subscribe", "id": 2, "subscriptions": [{ "channel": "trades", "symbols": ["A"] }] });
    raw.send(&[text(&auth(&token).to_string()), text(&subscribe.to_string())].concat()).await;
    let ack = raw.json().await;
    assert_eq!((&ack["op"], &ack["id"], &ack["ok"]), (&json!("ack"), &json!(1), &json!(true)));
    assert_eq!(raw.json().await["id"], 2);
    world.records.send(&trade("A", "1"));
    let (_, events) = raw.frame().await.expect("a trade");
    assert!(String::from_utf8(events).expect("text").contains("\"trade\""));
    let sessions = world.gateway.running().board().shard_count();
    assert!(sessions > 0 && name.starts_with("s-"), "{name}");
    until("three were believed", || {
        sum(&world.gateway, |totals| totals.auth_accepted[AuthWay::Token as usize]) == 3
    })
    .await;
    world.gateway.stop().await;
}

/// A token in pieces: a byte at a time, in fragments, and with the handshake.
#[tokio::test]
async fn a_token_may_come_in_pieces() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let message = auth(&issuer.token()).to_string();
    let (mut slow, _) = in_lobby(world.gateway.url()).await;
    for byte in text(&message) {
        slow.send(&[byte]).await;
    }
    assert_eq!(slow.json().await["ok"], true);
    let (mut torn, _) = in_lobby(world.gateway.url()).await;
    let (first, second) = message.as_bytes().split_at(100);
    torn.send(&frame(false, crate::raw::TEXT, first)).await;
    torn.send(&frame(true, PING, b"")).await;
    torn.send(&frame(true, 0, second)).await;
    assert_eq!(torn.frame().await, Some((PONG, Vec::new())));
    assert_eq!(torn.json().await["ok"], true);
    let mut early = Raw::connect(world.gateway.url()).await;
    early.send(&[handshake("").as_bytes(), &text(&message)].concat()).await;
    assert!(early.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(early.json().await["op"], "hello");
    assert_eq!(early.json().await["ok"], true);
    world.gateway.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_the_answer_is_the_same() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let stranger = Issuer::new("k1");
    let rights = json!({ "symbols": ["*"] });
    std::fs::write(issuer.file("revoked"), "sub:eve\n").expect("it is written");
    until("eve is revoked", || {
        let entries = &world.gateway.running().board().access.revoked_entries;
        entries.load(std::sync::atomic::Ordering::Relaxed) == 1
    })
    .await;
    let bad = [
        (stranger.token(), AuthFailure::Signature),
        (issuer.token_for("ann", &rights, -3_600), AuthFailure::Expired),
        (issuer.token_for("eve", &rights, 3_600), AuthFailure::Revoked),
        (issuer.token_for("ann", &json!({}), 3_600), AuthFailure::Rights),
        ("x".repeat(5_000) + ".", AuthFailure::TooLong),
        ("no.such.token".to_owned(), AuthFailure::Malformed),
        ("AnApiKeyThatNobodyHas0000".to_owned(), AuthFailure::ApiKey),
    ];
    let mut answers = Vec::new();
    for (token, failure) in &bad {
        for ask in [bearer(token), protocol(token)] {
            let mut raw = Raw::connect(world.gateway.url()).await;
            raw.send(ask.as_bytes()).await;
            let (status, head, body) = raw.refusal().await;
            assert_eq!(status, 401, "{failure:?}");
            assert!(head.contains("\r\nwww-authenticate: bearer\r\n"), "{head}");
            answers.push(body);
        }
        let (mut raw, _) = in_lobby(world.gateway.url()).await;
        raw.say(&auth(token)).await;
        let error = raw.json().await;
        assert_eq!((&error["code"], &error["id"]), (&json!("unauthenticated"), &json!(1)));
        answers.push(format!("{{\"error\":{}}}\n", error["message"]));
        assert_eq!(raw.closed().await.0, 4401);
        until("it is counted", || sum(&world.gateway, |totals| totals.auth_refused[*failure as usize]) == 3)
            .await;
    }
    answers.dedup();
    assert_eq!(answers, ["{\"error\":\"not a token or key that is taken here\"}\n"]);
    refused(&world.gateway, RefuseReason::Unauthenticated, 3 * bad.len() as u64).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn two_tokens_and_tokens_in_urls_are_refused() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let token = issuer.token();
    let twice = format!("Authorization: Bearer {token}\r\n");
    let both = format!("{twice}Sec-WebSocket-Protocol: tickgate.v1.json, tickgate.bearer.{token}\r\n");
    let mut asks = vec![handshake(&format!("{twice}{twice}")), handshake(&both)];
    for query in [format!("token={token}"), format!("x=1&access_token={token}"), format!("q={token}")] {
        asks.push(bearer(&token).replacen("/v1/stream", &format!("/v1/stream?{query}"), 1));
    }
    for ask in &asks {
        let mut raw = Raw::connect(world.gateway.url()).await;
        raw.send(ask.as_bytes()).await;
        let (status, _, body) = raw.refusal().await;
        assert!(status == 400 && body.contains("token") && !body.contains(&token), "{status} {body}");
    }
    refused(&world.gateway, RefuseReason::BadRequest, asks.len() as u64).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn in_the_lobby_nothing_counts_but_a_token() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let url = world.gateway.url();
    for message in [
        text(r#"{"op":"ping","id":7}"#),
        text(r#"{"op":"subscribe","subscriptions":[{"channel":"trades","symbols":["*"]}]}"#),
        text("nonsense"),
        text(r#"{"op":"auth"}"#),
        frame(true, BINARY, b"auth"),
    ] {
        let (mut raw, _) = in_lobby(url).await;
        raw.send(&message).await;
        assert_eq!(put_out(&mut raw, "unauthenticated").await, 4401);
    }
    // By its head, before any of it has come.
    let (mut raw, _) = in_lobby(url).await;
    raw.send(&header(true, crate::raw::TEXT, (16 << 10) + 1)).await;
    raw.send(&[0; 4]).await;
    assert_eq!(raw.closed().await.0, 1009);
    let (mut raw, _) = in_lobby(url).await;
    raw.send(&header(true, crate::raw::TEXT, 1 << 62)).await;
    assert_eq!(raw.closed().await.0, 1009);
    let (mut raw, _) = in_lobby(url).await;
    raw.send(&frame(true, PING, b"").repeat(65)).await;
    for _ in 0..64 {
        assert_eq!(raw.frame().await, Some((PONG, Vec::new())));
    }
    assert_eq!(raw.closed().await.0, 1008);
    // Who leaves is counted, and its place is free.
    let (mut raw, _) = in_lobby(url).await;
    raw.send(&frame(true, crate::raw::CLOSE, &1000u16.to_be_bytes())).await;
    assert_eq!(raw.closed().await.0, 1000);
    drop(in_lobby(url).await);
    refused(&world.gateway, RefuseReason::AuthLeft, 2).await;
    until("nobody waits", || sum(&world.gateway, |totals| totals.auth_pending) == 0).await;
    assert_eq!(sum(&world.gateway, |totals| totals.sessions_opened), 0);
    world.gateway.stop().await;
}

#[tokio::test]
async fn who_shows_nothing_in_time_is_closed() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| config.auth.timeout_ms = 300).await;
    let began = Instant::now();
    let (mut raw, _) = in_lobby(world.gateway.url()).await;
    // A part of a message is nothing.
    raw.send(&header(true, crate::raw::TEXT, 100)).await;
    assert_eq!(put_out(&mut raw, "auth_timeout").await, 4408);
    assert!(began.elapsed() >= Duration::from_millis(300));
    refused(&world.gateway, RefuseReason::AuthTimeout, 1).await;
    world.gateway.stop().await;
}

/// What a greeting in the lobby said of limits was the gateway's, and nothing ever said what the token had made of them.
#[tokio::test]
async fn who_is_let_in_learns_its_own_limits() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let own = |limits: &Value| {
        ["subscriptions", "updates_per_s", "connections", "requests_per_s"].map(|name| limits[name].as_u64())
    };
    let token = |subscriptions: u32, updates: u32| {
        let rights = json!({
            "symbols": ["*"], "max_subscriptions": subscriptions, "max_updates_per_s": updates, "max_connections": 2,
        });
        issuer.token_for("bob", &rights, 3_600)
    };
    let mut raw = Raw::connect(world.gateway.url()).await;
    raw.send(handshake("").as_bytes()).await;
    raw.head().await;
    assert_eq!(own(&raw.json().await["limits"]), [Some(5_000), None, None, Some(20)]);
    raw.say(&auth(&token(3, 100))).await;
    assert_eq!(own(&raw.json().await["limits"]), [Some(3), Some(100), Some(2), Some(20)]);
    raw.say(&auth(&token(7, 50))).await;
    assert_eq!(own(&raw.json().await["limits"]), [Some(7), Some(50), Some(2), Some(20)]);
    let mut raw = Raw::connect(world.gateway.url()).await;
    raw.send(bearer(&token(3, 100)).as_bytes()).await;
    raw.head().await;
    assert_eq!(own(&raw.json().await["limits"]), [Some(3), Some(100), Some(2), Some(20)]);
    world.gateway.stop().await;
}

/// Whoever was between its accept and its session when the last session was over was cut off without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_leaves_nobody_at_the_door_without_a_word() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| {
        config.shards = 1;
        config.drain.spread_ms = 0;
        config.drain.grace_ms = 60_000;
    })
    .await;
    let (mut waiting, _) = in_lobby(world.gateway.url()).await;
    let mut asking = Raw::connect(world.gateway.url()).await;
    let ask = handshake("");
    let (first, second) = ask.split_at(ask.len() / 2);
    asking.send(first.as_bytes()).await;
    // Its visit has begun when one that came later is in the lobby.
    let (mut also, _) = in_lobby(world.gateway.url()).await;
    let stopping = tokio::spawn(world.gateway.stop());
    assert_eq!(waiting.closed().await, (1012, "drain".to_owned()));
    asking.send(second.as_bytes()).await;
    let (status, _, body) = asking.refusal().await;
    assert_eq!((status, body.as_str()), (503, "{\"error\":\"draining\"}\n"));
    assert_eq!(also.closed().await, (1012, "drain".to_owned()));
    drop((waiting, also));
    assert_eq!(stopping.await.expect("it stops"), 0, "nobody was cut");
}

/// T9: the oldest of those who only wait leaves, and who comes next is served.
#[tokio::test]
async fn a_full_lobby_puts_out_the_oldest() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |config| {
        config.shards = 1;
        config.auth.pending_max = 2;
    })
    .await;
    let (mut first, _) = in_lobby(world.gateway.url()).await;
    let (mut second, _) = in_lobby(world.gateway.url()).await;
    let (mut third, _) = in_lobby(world.gateway.url()).await;
    assert_eq!(first.closed().await.0, 1013);
    for raw in [&mut third, &mut second] {
        raw.say(&auth(&issuer.token())).await;
        assert_eq!(raw.json().await["ok"], true);
    }
    refused(&world.gateway, RefuseReason::AuthPending, 1).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_subject_has_as_many_connections_as_it_may() {
    let issuer = Issuer::new("k1");
    let world = world(&issuer, |_| {}).await;
    let token = issuer.token_for("bob", &json!({ "symbols": ["*"], "max_connections": 2 }), 3_600);
    let connect = async || {
        let mut raw = Raw::connect(world.gateway.url()).await;
        raw.send(bearer(&token).as_bytes()).await;
        raw
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut raw = connect().await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
        assert_eq!(raw.json().await["op"], "hello");
        open.push(raw);
    }
    let (status, head, _) = connect().await.refusal().await;
    assert!(status == 429 && head.contains("\r\nretry-after: "), "{head}");
    let (mut raw, _) = in_lobby(world.gateway.url()).await;
    raw.say(&auth(&token)).await;
    assert_eq!(put_out(&mut raw, "connection_limit").await, 4430);
    refused(&world.gateway, RefuseReason::SubjectConnections, 2).await;
    // Somebody else is not concerned; and who has left makes room.
    let (mut raw, _) = in_lobby(world.gateway.url()).await;
    raw.say(&auth(&issuer.token())).await;
    assert_eq!(raw.json().await["ok"], true);
    drop(open.pop());
    until("bob has one left", || sum(&world.gateway, |totals| totals.sessions_closed.iter().sum()) == 1)
        .await;
    assert!(connect().await.head().await.starts_with("HTTP/1.1 101 "));
    world.gateway.stop().await;
}

/// What the audit log says of those who are not let in: whose token was believed is named, and nobody else.
#[tokio::test]
async fn refusals_name_whom_they_know() {
    let issuer = Issuer::new("k1");
    let audit = issuer.file("audit.log");
    let world = world(&issuer, |config| config.auth.audit_file = audit.display().to_string()).await;
    let token = issuer.token_for("bob", &json!({ "symbols": ["*"], "max_connections": 1 }), 3_600);
    let connect = async || {
        let mut raw = Raw::connect(world.gateway.url()).await;
        raw.send(bearer(&token).as_bytes()).await;
        raw
    };
    let mut first = connect().await;
    assert!(first.head().await.starts_with("HTTP/1.1 101 "));
    let session = first.json().await["session"].clone();
    assert_eq!(connect().await.refusal().await.0, 429);
    let (mut raw, second) = in_lobby(world.gateway.url()).await;
    raw.say(&auth(&token)).await;
    put_out(&mut raw, "connection_limit").await;
    let (mut raw, forged) = in_lobby(world.gateway.url()).await;
    // By another key, and for somebody whose name is not to be believed.
    raw.say(&auth(&Issuer::new("k1").token_for("root", &json!({ "symbols": ["*"] }), 3_600))).await;
    put_out(&mut raw, "unauthenticated").await;
    world.gateway.stop().await;
    let text = std::fs::read_to_string(&audit).expect("an audit log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |event: &str| -> Vec<[Value; 3]> {
        let lines = lines.iter().filter(|line| line["event"] == event);
        lines.map(|line| ["session", "subject", "reason"].map(|name| line[name].clone())).collect()
    };
    let no_room = RefuseReason::SubjectConnections.label();
    let refused = json!([
        [null, "bob", no_room],
        [second, "bob", no_room],
        [forged, null, AuthFailure::Signature.label()],
    ]);
    assert_eq!(json!(of("refuse")), refused, "{text}");
    assert_eq!(json!(of("connect")), json!([[session, "bob", "token"]]), "{text}");
}

/// Where nobody is asked, a token is no mistake: clients need not know.
#[tokio::test]
async fn where_nobody_is_asked_everybody_is_let_in() {
    let issuer = Issuer::new("k1");
    let world = World::new(1, |_| {}).await;
    for ask in [handshake(""), bearer("x"), protocol("a.b.c")] {
        let mut raw = Raw::connect(world.gateway.url()).await;
        raw.send(ask.as_bytes()).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
        assert_eq!(raw.json().await["auth"], "none");
        raw.say(&auth(&issuer.token())).await;
        assert_eq!(raw.json().await, json!({ "op": "ack", "id": 1, "ok": true }));
    }
    world.gateway.stop().await;
}

/// T2: whatever is done with tokens, none of their bytes is in the log, the audit log, the metrics, the configuration as it is
/// shown, or an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_ever_written_down() {
    const CONNECTS: usize = 1_000;
    let issuer = Issuer::new("k1");
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let audit = issuer.file("audit.log");
    let keys = issuer.file("api-keys.toml");
    let api_key = "AnApiKeyOfTheseTests-0123456789";
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, api_key.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("[[keys]]\nname = 'desk'\nsha256 = '{hash}'\nsymbols = ['*']\n");
    std::fs::write(&keys, key).expect("it is written");
    let mut config = Config::default();
    issuer.asked_by(&mut config);
    let settings = [
        "auth.mode=required".to_owned(),
        format!("auth.issuers={}", crate::issuer::NAME),
        format!("auth.audiences={}", crate::issuer::AUDIENCE),
        format!("auth.jwks_file={}", config.auth.jwks_file),
        format!("auth.api_keys_file={}", keys.display()),
        format!("auth.audit_file={}", audit.display()),
        "limits.sessions_max=5000".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let process = Process::start_logging(&kafka, &topic, &settings, "debug,librdkafka=off,rdkafka=off");
    let good = issuer.token();
    let bad = Issuer::new("k1").token();
    let secrets = [good.as_str(), bad.as_str(), api_key, "AnApiKeyThatIsNotKnown-01234567"];
    let mut answers = String::new();
    for at in 0..CONNECTS {
        let token = secrets[at % secrets.len()];
        for way in 0..4 {
            let mut raw = Raw::connect(&process.url).await;
            match way {
                0 => raw.send(bearer(token).as_bytes()).await,
                1 => raw.send(protocol(token).as_bytes()).await,
                2 => {
                    let ask = handshake("").replacen("/v1/stream", &format!("/v1/stream?token={token}"), 1);
                    raw.send(ask.as_bytes()).await;
                }
                _ => {
                    raw.send(handshake("").as_bytes()).await;
                    raw.say(&auth(token)).await;
                }
            }
            let head = raw.head().await;
            let is_in = head.starts_with("HTTP/1.1 101 ");
            let is_good = at % 2 == 0;
            assert_eq!(is_in, way == 3 || (way < 2 && is_good), "{way} {head}");
            answers.push_str(&head);
            if is_in {
                answers.push_str(&raw.json().await.to_string());
                if way == 3 {
                    answers.push_str(&raw.json().await.to_string());
                }
            } else {
                answers.push_str(&String::from_utf8(raw.rest().await).expect("text"));
            }
        }
    }
    let mut process = process;
    let shown = ["/metrics", "/config", "/sessions", "/readyz"].map(|path| process.get(path)).concat();
    process.signal("TERM");
    let log = process.whole_log();
    let audit = std::fs::read_to_string(&audit).expect("an audit log");
    assert!(
        audit.lines().count() > 100 && audit.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    assert!(audit.contains("\"connect\"") && audit.contains("\"refuse\"") && audit.contains("\"desk\""));
    assert!(log.contains("opened"), "it logs sessions: {log}");
    for secret in secrets {
        // Any part of it that nobody else could have written.
        let parts = secret.split('.').filter(|part| part.len() > 20 && !part.starts_with("eyJ0eXAi"));
        for part in parts {
            for (what, text) in [("log", &log), ("audit", &audit), ("shown", &shown), ("answers", &answers)] {
                assert!(!text.contains(&part[..20]), "{part} is in the {what}");
            }
        }
    }
}
