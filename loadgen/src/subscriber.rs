//! One client of a fleet: connects on schedule, subscribes, reads and verifies, and behaves as its persona does. When
//! its session is lost and the plan says so, it comes back and goes on where it stood.
//!
//! The read future is never dropped while its reader is still needed (see [`crate::transport`]): every wait for
//! something else stands beside it in one `select!`, and whoever stops waiting for it leaves the connection as well.

use crate::clock::now_ns;
use crate::live::{Cell, Phase, Recorder};
use crate::persona::Persona;
use crate::plan::{ClientPlan, Plan, Popularity};
use crate::recovery::Found;
use crate::returning::{LEFT, Returning, retry_after};
use crate::target::Target;
use crate::transport::{Message, Reader, Text, TransportOptions, Writer, open};
use crate::trust::Trust;
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
    /// Whom to believe there.
    pub(crate) trust: Option<Trust>,
    /// What to show there.
    pub(crate) token: Option<Arc<str>>,
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
    /// The gateway ended it, or it never began; and when the gateway said to come again.
    Lost(Option<Duration>),
    /// The client left to return.
    Left,
}

/// What a client keeps from one session to the next.
struct Life {
    verifier: SessionVerifier,
    /// What it is subscribed to, of a client that changes it.
    pairs: Vec<(Channel, u32)>,
    /// Of a client that comes back.
    returning: Option<Box<Returning>>,
    /// Whether it had a session before.
    was_here: bool,
}

/// Lives the life of one client, until the run is over or its session is lost.
pub(crate) async fn run(shared: Arc<Shared>, client: ClientPlan) {
    let ramp = Duration::from_millis(shared.plan.ramp_ms);
    let planned = shared.plan.connections.max(1);
    let mut due = shared.start + ramp.mul_f64(client.index as f64 / planned as f64);
    let plan = &shared.plan;
    let returning = Returning::new(plan.resume, plan.turn_of(client.index), plan.waits_of(client.index));
    let mut life =
        Life { verifier: SessionVerifier::default(), pairs: Vec::new(), returning, was_here: false };
    loop {
        if shared.sleep_until(due).await.is_break() {
            break;
        }
        let outcome = Session::new(&shared, &client, &mut life, due).run().await;
        let is_storming = client.persona == Persona::Reconnecting;
        due = match (outcome, &mut life.returning) {
            (Outcome::Over, _) => break,
            (Outcome::Left, _) => Instant::now(),
            (Outcome::Lost(retry_after), Some(returning)) => Instant::now() + returning.wait(retry_after),
            (Outcome::Lost(_), None) if is_storming => shared.next_storm(),
            (Outcome::Lost(_), None) => return,
        };
    }
    life.end(&shared, client.persona);
}

