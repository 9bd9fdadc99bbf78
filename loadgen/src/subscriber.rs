//! One client of a fleet: connects on schedule, subscribes, reads and verifies, and behaves as its persona does.
//!
//! The read future is never dropped while its reader is still needed (see [`crate::transport`]): every wait for
//! something else stands beside it in one `select!`, and whoever stops waiting for it leaves the connection as well.

use crate::clock::now_ns;
use crate::live::{Cell, Phase, Recorder};
use crate::persona::Persona;
use crate::plan::{ClientPlan, Plan, Popularity};
use crate::target::Target;
use crate::transport::{Message, Reader, Text, TransportOptions, Writer, open};
use crate::verify::{Asked, SessionVerifier};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tickgate_protocol::checker::Verdict;
use tickgate_protocol::control::Control;
use tickgate_protocol::{Channel, Code};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a client waits for the other side's close frame.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for one that has not read all that waits for it: whether it was cut off stands at the end of that.
const READING_OUT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client tries to send its close frame.
const CLOSE_SEND_TIMEOUT: Duration = Duration::from_millis(200);

/// What the clients of one thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) symbols: Arc<Vec<String>>,
    pub(crate) popularity: Arc<Popularity>,
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) cell: Arc<Cell>,
    /// When the ramp begins.
    pub(crate) start: Instant,
}

/// How a session ended.
enum Outcome {
    /// The run is over.
    Over,
    /// The gateway ended it, or it never began.
    Lost,
    /// The client left to return.
    Left,
}

/// Lives the life of one client, until the run is over or its session is lost.
pub(crate) async fn run(shared: Arc<Shared>, client: ClientPlan) {
    let ramp = Duration::from_millis(shared.plan.ramp_ms);
    let planned = shared.plan.connections.max(1);
    let mut due = shared.start + ramp.mul_f64(client.index as f64 / planned as f64);
    loop {
        if shared.sleep_until(due).await.is_break() {
            return;
        }
        let outcome = Session::new(&shared, &client, due).run().await;
        let is_storming = client.persona == Persona::Reconnecting;
        match outcome {
            Outcome::Left => due = Instant::now(),
            Outcome::Lost if is_storming => due = shared.next_storm(),
            Outcome::Over | Outcome::Lost => return,
        }
    }
}

impl Shared {
    /// Sleeps, or breaks off when the run is over.
    async fn sleep_until(&self, due: Instant) -> std::ops::ControlFlow<()> {
        tokio::select! {
            biased;
            () = self.reached(Phase::Drain) => std::ops::ControlFlow::Break(()),
            () = sleep_until(due) => std::ops::ControlFlow::Continue(()),
        }
    }

    /// Ready when the run has come to `phase`.
    async fn reached(&self, phase: Phase) {
        // The sender lives as long as the run: when it is gone, the run is over as well.
        let _ = self.phase.clone().wait_for(|now| *now >= phase).await;
    }

    /// All storms strike at the same times, counted from the end of the ramp.
    fn next_storm(&self) -> Instant {
        let every = Duration::from_millis(self.plan.personas.storm_every_ms);
        let first = self.start + Duration::from_millis(self.plan.ramp_ms) + every;
        let since = Instant::now().saturating_duration_since(first);
        if Instant::now() < first {
            return first;
        }
        let strikes = since.as_nanos() / every.as_nanos().max(1) + 1;
        first + every.saturating_mul(u32::try_from(strikes).unwrap_or(u32::MAX))
    }
}

