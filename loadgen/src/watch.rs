//! `watch`: market data as a table that a person can read.
//!
//! One row per event, with what the session's verifier has to say between them. Times are UTC; the latency is from the
//! time the producer meant to send the event, or, marked `gw`, from its arrival at the gateway when it does not say.

use crate::book::{Applied, BookKeeper};
use crate::client::{Client, ClientError, ClientOptions, Frame, Incoming};
use crate::clock::{now_ns, time_of_day};
use crate::latency::human;
use crate::tally::Tally;
use crate::verify::SessionVerifier;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;
use tickgate_protocol::control::Control;
use tickgate_protocol::event::EventView;
use tickgate_protocol::record::Side;
use tickgate_protocol::{Channel, Code, Depth, OnSlow};
use tokio::time::{Instant, sleep, timeout_at};

/// Most books that are kept to show their tops.
const BOOKS_MAX: usize = 10_000;
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// The colour of a row that has none.
const PLAIN: &str = "";

/// What to watch.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Where the gateway is.
    pub url: String,
    /// How to connect to it.
    pub client: ClientOptions,
    /// Symbols and patterns.
    pub symbols: Vec<String>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// Levels a side of `book`.
    pub depth: Depth,
    /// What happens to the subscriptions when the terminal is too slow.
    pub on_slow: Option<OnSlow>,
    /// Conflation of `quotes` and `book` in milliseconds.
    pub conflate_ms: u64,
    /// Print frames as they come.
    pub raw: bool,
    /// Do not connect again.
    pub once: bool,
    /// When to end; `None` is never.
    pub duration: Option<Duration>,
    /// Whether to mark rows with terminal colours.
    pub colour: bool,
}

/// Why watching ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum WatchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write")]
    Write(#[from] io::Error),
}

