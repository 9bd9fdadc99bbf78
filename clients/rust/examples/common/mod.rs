//! What the examples share: arguments, a stream that ends, and what is said when something fails or nothing comes.
#![allow(dead_code, reason = "no example uses all of it")]

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser, TypedValueParser};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{Debug, Formatter};
use std::process::ExitCode;
use std::time::Duration;
use tickgate_client::event::{Ack, Fault, FaultCode, FeedState, Symbol};
use tickgate_client::target::Target;
use tickgate_client::{Code, Event, Live, LiveError, State, Stats, Subscription};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Most symbols that are told apart.
pub const SYMBOLS_MAX: usize = 10_000;
/// Of more names the client makes several requests.
const NAMES_PER_REQUEST: usize = 500;
/// How long nothing may come before that is told.
const QUIET: Duration = Duration::from_secs(5);
/// A century: what is longer no clock counts.
const SECONDS_MAX: f64 = 3.0e9;

#[derive(Parser)]
pub struct Args {
    /// The gateway
    #[arg(long, default_value = "ws://127.0.0.1:8080/v1/stream", value_parser = address)]
    pub url: String,
    /// How long to listen, in seconds; Ctrl-C ends it early
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub seconds: f64,
    /// Symbols and patterns, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "*", value_parser = NonEmptyStringValueParser::new().try_map(name))]
    pub symbols: Vec<String>,
}

/// Of examples with a line for each symbol.
#[derive(Parser)]
pub struct TableArgs {
    #[command(flatten)]
    pub common: Args,
    /// So many symbols are shown, those with the most events
    #[arg(long, default_value = "10", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    top: usize,
    /// All symbols are shown
    #[arg(long)]
    all: bool,
}

fn address(url: &str) -> Result<String, String> {
    Target::parse(url).map(|_| url.to_owned()).map_err(|error| error.to_string())
}

fn name(text: String) -> Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() { Err("it is blank") } else { Ok(name.to_owned()) }
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number")?;
    if seconds > 0.0 && seconds <= SECONDS_MAX { Ok(seconds) } else { Err("it has to be more than 0") }
}

