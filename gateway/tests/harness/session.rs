//! A client that remembers everything it was sent, to be judged by the client's rule at the end.

use super::{Gateway, SOON, until};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Instant;
use tickgate_load::tally::Tally;
use tickgate_load::verify::Transcript;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::{Control, FeedState, FeedStatus};

/// One client, its subscriptions acknowledged.
pub struct Session {
    client: Client,
    transcript: Transcript,
    /// Data frames not taken yet.
    frames: VecDeque<Vec<Value>>,
    /// Events of a frame that was begun.
    begun: VecDeque<Value>,
}

impl Session {
    /// Connects and subscribes; returns behind the `ack`, in which everything has to be `ok`.
    pub async fn open(gateway: &Gateway, subscriptions: &[Value]) -> Self {
        let client = Client::connect(gateway.url(), &ClientOptions::default()).await.expect("a session");
        let (transcript, frames, begun) = Default::default();
        let mut session = Self { client, transcript, frames, begun };
        let request = json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions});
        session.client.send(&request).await.expect("it is sent");
        loop {
            if let Some(Control::Ack { results, .. }) = session.receive().await {
                assert!(results.iter().all(|result| result.ok), "{results:?}");
                return session;
            }
        }
    }

    /// Everything on every channel.
    pub async fn everything(gateway: &Gateway) -> Self {
        let all = ["trades", "quotes", "book", "status"].map(|c| json!({"channel": c, "symbols": ["*"]}));
        Self::open(gateway, &all).await
    }

    /// Takes one message, keeps it, and gives it if it was a control message.
    async fn receive(&mut self) -> Option<Control> {
        match self.client.next_within(SOON).await {
            Some(Incoming::Events(frame)) => {
                self.transcript.push(frame.received_ns, frame.as_str());
                self.frames.push_back(serde_json::from_str(frame.as_str()).expect("events"));
                None
            }
            Some(Incoming::Control { control, frame }) => {
                self.transcript.push(frame.received_ns, frame.as_str());
                control
            }
            other => panic!("no message: {other:?}"),
        }
    }

    /// The events of the next data frame.
    pub async fn frame(&mut self) -> Vec<Value> {
        assert!(self.begun.is_empty(), "a frame was begun");
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            assert!(Instant::now() < deadline, "no data within {SOON:?}");
            self.receive().await;
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        while self.begun.is_empty() {
            self.begun = self.frame().await.into();
        }
        self.begun.pop_front().expect("it is not empty")
    }

    /// The next `count` events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// Reads on until a heartbeat whose feeds are as wanted; data on the way is kept for [`Session::event`].
    pub async fn heartbeat(&mut self, what: &str, wanted: impl Fn(&[FeedStatus]) -> bool) -> Vec<FeedStatus> {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(Control::Heartbeat { feeds, .. }) = self.receive().await {
                if wanted(&feeds) {
                    return feeds;
                }
                assert!(Instant::now() < deadline, "no heartbeat that says {what}: {feeds:?}");
            }
        }
    }

    /// The cursor of the next heartbeat that comes from now on; data on the way is kept for [`Session::event`].
    pub async fn cursor(&mut self) -> String {
        let asked_ns = tickgate_gateway::clock::wall_ns();
        loop {
            if let Some(Control::Heartbeat { now_ns, cursor, .. }) = self.receive().await
                && now_ns > asked_ns
            {
                return cursor;
            }
        }
    }

    /// Reads on until the only feed is in this state.
    pub async fn feed_is(&mut self, state: FeedState) {
        self.heartbeat(&format!("{state:?}"), |feeds| feeds[0].state == state).await;
    }

    /// Hangs up and holds what was received to the protocol's promises; fails when one was broken or an event came
    /// twice.
    pub fn verify(self) -> Tally {
        let tally = self.transcript.verify(&[]);
        assert_eq!((tally.violations(), tally.duplicates), (0, 0), "{:#?}", tally.samples);
        tally
    }
}

impl Gateway {
    /// A path of the admin listener: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.admin()).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer, then the end");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
        (status, body.to_owned())
    }

    /// The value of one line of `/metrics`, labels and all as they stand there.
    pub async fn metric(&self, line: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").await;
        let value = body.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    /// Waits until a line of `/metrics` has this value.
    pub async fn metric_is(&self, line: &str, value: f64) {
        let deadline = Instant::now() + SOON;
        loop {
            let now = self.metric(line).await;
            if now == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{line} is {now:?}, not {value}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/readyz` refuses for a reason that holds this text.
    pub async fn unready_because(&self, reason: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let (status, body) = self.get("/readyz").await;
            if status == 503 && body.contains(reason) {
                return;
            }
            assert!(Instant::now() < deadline, "not `{reason}`: {status} {body}");
            // tidy: allow(sleep) it only paces the polling, which has a bound
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Ends a test: the books close, nothing is behind, and it stops.
    pub async fn finish(self) {
        until("nothing is held and the books close", || {
            let (offered, sent, conflated, dropped, held) = self.books();
            held == 0 && offered == sent + conflated + dropped
        })
        .await;
        self.metric_is("tickgate_books_imbalance_events", 0.0).await;
        self.stop().await;
    }
}

/// The position in an event's field, taken apart: epoch, partition, offset.
pub fn position(event: &Value, field: &str) -> Option<(String, u32, u64)> {
    let mut parts = event[field].as_str()?.split(':');
    let epoch = parts.next()?.to_owned();
    Some((epoch, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The values of one field of several events.
pub fn fields<'a>(events: &'a [Value], field: &str) -> Vec<&'a str> {
    events.iter().map(|event| event[field].as_str().unwrap_or_default()).collect()
}
