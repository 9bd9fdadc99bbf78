//! Another certificate while sessions go on: by its files, and by a reload.

use crate::harness::certs::{self, CLIENTS, Files, GATEWAYS, Pair};
use crate::harness::process::Process;
use crate::harness::{Kafka, SOON, take_events, trade, until};
use crate::world::World;
use rustls::ALL_VERSIONS;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tickgate_gateway::stats::TlsReload;
use tickgate_load::{Client, ClientOptions};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The certificate that whoever connects now is shown.
async fn shown(url: &str) -> CertificateDer<'static> {
    let address = url.trim_start_matches("wss://").split('/').next().expect("an address");
    let socket = TcpStream::connect(address).await.expect("it listens");
    let name = "127.0.0.1".try_into().expect("a name");
    // Whoever vouches for it: a new name for each, so that nothing is resumed.
    let stream = TlsConnector::from(certs::believing()).connect(name, socket).await.expect("TLS");
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().expect("it shows one")[0].clone().into_owned()
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")
}

impl World {
    async fn until_shown(&self, pair: &Pair) {
        let deadline = Instant::now() + SOON;
        while shown(self.gateway.url()).await != der(pair) {
            assert!(Instant::now() < deadline, "the new certificate is never shown");
        }
    }

    fn reloads(&self, result: TlsReload) -> u64 {
        self.gateway.running().board().tls_reloads[result as usize].load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn files_that_change_are_taken_over_and_nobody_leaves() {
    let world = World::new(|config, _| config.tls.watch_ms = 50).await;
    let mut staying = world.subscribed(certs::believing()).await;
    let until_s = || world.gateway.running().board().certificate_until_s.load(Ordering::Relaxed);
    for (n, year) in [(1, 3001), (2, 3002), (3, 3003)] {
        let before = until_s();
        let pair = GATEWAYS.pair_until(year);
        world.files.put(&pair);
        world.until_shown(&pair).await;
        world.ticks(&mut staying, &n.to_string()).await;
        assert_ne!(until_s(), before, "the metric follows");
        assert_eq!(world.reloads(TlsReload::Ok), n);
    }
    assert_eq!(
        world.reloads(TlsReload::Refused),
        0,
        "files that are written one after the other are no fault"
    );
}

/// As Kubernetes exchanges a mounted secret: the files are links into a folder that is a link itself.
#[tokio::test]
async fn a_folder_behind_a_link_is_followed() {
    let (first, second) = (GATEWAYS.pair(), GATEWAYS.pair());
    let world = World::new(|config, files| {
        for (folder, pair) in [("first", &first), ("second", &second)] {
            std::fs::create_dir(files.path(folder)).expect("a folder");
            files.write(&format!("{folder}/tls.crt"), &pair.certificate);
            files.write(&format!("{folder}/tls.key"), &pair.key);
        }
        std::os::unix::fs::symlink("first", files.path("..data")).expect("a link");
        std::fs::create_dir(files.path("mounted")).expect("a folder");
        for name in ["tls.crt", "tls.key"] {
            let link = files.path("mounted").join(name);
            std::os::unix::fs::symlink(format!("../..data/{name}"), link).expect("a link");
        }
        config.tls.certificate_file = files.path("mounted/tls.crt").display().to_string();
        config.tls.key_file = files.path("mounted/tls.key").display().to_string();
        config.tls.watch_ms = 50;
    })
    .await;
    assert_eq!(shown(world.gateway.url()).await, der(&first));
    std::os::unix::fs::symlink("second", world.files.path("..next")).expect("a link");
    std::fs::rename(world.files.path("..next"), world.files.path("..data")).expect("it is exchanged");
    world.until_shown(&second).await;
}

#[tokio::test]
async fn what_is_broken_is_refused_and_what_was_stays() {
    let world = World::new(|config, _| config.tls.watch_ms = 50).await;
    let mut staying = world.subscribed(certs::believing()).await;
    let before = shown(world.gateway.url()).await;
    let other = GATEWAYS.pair();
    let mut refused = 0;
    // Another key than the certificate's, no certificate, half of one, no file at all.
    for (name, text) in [
        ("tls.key", other.key.as_str()),
        ("tls.crt", ""),
        ("tls.crt", &other.certificate[..200]),
        ("tls.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
    ] {
        world.files.write(name, text);
        refused += 1;
        until("it is refused", || world.reloads(TlsReload::Refused) == refused).await;
        assert_eq!(shown(world.gateway.url()).await, before);
    }
    std::fs::remove_file(world.files.path("tls.crt")).expect("it is there");
    until("it is refused", || world.reloads(TlsReload::Refused) == refused + 1).await;
    world.ticks(&mut staying, "1").await;
    // Once each: a look every 50 ms says it again to nobody.
    let looks = Instant::now() + Duration::from_millis(300);
    until("some looks are over", || Instant::now() > looks).await;
    assert_eq!(world.reloads(TlsReload::Refused), refused + 1);
    world.files.put(&other);
    world.until_shown(&other).await;
    world.ticks(&mut staying, "2").await;
}

/// The real program: SIGHUP, under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_drop_nobody() {
    let (files, kafka) = (Files::new(), Kafka::embedded());
    let topic = kafka.topic(1).await;
    let records = kafka.producer(&topic);
    let set = |key: &str, name: &str| format!("tls.{key}={}", files.path(name).display());
    let settings =
        [set("certificate_file", "tls.crt"), set("key_file", "tls.key"), "tls.watch_ms=0".to_owned()];
    let process = Process::start(&kafka, &topic, &settings.each_ref().map(String::as_str));
    assert!(process.url.starts_with("wss://"), "{}", process.url);
    let options = certs::options(certs::believing());
    let connect = async |options: &ClientOptions| {
        let mut client = Client::connect(&process.url, options).await.expect("a session");
        client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
        client
    };
    let mut staying = connect(&options).await;
    let reloads = |result: &str| process.metric("tickgate_tls_certificate_reloads_total", result);
    let mut sent = 0;
    for n in 1..=20 {
        let pair = GATEWAYS.pair();
        files.put(&pair);
        process.signal("HUP");
        let deadline = Instant::now() + SOON;
        while reloads("\"ok\"") < f64::from(n) {
            assert!(Instant::now() < deadline, "{}", process.log());
            records.send(&trade("A", &sent.to_string()));
            sent += 1;
        }
        assert_eq!(shown(&process.url).await, der(&pair));
        drop(connect(&options).await);
    }
    let events = take_events(&mut staying, sent).await;
    let prices: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    assert!(events.iter().map(|event| event["price"].as_str()).eq(prices.iter().map(|p| Some(p.as_str()))));

    // A certificate that does not fit, and one that clients will not take.
    files.write("tls.key", &GATEWAYS.pair().key);
    process.signal("HUP");
    process.logged("reload refused, everything stays as it is", "tls.key_file: is not the key of");
    files.put(&GATEWAYS.pair_until(1999));
    process.signal("HUP");
    process.logged("has expired: clients will refuse it; renew it", "\n");
    let expires = process.metric("tickgate_tls_certificate_expires_timestamp_seconds", "");
    assert_eq!(expires, 946_598_400.0, "the last day of 1999");
    let log = process.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN"), "{log}");
}

/// What a reload exchanges is what clients are held to from then on.
#[tokio::test]
async fn who_vouches_for_clients_is_exchanged_too() {
    let world = World::new(|config, files| {
        files.write("clients.crt", &CLIENTS.pem);
        config.tls.client_ca_file = files.path("clients.crt").display().to_string();
        config.tls.watch_ms = 50;
    })
    .await;
    let pair = CLIENTS.pair();
    let options = certs::options(certs::client(ALL_VERSIONS, &GATEWAYS, Some(&pair)));
    assert!(world.gateway.client_as(&options).await.is_ok());
    world.files.write("clients.crt", &GATEWAYS.pem);
    until("it is taken over", || world.reloads(TlsReload::Ok) == 1).await;
    assert!(world.gateway.client_as(&options).await.is_err());
}
