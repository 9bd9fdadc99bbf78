//! What goes over a TLS connection: much, little, in pieces, to clients that read slowly or never, until its end.

use crate::harness::certs;
use crate::harness::{SOON, until};
use crate::raw::{PING, PONG, Raw, TEXT, frame, handshake, text};
use crate::world::World;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};
use tickgate_gateway::stats::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A receive buffer that holds a few events.
const NARROW: Option<u32> = Some(4096);

/// A trade whose event takes some hundred bytes.
fn quote(n: usize) -> Value {
    json!({"type": "quote", "symbol": format!("S{n}"), "bid_price": "1", "bid_size": "1", "ask_price": "2",
           "ask_size": "1", "event_ns": 1})
}

async fn subscribe(raw: &mut Raw, channel: &str, more: Value) {
    let mut subscription = json!({"channel": channel, "symbols": ["*"]});
    subscription.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    raw.say(&json!({"op": "subscribe", "id": 1, "subscriptions": [subscription]})).await;
    assert_eq!(raw.json().await["ok"], true);
}

impl World {
    fn closed(&self, reason: CloseReason) -> u64 {
        let board = self.gateway.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).sessions_closed[reason as usize]).sum()
    }

    async fn books_close(&self) {
        until("the books close", || {
            let (offered, sent, conflated, dropped, held) = self.gateway.books();
            held == 0 && offered == sent + conflated + dropped
        })
        .await;
    }
}

/// Frames of many records, and requests of many.
#[tokio::test]
async fn large_frames_arrive_whole_in_both_directions() {
    let world = World::new(|config, _| config.session.flush_ms = 200).await;
    let mut raw = Raw::session(world.gateway.url()).await;
    subscribe(&mut raw, "quotes", json!({})).await;
    let count = 2_000;
    for n in 0..count {
        world.records.queue(&format!("S{n}"), None, quote(n).to_string().as_bytes());
    }
    world.records.flush();
    let (mut seen, mut largest) = (0, 0);
    while seen < count {
        let Some((TEXT, payload)) = raw.frame().await else { panic!("data") };
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        if let Value::Array(events) = message {
            for event in events {
                assert_eq!(event["symbol"], format!("S{seen}"));
                seen += 1;
            }
            largest = largest.max(payload.len());
        }
    }
    assert!(largest > 32 << 10, "of several records: {largest}");
    // A request of several records, in one that is cut anywhere.
    let long = "x".repeat(60_000);
    let request = text(&json!({"op": "ping", "id": long}).to_string());
    for piece in request.chunks(7_001) {
        raw.send(piece).await;
    }
    let answer = raw.json().await;
    assert_eq!(answer["op"], "error", "an id may not be so long, but it was read: {answer}");
    raw.send(&frame(true, PING, b"still there")).await;
    assert_eq!(raw.frame().await, Some((PONG, b"still there".to_vec())));
}

/// A client that reads nothing reaches its bounds as it does without TLS; and the one that reads then gets whole frames.
#[tokio::test]
async fn who_reads_nothing_is_conflated_and_goes_on_whole() {
    let world = World::new(narrow).await;
    let mut raw = Raw::session_narrow(world.gateway.url(), NARROW).await;
    subscribe(&mut raw, "quotes", json!({"on_slow": "conflate"})).await;
    let (rounds, symbols) = (40, 100);
    for round in 0..rounds {
        for n in 0..symbols {
            let mut quote = quote(n);
            quote["bid_size"] = json!(round.to_string());
            world.records.queue(&format!("S{n}"), None, quote.to_string().as_bytes());
        }
    }
    world.records.flush();
    until("all are offered", || world.gateway.books().0 == rounds * symbols as u64).await;
    let (_, _, conflated, _, held) = world.gateway.books();
    assert!(conflated > 0 && held > 0, "{conflated} conflated, {held} held");
    let mut last = vec![None; symbols];
    while last.iter().any(|size| *size != Some(rounds - 1)) {
        let Some((TEXT, payload)) = raw.frame().await else { panic!("data") };
        if let Ok(Value::Array(events)) = serde_json::from_slice(&payload) {
            for event in events {
                let number = |key: &str| event[key].as_str().expect("text").trim_start_matches('S').parse();
                let (n, round): (usize, u64) =
                    (number("symbol").expect("a number") as usize, number("bid_size").expect("a number"));
                assert!(last[n].is_none_or(|last| last < round), "S{n}: {round} behind {:?}", last[n]);
                last[n] = Some(round);
            }
        }
    }
    world.books_close().await;
}

