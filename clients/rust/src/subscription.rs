//! What a client asks for.

use serde_json::{Value, json};
use tickgate_protocol::{Channel, Depth, OnSlow, Position};

/// Most names in one request: its text stays far below the 256 KiB that a gateway takes.
pub(crate) const NAMES_PER_REQUEST: usize = 500;

/// Some symbols of a channel, and how they are to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub(crate) channel: Channel,
    pub(crate) symbols: Vec<String>,
    pub(crate) options: Options,
    pub(crate) begin: Option<Begin>,
}

/// The options of a subscription that outlast a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) on_slow: Option<OnSlow>,
    pub(crate) conflate_ms: u16,
    pub(crate) depth: u8,
    pub(crate) snapshot: u32,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Begin {
    Seq(Position),
    TimeNs(i64),
    Past { since_ns: i64, until_ns: Option<i64>, speed: Option<f64> },
}

impl Subscription {
    /// `symbols` of `channel`: each a symbol, `*`, or a prefix and `*`.
    pub fn on<S: Into<String>>(channel: Channel, symbols: impl IntoIterator<Item = S>) -> Self {
        let symbols = symbols.into_iter().map(Into::into).collect();
        Self { channel, symbols, options: Options::default(), begin: None }
    }

    /// Every trade of `symbols`.
    pub fn trades<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Self {
        Self::on(Channel::Trades, symbols)
    }

    /// Best bid and offer of `symbols`.
    pub fn quotes<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Self {
        Self::on(Channel::Quotes, symbols)
    }

    /// Order books of `symbols`, whole unless there is a [`Subscription::depth`].
    pub fn book<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Self {
        Self::on(Channel::Book, symbols)
    }

    /// Trading status of `symbols`.
    pub fn status<S: Into<String>>(symbols: impl IntoIterator<Item = S>) -> Self {
        Self::on(Channel::Status, symbols)
    }

    /// The symbols and patterns that it names.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// What happens when this client reads too slowly. Trades cannot be conflated.
    #[must_use]
    pub fn on_slow(mut self, on_slow: OnSlow) -> Self {
        self.options.on_slow = Some(on_slow);
        self
    }

    /// Of quotes and books: at most one update a symbol and interval, in milliseconds, up to 1000; always the newest state.
    #[must_use]
    pub fn conflate_ms(mut self, ms: u16) -> Self {
        self.options.conflate_ms = ms;
        self
    }

    /// Of books: levels a side, one of [`Depth::ALLOWED`]; 0 is all of them.
    #[must_use]
    pub fn depth(mut self, levels: u8) -> Self {
        self.options.depth = levels;
        self
    }

    /// Of trades: so many of the last ones first.
    #[must_use]
    pub fn last_trades(mut self, count: u32) -> Self {
        self.options.snapshot = count;
        self
    }

    /// Goes on behind `seq`, the last event that was had of the one symbol that is named.
    #[must_use]
    pub fn from_seq(mut self, seq: Position) -> Self {
        self.begin = Some(Begin::Seq(seq));
        self
    }

    /// Begins with what was recorded at `ns` since the Unix epoch, and goes on with what is live.
    #[must_use]
    pub fn from_time_ns(mut self, ns: i64) -> Self {
        self.begin = Some(Begin::TimeNs(ns));
        self
    }

    /// The past alone, from one time to another in nanoseconds since the Unix epoch, up to now when there is no other;
    /// `speed` times as fast as it happened, or as fast as it is read. Then comes [`crate::Event::ReplayDone`], and it is over.
    /// After a loss it is asked for from its beginning again, and what was had is discarded.
    #[must_use]
    pub fn past(mut self, since_ns: i64, until_ns: Option<i64>, speed: Option<f64>) -> Self {
        // Without either it would go on with what is live.
        let until_ns = until_ns.or_else(|| speed.is_none().then(crate::clock::now_ns));
        self.begin = Some(Begin::Past { since_ns, until_ns, speed });
        self
    }
}

impl Options {
    /// As many levels as are seen of a book.
    pub(crate) fn depth(self) -> Depth {
        Depth::new(self.depth.into()).unwrap_or(Depth::ALL)
    }

    /// Whether books come with every change of them: who goes on from somewhere is given these, and not the newest state.
    pub(crate) fn is_whole(self) -> bool {
        self.depth == 0 && self.conflate_ms == 0
    }
}