impl WatchError {
    /// Whether the reader of the output has gone, which is a normal end.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Prints to `out` until the time is over; for ever without one. Dropping the future ends it at once.
///
/// # Errors
/// [`WatchError`] when `out` cannot be written, the gateway refuses for good, or with `once` any end of the session.
pub async fn watch(options: &WatchOptions, out: &mut impl Write) -> Result<(), WatchError> {
    let end = options.duration.map(|d| Instant::now() + d);
    let mut back_off = BACK_OFF_FIRST;
    let mut table = Table::new(options);
    table.header(out)?;
    loop {
        let error = match session(options, end, &mut table, out).await {
            Ok(()) => return Ok(()),
            Err(WatchError::Client(error)) if !options.once && !is_final(&error) => error,
            Err(error) => return Err(error),
        };
        if table.take_progress() {
            back_off = BACK_OFF_FIRST;
        }
        table.note(
            out,
            &format!("{}; next attempt in {}", error_chain(&error), humantime::format_duration(back_off)),
        )?;
        out.flush()?;
        let wake = Instant::now() + back_off;
        sleep(end.map_or(back_off, |end| back_off.min(end.saturating_duration_since(Instant::now())))).await;
        if end.is_some_and(|end| wake >= end) {
            return Ok(());
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

async fn session(
    options: &WatchOptions,
    end: Option<Instant>,
    table: &mut Table<'_>,
    out: &mut impl Write,
) -> Result<(), WatchError> {
    let mut client = Client::connect(&options.url, &options.client).await?;
    table.begin_session();
    let request = json!({"op": "subscribe", "id": 1, "subscriptions": subscriptions(options)});
    client.send(&request).await?;
    loop {
        let incoming = match end {
            None => client.next().await,
            Some(end) => match timeout_at(end, client.next()).await {
                Ok(incoming) => incoming,
                Err(_) => {
                    client.close(1000, "watched enough").await;
                    return Ok(());
                }
            },
        };
        match incoming {
            Incoming::Closed { code, reason } => {
                return Err(ClientError::Closed { code, reason }.into());
            }
            Incoming::Control { control, frame } => table.control(out, control.as_ref(), &frame)?,
            Incoming::Events(frame) => table.events(out, &frame)?,
        }
        out.flush()?;
    }
}

fn subscriptions(options: &WatchOptions) -> Vec<Value> {
    let one = |channel: &Channel| {
        let mut subscription = json!({"channel": channel.name(), "symbols": options.symbols});
        if let Some(on_slow) = options.on_slow.filter(|p| channel.is_state() || *p != OnSlow::Conflate) {
            subscription["on_slow"] = json!(on_slow.name());
        }
        if options.conflate_ms > 0 && matches!(channel, Channel::Quotes | Channel::Book) {
            subscription["conflate_ms"] = json!(options.conflate_ms);
        }
        if *channel == Channel::Book {
            subscription["depth"] = json!(options.depth.get());
        }
        subscription
    };
    options.channels.iter().map(one).collect()
}

/// Whether connecting again would only fail again.
fn is_final(error: &ClientError) -> bool {
    const FINAL: [Code; 4] = [Code::BadRequest, Code::Unauthenticated, Code::Forbidden, Code::UnknownChannel];
    match error {
        ClientError::BadUrl(_) => true,
        ClientError::Closed { code: Some(code), .. } => FINAL.iter().any(|c| c.number() == *code),
        _ => false,
    }
}

/// An error and what caused it, on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

struct Table<'a> {
    options: &'a WatchOptions,
    verifier: SessionVerifier,
    tally: Tally,
    books: HashMap<String, BookKeeper>,
    progress: bool,
}

impl<'a> Table<'a> {
    fn new(options: &'a WatchOptions) -> Self {
        Self {
            options,
            verifier: SessionVerifier::default(),
            tally: Tally::default(),
            books: HashMap::new(),
            progress: false,
        }
    }

    fn begin_session(&mut self) {
        self.verifier = SessionVerifier::default();
        self.books.clear();
        self.progress = true;
    }

    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    fn header(&self, out: &mut impl Write) -> io::Result<()> {
        if self.options.raw {
            return Ok(());
        }
        row(out, "time (UTC)", "channel", "symbol", "what", "latency", "flags")?;
        out.flush()
    }

    fn note(&self, out: &mut impl Write, text: &str) -> io::Result<()> {
        if self.options.raw {
            return Ok(());
        }
        self.paint(out, "2", &format!("{:<12} -- {text}", time_of_day(now_ns())))
    }

    fn alarm(&mut self, out: &mut impl Write) -> io::Result<()> {
        for sample in std::mem::take(&mut self.tally.samples) {
            self.paint(out, "1;31", &format!("{:<12} !! {sample}", time_of_day(now_ns())))?;
        }
        Ok(())
    }

    /// Writes a line, on a terminal in a colour.
    fn paint(&self, out: &mut impl Write, colour: &str, text: &str) -> io::Result<()> {
        if self.options.colour && colour != PLAIN {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        }
    }

    fn control(&mut self, out: &mut impl Write, control: Option<&Control>, frame: &Frame) -> io::Result<()> {
        if self.options.raw {
            return writeln!(out, "{}", frame.as_str());
        }
        self.verifier.message(frame.as_bytes(), frame.received_ns, &mut self.tally, |_, _| ());
        if let Some(text) = control.and_then(describe) {
            self.note(out, &text)?;
        }
        self.alarm(out)
    }

    fn events(&mut self, out: &mut impl Write, frame: &Frame) -> io::Result<()> {
        if self.options.raw {
            return writeln!(out, "{}", frame.as_str());
        }
        self.verifier.message(frame.as_bytes(), frame.received_ns, &mut self.tally, |_, _| ());
        for event in frame.events().unwrap_or_default() {
            let channel = event.channel().map_or("?", |c| c.name());
            let time = time_of_day(event.event_ns.unwrap_or(frame.received_ns));
            let mut line = Vec::new();
            row(
                &mut line,
                &time,
                channel,
                &visible(&event.symbol),
                &self.what(&event),
                &latency(&event, frame.received_ns),
                &flags(&event),
            )?;
            let line = String::from_utf8_lossy(&line);
            let colour = match (event.is_gap(), event.side) {
                (true, _) => "1;33",
                (_, Some(Side::Buy)) => "32",
                (_, Some(Side::Sell)) => "31",
                _ => PLAIN,
            };
            self.paint(out, colour, line.trim_end())?;
        }
        self.alarm(out)
    }

    fn what(&mut self, event: &EventView<'_>) -> String {
        if event.is_gap() {
            let count = event.count.map_or("some".to_owned(), |n| n.to_string());
            let cause = event.cause.map_or("no cause", |c| c.name());
            return format!("GAP: {count} events lost ({cause})");
        }
        match event.channel() {
            Some(Channel::Trades) => {
                let side = match event.side {
                    Some(Side::Buy) => " buy",
                    Some(Side::Sell) => " sell",
                    None => "",
                };
                format!("{} @ {}{side}{}", text(event.size), text(event.price), venue(event))
            }
            Some(Channel::Quotes) => format!(
                "{} @ {} | {} @ {}{}",
                text(event.bid_size),
                text(event.bid_price),
                text(event.ask_price),
                text(event.ask_size),
                venue(event)
            ),
            Some(Channel::Book) => self.book(event),
            Some(Channel::Status) => {
                let state = event.state.map_or("?", |s| s.name());
                let reason =
                    event.reason.as_deref().map(|r| format!(" ({})", visible(r))).unwrap_or_default();
                format!("{state}{reason}")
            }
            None => format!("event of type {}", visible(&event.kind)),
        }
    }

    fn book(&mut self, event: &EventView<'_>) -> String {
        let changed = event.bids.as_ref().map_or(0, Vec::len) + event.asks.as_ref().map_or(0, Vec::len);
        if !self.books.contains_key(&*event.symbol) {
            if self.books.len() == BOOKS_MAX {
                return format!("{changed} levels");
            }
            self.books.insert(event.symbol.to_string(), BookKeeper::new(self.options.depth));
        }
        let Some(book) = self.books.get_mut(&*event.symbol) else { return String::new() };
        if book.apply(event) == Applied::Ignored {
            return format!("{changed} levels, no snapshot yet");
        }
        let side = |level: Option<(_, _)>| match level {
            Some((price, size)) => (text(Some(price)), text(Some(size))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let ((bid, bid_size), (ask, ask_size)) = (side(book.best_bid()), side(book.best_ask()));
        let (bids, asks) = book.level_counts();
        format!("{bid_size} @ {bid} | {ask} @ {ask_size}  ({bids}+{asks} levels, {changed} changed)")
    }
}

fn row(
    out: &mut impl Write,
    time: &str,
    channel: &str,
    symbol: &str,
    what: &str,
    latency: &str,
    flags: &str,
) -> io::Result<()> {
    writeln!(out, "{time:<12} {channel:<7} {symbol:<12} {what:<44} {latency:>10}  {flags}")
}

fn describe(control: &Control) -> Option<String> {
    Some(match control {
        Control::Hello { session, heartbeat_ms, .. } => {
            format!("session {}, a heartbeat every {heartbeat_ms} ms", visible(session))
        }
        Control::Ack { results, .. } => {
            let refused: Vec<String> = results
                .iter()
                .filter(|r| !r.ok)
                .map(|r| {
                    let code = r.code.map_or("refused", |c| c.name());
                    let message = r.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
                    visible(&format!("{} {} {code}{message}", r.channel, r.symbol))
                })
                .collect();
            let quiet = results.iter().filter(|r| r.seen == Some(false)).count();
            let building = results.iter().filter(|r| r.state.is_some()).count();
            let mut text = format!("subscribed to {} of {}", results.len() - refused.len(), results.len());
            for (count, what) in [(quiet, "not seen yet"), (building, "building")] {
                if count > 0 {
                    let _ = write!(text, ", {count} {what}");
                }
            }
            for refusal in refused {
                let _ = write!(text, "; {refusal}");
            }
            text
        }
        Control::Error { code, message, .. } => format!("error {code}: {}", visible(message)),
        Control::Heartbeat { queued_bytes, delay_ms, feeds, .. } => {
            let troubled: Vec<String> = feeds
                .iter()
                .filter(|f| f.state != tickgate_protocol::control::FeedState::Live)
                .map(|f| format!("feed {} is {}", visible(&f.name), f.state.name()))
                .collect();
            if *delay_ms == 0 && troubled.is_empty() {
                return None;
            }
            format!("behind by {delay_ms} ms ({queued_bytes} bytes queued) {}", troubled.join(", "))
        }
        Control::Slow { delay_ms, action, .. } => {
            format!("too slow: behind by {delay_ms} ms, at the bound `{}` follows", action.name())
        }
        Control::ReplayDone { channel, symbol, .. } => {
            format!("replay of {} {} is done", channel.name(), visible(symbol))
        }
        Control::Goaway { reason, close_in_ms, .. } => {
            format!("the gateway goes away in {close_in_ms} ms: {}", visible(reason))
        }
        Control::Pong { .. } | Control::List { .. } => return None,
    })
}

fn latency(event: &EventView<'_>, received_ns: i64) -> String {
    let (since, mark) = match (event.send_ns, event.ingest_ns) {
        (Some(send_ns), _) => (send_ns, ""),
        (None, Some(ingest_ns)) => (ingest_ns, "gw "),
        (None, None) => return String::new(),
    };
    let latency_ns = received_ns - since;
    let sign = if latency_ns < 0 { "-" } else { "" };
    format!("{mark}{sign}{}", human(latency_ns.unsigned_abs()))
}

fn flags(event: &EventView<'_>) -> String {
    let mut flags = Vec::new();
    if event.snapshot {
        flags.push("snapshot".to_owned());
    }
    if event.replay {
        flags.push("replay".to_owned());
    }
    if let Some(merged) = event.merged.filter(|n| *n > 1) {
        flags.push(format!("merged {merged}"));
    }
    flags.join(" ")
}

fn text(value: Option<tickgate_protocol::Decimal>) -> String {
    value.map_or("?".to_owned(), |v| v.to_string())
}

fn venue(event: &EventView<'_>) -> String {
    event.venue.as_deref().map(|v| format!("  {}", visible(v))).unwrap_or_default()
}

/// Text from outside without what would move the cursor of a terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_there_are_some() {
        let options = WatchOptions {
            url: String::new(),
            client: ClientOptions::default(),
            symbols: Vec::new(),
            channels: Vec::new(),
            depth: Depth::new(5).unwrap(),
            on_slow: None,
            conflate_ms: 0,
            raw: false,
            once: false,
            duration: None,
            colour: true,
        };
        let painted = |colour: bool, of: &str| {
            let options = WatchOptions { colour, ..options.clone() };
            let mut out = Vec::new();
            Table::new(&options).paint(&mut out, of, "row").unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(painted(true, "32"), "\x1b[32mrow\x1b[0m\n");
        assert_eq!(painted(true, PLAIN), "row\n");
        assert_eq!(painted(false, "32"), "row\n");
    }
}
