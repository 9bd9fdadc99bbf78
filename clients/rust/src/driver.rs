//! The task behind a [`crate::Live`]: it connects, reads, writes and waits; what that means, [`Session`] knows.

use crate::backoff::Backoff;
use crate::clock::now_ns;
use crate::event::{Event, Fault, FaultCode, State};
use crate::queue::{Queue, Told};
use crate::session::{Session, UserRequest};
use crate::shown::whole;
use crate::target::Target;
use crate::transport::{ConnectError, Message, Reader, TransportOptions, Writer, open};
use fastwebsockets::WebSocketError;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tickgate_protocol::Code;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Longest wait for the greeting, or for the gateway to close too.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The gateway is asked for its time as soon as it takes requests, a few times more while the way there settles, and then every now
/// and then, since clocks drift.
const PINGS_AFTER_MS: [u64; 3] = [200, 300, 500];
const PING_EVERY: Duration = Duration::from_secs(15);
/// As long as it has not said.
const PING_AGAIN: Duration = Duration::from_secs(1);
/// Requests of the user that wait for a session; beyond it [`crate::Live::subscribe`] is told so.
pub(crate) const WAITING_MAX: usize = 1024;

/// Whatever a function that gives tokens says when it has none.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type TokenFuture = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;
pub(crate) type TokenSource = Arc<dyn Fn() -> TokenFuture + Send + Sync>;

type Reading = Pin<Box<dyn Future<Output = (Reader, Result<Message, WebSocketError>)> + Send>>;

pub(crate) struct Driver {
    pub(crate) targets: Vec<Target>,
    pub(crate) options: TransportOptions,
    pub(crate) token: Option<TokenSource>,
    /// Whether the token is always the same one, so that who is refused with it stays so.
    pub(crate) is_token_fixed: bool,
    pub(crate) comes_back: bool,
    /// Whether the first session is waited for, however often it is tried.
    pub(crate) waits: bool,
    pub(crate) backoff: Backoff,
    pub(crate) session: Session,
    /// Which of the targets have said that nothing of this client will ever be there.
    pub(crate) hopeless: Vec<bool>,
    /// When the session became live.
    pub(crate) live_since: Option<Instant>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) requests: mpsc::Receiver<UserRequest>,
    /// True, or gone with its sender, when the user has had enough.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Drop for Driver {
    /// However the task ends, also by a panic in a function of its user, nobody waits for more.
    fn drop(&mut self) {
        // First: who has seen the end is not to be told that a request will be sent.
        self.requests.close();
        self.queue.end();
    }
}

/// How a session, or an attempt at one, ended.
struct Ended {
    reason: String,
    retry_after: Option<Duration>,
    is_final: bool,
}