struct Session<'a> {
    shared: &'a Shared,
    client: &'a ClientPlan,
    /// When it was meant to connect: what its latency is measured from.
    due: Instant,
    verifier: SessionVerifier,
    pairs: Vec<(Channel, u32)>,
    next_id: i64,
    is_established: bool,
    is_subscribed: bool,
    is_closing: bool,
    /// Source of chance of a client that needs one.
    rng: Option<Box<ChaCha8Rng>>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, client: &'a ClientPlan, due: Instant) -> Self {
        let churns = client.persona == Persona::Churning;
        Self {
            shared,
            client,
            due,
            verifier: SessionVerifier::default(),
            pairs: if churns { client.pairs.clone() } else { Vec::new() },
            next_id: 1,
            is_established: false,
            is_subscribed: false,
            is_closing: false,
            rng: churns.then(|| Box::new(shared.plan.rng_of(client.index))),
        }
    }

    async fn run(mut self) -> Outcome {
        let options = self.transport_options();
        let opened = tokio::select! {
            biased;
            () = self.shared.reached(Phase::Drain) => return Outcome::Over,
            opened = open(&self.shared.target, self.shared.address, &options) => opened,
        };
        let (reader, mut writer) = match opened {
            Ok(halves) => halves,
            Err(error) => {
                let mut recorder = self.shared.cell.lock();
                recorder.sessions.failed += 1;
                crate::tally::bump(&mut recorder.sessions.failed_by_reason, &error.label(), 1);
                recorder.sessions.sample(|| format!("client {}: {error}", self.client.index));
                return Outcome::Lost;
            }
        };
        for subscriptions in self.shared.plan.requests(&self.client.pairs, &self.shared.symbols) {
            self.request(&mut writer, "subscribe", Asked::Subscribe, subscriptions);
        }
        let outcome = match writer.flush().await {
            Ok(()) => self.attend(reader, writer).await,
            Err(error) => {
                self.lost(None, &error.to_string());
                Outcome::Lost
            }
        };
        if self.is_established {
            self.shared.cell.lock().sessions.open -= 1;
        }
        outcome
    }

    fn transport_options(&self) -> TransportOptions {
        let (plan, persona) = (&self.shared.plan, self.client.persona);
        TransportOptions {
            local: plan.source_address(self.client.index, self.shared.address),
            recv_buffer_bytes: persona.may_be_cut_off().then_some(plan.slow_recv_buffer_bytes),
            read_bytes_per_s: (persona == Persona::Slow).then_some(plan.personas.slow_bytes_per_s),
            ..TransportOptions::default()
        }
    }

    /// Reads until the end, with whatever its persona does beside it.
    async fn attend(&mut self, mut reader: Reader, mut writer: Writer) -> Outcome {
        let shared = self.shared;
        let mut over = pin!(shared.reached(Phase::End));
        // One timer: exchanges of subscriptions, the next storm, or the end of closing.
        let mut timer = pin!(sleep_until(self.first_timer()));
        let mut has_timer = matches!(self.client.persona, Persona::Churning | Persona::Reconnecting);
        loop {
            let message = {
                let mut reading = pin!(reader.message());
                loop {
                    tokio::select! {
                        biased;
                        () = &mut over, if !self.is_closing => {
                            self.is_closing = true;
                            writer.close(1000, "done");
                            // What cannot be sent now need not be sent: the connection ends anyway.
                            let _ = timeout(CLOSE_SEND_TIMEOUT, writer.flush()).await;
                            has_timer = true;
                            let may_be_cut_off = self.client.persona.may_be_cut_off();
                            let closing =
                                if may_be_cut_off { READING_OUT_TIMEOUT } else { CLOSING_TIMEOUT };
                            timer.as_mut().reset(Instant::now() + closing);
                        }
                        message = &mut reading => break message,
                        () = &mut timer, if has_timer => {
                            if self.is_closing {
                                if self.client.persona.may_be_cut_off() {
                                    shared.cell.lock().sessions.unread += 1;
                                }
                                return Outcome::Over;
                            }
                            if self.client.persona == Persona::Reconnecting {
                                shared.cell.lock().sessions.returns += 1;
                                return Outcome::Left;
                            }
                            self.churn(&mut writer);
                            let every = Duration::from_millis(shared.plan.personas.churn_every_ms);
                            timer.as_mut().reset(Instant::now() + every);
                            // An error shows when reading.
                            let _ = writer.flush().await;
                        }
                    }
                }
            };
            match message {
                Ok(Message::Text(text)) => self.text(&text),
                Ok(Message::Ping(payload)) => {
                    writer.pong(payload);
                    let _ = writer.flush().await;
                }
                Ok(Message::Other) => {}
                Ok(Message::Close { code, reason }) if self.is_closing => {
                    // Cut off before the gateway came to read that the client closes.
                    if code == Some(Code::SlowConsumer.number()) {
                        self.lost(code, &reason);
                    }
                    return Outcome::Over;
                }
                Err(error) if self.is_closing => {
                    // A gateway that is asked to close answers; one that cuts off may not get its answer through.
                    if self.client.persona.may_be_cut_off() {
                        self.lost(None, &error.to_string());
                    }
                    return Outcome::Over;
                }
                Ok(Message::Close { code, reason }) => {
                    self.lost(code, &reason);
                    writer.close(code.unwrap_or(1000), "");
                    let _ = timeout(CLOSE_SEND_TIMEOUT, writer.flush()).await;
                    return Outcome::Lost;
                }
                Err(error) => {
                    self.lost(None, &error.to_string());
                    return Outcome::Lost;
                }
            }
            if self.client.persona == Persona::Stalled && self.is_subscribed {
                // Not one byte is read until the measurement is over.
                shared.reached(Phase::Drain).await;
            }
        }
    }

    fn text(&mut self, text: &Text) {
        let received_ns = now_ns();
        let mut recorder = self.shared.cell.lock();
        let (tally, mut latencies) = recorder.of(self.client.persona);
        let control = self.verifier.message(text.as_bytes(), received_ns, tally, |event, verdict| {
            // State from before the subscription says nothing about the way here.
            if let Some(latencies) = &mut latencies
                && !event.snapshot
                && !event.replay
                && verdict != Verdict::Duplicate
            {
                latencies.record(event.send_ns, received_ns);
            }
        });
        if let Some(control) = control {
            self.control(&control, &mut recorder);
        }
    }

    fn control(&mut self, control: &Control, recorder: &mut Recorder) {
        match control {
            Control::Hello { .. } if !self.is_established => {
                self.is_established = true;
                recorder.sessions.established += 1;
                recorder.sessions.open += 1;
                let waited = self.due.elapsed();
                recorder.connect.record_ns(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
            }
            Control::Ack { .. } | Control::Error { .. }
                if !self.is_subscribed && self.verifier.is_settled() =>
            {
                self.is_subscribed = true;
                recorder.sessions.subscribed += 1;
            }
            _ => {}
        }
    }

    fn lost(&self, code: Option<u16>, reason: &str) {
        let mut recorder = self.shared.cell.lock();
        let sessions = &mut recorder.sessions;
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        crate::tally::bump(&mut sessions.closes_by_code, &code, 1);
        if self.client.persona.may_be_cut_off() {
            sessions.cut_off += 1;
        } else {
            sessions.closed_early += 1;
            sessions.sample(|| {
                let persona = self.client.persona.name();
                format!("client {} ({persona}) was closed with {code}: {reason}", self.client.index)
            });
        }
    }

    fn first_timer(&self) -> Instant {
        match self.client.persona {
            Persona::Reconnecting => self.shared.next_storm(),
            _ => Instant::now() + Duration::from_millis(self.shared.plan.personas.churn_every_ms),
        }
    }

    fn request(&mut self, writer: &mut Writer, op: &str, asked: Asked, subscriptions: Value) {
        let id = self.next_id;
        self.next_id += 1;
        self.verifier.sent(id, asked);
        writer.text(&json!({"op": op, "id": id, "subscriptions": subscriptions}).to_string());
    }

    /// Exchanges one subscription for another, unless answers are still awaited.
    fn churn(&mut self, writer: &mut Writer) {
        let shared = self.shared;
        let Some(rng) = self.rng.as_deref_mut().filter(|_| self.verifier.is_settled()) else { return };
        if self.pairs.is_empty() {
            return;
        }
        let index = rng.random_range(0..self.pairs.len());
        let next = (shared.plan.channels.draw(rng), shared.popularity.one(rng));
        if self.pairs.contains(&next) {
            return;
        }
        let last = std::mem::replace(&mut self.pairs[index], next);
        for (op, asked, (channel, symbol)) in
            [("unsubscribe", Asked::Unsubscribe, last), ("subscribe", Asked::Subscribe, next)]
        {
            let symbol = &shared.symbols[symbol as usize];
            let subscription = shared.plan.subscription(channel, &[symbol]);
            self.request(writer, op, asked, json!([subscription]));
        }
    }
}