#[tokio::test]
async fn who_takes_nothing_at_all_is_given_up() {
    let world = World::new(|config, files| {
        narrow(config, files);
        config.outbox.age_max_ms = 500;
        config.outbox.stall_timeout_ms = 1_000;
    })
    .await;
    let mut stalled = Raw::session_narrow(world.gateway.url(), NARROW).await;
    subscribe(&mut stalled, "quotes", json!({})).await;
    let start = Instant::now();
    for n in 0..2_000 {
        world.records.queue(&format!("S{n}"), None, quote(n).to_string().as_bytes());
    }
    world.records.flush();
    until("it is closed", || world.closed(CloseReason::Stalled) + world.closed(CloseReason::Io) == 1).await;
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    world.books_close().await;
}

/// What a handshake and a request bring at once, and a request cut off by the end.
#[tokio::test]
async fn what_comes_behind_the_request_is_not_lost() {
    let world = World::new(|_, _| ()).await;
    let mut raw = Raw::connect(world.gateway.url()).await;
    let subscribe =
        json!({"op": "subscribe", "id": 7, "subscriptions": [{"channel": "trades", "symbols": ["A"]}]});
    raw.send(&[handshake("").as_bytes(), &text(&subscribe.to_string())].concat()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.json().await["op"], "hello");
    assert_eq!(raw.json().await["id"], 7);
    // Refusals are told, too.
    let mut raw = Raw::connect(world.gateway.url()).await;
    raw.send(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(raw.refusal().await.0, 404);
}

/// Both ends of a session are said in TLS, too: who is cut off can tell it from who is told goodbye.
#[tokio::test]
async fn the_end_is_said_and_a_missing_one_is_an_end() {
    let world = World::new(|_, _| ()).await;
    for says_goodbye in [true, false] {
        let before = world.closed(CloseReason::Client);
        let mut socket = world.connect().await;
        let mut client = shaken(&mut socket).await;
        say(&mut socket, &mut client, handshake("").as_bytes()).await;
        hear(&mut socket, &mut client, b"hello").await;
        if says_goodbye {
            // RFC 6455's goodbye is answered, then TLS' own comes, then the end of the stream.
            say(&mut socket, &mut client, &frame(true, 8, &1000_u16.to_be_bytes())).await;
            let mut rest = Vec::new();
            timeout(SOON, socket.read_to_end(&mut rest)).await.expect("it ends").expect("in order");
            client.read_tls(&mut rest.as_slice()).expect("memory");
            let state = client.process_new_packets().expect("TLS");
            assert!(state.peer_has_closed(), "close_notify");
        } else {
            drop(socket);
        }
        until("it is over", || world.closed(CloseReason::Client) == before + 1).await;
    }
}

/// rustls lets a peer ask for new keys 32 times without saying anything; the 33rd ends it.
#[tokio::test]
async fn who_only_asks_for_new_keys_is_cut_off() {
    let world = World::new(|_, _| ()).await;
    let mut socket = world.connect().await;
    let mut client = shaken(&mut socket).await;
    say(&mut socket, &mut client, handshake("").as_bytes()).await;
    hear(&mut socket, &mut client, b"hello").await;
    for round in 0..3 {
        // Ten and a ping are fine, as often as one likes.
        for _ in 0..10 {
            client.refresh_traffic_keys().expect("TLS 1.3");
            say(&mut socket, &mut client, b"").await;
        }
        say(&mut socket, &mut client, &frame(true, PING, format!("keys {round}").as_bytes())).await;
        hear(&mut socket, &mut client, format!("keys {round}").as_bytes()).await;
    }
    for _ in 0..40 {
        client.refresh_traffic_keys().expect("TLS 1.3");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        // It may be gone before the last.
        let _ = socket.write_all(&bytes).await;
    }
    let _ = timeout(SOON, socket.read_to_end(&mut Vec::new())).await.expect("it ends");
    until("it is over", || world.closed(CloseReason::Io) == 1).await;
}

/// Bytes that are no record of it end a session, and nobody else's.
#[tokio::test]
async fn what_is_forged_ends_the_session() {
    let world = World::new(|_, _| ()).await;
    let mut other = world.subscribed(certs::believing()).await;
    let mut socket = world.connect().await;
    let mut client = shaken(&mut socket).await;
    say(&mut socket, &mut client, handshake("").as_bytes()).await;
    hear(&mut socket, &mut client, b"hello").await;
    socket.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat()).await.expect("it reads");
    let mut rest = Vec::new();
    timeout(SOON, socket.read_to_end(&mut rest)).await.expect("it ends").expect("in order");
    client.read_tls(&mut rest.as_slice()).expect("memory");
    let told = client.process_new_packets().expect_err("an alert");
    assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
    until("it is over", || world.closed(CloseReason::Io) == 1).await;
    world.ticks(&mut other, "1").await;
}