impl Ended {
    fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_after: None, is_final: false }
    }

    /// Its user closes it.
    fn closed() -> Self {
        Self { is_final: true, ..Self::of("closed by its user") }
    }
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let mut turn = 0;
        self.emit(Event::State(State::Connecting));
        loop {
            let ended = self.attempt(turn).await;
            if let Some(since) = self.live_since.take() {
                self.backoff.lived(since.elapsed());
            }
            self.session.lost();
            self.hand_over(0);
            // Before there was a session nothing is lost, and another address may have one.
            let is_begun = self.session.had_session() || !self.waits && turn + 1 >= self.targets.len();
            if ended.is_final || is_begun && !self.comes_back {
                self.emit(Event::State(State::Closed { reason: ended.reason }));
                return;
            }
            turn += 1;
            let wait = self.backoff.next(ended.retry_after);
            let attempt = self.backoff.attempts();
            self.emit(Event::State(State::Reconnecting { attempt, reason: ended.reason }));
            if self.wait(wait).await.is_err() {
                self.emit(Event::State(State::Closed { reason: Ended::closed().reason }));
                return;
            }
        }
    }

    fn emit(&mut self, event: Event) {
        self.session.out.events.push(event);
        self.hand_over(0);
    }

    /// Hands over what there is, room or not: what is longer than a few events waits for room before it comes to that.
    fn hand_over(&mut self, bytes: usize) {
        self.queue.tell(Told { counts: self.session.out.counts, skew: self.session.skew() });
        let out = &mut self.session.out;
        let (events, cursor) = (std::mem::take(&mut out.events), out.cursor.take());
        match cursor {
            Some(cursor) if events.is_empty() => self.queue.mark(cursor),
            _ if events.is_empty() => {}
            cursor => self.queue.push(events, bytes, cursor),
        }
    }

    /// Waits so long, and for room: who does not read what came needs no more.
    async fn wait(&mut self, wait: Duration) -> Result<(), ()> {
        let until = Instant::now() + wait;
        let mut has_room = false;
        loop {
            tokio::select! {
                biased;
                () = closed(&mut self.closing) => return Err(()),
                Some(request) = self.requests.recv(), if self.session.waiting() < WAITING_MAX => self.session.ask(request),
                () = poll_fn(|cx| self.queue.poll_room(cx)), if !has_room => has_room = true,
                () = sleep_until(until), if has_room => return Ok(()),
            }
        }
    }

    /// One session, from its first byte to its last.
    async fn attempt(&mut self, turn: usize) -> Ended {
        let at = turn % self.targets.len();
        let target = self.targets[at].clone();
        let (options, token) = (self.options.clone(), self.token.clone());
        let connecting = async move { connect(&target, options, token).await };
        let mut connecting = std::pin::pin!(connecting);
        let connected = loop {
            tokio::select! {
                biased;
                () = closed(&mut self.closing) => return Ended::closed(),
                Some(request) = self.requests.recv(), if self.session.waiting() < WAITING_MAX => self.session.ask(request),
                connected = &mut connecting => break connected,
            }
        };
        match connected {
            Ok((reader, writer)) => {
                self.hopeless[at] = false;
                self.session.begin();
                self.serve(reader, writer).await
            }
            Err(failure) => self.failed(at, failure),
        }
    }

    /// What an attempt at one of the targets that failed means for the next one.
    fn failed(&mut self, at: usize, failure: Failure) -> Ended {
        let error = match failure {
            Failure::Token(hint) => {
                let fault = Fault::new(FaultCode::Token, None, hint.clone(), false);
                self.session.out.events.push(Event::Error(fault));
                return Ended::of(hint);
            }
            Failure::Resolve(error) => {
                return Ended::of(format!("cannot find the host: {error}. Is its name right?"));
            }
            Failure::Connect(error) => error,
        };
        let reason = match advice(&error) {
            "" => whole(&error),
            advice => format!("{}. {advice}", whole(&error)),
        };
        let mut ended = Ended::of(reason.clone());
        let is_fresh_token = self.token.is_some() && !self.is_token_fixed;
        // Who had a session will have another one, unless it is about who we are; and where one address is wrong another may be right.
        self.hopeless[at] = !error.may_pass();
        ended.is_final = self.hopeless.iter().all(|is_hopeless| *is_hopeless) && !self.session.had_session();
        if let ConnectError::Refused { status, retry_after, .. } = &error {
            ended.retry_after =
                retry_after.as_ref().and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
            let (code, hint) = refusal(*status);
            match status {
                // It is not the address.
                401 | 403 => (self.hopeless[at], ended.is_final) = (false, !is_fresh_token),
                429 => (self.hopeless[at], ended.is_final) = (false, false),
                _ => {}
            }
            let hint = format!("{reason}. {hint}");
            self.session.out.events.push(Event::Error(Fault::new(code, None, hint, ended.is_final)));
        }
        ended
    }

    async fn serve(&mut self, reader: Reader, mut writer: Writer) -> Ended {
        let mut reading: Reading = read(reader);
        let mut showing: Option<TokenFuture> = None;
        let mut again_at: Option<Instant> = None;
        let mut ping_at: Option<Instant> = None;
        let mut pings = 0;
        let mut heard_at = Instant::now();
        let mut is_stale = false;
        // Bytes of a message whose events wait for room; nothing is read until they have it.
        let mut held_bytes = None;
        loop {
            if self.live_since.is_none() && self.session.is_live() {
                self.live_since = Some(Instant::now());
            }
            if ping_at.is_none() && self.session.is_open() {
                self.session.ping(now_ns());
                ping_at = Some(Instant::now() + ping_after(pings, self.session.skew().is_some()));
                pings += 1;
            }
            for text in self.session.out.send.drain(..) {
                writer.text(&text);
            }
            if std::mem::take(&mut self.session.out.wants_token) && showing.is_none() {
                showing = self.token.as_ref().map(|source| source());
            }
            if let Some(after) = self.session.out.again_after.take() {
                again_at = Some(Instant::now() + after);
            }
            if let Some(reason) = self.session.out.give_up.take() {
                let ended = Ended { is_final: true, ..Ended::of(reason) };
                self.hand_over(held_bytes.unwrap_or(0));
                return close(reading, writer, ended).await;
            }
            let silence =
                if self.session.is_greeted() { self.session.silence() } else { Some(GREETING_TIMEOUT) };
            let silent_at = silence.map(|silence| heard_at + silence * (1 + u32::from(is_stale)));
            tokio::select! {
                biased;
                () = closed(&mut self.closing) => {
                    self.hand_over(held_bytes.unwrap_or(0));
                    return close(reading, writer, Ended::closed()).await;
                }
                sent = writer.flush(), if writer.has_pending() => {
                    if let Err(error) = sent {
                        return Ended::of(format!("cannot send: {error}"));
                    }
                }
                Some(request) = self.requests.recv(), if self.session.waiting() < WAITING_MAX => self.session.ask(request),
                token = async { showing.as_mut().expect("it is there").await }, if showing.is_some() => {
                    showing = None;
                    match usable(token) {
                        Ok(token) => self.session.token(&token),
                        Err(hint) => {
                            let fault = Fault::new(FaultCode::Token, None, hint, false);
                            self.session.out.events.push(Event::Error(fault));
                            self.hand_over(0);
                        }
                    }
                }
                () = until(again_at), if again_at.is_some() => {
                    again_at = None;
                    self.session.again();
                }
                () = until(ping_at), if ping_at.is_some() => ping_at = None,
                () = poll_fn(|cx| self.queue.poll_room(cx)), if held_bytes.is_some() => {
                    self.hand_over(held_bytes.take().unwrap_or(0));
                    // It was us who did not listen.
                    heard_at = Instant::now();
                }
                () = until(silent_at), if silent_at.is_some() && held_bytes.is_none() => {
                    if is_stale || !self.session.is_greeted() {
                        return Ended::of("the gateway has gone silent");
                    }
                    is_stale = true;
                    if self.session.is_live() {
                        self.emit(Event::State(State::Stale));
                    }
                }
                (reader, message) = &mut reading, if held_bytes.is_none() => {
                    heard_at = Instant::now();
                    if std::mem::take(&mut is_stale) && self.session.is_live() {
                        self.session.out.events.push(Event::State(State::Live));
                    }
                    let mut bytes = 0;
                    match message {
                        Ok(Message::Text(text)) => {
                            bytes = text.as_bytes().len();
                            self.session.message(text.as_bytes(), now_ns());
                        }
                        Ok(Message::Binary) => self.session.bad_frame("a binary message, which is never sent"),
                        Ok(Message::Ping(payload)) => writer.pong(payload),
                        Ok(Message::Other) => {}
                        Ok(Message::Close { code, reason }) => return self.ended(code, &reason),
                        Err(error) => return Ended::of(format!("the connection has ended: {error}")),
                    }
                    reading = read(reader);
                    if self.session.out.events.is_empty() {
                        self.hand_over(0);
                    } else {
                        held_bytes = Some(bytes);
                    }
                }
            }
        }
    }

    /// The gateway has closed the session.
    fn ended(&mut self, code: Option<u16>, reason: &str) -> Ended {
        let code = code.map_or("without a code".to_owned(), |code| format!("with {code}"));
        let mut ended = Ended::of(format!("closed {code}: {reason}"));
        ended.retry_after = self.session.out.retry_after.take();
        if let Some(reason) = self.session.out.give_up.take() {
            (ended.is_final, ended.reason) = (true, reason);
        }
        ended
    }
}

