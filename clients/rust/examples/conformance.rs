//! The adapter for the conformance scenarios that all clients share: commands on standard input, events on standard output, a line
//! of JSON each. `clients/conformance/README.md` says what they are.

use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use tickgate_client::event::Meta;
use tickgate_client::{Channel, Event, Live, OnSlow, Position, State, Subscription};
use tokio::sync::mpsc;

/// Commands that wait for the adapter.
const COMMANDS_MAX: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        print(&json!({"event": "failed", "message": error.to_string()}));
        std::process::exit(1);
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut commands = lines();
    let Some(first) = commands.recv().await else { return Ok(()) };
    let mut live = connect(&first?)?;
    let mut is_open = true;
    loop {
        tokio::select! {
            // Events first: an answer such as `stats` says what was printed before it.
            biased;
            event = live.next() => match event {
                Some(event) => print_event(&event),
                None => return Ok(()),
            },
            command = commands.recv(), if is_open => match command {
                Some(command) => is_open = carry_out(&mut live, &command?)?,
                None => {
                    live.close();
                    is_open = false;
                }
            },
        }
    }
}

/// Standard input, line by line.
fn lines() -> mpsc::Receiver<Result<Value, serde_json::Error>> {
    let (send, receive) = mpsc::channel(COMMANDS_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(serde_json::from_str(&line)).is_err() {
                return;
            }
        }
    });
    receive
}

fn connect(command: &Value) -> Result<Live, Box<dyn Error>> {
    if command["cmd"] != "connect" {
        return Err("the first command must be connect".into());
    }
    let mut builder = Live::builder(text(command, "url")?);
    if let Some(tokens) = command["tokens"].as_array() {
        let tokens: Vec<String> =
            tokens.iter().filter_map(|token| Some(token.as_str()?.to_owned())).collect();
        let calls = AtomicUsize::new(0);
        builder = builder.token_with(move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            let token = tokens.get(call).or(tokens.last()).cloned();
            async move { token.ok_or("there are no tokens") }
        });
    }
    Ok(builder.start()?)
}

/// Gives whether more commands are taken.
fn carry_out(live: &mut Live, command: &Value) -> Result<bool, Box<dyn Error>> {
    match text(command, "cmd")? {
        "subscribe" => live.subscribe(subscription(command)?)?,
        "unsubscribe" => live.unsubscribe(channel(command)?, symbols(command))?,
        "book" => print_levels(live, text(command, "symbol")?),
        "stats" => print_stats(live),
        "close" => {
            live.close();
            return Ok(false);
        }
        other => return Err(format!("no such command: {other}").into()),
    }
    Ok(true)
}

fn text<'a>(command: &'a Value, field: &str) -> Result<&'a str, String> {
    command[field].as_str().ok_or_else(|| format!("`{field}` is missing"))
}

fn channel(command: &Value) -> Result<Channel, String> {
    Channel::parse(text(command, "channel")?).ok_or_else(|| "no such channel".to_owned())
}

fn symbols(command: &Value) -> Vec<String> {
    let symbols = command["symbols"].as_array().into_iter().flatten();
    symbols.filter_map(|symbol| Some(symbol.as_str()?.to_owned())).collect()
}

fn subscription(command: &Value) -> Result<Subscription, Box<dyn Error>> {
    let mut asked = Subscription::on(channel(command)?, symbols(command));
    if let Some(on_slow) = command["on_slow"].as_str() {
        asked = asked.on_slow(OnSlow::parse(on_slow).ok_or("no such on_slow")?);
    }
    if let Some(ms) = command["conflate_ms"].as_u64() {
        asked = asked.conflate_ms(ms.try_into()?);
    }
    if let Some(levels) = command["depth"].as_u64() {
        asked = asked.depth(levels.try_into()?);
    }
    if let Some(count) = command["snapshot"].as_u64() {
        asked = asked.last_trades(count.try_into()?);
    }
    let from = &command["from"];
    if let Some(seq) = from["seq"].as_str() {
        asked = asked.from_seq(seq.parse::<Position>()?);
    } else if let Some(since) = from["time_ns"].as_str() {
        let (since_ns, speed) = (since.parse()?, from["speed"].as_f64());
        let until_ns = from["until_ns"].as_str().map(str::parse).transpose()?;
        let is_past = until_ns.is_some() || speed.is_some();
        asked = if is_past { asked.past(since_ns, until_ns, speed) } else { asked.from_time_ns(since_ns) };
    }
    Ok(asked)
}

fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: there is nobody to tell either.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn print_stats(live: &Live) {
    let stats = live.stats();
    print(&json!({
        "event": "stats", "events": stats.events, "gaps": stats.gaps, "duplicates": stats.duplicates,
        "unverified": stats.unverified, "unannounced": stats.unannounced, "reconnects": stats.reconnects,
        "bad_frames": stats.bad_frames,
    }));
}

fn print_levels(live: &Live, symbol: &str) {
    let Some(book) = live.book(symbol).filter(|book| book.is_complete()) else {
        return print(
            &json!({"event": "levels", "symbol": symbol, "is_complete": false, "bids": [], "asks": []}),
        );
    };
    let (bids, asks): (Vec<_>, Vec<_>) = (book.bids().collect(), book.asks().collect());
    print(&json!({"event": "levels", "symbol": symbol, "is_complete": true, "bids": bids, "asks": asks}));
}

fn print_event(event: &Event) {
    let line = match event {
        Event::State(state) => match state {
            State::Reconnecting { attempt, reason } => {
                eprintln!("no session: {reason}");
                json!({"event": "state", "state": state.name(), "attempt": attempt})
            }
            _ => json!({"event": "state", "state": state.name()}),
        },
        Event::Ack(ack) => {
            json!({"event": "ack", "ok": ack.ok, "results": ack.results})
        }
        Event::Auth { ok } => json!({"event": "auth", "ok": ok}),
        Event::Trade(trade) => data(
            "trade",
            &trade.meta,
            json!({
                "symbol": trade.symbol, "price": trade.price, "size": trade.size, "side": trade.side,
                "trade_id": trade.trade_id, "venue": trade.venue, "conditions": trade.conditions,
            }),
        ),
        Event::Quote(quote) => data(
            "quote",
            &quote.meta,
            json!({
                "symbol": quote.symbol, "bid_price": quote.bid_price, "bid_size": quote.bid_size,
                "ask_price": quote.ask_price, "ask_size": quote.ask_size, "venue": quote.venue,
            }),
        ),
        Event::Book(book) => {
            data("book", &book.meta, json!({"symbol": book.symbol, "bids": book.bids, "asks": book.asks}))
        }
        Event::Status(status) => data(
            "status",
            &status.meta,
            json!({"symbol": status.symbol, "state": status.state, "reason": status.reason}),
        ),
        Event::Gap(gap) => known(json!({
            "event": "gap", "channel": gap.channel, "symbol": gap.symbol, "cause": gap.cause.name(),
            "after": gap.after, "upto": gap.upto, "count": gap.count,
        })),
        Event::Resync { channel, symbol } => json!({"event": "resync", "channel": channel, "symbol": symbol}),
        Event::ReplayDone { channel, symbol, seq } => {
            known(json!({"event": "replay_done", "channel": channel, "symbol": symbol, "seq": seq}))
        }
        Event::Slow(slow) => json!({"event": "slow", "action": slow.action}),
        Event::Goaway { reason, .. } => json!({"event": "goaway", "reason": reason}),
        Event::Feed { name, state } => json!({"event": "feed", "name": name, "state": state}),
        Event::Error(fault) => known(json!({
            "event": "error", "code": fault.code.name(), "fatal": fault.fatal, "symbol": fault.symbol,
            "hint": fault.hint,
        })),
        other => json!({"event": "failed", "message": format!("unknown: {other:?}")}),
    };
    print(&line);
}

/// An event as it was on the wire, but for its `type`.
fn data(kind: &str, meta: &Meta, mut line: Value) -> Value {
    line["event"] = kind.into();
    line["seq"] = json!(meta.seq);
    line["prev"] = json!(meta.prev);
    line["event_ns"] = meta.event_ns.to_string().into();
    line["ingest_ns"] = meta.ingest_ns.to_string().into();
    line["send_ns"] = json!(meta.send_ns.map(|ns| ns.to_string()));
    line["merged"] = json!((meta.merged > 1).then_some(meta.merged));
    line["snapshot"] = json!(meta.snapshot.then_some(true));
    line["replay"] = json!(meta.replay.then_some(true));
    known(line)
}

/// Without the fields that have no value.
fn known(line: Value) -> Value {
    let Value::Object(fields) = line else { return line };
    Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}
