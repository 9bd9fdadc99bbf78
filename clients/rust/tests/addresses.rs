//! Addresses that are wrong, or where nobody is yet.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tickgate_client::trust::Trust;
use tickgate_client::{Event, Live, State};
use world::{SOON, World, next, until};

/// Of several addresses one had no stream: that ended the client, though another one was right. And `connect` failed with the first
/// one that did not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_that_is_wrong_ends_nothing() {
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wrong = |number: u32| format!("{}/v{number}", gateway.url());
    let live = Live::builder(wrong(7)).or(wrong(8)).or(gateway.url()).connect().await;
    assert_eq!(live.expect("a session").stats().reconnects, 0);
    // When all say so, it is over.
    let mut live = Live::builder(wrong(7)).or(wrong(8)).start().expect("a client");
    let (mut fatal, mut attempts) = (Vec::new(), 0);
    loop {
        match next(&mut live).await {
            Event::Error(fault) => fatal.push(fault.fatal),
            Event::State(State::Reconnecting { attempt, .. }) => attempts = attempt,
            Event::State(State::Closed { reason }) => {
                assert!(reason.contains("HTTP 404"), "{reason}");
                break;
            }
            _ => {}
        }
    }
    assert_eq!((fatal, attempts), (vec![false, true], 1));
    let error = Live::builder(wrong(7)).or(wrong(8)).connect().await.expect_err("no stream is there");
    assert!(error.to_string().contains("HTTP 404"), "{error}");
}

/// Who does not come back never tried any address but the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_back_tries_each_address_once() {
    // Held and not listened on, so that nobody else is there.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let nobody = format!("ws://{}", socket.local_addr().expect("it has one"));
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let once = |url: &str| Live::builder(nobody.clone()).or(url).reconnect(false);
    let mut live = once(&gateway.url()).connect().await.expect("a session");
    // The loss of that is the end.
    let stopped = gateway.stops();
    while !matches!(next(&mut live).await, Event::State(State::Closed { .. })) {}
    stopped.await.expect("no panic");
    let mut live = once(&nobody).start().expect("a client");
    let mut states = Vec::new();
    while states.last() != Some(&"closed") {
        if let Event::State(state) = next(&mut live).await {
            states.push(state.name());
        }
    }
    assert_eq!(states, ["connecting", "reconnecting", "closed"]);
}

/// `connect` fails at once where nobody is, unless it is told to wait: then it is there as soon as the gateway is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_has_a_session_when_the_gateway_has_come() {
    // Held and not listened on, so that nobody else is there.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("it has one");
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // Of no use to this gateway, but it says when an attempt is made.
    let token = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, &str>("a.b.c".to_owned()) }
    };
    let builder = Live::builder(format!("ws://{address}")).token_with(token).wait(true);
    // That waits for what comes first, and this is about what comes then.
    let connecting = tokio::spawn(builder.reconnect(false).connect());
    until("it has tried thrice", || calls.load(Ordering::Relaxed) > 2).await;
    assert!(!connecting.is_finished());
    let listener = socket.listen(8).expect("it was bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Ok(mut server) = tokio::net::TcpStream::connect(gateway.address).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let live = tokio::time::timeout(SOON, connecting).await.expect("soon").expect("no panic");
    assert_eq!(live.expect("a session").stats().reconnects, 0);
    // What makes no sense to try again still fails.
    let url = format!("ws://{address}/v7");
    let error = Live::builder(url).wait(true).connect().await.expect_err("no stream is there");
    assert!(error.to_string().contains("HTTP 404"), "{error}");
}

/// A `wss://` address of a gateway without TLS was told to be about authorities.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_tls_to_nobody_who_does_is_told_to_speak_plainly() {
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let issuer = rcgen::KeyPair::generate().expect("a key");
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, own.self_signed(&issuer).expect("a certificate").pem()).expect("it is written");
    let trust = Trust::read(Some(&file)).expect("a certificate");
    let url = gateway.url().replace("ws://", "wss://");
    let error = Live::builder(url).trust(trust).connect().await.expect_err("it speaks no TLS");
    assert!(error.to_string().ends_with("try ws:// instead of wss://."), "{error}");
}
