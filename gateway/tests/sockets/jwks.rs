//! Keys from a URL: fetched, rotated, wanted by strangers, and not to be had.

use crate::harness::certs::{Authority, GATEWAYS, Pair};
use crate::harness::world::World;
use crate::harness::{SOON, until};
use crate::issuer::Issuer;
use crate::raw::{Raw, handshake};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tickgate_gateway::stats::KeysFetch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A server that answers every request with the same, until that is changed.
struct Server {
    url: String,
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// TCP, or TLS on it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What shakes hands with this certificate.
fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("one")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    TlsAcceptor::from(Arc::new(config))
}

impl Server {
    async fn start(answer: String) -> Self {
        Self::start_with(answer, None).await
    }

    /// One that speaks TLS, if it has something for that.
    async fn start_with(answer: String, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().expect("an address"));
        let (answer, asked) = (Arc::new(Mutex::new(Some(answer))), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let mut socket: Box<dyn Stream> = match &tls {
                    None => Box::new(socket),
                    Some(tls) => match tls.accept(socket).await {
                        Ok(socket) => Box::new(socket),
                        // Who does not believe its certificate asks for nothing.
                        Err(_) => continue,
                    },
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap_or(0) > 0
                {
                }
                assert!(
                    request.starts_with(b"GET /keys HTTP/1.1\r\n"),
                    "{}",
                    String::from_utf8_lossy(&request)
                );
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().expect("no panic").clone();
                if let Some(answer) = answer {
                    let _ = socket.write_all(answer.as_bytes()).await;
                    let _ = socket.shutdown().await;
                }
            }
        });
        Self { url, answer, asked }
    }

    /// Answers so from now on; nothing is an end without an answer.
    fn answers(&self, answer: Option<String>) {
        *self.answer.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn world(server: &Server, issuer: &Issuer, refresh_s: u64) -> World {
    let world = World::new(1, |config| {
        issuer.asked_by(config);
        config.auth.jwks_file = String::new();
        config.auth.jwks_url = server.url.clone();
        config.auth.jwks_refresh_s = refresh_s;
    })
    .await;
    until("it has asked", || server.asked() > 0).await;
    world
}

fn fetches(world: &World, end: KeysFetch) -> u64 {
    world.gateway.running().board().access.keys_fetches[end as usize].load(Ordering::Relaxed)
}

/// The status with which a handshake with a token is answered.
async fn status(world: &World, token: &str) -> u16 {
    status_at(world.gateway.url(), token).await
}

async fn status_at(url: &str, token: &str) -> u16 {
    let mut raw = Raw::connect(url).await;
    raw.send(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
    let head = raw.head().await;
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[tokio::test]
async fn a_new_key_counts_with_its_first_token_and_the_old_one_beside_it() {
    let (old, new) = (Issuer::new("2025"), Issuer::new("2026"));
    let server = Server::start(ok(&old.set())).await;
    let world = world(&server, &old, 3_600).await;
    until("keys are there", || fetches(&world, KeysFetch::Ok) == 1).await;
    assert_eq!(status(&world, &old.token()).await, 101);
    server.answers(Some(ok(&json!({ "keys": [old.jwk(), new.jwk()] }).to_string())));
    assert_eq!(status(&world, &new.token()).await, 101);
    assert_eq!((status(&world, &old.token()).await, server.asked()), (101, 2));
    world.gateway.stop().await;
}

/// T4: whatever strangers name, and however many, keys are asked for once in half a minute.
#[tokio::test]
async fn unknown_keys_do_not_make_it_ask_again_and_again() {
    use base64::Engine;
    const TOKENS: usize = 10_000;
    const LANES: usize = 16;
    let issuer = Issuer::new("k1");
    let server = Server::start(ok(&issuer.set())).await;
    let world = world(&server, &issuer, 3_600).await;
    until("keys are there", || fetches(&world, KeysFetch::Ok) == 1).await;
    // The name of the key is of no consequence for who signed it.
    let token = Issuer::new("k1").token();
    let (_, rest) = token.split_once('.').expect("three parts");
    let began = std::time::Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (url, rest) = (world.gateway.url().to_owned(), rest.to_owned());
        lanes.spawn(async move {
            for at in (lane..TOKENS).step_by(LANES) {
                let head = json!({ "alg": "ES256", "kid": format!("made-up-{at}") }).to_string();
                let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(head);
                assert_eq!(status_at(&url, &format!("{head}.{rest}")).await, 401);
            }
        });
    }
    lanes.join_all().await;
    // At the start, for the first of them, and where that many take longer than half a minute.
    let (asked, most) = (server.asked(), 2 + began.elapsed().as_secs() as usize / 30);
    assert!((2..=most).contains(&asked), "asked {asked} times in {:?}", began.elapsed());
    assert_eq!(status(&world, &issuer.token()).await, 101);
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_fails_is_noticed_by_nobody_who_is_known() {
    let issuer = Issuer::new("k1");
    let server = Server::start(ok(&issuer.set())).await;
    let world = world(&server, &issuer, 1).await;
    until("keys are there", || fetches(&world, KeysFetch::Ok) >= 1).await;
    let too_long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10));
    for wrong in [
        None,
        Some("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned()),
        Some(format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", server.url)),
        Some(ok("{\"keys\":[]}")),
        Some(ok("<html>")),
        Some(ok(&too_long)),
        Some("nonsense".to_owned()),
    ] {
        let before = fetches(&world, KeysFetch::Failed);
        server.answers(wrong);
        until("it has failed", || fetches(&world, KeysFetch::Failed) > before).await;
        assert_eq!(status(&world, &issuer.token()).await, 101);
        assert!(world.gateway.running().board().feed().ready);
    }
    let before = fetches(&world, KeysFetch::Ok);
    server.answers(Some(ok(&issuer.set())));
    until("it has keys again", || fetches(&world, KeysFetch::Ok) > before).await;
    assert_eq!(status(&world, &issuer.token()).await, 101);
    world.gateway.stop().await;
}

/// R25: without keys at the start it serves, and takes tokens once there are keys.
#[tokio::test]
async fn a_server_that_comes_later_is_waited_for() {
    let issuer = Issuer::new("k1");
    let server = Server::start("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let world = world(&server, &issuer, 1).await;
    assert_eq!(status(&world, &issuer.token()).await, 401);
    server.answers(Some(ok(&issuer.set())));
    until("keys are there", || fetches(&world, KeysFetch::Ok) > 0).await;
    assert_eq!(status(&world, &issuer.token()).await, 101);
    let began = std::time::Instant::now();
    world.gateway.stop().await;
    assert!(began.elapsed() < SOON);
}

/// Over https keys are taken from a server whose certificate the configured authority vouches for, and of no other.
#[tokio::test]
async fn over_https_the_server_must_be_vouched_for() {
    let issuer = Issuer::new("k1");
    let stranger = Authority::new();
    std::fs::write(issuer.file("ca.pem"), &GATEWAYS.pem).expect("it is written");
    for (pair, is_believed) in
        [(stranger.pair(), false), (GATEWAYS.pair(), true), (GATEWAYS.pair_until(2020), false)]
    {
        let server = Server::start_with(ok(&issuer.set()), Some(acceptor(&pair))).await;
        let world = World::new(1, |config| {
            issuer.asked_by(config);
            config.auth.jwks_file = String::new();
            config.auth.jwks_url = server.url.clone();
            config.auth.jwks_refresh_s = 1;
            config.auth.jwks_ca_file = issuer.file("ca.pem").display().to_string();
        })
        .await;
        let (end, other, answer) = match is_believed {
            true => (KeysFetch::Ok, KeysFetch::Failed, 101),
            false => (KeysFetch::Failed, KeysFetch::Ok, 401),
        };
        // More than once: it was no accident.
        until("it was tried twice", || fetches(&world, end) >= 2).await;
        assert_eq!((status(&world, &issuer.token()).await, fetches(&world, other)), (answer, 0));
        assert_eq!(server.asked() > 0, is_believed, "nothing is asked of whom nobody vouches for");
        world.gateway.stop().await;
    }
}
