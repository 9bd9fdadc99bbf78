//! Who may connect: how many from one address and in a second, for whom proxies connect, and those who never come to the
//! end of their handshake.

use crate::harness::{Gateway, Kafka, SOON, until};
use crate::raw::{Raw, handshake};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::RefuseReason;

async fn gateway(change: impl FnOnce(&mut Config)) -> (Kafka, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.limits.addresses_exempt.clear();
    config.session.heartbeat_ms = 0;
    change(&mut config);
    let gateway = Gateway::start(config).await;
    (kafka, gateway)
}

fn behind_proxy(config: &mut Config, protocol: &str) {
    config.proxies.protocol = protocol.to_owned();
    config.proxies.trusted = vec!["127.0.0.0/8".to_owned()];
}

/// Addresses of the clients, as `/sessions` lists them.
fn peers(gateway: &Gateway) -> Vec<String> {
    let mut socket = std::net::TcpStream::connect(gateway.admin()).expect("it listens");
    write!(socket, "GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let list: Value = serde_json::from_str(body).expect("JSON");
    let sessions = list["sessions"].as_array().expect("sessions");
    sessions.iter().map(|session| session["peer"].as_str().expect("an address").to_owned()).collect()
}

/// What a connection is told that sends these bytes: the status, if there is an answer at all.
async fn visit(gateway: &Gateway, bytes: &[u8]) -> (Option<u16>, Raw) {
    let mut raw = Raw::connect(gateway.url()).await;
    raw.try_send(bytes).await;
    let head = raw.head_or_end().await;
    (head.and_then(|head| head.split(' ').nth(1)?.parse().ok()), raw)
}

fn forwarded(hops: &str) -> Vec<u8> {
    handshake(&format!("X-Forwarded-For: {hops}\r\n")).into_bytes()
}

#[tokio::test]
async fn one_address_holds_so_many_connections_and_gets_places_back() {
    let (_kafka, gateway) = gateway(|config| config.limits.connections_per_address_max = 3).await;
    let mut held = vec![Raw::session(gateway.url()).await, Raw::session(gateway.url()).await];
    let unfinished = Raw::connect(gateway.url()).await;
    // It is accepted before the next one is, on whichever shard that is.
    let (status, mut raw) = loop {
        let (status, raw) = visit(&gateway, handshake("").as_bytes()).await;
        if status != Some(101) {
            break (status, raw);
        }
    };
    assert_eq!(status, Some(429));
    assert_eq!(raw.rest().await, b"{\"error\":\"too many connections from your address\"}\n");
    drop(unfinished);
    held.pop();
    let start = Instant::now();
    while visit(&gateway, handshake("").as_bytes()).await.0 != Some(101) {
        assert!(start.elapsed() < SOON, "no place came back");
        // tidy: allow(sleep) it only paces the polling, which has a bound
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    until("it is counted", || gateway.refused(RefuseReason::AddressMax) >= 1).await;
}

#[tokio::test]
async fn a_flood_of_one_address_is_refused_and_then_not_even_answered() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.connections_per_address_per_s = 5;
        behind_proxy(config, "x-forwarded-for");
    })
    .await;
    let start = Instant::now();
    let (mut let_in, mut told, mut untold) = (0, 0, 0);
    for _ in 0..300 {
        let (status, mut raw) = visit(&gateway, &forwarded("192.0.2.1")).await;
        match status {
            Some(101) => let_in += 1,
            Some(429) => {
                let body = raw.rest().await;
                assert_eq!(body, b"{\"error\":\"too many new connections from your address\"}\n");
                told += 1;
            }
            None => untold += 1,
            other => panic!("{other:?}"),
        }
    }
    let seconds = start.elapsed().as_secs() + 1;
    println!("300 in {:?}: {let_in} let in, {told} told, {untold} not", start.elapsed());
    assert!(let_in >= 5 && let_in <= 5 + 5 * seconds, "{let_in}");
    assert!(told >= 10 && told <= 10 + 10 * seconds, "{told}");
    until("all are counted", || gateway.refused(RefuseReason::AddressRate) == 300 - let_in).await;
    // Another client of the same proxy is not refused for it.
    assert_eq!(visit(&gateway, &forwarded("192.0.2.2")).await.0, Some(101));
}

