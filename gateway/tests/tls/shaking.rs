//! Handshakes: versions, resumption, certificates of clients, and those that fail.

use crate::harness::certs::{self, Authority, CLIENTS, GATEWAYS};
use crate::harness::{SOON, until};
use crate::world::World;
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use std::time::{Duration, Instant};
use tickgate_gateway::config::CLIENT_CERTIFICATES;
use tickgate_gateway::stats::{RefuseReason, TlsFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test]
async fn ticks_come_by_either_version() {
    let world = World::new(|_, _| ()).await;
    for (n, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let mut client = world.subscribed(certs::client(&[version], &GATEWAYS, None)).await;
        world.ticks(&mut client, &n.to_string()).await;
        client.close(1000, "done").await;
    }
    until("both are counted", || world.shaken() == [2, 0]).await;
}

/// Without anything being kept for it: what there is to know is in its ticket.
#[tokio::test]
async fn who_comes_back_resumes_its_session() {
    for version in [&TLS12, &TLS13] {
        let world = World::new(|_, _| ()).await;
        let config = certs::client(&[version], &GATEWAYS, None);
        for visit in 0..3 {
            let mut client = world.subscribed(config.clone()).await;
            world.ticks(&mut client, &visit.to_string()).await;
            client.close(1000, "done").await;
        }
        until("the first is whole", || world.shaken() == [1, 2]).await;
    }
}

#[tokio::test]
async fn clients_have_to_show_the_certificate_that_is_wanted() {
    let (good, strange) = (CLIENTS.pair(), Authority::new().pair());
    for (wanted, without) in CLIENT_CERTIFICATES.into_iter().zip([false, true]) {
        let world = World::new(|config, files| {
            files.write("clients.crt", &CLIENTS.pem);
            config.tls.client_ca_file = files.path("clients.crt").display().to_string();
            config.tls.client_certificates = wanted.to_owned();
        })
        .await;
        let mut failures = 0;
        for (shows, is_good) in [(Some(&good), true), (None, without), (Some(&strange), false)] {
            for version in [&TLS12, &TLS13] {
                let config = certs::client(&[version], &GATEWAYS, shows);
                // Twice: a ticket would outlive the certificate that it was given for.
                for _ in 0..2 {
                    let session = world.gateway.client_as(&certs::options(config.clone())).await;
                    assert_eq!(session.is_ok(), is_good, "{wanted} {} {version:?}", shows.is_some());
                    failures += u64::from(!is_good);
                }
            }
        }
        world.failed(TlsFailure::Certificate, failures).await;
        assert_eq!(world.shaken()[1], 0, "none resumed");
    }
}

/// What no common version, cipher or protocol is found for, by clients that have no others.
#[tokio::test]
async fn who_has_nothing_in_common_is_refused() {
    let world = World::new(|_, _| ()).await;
    let mut config = certs::client(ALL_VERSIONS, &GATEWAYS, None).as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(world.gateway.client_as(&certs::options(config.into())).await.is_err());
    let mut refused = 1;
    for version in [[3, 1], [3, 2]] {
        let mut socket = world.connect().await;
        socket.write_all(&old_hello(version)).await.expect("it reads");
        let mut answer = Vec::new();
        timeout(SOON, socket.read_to_end(&mut answer)).await.expect("it ends").expect("in order");
        assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert: {answer:?}");
        refused += 1;
    }
    world.failed(TlsFailure::Incompatible, refused).await;
}

/// The hello of a client that knows TLS 1.0 or 1.1 and nothing later.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session; TLS_RSA_WITH_AES_128_CBC_SHA and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA; no compression.
    hello.extend([0, 0, 4, 0, 0x2f, 0xc0, 0x13, 1, 0]);
    let mut record = vec![22, version[0], version[1], 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.append(&mut hello);
    record
}

#[tokio::test]
async fn a_certificate_that_the_client_does_not_believe_is_counted() {
    let world = World::new(|_, _| ()).await;
    let config = certs::client(ALL_VERSIONS, &CLIENTS, None);
    assert!(world.gateway.client_as(&certs::options(config)).await.is_err());
    world.failed(TlsFailure::Refused, 1).await;
}

#[tokio::test]
async fn what_is_no_tls_is_closed_without_an_answer() {
    let world = World::new(|_, _| ()).await;
    let requests = [b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), b"\x80\x2e\x01\x00", b"\0"];
    for request in requests {
        let mut socket = world.connect().await;
        socket.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        // What was sent is not read, so that the end may be a reset.
        let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("it ends");
        assert_eq!(answer, b"");
    }
    world.failed(TlsFailure::NotTls, requests.len() as u64).await;
    let mut socket = world.connect().await;
    socket.shutdown().await.expect("it is there");
    timeout(SOON, socket.read_to_end(&mut Vec::new())).await.expect("it ends").expect("in order");
}

/// Whoever says nothing, or a byte now and then, is gone in time, and holds nobody up meanwhile.
#[tokio::test]
async fn who_dawdles_is_gone_in_time_and_holds_nobody_up() {
    let world = World::new(|config, _| config.tls.handshake_timeout_ms = 1_500).await;
    let start = Instant::now();
    let mut dawdlers = Vec::new();
    for n in 0..200 {
        let mut socket = world.connect().await;
        // The beginning of a hello that never ends.
        let begun: &[u8] = if n % 2 == 0 { b"" } else { &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3] };
        socket.write_all(begun).await.expect("it reads");
        dawdlers.push(socket);
    }
    let mut client = world.subscribed(certs::believing()).await;
    world.ticks(&mut client, "1").await;
    assert!(start.elapsed() < Duration::from_millis(1_500), "nobody was gone yet: {:?}", start.elapsed());
    for (n, mut socket) in dawdlers.into_iter().enumerate() {
        if n % 2 == 1 {
            // One byte more changes nothing.
            let _ = socket.write_all(&[0]).await;
        }
        let _ = timeout(SOON, socket.read_to_end(&mut Vec::new())).await.expect("it ends");
    }
    assert!(start.elapsed() > Duration::from_millis(1_400));
    world.failed(TlsFailure::Timeout, 200).await;
}

/// A hello in as many pieces as it has bytes, and a message of the handshake without an end.
#[tokio::test]
async fn hellos_come_in_any_pieces_but_not_in_any_length() {
    let world = World::new(|_, _| ()).await;
    let mut client =
        rustls::ClientConnection::new(certs::believing(), "localhost".try_into().expect("a name"))
            .expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory takes all");
    let mut socket = world.connect().await;
    socket.set_nodelay(true).expect("an option");
    for byte in hello {
        socket.write_all(&[byte]).await.expect("it reads");
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 6];
    timeout(SOON, socket.read_exact(&mut answer)).await.expect("it answers").expect("in order");
    assert_eq!((answer[0], answer[5]), (22, 2), "a server's hello");

    let mut socket = world.connect().await;
    // A client's hello of 16 MiB, as it says, in records of 16 KiB.
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + (16 << 10), 0);
    let mut sent = 0;
    while socket.write_all(&record).await.is_ok() && sent < 100 {
        sent += 1;
        record[5..9].fill(0);
    }
    let _ = timeout(SOON, socket.read_to_end(&mut Vec::new())).await.expect("it ends");
    until("it is refused", || world.refused(RefuseReason::Tls) >= 1).await;
}