/// The arguments of an example that does `what`, for its `--help`.
pub fn args<A: Parser>(what: &'static str) -> A {
    let matches = A::command().about(what).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// What a program ends with: told in a line, as Rust shows the `Debug` of what `main` returns.
pub struct Failure(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl Args {
    /// A client with these subscriptions, which is listened to for so long. `what` comes of it.
    pub fn listen(&self, what: &'static str, to: Vec<Subscription>) -> Result<Listening, Failure> {
        self.listen_for(what, to, self.seconds, &interrupt())
    }

    /// The same for `seconds`, or until this is true. It has a session as soon as there is one: until then it tries.
    pub fn listen_for(
        &self,
        what: &'static str,
        to: Vec<Subscription>,
        seconds: f64,
        stop: &watch::Receiver<bool>,
    ) -> Result<Listening, Failure> {
        let mut live = Live::builder(&self.url).start()?;
        let names: usize = to.iter().map(|subscription| subscription.symbols().len()).sum();
        // Where that was over at once, its last events say why.
        match live.subscribe_all(to) {
            Ok(()) | Err(LiveError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        let (now, time) = (Instant::now(), Duration::try_from_secs_f64(seconds)?);
        Ok(Listening {
            live,
            url: self.url.clone(),
            time,
            until: now + time,
            quiet_at: now + QUIET,
            stop: stop.clone(),
            what,
            requests: names.div_ceil(NAMES_PER_REQUEST),
            answered: 0,
            granted: Vec::new(),
            feeds: BTreeMap::new(),
            trouble: None,
            nothing_told: None,
            had_session: false,
            has_session: false,
            has_come: false,
            has_news_come: false,
        })
    }
}

impl TableArgs {
    /// Shows symbols, those with the most events first.
    pub fn show<V>(
        &self,
        symbols: &BTreeMap<Symbol, V>,
        events: impl Fn(&V) -> u64,
        line: impl Fn(&str, &V),
    ) {
        let mut rows: Vec<_> = symbols.iter().collect();
        rows.sort_by_key(|(_, of)| std::cmp::Reverse(events(of)));
        let shown = if self.all { rows.len() } else { self.top.min(rows.len()) };
        rows[..shown].iter().for_each(|(symbol, of)| line(symbol, of));
        if shown < rows.len() {
            println!("and {} more: --all shows them", rows.len() - shown);
        }
    }
}

/// A sum of many, to twelve digits: what doubles make of adding stands behind those.
pub fn amount(sum: f64) -> String {
    let before_point = if sum.abs() < 1.0 { 0 } else { sum.abs().log10() as usize + 1 };
    let text = format!("{sum:.*}", 12_usize.saturating_sub(before_point).min(8));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// So many of something.
pub fn number(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What is missing, in words: how many events that are, not every gap knows.
pub fn gaps(stats: &Stats) -> String {
    match (stats.gaps, stats.lost) {
        (0, _) => "0 gaps".to_owned(),
        (gaps, 0) => format!("{}, of how many events is unknown", number(gaps, "gap")),
        (gaps, lost) => format!("{}, {} where known", number(gaps, "gap"), number(lost, "event")),
    }
}

/// True from Ctrl-C on.
pub fn interrupt() -> watch::Receiver<bool> {
    let (stop, is_stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
        // For as long as somebody looks.
        stop.closed().await;
    });
    is_stopped
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|is_stopped| *is_stopped).await.is_err() {
        std::future::pending().await
    }
}

/// A client that is listened to for some time.
pub struct Listening {
    pub live: Live,
    url: String,
    time: Duration,
    /// The end: of the time that it listens, or, before it has a session, of that which it tries.
    until: Instant,
    quiet_at: Instant,
    stop: watch::Receiver<bool>,
    what: &'static str,
    /// Requests that were made, and those that were answered.
    requests: usize,
    answered: usize,
    /// Symbols and patterns that were granted.
    granted: Vec<String>,
    /// What the gateway has said of its feeds.
    feeds: BTreeMap<String, FeedState>,
    /// What was told last of why there is no session.
    trouble: Option<String>,
    /// What was told last of why nothing comes.
    nothing_told: Option<String>,
    pub had_session: bool,
    has_session: bool,
    pub has_come: bool,
    /// Something that is no state of before.
    has_news_come: bool,
}

impl Listening {
    /// Whether Ctrl-C has come.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// 0 when something came, and 1 when not.
    pub fn exit(&self) -> ExitCode {
        if self.has_come { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The next event, until it is time, Ctrl-C, or nothing can come any more. What is no market data is told on standard error.
    pub async fn next(&mut self) -> Option<Event> {
        while !self.is_stopped() && !self.is_refused() && Instant::now() < self.until {
            let is_quiet = self.had_session && !self.has_news_come;
            let event = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return None,
                event = self.live.next() => event?,
                () = sleep_until(self.quiet_at), if is_quiet => {
                    self.tell_nothing_came();
                    self.quiet_at = Instant::now() + QUIET;
                    continue;
                }
                () = sleep_until(self.until) => break,
            };
            self.note(&event);
            return Some(event);
        }
        if self.had_session && !self.has_news_come && !self.is_stopped() && !self.is_refused() {
            self.tell_nothing_came();
        }
        None
    }

    /// Whether all that was asked for was refused.
    pub fn is_refused(&self) -> bool {
        self.answered >= self.requests && self.granted.is_empty()
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Gap(gap) => {
                let count = gap.count.map_or("an unknown number of".to_owned(), |count| count.to_string());
                eprintln!("missing: {count} events of {} ({})", gap.symbol, gap.cause.name());
            }
            Event::Error(fault) => self.note_fault(fault),
            Event::Ack(ack) => self.note_answer(ack),
            Event::Feed { name, state } => _ = self.feeds.insert(name.clone(), *state),
            Event::State(State::Live) => {
                let now = Instant::now();
                if !self.had_session {
                    self.until = now + self.time;
                }
                (self.had_session, self.has_session, self.trouble) = (true, true, None);
                self.quiet_at = now + QUIET;
            }
            Event::State(State::Reconnecting { reason, .. }) => {
                self.has_session = false;
                // How they are by now, nobody has said.
                self.feeds.clear();
                self.note_trouble(reason, " (trying again)");
            }
            // That Ctrl-C has closed it, who has pressed it knows.
            Event::State(State::Closed { reason }) => self.note_trouble(reason, ""),
            _ => {}
        }
        if let Some(meta) = event.meta() {
            self.has_news_come |= !meta.snapshot;
            if !self.has_come {
                self.has_come = true;
                let (names, seconds) = (self.granted.join(","), self.time.as_secs_f64());
                eprintln!("{} of {names} for {seconds} s; Ctrl-C ends it early", self.what);
            }
        }
    }

    /// Tells once why there is no session, and again when there is another reason.
    fn note_trouble(&mut self, reason: &str, then: &str) {
        // An error has said it, and what helps.
        if self.trouble.as_ref().is_none_or(|told| !told.contains(reason)) {
            eprintln!("{}: {reason}{then}", self.url);
            self.trouble = Some(reason.to_owned());
        }
    }

    fn note_fault(&mut self, fault: &Fault) {
        let text = fault.to_string();
        if self.trouble.as_ref() != Some(&text) {
            eprintln!("{}: {text}", self.url);
        }
        self.trouble = Some(text);
        // So a request is refused as a whole. One that came too fast is made again.
        let is_refusal = matches!(
            fault.code,
            FaultCode::Protocol(
                Code::BadRequest
                    | Code::Forbidden
                    | Code::UnknownChannel
                    | Code::UnknownSymbol
                    | Code::SubscriptionLimit
            )
        );
        self.answered += usize::from(is_refusal && !fault.fatal);
    }

    fn note_answer(&mut self, ack: &Ack) {
        for (result, hint) in ack.hints() {
            eprintln!("{} {}: {hint}", result.channel, result.symbol);
        }
        self.answered += 1;
        let granted = ack.results.iter().filter(|result| result.ok).map(|result| result.symbol.to_string());
        for name in granted {
            if !self.granted.contains(&name) && self.granted.len() < SYMBOLS_MAX {
                self.granted.push(name);
            }
        }
    }

    /// Tells why nothing comes, and again when there is another reason.
    fn tell_nothing_came(&mut self) {
        let why = self.why_nothing_came();
        if let Some(text) = &why
            && why != self.nothing_told
        {
            eprintln!("{text}");
            self.nothing_told = why;
        }
    }

    fn why_nothing_came(&self) -> Option<String> {
        if !self.has_session {
            // That was told, and is reason enough.
            return None;
        }
        let nothing = if self.has_come {
            "nothing but states of before".to_owned()
        } else {
            format!("no {} of {} yet", self.what, self.granted.join(","))
        };
        let feed = |is: FeedState| self.feeds.iter().find(|(_, state)| **state == is).map(|(name, _)| name);
        if let Some(name) = feed(FeedState::Down) {
            Some(format!(
                "{nothing}: the gateway's feed {name} is down. The gateway does not hear from Kafka"
            ))
        } else if let Some(name) = feed(FeedState::Stale) {
            Some(format!("{nothing}: the gateway's feed {name} is stale. Nothing has come to it for a while"))
        } else if self.has_come {
            // The market may well be closed.
            None
        } else if self.feeds.is_empty() {
            Some(format!("{nothing}, and the gateway has not said yet how its feeds are"))
        } else {
            Some(format!(
                "{nothing}. Are the symbols right, and has this market {}? /symbols on the gateway's admin port lists what ticks: \
                 curl 'http://127.0.0.1:9090/symbols?top=20'",
                self.what
            ))
        }
    }
}

/// Whether a gap of `name`, which may be a pattern, is one of a symbol.
pub fn is_of(name: &str, symbol: &str) -> bool {
    name.strip_suffix('*').map_or(name == symbol, |prefix| symbol.starts_with(prefix))
}