#[tokio::test]
async fn a_storm_from_everywhere_is_held_to_a_rate() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.connections_per_s = 10;
        behind_proxy(config, "x-forwarded-for");
    })
    .await;
    let start = Instant::now();
    let mut let_in = 0;
    for n in 0..100 {
        let (status, _) = visit(&gateway, &forwarded(&format!("192.0.2.{n}"))).await;
        assert!([Some(101), Some(429)].contains(&status), "{status:?}");
        let_in += u64::from(status == Some(101));
    }
    assert!(let_in >= 10 && let_in <= 10 + 10 * (start.elapsed().as_secs() + 1), "{let_in}");
    until("they are counted", || gateway.refused(RefuseReason::Rate) == 100 - let_in).await;
}

/// With a header that anybody can write, a client had as many addresses as it liked.
#[tokio::test]
async fn who_is_no_proxy_of_ours_is_not_believed() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.connections_per_address_max = 2;
        behind_proxy(config, "x-forwarded-for");
        config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
    })
    .await;
    let mut held = Vec::new();
    for n in 0..20 {
        let (status, raw) = visit(&gateway, &forwarded(&format!("192.0.2.{n}"))).await;
        let is_refused = status.is_none_or(|status| status == 429);
        assert_eq!((status == Some(101), is_refused), (n < 2, n >= 2), "{n}: {status:?}");
        held.push(raw);
    }
    assert!(peers(&gateway).iter().all(|peer| peer.starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn behind_a_proxy_the_client_counts_and_not_what_it_says() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.connections_per_address_max = 1;
        behind_proxy(config, "x-forwarded-for");
    })
    .await;
    let mut held = Vec::new();
    for (hops, expected) in [
        ("192.0.2.1", 101),
        ("192.0.2.1", 429),
        ("192.0.2.2", 101),
        // What the client wrote itself stands before what the proxy added.
        ("203.0.113.9, 192.0.2.1", 429),
        ("192.0.2.2, 192.0.2.3, 127.0.0.5", 101),
        ("2001:db8::1", 101),
        ("2001:db8::2", 429),
    ] {
        let (status, raw) = visit(&gateway, &forwarded(hops)).await;
        assert_eq!(status, Some(expected), "{hops}");
        held.push(raw);
    }
    let mut peers = peers(&gateway);
    peers.sort();
    assert_eq!(peers, ["192.0.2.1:0", "192.0.2.2:0", "192.0.2.3:0", "[2001:db8::1]:0"]);
    drop(held);
    until("all are gone", || gateway.sessions() == 0).await;
    // A session is gone a moment before its place is, on whichever shard that was.
    for tries in 0.. {
        if visit(&gateway, &forwarded("192.0.2.1")).await.0 == Some(101) {
            break;
        }
        assert!(tries < 1_000, "places come back");
    }
}