enum Failure {
    Token(String),
    Resolve(std::io::Error),
    Connect(ConnectError),
}

async fn connect(
    target: &Target,
    mut options: TransportOptions,
    token: Option<TokenSource>,
) -> Result<(Reader, Writer), Failure> {
    if let Some(source) = token {
        options.token = Some(usable(source().await).map_err(Failure::Token)?.into());
    }
    let resolving = timeout(options.handshake_timeout, target.resolve());
    let address = resolving
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(Failure::Resolve)?;
    open(target, address, &options).await.map_err(Failure::Connect)
}

/// How long after so many questions what time it is, the first of a session being number 0, the next one is asked.
fn ping_after(asked: usize, is_known: bool) -> Duration {
    match PINGS_AFTER_MS.get(asked) {
        Some(ms) => Duration::from_millis(*ms),
        None if is_known => PING_EVERY,
        None => PING_AGAIN,
    }
}

/// A token as it can stand in a header, or why there is none. What it is stays unsaid.
pub(crate) fn usable(token: Result<String, TokenError>) -> Result<String, String> {
    match token {
        Ok(token) if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token),
        Ok(_) => Err("the token is empty, or has characters that no token has".to_owned()),
        Err(error) => Err(format!("there is no token: {error}")),
    }
}

/// What the protocol calls a refusal of the handshake, and what helps.
fn refusal(status: u16) -> (FaultCode, &'static str) {
    let code = match status {
        400 | 405 | 414 | 426 | 431 => Code::BadRequest,
        401 => Code::Unauthenticated,
        403 => Code::Forbidden,
        429 => Code::ConnectionLimit,
        404 => return (FaultCode::Refused, "Is the path of the URL /v1/stream?"),
        503 => return (FaultCode::Refused, "The gateway is busy or about to stop; the client comes again."),
        _ => return (FaultCode::Refused, "Is there a Tickgate gateway at this URL?"),
    };
    (FaultCode::Protocol(code), crate::hint::advice(code))
}