/// Subscriptions in parts that are a request each, in the same order.
pub(crate) fn in_parts(subscriptions: impl IntoIterator<Item = Subscription>) -> Vec<Vec<Subscription>> {
    let mut parts = Vec::new();
    let (mut part, mut names) = (Vec::new(), 0);
    for mut subscription in subscriptions {
        while names + subscription.symbols.len() > NAMES_PER_REQUEST {
            let rest = subscription.symbols.split_off(NAMES_PER_REQUEST - names);
            let first = std::mem::replace(&mut subscription.symbols, rest);
            if !first.is_empty() {
                part.push(Subscription { symbols: first, ..subscription });
            }
            parts.push(std::mem::take(&mut part));
            names = 0;
        }
        names += subscription.symbols.len();
        part.push(subscription);
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// A subscription as the gateway reads it.
pub(crate) fn to_json(channel: Channel, symbols: &[&str], options: Options, from: Option<Begin>) -> Value {
    let mut json = json!({"channel": channel.name(), "symbols": symbols});
    if let Some(on_slow) = options.on_slow {
        json["on_slow"] = on_slow.name().into();
    }
    if options.conflate_ms > 0 {
        json["conflate_ms"] = options.conflate_ms.into();
    }
    if options.depth > 0 {
        json["depth"] = options.depth.into();
    }
    if options.snapshot > 0 {
        json["snapshot"] = options.snapshot.into();
    }
    match from {
        None => {}
        Some(Begin::Seq(seq)) => json["from"] = json!({"seq": seq}),
        Some(Begin::TimeNs(ns)) => json["from"] = json!({"time_ns": ns.to_string()}),
        Some(Begin::Past { since_ns, until_ns, speed }) => {
            json["from"] = json!({"time_ns": since_ns.to_string()});
            if let Some(until_ns) = until_ns {
                json["from"]["until_ns"] = until_ns.to_string().into();
            }
            if let Some(speed) = speed {
                json["from"]["speed"] = speed.into();
            }
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickgate_protocol::command::{Command, Request};

    #[test]
    fn long_requests_are_cut() {
        let names = |count: usize| (0..count).map(|n| format!("S{n}"));
        let cut = |counts: &[usize]| -> Vec<Vec<usize>> {
            let all = counts.iter().map(|count| Subscription::trades(names(*count)).last_trades(1));
            let parts = in_parts(all);
            assert!(parts.iter().flatten().all(|s| s.options.snapshot == 1));
            parts.iter().map(|part| part.iter().map(|s| s.symbols.len()).collect()).collect()
        };
        assert_eq!(cut(&[3]), [[3]]);
        assert_eq!(cut(&[500]), [[500]]);
        assert_eq!(cut(&[400, 700, 1]), [vec![400, 100], vec![500], vec![100, 1]]);
        assert_eq!(cut(&[500, 1]), [[500], [1]]);
        // One without names is the gateway's to refuse.
        assert_eq!(cut(&[0]), [[0]]);
    }

    /// The gateway's own reader takes all of it, as it was meant.
    #[test]
    fn requests_are_read_as_they_are_meant() {
        let book = Subscription::book(["B", "C*"]).depth(5).conflate_ms(50).on_slow(OnSlow::Skip);
        let seq: Position = "1f:3:9".parse().unwrap();
        let trades = Subscription::trades(["A"]).last_trades(7);
        let past = Subscription::quotes(["*"]).past(1_381_150_800_000_000_000, None, None);
        let all =
            [book, trades.clone(), trades.from_seq(seq), Subscription::status(["A"]).from_time_ns(0), past];
        for subscription in all {
            let symbols: Vec<&str> = subscription.symbols.iter().map(String::as_str).collect();
            let json = to_json(subscription.channel, &symbols, subscription.options, subscription.begin);
            let text = json!({"op": "subscribe", "subscriptions": [json]}).to_string();
            let Command::Subscribe { subscriptions, .. } = Request::parse(&text).unwrap().command else {
                panic!()
            };
            let (channel, options) =
                subscriptions[0].options.as_ref().unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!(*channel, subscription.channel);
            assert_eq!(options.depth, subscription.options.depth());
            assert_eq!(u32::from(options.conflate.get()), u32::from(subscription.options.conflate_ms));
            assert_eq!(options.snapshot, subscription.options.snapshot);
            assert_eq!(options.from.is_some(), subscription.begin.is_some());
            assert!(subscription.options.on_slow.is_none_or(|on_slow| on_slow == options.on_slow));
        }
    }
}