fn narrow(config: &mut tickgate_gateway::config::Config, _: &certs::Files) {
    config.session.heartbeat_ms = 0;
    config.outbox.send_buffer_bytes = 4 << 10;
    config.outbox.notsent_lowat_bytes = 1 << 10;
    config.outbox.write_bytes_max = 40 << 10;
    config.outbox.frame_bytes_max = 40 << 10;
    config.outbox.bytes_max = 64 << 10;
    config.outbox.age_max_ms = 60_000;
    config.outbox.stall_timeout_ms = 120_000;
}

/// A client that has shaken hands, by hand.
async fn shaken(socket: &mut tokio::net::TcpStream) -> rustls::ClientConnection {
    let name = "localhost".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(certs::believing(), name).expect("a client");
    while client.is_handshaking() {
        say(socket, &mut client, b"").await;
        if client.wants_read() && client.is_handshaking() {
            read(socket, &mut client).await;
        }
    }
    say(socket, &mut client, b"").await;
    client
}

/// Says `bytes`, and what TLS itself has to say.
async fn say(socket: &mut tokio::net::TcpStream, client: &mut rustls::ClientConnection, bytes: &[u8]) {
    std::io::Write::write_all(&mut client.writer(), bytes).expect("there is room");
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).expect("memory");
    }
    timeout(SOON, socket.write_all(&out)).await.expect("it reads").expect("it is there");
}

async fn read(socket: &mut tokio::net::TcpStream, client: &mut rustls::ClientConnection) {
    // Room for all that comes at once: answers to its parts would be small writes of their own.
    let mut bytes = Vec::with_capacity(64 << 10);
    let read =
        timeout(SOON, socket.read_buf(&mut bytes)).await.expect("it says something").expect("in order");
    assert!(read > 0, "it ended");
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("memory");
        client.process_new_packets().expect("TLS");
    }
}

/// Reads until these bytes were said.
async fn hear(socket: &mut tokio::net::TcpStream, client: &mut rustls::ClientConnection, wanted: &[u8]) {
    let mut heard = Vec::new();
    while !heard.windows(wanted.len()).any(|part| part == wanted) {
        read(socket, client).await;
        match client.reader().read_to_end(&mut heard) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A client whose socket holds the second of two small writes back until the first is acknowledged waited 40 ms for its
/// session: the gateway had nothing to say to the end of the handshake, so the kernel was in no hurry to acknowledge it.
#[tokio::test]
async fn nothing_waits_for_an_acknowledgement() {
    let world = World::new(|_, _| ()).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let mut socket = world.connect().await;
        socket.set_nodelay(false).expect("an option");
        let start = Instant::now();
        let mut client = shaken(&mut socket).await;
        say(&mut socket, &mut client, handshake("").as_bytes()).await;
        hear(&mut socket, &mut client, b"hello").await;
        took.push(start.elapsed());
    }
    took.sort();
    assert!(took[0] < Duration::from_millis(35), "the fastest of 20: {took:?}");
}
