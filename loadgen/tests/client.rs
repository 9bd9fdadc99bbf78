//! The convenient client and `watch`, against a stand-in for the gateway.

#![allow(clippy::unwrap_used, reason = "a panic in a helper of a test is the report")]

mod fake_gateway;

use fake_gateway::{Fault, start, url};
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;
use tickgate_load::book::{Applied, BookKeeper};
use tickgate_load::client::ClientError;
use tickgate_load::verify::{Asked, SessionVerifier, Transcript};
use tickgate_load::watch::{WatchOptions, watch};
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;
use tickgate_protocol::{Channel, Depth};

const PATIENCE: Duration = Duration::from_secs(10);

async fn connect(fault: Fault) -> Client {
    Client::connect(&url(start(fault).await), &ClientOptions::default()).await.unwrap()
}

async fn next(client: &mut Client) -> Incoming {
    client.next_within(PATIENCE).await.expect("the stand-in keeps talking")
}

#[tokio::test]
async fn requests_are_answered_and_events_follow() {
    let mut client = connect(Fault::None).await;
    let results =
        client.subscribe(&[json!({"channel": "book", "symbols": ["S01"], "depth": 5})]).await.unwrap();
    assert!(results.len() == 1 && results[0].ok && results[0].symbol == "S01");
    assert!(matches!(client.request(json!({"op": "ping"})).await.unwrap(), Control::Pong { .. }));

    // What came while answers were awaited is still there: the greeting first.
    let hello = next(&mut client).await;
    assert!(matches!(hello, Incoming::Control { control: Some(Control::Hello { .. }), .. }), "{hello:?}");
    let mut book = BookKeeper::new(Depth::new(5).unwrap());
    let mut applied = Vec::new();
    while applied.len() < 3 {
        if let Incoming::Events(frame) = next(&mut client).await {
            applied.extend(frame.events().unwrap().iter().map(|event| book.apply(event)));
        }
    }
    assert_eq!(applied[..2], [Applied::Snapshot, Applied::Update]);
    assert_eq!(book.best_bid().unwrap().0.to_string(), "1.5");

    let refused = client.request(json!({"op": "dance"})).await.unwrap_err();
    assert!(
        matches!(refused, ClientError::Refused { code: tickgate_protocol::Code::BadRequest, .. }),
        "{refused}"
    );
    client.close(1000, "done").await;
}

/// fastwebsockets forgets what it took from the socket when a read is dropped half-way. `next` must not: here it is
/// dropped again and again while frames come in, and not one event may be missing.
#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let mut client = connect(Fault::None).await;
    client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.unwrap();
    let mut transcript = Transcript::default();
    let mut given_up = 0;
    while transcript.messages.len() < 100 {
        match client.next_within(Duration::from_micros(50)).await {
            None => given_up += 1,
            Some(Incoming::Events(frame)) => {
                // The ack was taken by `subscribe`, so the transcript gets one of its own.
                if transcript.messages.is_empty() {
                    let ack = json!({"op": "ack", "ok": true, "results": [{"channel": "trades", "symbol": "*", "ok": true}]});
                    transcript.push(0, &ack.to_string());
                }
                transcript.push(frame.received_ns, frame.as_str());
            }
            Some(_) => {}
        }
    }
    let tally = transcript.verify(&[]);
    assert!(given_up > 0);
    assert_eq!((tally.violations(), tally.duplicates, tally.first), (0, 0, 20), "{:?}", tally.samples);
}

#[tokio::test]
async fn an_ended_session_says_why_again_and_again() {
    let mut client = connect(Fault::ThrowsOut).await;
    loop {
        if let Incoming::Closed { code, .. } = next(&mut client).await {
            assert_eq!(code, Some(4490));
            break;
        }
    }
    assert!(matches!(next(&mut client).await, Incoming::Closed { code: Some(4490), .. }));
    let error = client.request(json!({"op": "ping"})).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. } | ClientError::Send(_)), "{error}");
}

#[tokio::test]
async fn a_verifier_beside_a_client() {
    let mut client = connect(Fault::Loses).await;
    let (mut verifier, mut tally) = (SessionVerifier::default(), tickgate_load::tally::Tally::default());
    verifier.sent(1, Asked::Subscribe);
    let request =
        json!({"op": "subscribe", "id": 1, "subscriptions": [{"channel": "trades", "symbols": ["S0*"]}]});
    client.send(&request).await.unwrap();
    while tally.unannounced < 10 {
        let (Incoming::Events(frame) | Incoming::Control { frame, .. }) = next(&mut client).await else {
            panic!("closed");
        };
        verifier.message(frame.as_bytes(), frame.received_ns, &mut tally, |_, _| ());
    }
    assert!(verifier.is_settled());
    assert!(tally.samples[0].starts_with("unannounced loss: trades S0"), "{:?}", tally.samples);
}

fn options(url: String) -> WatchOptions {
    WatchOptions {
        client: ClientOptions::default(),
        url,
        symbols: vec!["S0*".to_owned()],
        channels: vec![Channel::Trades, Channel::Quotes, Channel::Book],
        depth: Depth::new(5).unwrap(),
        on_slow: None,
        conflate_ms: 0,
        raw: false,
        once: true,
        duration: Some(PATIENCE),
        colour: false,
    }
}

/// Takes so many lines, then its reader is gone, as with `| head`.
struct Head {
    text: String,
    lines: usize,
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.lines().count() > self.lines {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn watch_prints_a_table_until_its_reader_is_gone() {
    let mut out = Head { text: String::new(), lines: 120 };
    let error = watch(&options(url(start(Fault::None).await)), &mut out).await.unwrap_err();
    assert!(error.is_broken_pipe(), "{error}");
    for part in [
        "time (UTC)   channel symbol",
        "-- session s-fake, a heartbeat every 100 ms",
        "-- subscribed to 3 of 3",
        "trades  S03          100 @ 487.50",
        "quotes  S03          300 @ 487.50 | 487.55 @ 100",
        "book    S03          2 @ 1.5 | 1.6 @ 3  (1+1 levels, 2 changed)",
        "snapshot",
    ] {
        assert!(out.text.contains(part), "{part} is missing in\n{}", out.text);
    }
    assert!(!out.text.contains("!!"), "nothing to complain about:\n{}", out.text);
}

#[tokio::test]
async fn watch_shows_what_is_lost() {
    let mut out = Head { text: String::new(), lines: 400 };
    watch(&options(url(start(Fault::Loses).await)), &mut out).await.unwrap_err();
    assert!(out.text.contains("!! unannounced loss: "), "{}", out.text);
}

#[tokio::test]
async fn watch_comes_back_unless_told_once() {
    let address = start(Fault::ThrowsOut).await;
    let mut out = Head { text: String::new(), lines: usize::MAX };
    let error = watch(&options(url(address)), &mut out).await.unwrap_err();
    assert!(error.to_string().contains("closed with 4490"), "{error}");

    let mut out = Head { text: String::new(), lines: 700 };
    let returning = WatchOptions { once: false, ..options(url(address)) };
    assert!(watch(&returning, &mut out).await.unwrap_err().is_broken_pipe());
    assert!(out.text.contains("next attempt in 250ms"), "{}", out.text);
    assert!(out.text.matches("-- session s-fake").count() > 1, "{}", out.text);
}
