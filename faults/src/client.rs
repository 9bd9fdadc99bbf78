//! One client that writes down everything it hears, and that can be told to misbehave.

use crate::load::LAST_NS;
use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tickgate_checker::tally::Tally;
use tickgate_checker::transcript::{ClientTranscript, SessionTranscript, Start};
use tickgate_checker::verify::{Asked, SessionVerifier};
use tickgate_load::clock::now_ns;
use tickgate_load::target::Target;
use tickgate_load::transport::{Message, Reader, TransportOptions, Writer, open};
use tickgate_load::trust::Trust;
use tickgate_protocol::checker::Verdict;
use tickgate_protocol::control::{Control, FeedState};
use tickgate_protocol::{Channel, Position, cursor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Orders that wait.
const ORDERS_MAX: usize = 16;
/// The longest that a client tries to come back.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);
/// What it waits between two attempts, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// What is said of a close that had no frame.
const NO_FRAME: &str = "none";

/// What a client comes back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Nothing: it begins anew.
    Fresh,
    /// The cursor of its last heartbeat.
    Cursor,
    /// The last position of each of its streams.
    Seq,
}

/// Something it asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The channel.
    pub channel: Channel,
    /// Symbols or patterns.
    pub symbols: Vec<String>,
    /// What to do when it reads too slowly; the channel's default unless given.
    pub on_slow: Option<&'static str>,
}

/// Where the log stands now.
pub type Ends = Arc<dyn Fn() -> Option<Vec<Position>> + Send + Sync>;

/// Who it is.
#[derive(Clone)]
pub struct Spec {
    /// Where it connects.
    pub url: String,
    /// What it asks for.
    pub wishes: Arc<[Wish]>,
    /// What it does when its session is ended; without it, it stays away.
    pub returns: Option<Return>,
    /// The kernel's receive buffer.
    pub recv_buffer_bytes: Option<usize>,
    /// The address it connects from.
    pub local: Option<IpAddr>,
    /// Whom it believes behind a `wss://` URL.
    pub trust: Option<Trust>,
    /// What it shows who it is with.
    pub token: Option<Arc<str>>,
    /// Where the log stands; asked once its subscriptions are acknowledged.
    pub ends: Ends,
    /// Seed of its own chance.
    pub seed: u64,
}

/// What it is told.
#[derive(Debug)]
pub enum Order {
    /// Read nothing from here on.
    Stall,
    /// Read again.
    Go,
    /// Drop the connection without a word.
    Cut,
    /// Send this text.
    Say(&'static str),
    /// Show this token from now on.
    Show(Arc<str>),
    /// Ask for nothing any more, and stay; what it hears is not to be judged then.
    Unsubscribe,
    /// Come back, to this gateway from now on.
    Return(String, Return),
    /// Close, and hand over what was heard.
    Finish,
}

/// What can be seen of it while it lives.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether its session is open and its subscriptions are acknowledged.
    pub is_subscribed: AtomicBool,
    /// Sessions that were acknowledged.
    pub sessions: AtomicU64,
    /// Data events.
    pub events: AtomicU64,
    /// Streams of which the last tick came.
    pub finished: AtomicU64,
    /// When the last event that is no snapshot came.
    pub event_ns: AtomicI64,
    /// Heartbeats.
    pub heartbeats: AtomicU64,
    /// Heartbeats that said `down`.
    pub downs: AtomicU64,
    /// Whether the last heartbeat said `live`.
    pub is_live: AtomicBool,
    /// Sessions that ended before they should.
    pub closes: AtomicU64,
    /// Announcements that the gateway goes away.
    pub goaways: AtomicU64,
}

/// All there is to know of it in the end.
#[derive(Debug, Default)]
pub struct Life {
    /// What it heard.
    pub transcript: ClientTranscript,
    /// What it found by the protocol alone.
    pub tally: Tally,
    /// When an event came, and how many microseconds after it was meant to be sent.
    pub latencies: Vec<(i64, u32)>,
    /// Ends of sessions that it did not want, by close code.
    pub closes: BTreeMap<String, u64>,
    /// Attempts to connect that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// How long each return took, from the end of a session to the next event.
    pub returns: Vec<Duration>,
    /// Whether it was to come back and could not.
    pub is_lost: bool,
}