/// What helps against an attempt that failed; of refusals [`refusal`] says it.
fn advice(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Io { .. } | ConnectError::Timeout(_) => "Is a gateway there?",
        ConnectError::Tls { .. } if error.is_about_trust() => {
            "Is its authority known? Builder::trust says whom to believe."
        }
        ConnectError::Tls { .. } => "Without TLS there, try ws:// instead of wss://.",
        ConnectError::Http(_) | ConnectError::NotWebSocket(_) => "Is there a Tickgate gateway at this URL?",
        ConnectError::Refused { .. } | ConnectError::NoTrust => "",
    }
}

/// Ready when the user has had enough.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // Without its sender there is no user.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn read(mut reader: Reader) -> Reading {
    Box::pin(async move {
        let message = reader.message().await;
        (reader, message)
    })
}

/// Closes as one should, and waits a moment for the gateway to do so too.
async fn close(mut reading: Reading, mut writer: Writer, ended: Ended) -> Ended {
    writer.close(1000, "");
    let farewell = async {
        if writer.flush().await.is_ok() {
            loop {
                let (reader, message) = (&mut reading).await;
                if matches!(message, Err(_) | Ok(Message::Close { .. })) {
                    break;
                }
                reading = read(reader);
            }
        }
    };
    // Whether it answers or not, the connection ends here.
    let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When nothing came of the first questions what time it is, as of a gateway that was busy, latencies were measured only a
    /// quarter of a minute later.
    #[test]
    fn the_time_is_asked_for_until_it_is_known() {
        let after_ms =
            |is_known| -> Vec<u128> { (0..6).map(|asked| ping_after(asked, is_known).as_millis()).collect() };
        assert_eq!(after_ms(true), [200, 300, 500, 15_000, 15_000, 15_000]);
        assert_eq!(after_ms(false), [200, 300, 500, 1_000, 1_000, 1_000]);
    }
}