/// A PROXY head of version 2: for a client of this address, with `more` bytes behind it.
fn v2(client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let mut head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    head.extend_from_slice(&(12 + more.len() as u16).to_be_bytes());
    head.extend_from_slice(&client);
    head.extend_from_slice(&[127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90]);
    head.extend_from_slice(more);
    head
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let (_kafka, gateway) = gateway(|config| {
        config.limits.connections_per_address_max = 1;
        config.limits.head_timeout_ms = 500;
        behind_proxy(config, "v2");
    })
    .await;
    let request = handshake("").into_bytes();
    let ping = crate::raw::text(&json!({"op": "ping", "id": 7}).to_string());
    let mut held = Vec::new();
    // All at once, with what is behind it, which stays where it belongs.
    let (status, mut first) =
        visit(&gateway, &[v2([192, 0, 2, 1], &[]), request.clone(), ping].concat()).await;
    assert_eq!(status, Some(101));
    assert_eq!(first.json().await["op"], "hello");
    assert_eq!(first.json().await["id"], 7);
    held.push(first);
    assert_eq!(visit(&gateway, &[v2([192, 0, 2, 1], &[]), request.clone()].concat()).await.0, Some(429));
    // In pieces, with things in it that nobody knows.
    let mut raw = Raw::connect(gateway.url()).await;
    for byte in v2([192, 0, 2, 2], &[7; 200]) {
        raw.send(&[byte]).await;
    }
    raw.send(&request).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    held.push(raw);
    // The proxy itself, which asks whether anybody is there.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
    let (status, raw) = visit(&gateway, &[local, request.clone()].concat()).await;
    assert_eq!(status, Some(101));
    held.push(raw);
    let mut peers = peers(&gateway);
    peers.sort();
    assert_eq!(peers[1..], ["192.0.2.1:12345", "192.0.2.2:12345"]);
    assert!(peers[0].starts_with("127.0.0.1:"), "{peers:?}");

    let mut version_1 = v2([192, 0, 2, 3], &[]);
    version_1[12] = 0x11;
    for wrong in [request.clone(), b"PROXY TCP4 192.0.2.3 127.0.0.1 5 6\r\n".to_vec(), version_1] {
        assert_eq!(visit(&gateway, &[wrong, request.clone()].concat()).await.0, None, "it is not served");
    }
    until("they are counted", || gateway.refused(RefuseReason::ProxyHeader) == 3).await;
    let mut slow = Raw::connect(gateway.url()).await;
    slow.send(&v2([192, 0, 2, 4], &[])[..20]).await;
    assert_eq!(slow.rest().await, b"");
    until("it is counted", || gateway.refused(RefuseReason::Head) == 1).await;
}

#[tokio::test]
async fn a_proxy_head_of_somebody_else_is_no_request() {
    let (_kafka, gateway) = gateway(|config| {
        behind_proxy(config, "v2");
        config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
    })
    .await;
    let bytes = [v2([192, 0, 2, 1], &[]), handshake("").into_bytes()].concat();
    assert_eq!(visit(&gateway, &bytes).await.0, Some(400));
    assert_eq!(visit(&gateway, handshake("").as_bytes()).await.0, Some(101));
}

/// A thousand connections that never finished their handshake kept everybody else in the kernel's queue until their time
/// was over, and took places among the sessions.
#[tokio::test]
async fn slow_handshakes_lock_nobody_out() {
    const SLOW: usize = 400;
    let (_kafka, gateway) = gateway(|config| {
        config.limits.handshakes_max = 60;
        config.limits.sessions_max = 30;
        config.limits.head_timeout_ms = 5_000;
        config.limits.connections_per_address_per_s = 0;
    })
    .await;
    let start = Instant::now();
    let mut slow = Vec::new();
    let mut honest = Vec::new();
    for n in 0..SLOW {
        let mut raw = Raw::connect(gateway.url()).await;
        raw.send(&b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n"[..1 + n % 30]).await;
        slow.push(raw);
        if n % 20 == 0 {
            let before = Instant::now();
            honest.push(Raw::session(gateway.url()).await);
            assert!(before.elapsed() < Duration::from_millis(4_000), "{n}: {:?}", before.elapsed());
        }
    }
    until("the oldest have made room", || gateway.refused(RefuseReason::Displaced) >= SLOW as u64 - 60).await;
    for raw in &mut slow {
        // Those who are still there, one byte at a time.
        raw.try_send(b"x").await;
    }
    for mut raw in slow {
        assert_eq!(raw.rest().await, b"");
    }
    println!("all gone after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(10_500) + SOON / 4, "{:?}", start.elapsed());
    until("all are counted", || {
        gateway.refused(RefuseReason::Displaced) + gateway.refused(RefuseReason::Head) == SLOW as u64
    })
    .await;
    assert_eq!(gateway.sessions(), honest.len() as u64);
    for mut raw in honest {
        raw.say(&json!({"op": "ping", "id": 1})).await;
        assert_eq!(raw.json().await["id"], 1);
    }
}