/// A client that lives.
#[derive(Debug)]
pub struct Client {
    /// What can be seen of it.
    pub seen: Arc<Seen>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<Result<Life>>,
}

impl Client {
    /// Sets it off.
    pub fn start(spec: Spec) -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let seen: Arc<Seen> = Arc::default();
        let rng = ChaCha8Rng::seed_from_u64(spec.seed);
        let person = Person { spec, rng, orders: inbox, seen: seen.clone(), life: Life::default() };
        Self { seen, orders, task: tokio::spawn(person.live()) }
    }

    /// Tells it something.
    pub async fn tell(&self, order: Order) {
        // A client that has ended needs no orders.
        let _ = self.orders.send(order).await;
    }

    /// Ends it.
    pub async fn finish(self) -> Result<Life> {
        self.tell(Order::Finish).await;
        self.task.await.context("a client panicked")?
    }
}

/// How a session ended.
enum End {
    /// As it was told.
    Finished,
    /// Cut, as it was told.
    Cut,
    /// By the gateway, or by what is between.
    Lost,
    /// It never began.
    Refused,
    /// To come back at once, as it was told.
    Return(String, Return),
}

struct Person {
    spec: Spec,
    rng: ChaCha8Rng,
    orders: mpsc::Receiver<Order>,
    seen: Arc<Seen>,
    life: Life,
}