impl Life {
    /// Whether its next session goes on where the last one ended.
    fn goes_on(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| returning.had_session())
    }

    /// Whether it has not caught up since its last session.
    fn is_away(&self) -> bool {
        self.returning.as_ref().is_some_and(|returning| returning.is_away())
    }

    /// The run is over.
    fn end(&self, shared: &Shared, persona: Persona) {
        if persona.may_be_cut_off() {
            return;
        }
        let mut recorder = shared.cell.lock();
        if let Some(returning) = &self.returning
            && returning.is_missing()
        {
            recorder.sessions.not_back += 1;
            return;
        }
        if shared.plan.feed_ends {
            for (channel, symbol, last) in self.verifier.lasts() {
                recorder.ends.stands(channel, symbol, last);
            }
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
    life: &'a mut Life,
    /// When it was meant to connect: what its latency is measured from.
    due: Instant,
    next_id: i64,
    is_established: bool,
    is_subscribed: bool,
    is_closing: bool,
    /// A request was refused for now: when to come again, if that was said.
    refused: Option<Option<Duration>>,
    /// Source of chance of a client that needs one.
    rng: Option<Box<ChaCha8Rng>>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, client: &'a ClientPlan, life: &'a mut Life, due: Instant) -> Self {
        let churns = client.persona == Persona::Churning;
        if life.goes_on() {
            life.verifier.come_back();
        } else {
            life.verifier = SessionVerifier::default();
            life.pairs = if churns { client.pairs.clone() } else { Vec::new() };
        }
        Self {
            shared,
            client,
            life,
            due,
            next_id: 1,
            is_established: false,
            is_subscribed: false,
            is_closing: false,
            refused: None,
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
                crate::tally::bump(&mut recorder.sessions.failed_by_reason, &error.label(), 1);
                match &self.life.returning {
                    Some(returning) => returning.failed(&mut recorder),
                    None => {
                        recorder.sessions.failed += 1;
                        recorder.sessions.sample(|| format!("client {}: {error}", self.client.index));
                    }
                }
                return Outcome::Lost(retry_after(&error));
            }
        };
        self.ask(&mut writer);
        let outcome = match writer.flush().await {
            Ok(()) => self.attend(reader, writer).await,
            Err(error) => {
                self.lost(None, &error.to_string());
                Outcome::Lost(None)
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
            trust: self.shared.trust.clone(),
            token: self.shared.token.clone(),
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
                                let mut recorder = shared.cell.lock();
                                recorder.sessions.returns += 1;
                                if let Some(returning) = &mut self.life.returning {
                                    returning.lost(LEFT, &mut recorder);
                                }
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
                Ok(Message::Binary | Message::Other) => {}
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
                    return Outcome::Lost(None);
                }
                Err(error) => {
                    self.lost(None, &error.to_string());
                    return Outcome::Lost(None);
                }
            }
            if let Some(retry_after) = self.refused.filter(|_| !self.is_closing) {
                if let Some(returning) = &self.life.returning {
                    returning.failed(&mut shared.cell.lock());
                }
                writer.close(1000, "");
                let _ = timeout(CLOSE_SEND_TIMEOUT, writer.flush()).await;
                return Outcome::Lost(retry_after);
            }
            if self.client.persona == Persona::Stalled && self.is_subscribed {
                // Not one byte is read until the measurement is over.
                shared.reached(Phase::Drain).await;
            }
        }
    }

    fn text(&mut self, text: &Text) {
        let received_ns = now_ns();
        let life = &mut *self.life;
        let mut recorder = self.shared.cell.lock();
        let (tally, mut latencies) = recorder.of(self.client.persona);
        let before = life.returning.as_ref().map(|_| Found::of(tally));
        let control = life.verifier.message(text.as_bytes(), received_ns, tally, |event, verdict| {
            // State from before the subscription says nothing about the way here.
            if let Some(latencies) = &mut latencies
                && !event.snapshot
                && !event.replay
                && verdict != Verdict::Duplicate
            {
                latencies.record(event.send_ns, received_ns);
            }
        });
        let after = before.map(|before| Found::of(tally).since(&before));
        if let (Some(returning), Some(found)) = (&life.returning, after) {
            returning.found(&found, &mut recorder);
        }
        if let Some(control) = control {
            self.control(&control, &mut recorder);
        }
        if let Some(returning) = self.life.returning.as_mut().filter(|returning| returning.is_away())
            && self.is_subscribed
            && self.life.verifier.is_caught_up()
        {
            returning.caught_up(&mut recorder);
        }
    }

    fn control(&mut self, control: &Control, recorder: &mut Recorder) {
        // Before everything was asked for again, a cursor says nothing of what was missed.
        if let Some(returning) = self.life.returning.as_mut().filter(|_| self.is_subscribed) {
            returning.keep_cursor(control);
        }
        match control {
            Control::Error { code: Code::RateLimited, fatal: false, retry_after_ms, .. }
                if self.life.is_away() =>
            {
                // Too many resume at once.
                self.refused = Some(retry_after_ms.map(Duration::from_millis));
            }
            Control::Hello { .. } if !self.is_established => {
                self.is_established = true;
                recorder.sessions.established += 1;
                recorder.reopened += u64::from(std::mem::replace(&mut self.life.was_here, true));
                recorder.sessions.open += 1;
                let waited = self.due.elapsed();
                recorder.connect.record_ns(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
            }
            Control::Ack { .. } | Control::Error { .. }
                if !self.is_subscribed && self.life.verifier.is_settled() =>
            {
                self.is_subscribed = true;
                recorder.sessions.subscribed += 1;
                if let Some(returning) = &mut self.life.returning {
                    returning.has_session();
                }
            }
            _ => {}
        }
    }

    fn lost(&mut self, code: Option<u16>, reason: &str) {
        let mut recorder = self.shared.cell.lock();
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        crate::tally::bump(&mut recorder.sessions.closes_by_code, &code, 1);
        let comes_back = self.life.returning.as_mut();
        if self.client.persona.may_be_cut_off() {
            recorder.sessions.cut_off += 1;
        } else if let Some(returning) = &comes_back {
            recorder.sessions.lost += u64::from(returning.had_session() && !returning.is_away());
        } else {
            recorder.sessions.closed_early += 1;
            recorder.sessions.sample(|| {
                let persona = self.client.persona.name();
                format!("client {} ({persona}) was closed with {code}: {reason}", self.client.index)
            });
        }
        if let Some(returning) = comes_back {
            match returning.had_session() {
                true => returning.lost(&code, &mut recorder),
                false => returning.failed(&mut recorder),
            }
        }
    }

    fn first_timer(&self) -> Instant {
        match self.client.persona {
            Persona::Reconnecting => self.shared.next_storm(),
            _ => Instant::now() + Duration::from_millis(self.shared.plan.personas.churn_every_ms),
        }
    }

    /// Sends the requests that a session begins with.
    fn ask(&mut self, writer: &mut Writer) {
        let shared = self.shared;
        let pairs = if self.life.pairs.is_empty() { &self.client.pairs } else { &self.life.pairs };
        let requests = match &self.life.returning {
            Some(returning) if self.life.goes_on() => {
                returning.requests(&shared.plan, pairs, &shared.symbols, &mut self.life.verifier)
            }
            _ => {
                let requests = shared.plan.requests(pairs, &shared.symbols);
                requests.into_iter().map(|subscriptions| (subscriptions, None)).collect()
            }
        };
        for (subscriptions, cursor) in requests {
            self.request(writer, "subscribe", Asked::Subscribe, subscriptions, cursor.as_deref());
        }
    }

    fn request(
        &mut self,
        writer: &mut Writer,
        op: &str,
        asked: Asked,
        subscriptions: Value,
        cursor: Option<&str>,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        self.life.verifier.sent(id, asked);
        let mut request = json!({"op": op, "id": id, "subscriptions": subscriptions});
        if let Some(cursor) = cursor {
            request["cursor"] = json!(cursor);
        }
        writer.text(&request.to_string());
    }

    /// Exchanges one subscription for another, unless answers are still awaited.
    fn churn(&mut self, writer: &mut Writer) {
        let shared = self.shared;
        let Some(rng) = self.rng.as_deref_mut().filter(|_| self.life.verifier.is_settled()) else { return };
        if self.life.pairs.is_empty() {
            return;
        }
        let index = rng.random_range(0..self.life.pairs.len());
        let next = (shared.plan.channels.draw(rng), shared.popularity.one(rng));
        if self.life.pairs.contains(&next) {
            return;
        }
        let last = std::mem::replace(&mut self.life.pairs[index], next);
        for (op, asked, (channel, symbol)) in
            [("unsubscribe", Asked::Unsubscribe, last), ("subscribe", Asked::Subscribe, next)]
        {
            let symbol = &shared.symbols[symbol as usize];
            let subscription = shared.plan.subscription(channel, &[symbol]);
            self.request(writer, op, asked, json!([subscription]), None);
        }
    }
}