impl Person {
    async fn live(mut self) -> Result<Life> {
        let mut how = Return::Fresh;
        let mut gone: Option<Instant> = None;
        let mut pause = BACK_OFF.0;
        loop {
            let sessions = self.seen.sessions.load(Ordering::Relaxed);
            let end = self.session(how, gone).await?;
            self.seen.is_subscribed.store(false, Ordering::Relaxed);
            if self.seen.sessions.load(Ordering::Relaxed) > sessions {
                (gone, pause) = (None, BACK_OFF.0);
            }
            let since = *gone.get_or_insert_with(Instant::now);
            match end {
                End::Finished => break,
                End::Return(url, with) => (self.spec.url, how) = (url, with),
                End::Refused if self.spec.returns.is_some() || sessions == 0 || how != Return::Fresh => {
                    if since.elapsed() > RETURN_PATIENCE {
                        self.life.is_lost = true;
                        break;
                    }
                    // As every client should: a little later each time, and not all at once.
                    let jitter = self.rng.random_range(0.5..1.5);
                    tokio::time::sleep(pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(BACK_OFF.1);
                    match self.orders.try_recv() {
                        Ok(Order::Finish) => break,
                        Ok(Order::Return(url, with)) => (self.spec.url, how) = (url, with),
                        _ => {}
                    }
                }
                End::Lost if let Some(with) = self.spec.returns => how = with,
                End::Lost | End::Cut | End::Refused => match self.told_to_return().await {
                    Some((url, with)) => (self.spec.url, how) = (url, with),
                    None => break,
                },
            }
        }
        Ok(self.life)
    }

    async fn told_to_return(&mut self) -> Option<(String, Return)> {
        loop {
            match self.orders.recv().await? {
                Order::Return(url, with) => return Some((url, with)),
                Order::Finish => return None,
                Order::Stall | Order::Go | Order::Cut | Order::Say(_) | Order::Unsubscribe => {}
                Order::Show(token) => self.spec.token = Some(token),
            }
        }
    }

    async fn session(&mut self, how: Return, gone: Option<Instant>) -> Result<End> {
        let target = Target::parse(&self.spec.url)?;
        let address = target.resolve().await?;
        let options = TransportOptions {
            local: self.spec.local,
            recv_buffer_bytes: self.spec.recv_buffer_bytes,
            trust: self.spec.trust.clone(),
            token: self.spec.token.clone(),
            ..TransportOptions::default()
        };
        let (reader, mut writer) = match open(&target, address, &options).await {
            Ok(halves) => halves,
            Err(error) => {
                *self.life.failures.entry(error.label()).or_default() += 1;
                return Ok(End::Refused);
            }
        };
        let (request, transcript) = self.request(how)?;
        let mut session =
            Session { transcript, verifier: SessionVerifier::default(), finished: BTreeSet::new(), gone };
        session.verifier.sent(1, Asked::Subscribe);
        writer.text(&request.to_string());
        let end = match writer.flush().await {
            Ok(()) => self.attend(reader, writer, &mut session).await,
            Err(error) => self.lost(None, &error.to_string()),
        };
        let is_settled = matches!(end, End::Finished);
        self.life.transcript.end(session.transcript, is_settled);
        Ok(end)
    }

    /// The request that begins a session, and the transcript that judges it.
    fn request(&self, how: Return) -> Result<(Value, SessionTranscript)> {
        let last = self.life.transcript.sessions.last();
        let cursor = last.and_then(SessionTranscript::cursor);
        match (how, last, cursor) {
            (Return::Cursor, _, Some(text)) => {
                let next = cursor::given_unverified(text).context("a cursor of the gateway")?;
                // It names what is next, and the checker what was last.
                let last = next
                    .into_iter()
                    .filter_map(|next| next.offset.checked_sub(1).map(|offset| Position { offset, ..next }));
                let positions: Vec<Position> = last.collect();
                let request = json!({"op": "subscribe", "id": 1, "cursor": text, "subscriptions": self.subscriptions()});
                Ok((request, SessionTranscript::new(Start::cursor(&positions))))
            }
            (Return::Seq, Some(session), _) => {
                let mut transcript = SessionTranscript::new(Start::Seq);
                let mut subscriptions = Vec::new();
                let last = session.last();
                for wish in self.spec.wishes.iter() {
                    for symbol in &wish.symbols {
                        let mut one = json!({"channel": wish.channel, "symbols": [symbol]});
                        let is_it = |(channel, name, _): &&(Channel, &str, Position)| {
                            (*channel, *name) == (wish.channel, symbol)
                        };
                        if let Some((.., seq)) = last.iter().find(is_it) {
                            one["from"] = json!({"seq": seq});
                            transcript.resume(wish.channel, symbol, *seq);
                        }
                        subscriptions.push(one);
                    }
                }
                Ok((json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions}), transcript))
            }
            _ => {
                let request = json!({"op": "subscribe", "id": 1, "subscriptions": self.subscriptions()});
                Ok((request, SessionTranscript::new(Start::fresh(None))))
            }
        }
    }

    /// What it asked for, without how.
    fn all(&self) -> Vec<Value> {
        self.spec
            .wishes
            .iter()
            .map(|wish| json!({"channel": wish.channel, "symbols": wish.symbols}))
            .collect()
    }

    fn subscriptions(&self) -> Vec<Value> {
        let one = |wish: &Wish| {
            let mut one = json!({"channel": wish.channel, "symbols": wish.symbols});
            if let Some(on_slow) = wish.on_slow {
                one["on_slow"] = json!(on_slow);
            }
            one
        };
        self.spec.wishes.iter().map(one).collect()
    }

    /// Reads until the end, and does as it is told.
    async fn attend(&mut self, mut reader: Reader, mut writer: Writer, session: &mut Session) -> End {
        let mut is_stalled = false;
        loop {
            let message = {
                // Never dropped while its reader is still needed: it may hold half a message.
                let mut reading = pin!(reader.message());
                loop {
                    tokio::select! {
                        biased;
                        order = self.orders.recv() => match order {
                            Some(Order::Stall) => is_stalled = true,
                            Some(Order::Go) => is_stalled = false,
                            Some(Order::Cut) => return End::Cut,
                            Some(Order::Say(text)) => {
                                writer.text(text);
                                // The reader notices when the connection is gone.
                                let _ = writer.flush().await;
                            }
                            Some(Order::Show(token)) => {
                                session.verifier.sent(3, Asked::Other);
                                let request = json!({"op": "auth", "id": 3, "token": &*token});
                                self.spec.token = Some(token);
                                writer.text(&request.to_string());
                                let _ = writer.flush().await;
                            }
                            Some(Order::Unsubscribe) => {
                                session.verifier.sent(2, Asked::Unsubscribe);
                                let request = json!({"op": "unsubscribe", "id": 2, "subscriptions": self.all()});
                                writer.text(&request.to_string());
                                let _ = writer.flush().await;
                            }
                            Some(Order::Return(url, how)) => return End::Return(url, how),
                            Some(Order::Finish) | None => {
                                writer.close(1000, "done");
                                // The gateway may be gone already.
                                let _ = timeout(Duration::from_millis(200), writer.flush()).await;
                                return End::Finished;
                            }
                        },
                        message = &mut reading, if !is_stalled => break message,
                    }
                }
            };
            match message {
                Ok(Message::Text(text)) => self.hear(session, text.as_str()),
                Ok(Message::Ping(payload)) => {
                    writer.pong(payload);
                    let _ = writer.flush().await;
                }
                Ok(Message::Binary | Message::Other) => {}
                Ok(Message::Close { code, reason }) => {
                    writer.close(code.unwrap_or(1000), "");
                    let _ = timeout(Duration::from_millis(200), writer.flush()).await;
                    return self.lost(code, &reason);
                }
                Err(error) => return self.lost(None, &error.to_string()),
            }
        }
    }

    fn lost(&mut self, code: Option<u16>, reason: &str) -> End {
        self.seen.closes.fetch_add(1, Ordering::Relaxed);
        let code = code.map_or_else(|| NO_FRAME.to_owned(), |code| code.to_string());
        let name = if code == NO_FRAME { format!("{code}: {reason}") } else { code };
        *self.life.closes.entry(name).or_default() += 1;
        End::Lost
    }

    fn hear(&mut self, session: &mut Session, text: &str) {
        let Self { seen, life, .. } = self;
        let received_ns = now_ns();
        let Life { tally, latencies, returns, .. } = life;
        let before = tally.events;
        let control = session.verifier.message(text.as_bytes(), received_ns, tally, |event, verdict| {
            if event.snapshot || verdict == Verdict::Duplicate {
                return;
            }
            seen.event_ns.store(received_ns, Ordering::Relaxed);
            returns.extend(session.gone.take().map(|gone| gone.elapsed()));
            match event.send_ns {
                Some(LAST_NS) => {
                    if let Some(channel) = event.channel {
                        session.finished.insert((channel, event.symbol.to_owned()));
                    }
                }
                Some(send_ns) if !event.replay => {
                    let late_us = (received_ns - send_ns).max(0) / 1_000;
                    latencies.push((received_ns, u32::try_from(late_us).unwrap_or(u32::MAX)));
                }
                _ => {}
            }
        });
        seen.events.fetch_add(tally.events - before, Ordering::Relaxed);
        seen.finished.store(session.finished.len() as u64, Ordering::Relaxed);
        session.transcript.text(received_ns, text);
        match control {
            Some(Control::Ack { .. } | Control::Error { .. })
                if session.verifier.is_settled() && !seen.is_subscribed.load(Ordering::Relaxed) =>
            {
                // Asked for behind the acknowledgement: whatever is written from here on has to come.
                if let Start::Fresh { behind: None } = session.transcript.start {
                    session.transcript.start = Start::fresh((self.spec.ends)().as_deref());
                }
                seen.sessions.fetch_add(1, Ordering::Relaxed);
                seen.is_subscribed.store(true, Ordering::Relaxed);
            }
            Some(Control::Heartbeat { feeds, .. }) => {
                seen.heartbeats.fetch_add(1, Ordering::Relaxed);
                let all = |state| feeds.iter().all(|feed| feed.state == state);
                seen.downs.fetch_add(u64::from(all(FeedState::Down)), Ordering::Relaxed);
                seen.is_live.store(all(FeedState::Live), Ordering::Relaxed);
            }
            Some(Control::Goaway { .. }) => {
                seen.goaways.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A session, as its client sees it.
struct Session {
    transcript: SessionTranscript,
    verifier: SessionVerifier,
    /// Streams of which the last tick came.
    finished: BTreeSet<(Channel, String)>,
    /// When the session before it ended.
    gone: Option<Instant>,
}
