//! A client that believes nothing: it reads bytes, applies the client's rule and compares with what really happened.

use crate::NAMES;
use crate::frame::parse;
use crate::truth::{Truth, top};
use std::collections::{BTreeMap, HashMap, VecDeque};
use tickgate_gateway::event::Stream;
use tickgate_gateway::feed::request::{SessionKey, Target};
use tickgate_load::book::BookKeeper;
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::command::{Command, Id, Request, SubscribeOptions};
use tickgate_protocol::control::{AckResult, Control};
use tickgate_protocol::event::{EventView, Gap, GapCause};
use tickgate_protocol::{Channel, ConflateMs, Decimal, Position, cursor};

/// Newest position of every (symbol, channel) when the feed answered a request.
pub type Starts = HashMap<(usize, Channel), Option<Position>>;

struct Held {
    stream: Stream,
    options: SubscribeOptions,
    /// Tells one subscription of a target from the next.
    run: u64,
}

#[derive(Default)]
struct Chain {
    checker: ChainChecker,
    run: u64,
    /// Where the subscription began, until the first event.
    fresh: Option<Start>,
    seen_anything: bool,
    /// Whether the last it heard is that something was skipped.
    skipped: bool,
    frame: u64,
    was_snapshot: bool,
    book: Option<BookKeeper>,
    depth: Option<usize>,
    value: Option<i64>,
    /// The record being read: its siblings, the updates they stand for, and whether it must be whole.
    record: Option<Record>,
}

struct Record {
    seq: Position,
    after: Option<Position>,
    events: u64,
    merged: u64,
    exact: bool,
}

#[derive(Clone, Copy)]
enum Start {
    /// Chain position when the subscription began.
    At(Option<Position>),
    /// Not known.
    Somewhere,
}

pub struct Client {
    pub key: SessionKey,
    pub shard: usize,
    next_id: i64,
    asked: VecDeque<(i64, Command)>,
    held: BTreeMap<(Channel, Target), Held>,
    chains: BTreeMap<(Channel, usize), Chain>,
    bytes: Vec<u8>,
    frame: u64,
    runs: u64,
    cursor: Vec<Position>,
    pub starts: HashMap<i64, Starts>,
    pub closed: bool,
    /// How the socket behaves: bytes it takes at a time.
    pub takes: usize,
    pub seen: u64,
}

impl Client {
    pub fn new(key: SessionKey, shard: usize, takes: usize) -> Self {
        Self {
            key,
            shard,
            next_id: 0,
            asked: VecDeque::new(),
            held: BTreeMap::new(),
            chains: BTreeMap::new(),
            bytes: Vec::new(),
            frame: 0,
            runs: 0,
            cursor: Vec::new(),
            starts: HashMap::new(),
            closed: false,
            takes,
            seen: 0,
        }
    }

    /// Takes note of a request and gives it its id.
    pub fn ask(&mut self, mut request: serde_json::Value) -> String {
        request["id"] = self.next_id.into();
        let text = request.to_string();
        self.asked.push_back((self.next_id, Request::parse(&text).expect("a good request").command));
        self.next_id += 1;
        text
    }

    /// What it holds or asked for, to be chosen from.
    pub fn targets(&self) -> Vec<(Channel, Target)> {
        self.held.keys().cloned().collect()
    }

    /// The last position seen of a (channel, symbol).
    pub fn last(&self, channel: Channel, symbol: usize) -> Option<Position> {
        self.chains.get(&(channel, symbol))?.checker.last()
    }

    fn best(&self, channel: Channel, symbol: usize) -> Option<&Held> {
        let matching =
            self.held.iter().filter(|((c, target), _)| *c == channel && target.matches(NAMES[symbol]));
        matching.max_by_key(|((_, target), _)| target.specificity()).map(|(_, held)| held)
    }

    pub fn read(&mut self, bytes: &[u8], truth: &Truth) {
        self.bytes.extend_from_slice(bytes);
        let mut all = std::mem::take(&mut self.bytes);
        let mut at = 0;
        while let Some((opcode, payload, used)) = parse(&all[at..]) {
            assert!(!self.closed, "bytes behind a close frame");
            match opcode {
                8 => self.closed = true,
                10 => {}
                1 if payload[0] == b'{' => self.control(payload, truth),
                1 => self.data(payload, truth),
                other => panic!("opcode {other}"),
            }
            at += used;
        }
        all.drain(..at);
        self.bytes = all;
    }

    fn control(&mut self, payload: &[u8], truth: &Truth) {
        match serde_json::from_slice(payload) {
            Ok(Control::Ack { id: Some(Id::Number(id)), results, .. }) => {
                self.acknowledged(id, &results, truth)
            }
            Ok(Control::Heartbeat { cursor, .. }) => self.heartbeat(&cursor, truth),
            Ok(other) => panic!("{other:?}"),
            // The test's own short ones.
            Err(_) => {}
        }
    }

    fn acknowledged(&mut self, id: i64, results: &[AckResult], truth: &Truth) {
        let (asked, command) = self.asked.pop_front().expect("an ack answers a request");
        assert_eq!(asked, id, "requests are answered in order");
        let starts = self.starts.remove(&id);
        let before = self.runs_of();
        let (subscriptions, is_subscribe) = match command {
            Command::Subscribe { subscriptions, .. } => (subscriptions, true),
            Command::Unsubscribe { subscriptions } => (subscriptions, false),
            _ => unreachable!("not asked by this test"),
        };
        let mut results = results.iter();
        for subscription in &subscriptions {
            for symbol in &subscription.symbols {
                let result = results.next().expect("every symbol is answered");
                let channel = Channel::parse(&subscription.channel_name).expect("a channel");
                assert_eq!((&*result.symbol, &*result.channel), (&**symbol, channel.name()));
                let key = (channel, Target::parse(symbol));
                if !result.ok {
                    continue;
                }
                if !is_subscribe {
                    assert!(self.held.remove(&key).is_some(), "what was not held cannot be ended");
                    continue;
                }
                let (_, options) = *subscription.options.as_ref().expect("good options");
                let stream = Stream::new(channel, options.depth, options.conflate);
                let is_same = |held: &Held| {
                    held.stream == stream
                        && held.options.on_slow == options.on_slow
                        && options.snapshot == 0
                        && options.from.is_none()
                };
                if !self.held.get(&key).is_some_and(is_same) {
                    self.runs += 1;
                    self.held.insert(key, Held { stream, options, run: self.runs });
                }
            }
        }
        for (key, (run, stream)) in self.runs_of() {
            if before.get(&key).is_some_and(|(before, _)| *before == run) {
                continue;
            }
            let (channel, symbol) = key;
            let continues = !is_subscribe && before.get(&key).is_some_and(|(_, before)| *before == stream);
            let chain = self.chains.entry(key).or_default();
            if continues {
                // The subscription that is left gets the same events: it goes on where the other ended.
                chain.run = run;
                continue;
            }
            chain.close_record(channel, symbol, truth);
            let start = starts.as_ref().and_then(|s| s.get(&(symbol, channel)));
            *chain = Chain {
                run,
                fresh: Some(start.map_or(Start::Somewhere, |p| Start::At(*p))),
                book: (channel == Channel::Book).then(|| BookKeeper::new(stream.depth)),
                depth: stream.depth.levels(),
                ..Chain::default()
            };
        }
        for (key, _) in before {
            if self.best(key.0, key.1).is_none() {
                self.chains.remove(&key);
            }
        }
    }

    fn runs_of(&self) -> BTreeMap<(Channel, usize), (u64, Stream)> {
        let pairs = Channel::ALL.into_iter().flat_map(|c| (0..NAMES.len()).map(move |s| (c, s)));
        pairs.filter_map(|(c, s)| self.best(c, s).map(|held| ((c, s), (held.run, held.stream)))).collect()
    }

    /// Everything before a heartbeat's cursor was given or announced, nothing before it comes any more.
    fn heartbeat(&mut self, text: &str, truth: &Truth) {
        self.cursor = cursor::decode_unverified(text).expect("a cursor");
        for ((channel, symbol), chain) in &self.chains {
            let held = self.best(*channel, *symbol).expect("a chain has a subscription");
            // A limited book has no events for changes below its depth.
            if held.stream.depth.levels().is_some() {
                continue;
            }
            let Some(last) = chain.checker.last().filter(|_| chain.fresh.is_none()) else { continue };
            let Some(place) = truth.place(*symbol, *channel, last) else { continue };
            // Of states, only the newest counts: a resume from the cursor gets it if the cursor does not pass it.
            let list = &truth.list(*symbol, *channel)[place + 1..];
            let is_replaceable =
                held.stream.is_replaceable() || (*channel == Channel::Book && truth.is_folded);
            let list = if is_replaceable { &list[list.len().saturating_sub(1)..] } else { list };
            for missed in list {
                let is_sent = *channel != Channel::Book || missed.book.is_some();
                assert!(
                    !(is_sent && self.is_behind_cursor(missed.position)),
                    "the cursor passes {} {}: {} comes after {last}",
                    channel.name(),
                    NAMES[*symbol],
                    missed.position
                );
            }
        }
    }

    fn is_behind_cursor(&self, seq: Position) -> bool {
        let found = |p: &&Position| (p.epoch, p.partition) == (seq.epoch, seq.partition);
        self.cursor.iter().find(found).is_some_and(|next| seq.is_before(*next))
    }

    fn data(&mut self, payload: &[u8], truth: &Truth) {
        self.frame += 1;
        let views: Vec<EventView<'_>> = serde_json::from_slice(payload)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(payload)));
        assert!(!views.is_empty(), "an empty frame");
        for view in &views {
            if std::env::var_os("TICKGATE_TEST_TRACE").is_some() {
                eprintln!("    {:?} reads {}", self.key, show(view));
            }
            let channel = view.channel().expect("a channel");
            let symbol = NAMES.iter().position(|name| *name == view.symbol).expect("a symbol of this test");
            let held = self.best(channel, symbol).unwrap_or_else(|| panic!("not asked for: {}", show(view)));
            let (stream, options) = (held.stream, held.options);
            let is_passed =
                !view.is_gap() && !view.snapshot && self.is_behind_cursor(view.seq.expect("a seq"));
            let frame = self.frame;
            let chain = self.chains.get_mut(&(channel, symbol)).expect("every subscription has a chain");
            if view.is_gap() {
                chain.gap(view, channel, symbol, &options, truth);
            } else {
                assert!(!is_passed, "behind the cursor: {}", show(view));
                self.seen += 1;
                chain.event(view, channel, symbol, stream, frame, truth);
            }
        }
        for ((channel, symbol), chain) in &mut self.chains {
            chain.close_record(*channel, *symbol, truth);
        }
    }

    /// After everything was read: the newest state of all that it holds.
    pub fn check_states(&self, truth: &Truth) {
        for ((channel, symbol), chain) in &self.chains {
            let name = NAMES[*symbol];
            match channel {
                Channel::Trades => {}
                // The policy says so: the newest state may be among what is skipped.
                _ if chain.skipped => {}
                Channel::Quotes | Channel::Status => {
                    let newest = truth.newest_value(*symbol, *channel);
                    assert_eq!(chain.value, newest, "{:?}: {} {name} at the end", self.key, channel.name());
                }
                Channel::Book => {
                    let depth = self.best(*channel, *symbol).expect("it is held").stream.depth.levels();
                    let newest = truth.list(*symbol, *channel).last().and_then(|e| e.book.as_ref());
                    let Some(newest) = newest else { continue };
                    let keeper = chain.book.as_ref().expect("a book chain keeps a book");
                    assert!(keeper.is_complete(), "{:?}: no snapshot of the book of {name}", self.key);
                    let shown = (keeper.bids().collect::<Vec<_>>(), keeper.asks().collect::<Vec<_>>());
                    assert_eq!(shown, top(newest, depth), "{:?}: the book of {name} at the end", self.key);
                }
            }
        }
    }

    /// After a last record of everything: each chain leads up to it.
    pub fn check_chains(&self, truth: &Truth) {
        for ((channel, symbol), chain) in &self.chains {
            assert!(
                chain.fresh.is_none(),
                "{:?}: nothing of {} {}",
                self.key,
                channel.name(),
                NAMES[*symbol]
            );
            let newest = truth.last(*symbol, *channel);
            assert_eq!(chain.checker.last(), newest, "{:?}: {} {}", self.key, channel.name(), NAMES[*symbol]);
        }
        assert!(self.asked.is_empty(), "every request is answered");
        assert!(self.bytes.is_empty(), "no half frame is left");
    }
}

impl Chain {
    fn gap(
        &mut self,
        view: &EventView<'_>,
        channel: Channel,
        symbol: usize,
        options: &SubscribeOptions,
        truth: &Truth,
    ) {
        self.close_record(channel, symbol, truth);
        self.skipped |= view.cause == Some(GapCause::SlowConsumer);
        let gap = Gap {
            after: view.after,
            upto: view.upto,
            count: view.count,
            cause: view.cause.expect("a cause"),
        };
        if let Some(start) = self.fresh.take() {
            if let (Start::At(start), None, Channel::Trades) = (start, options.from, channel)
                && options.snapshot == 0
            {
                assert!(
                    gap.after.is_none() || gap.after == start,
                    "begins elsewhere than at {start:?}: {}",
                    show(view)
                );
            }
        } else {
            assert!(
                gap.after.is_some() || self.checker.last().is_none() || self.only_snapshots(),
                "{}",
                show(view)
            );
        }
        let last = self.checker.last();
        assert!(self.checker.gap(&gap), "last seen {last:?}, but {}", show(view));
        if let (Channel::Trades, Some(after), Some(upto), Some(count)) =
            (channel, gap.after, gap.upto, gap.count)
            && options.snapshot == 0
            && gap.cause != GapCause::Retention
            && let (Some(after), Some(upto)) =
                (truth.place(symbol, channel, after), truth.place(symbol, channel, upto))
        {
            assert_eq!(count, truth.count(symbol, channel, after, upto), "{}", show(view));
        }
    }

    fn only_snapshots(&self) -> bool {
        !self.seen_anything
    }

    fn event(
        &mut self,
        view: &EventView<'_>,
        channel: Channel,
        symbol: usize,
        stream: Stream,
        frame: u64,
        truth: &Truth,
    ) {
        let seq = view.seq.expect("a seq");
        let tail = view.tail();
        if self.record.as_ref().is_some_and(|r| r.seq != seq || self.was_snapshot != view.snapshot) {
            self.close_record(channel, symbol, truth);
        }
        let same_record = self.frame == frame && self.was_snapshot == view.snapshot && self.record.is_some();
        let was_fresh = self.fresh.is_some();
        if let Some(start) = self.fresh.take()
            && !view.snapshot
        {
            assert_ne!(channel, Channel::Book, "a book begins with a snapshot: {}", show(view));
            match start {
                Start::At(start) if channel == Channel::Trades => {
                    assert_eq!(
                        tail.prev,
                        start,
                        "the first begins where the subscription did: {}",
                        show(view)
                    );
                }
                Start::At(start) => {
                    assert_eq!(
                        (tail.prev, start),
                        (None, None),
                        "there was a state to begin with: {}",
                        show(view)
                    );
                }
                Start::Somewhere => {}
            }
        }
        let last = self.checker.last();
        let verdict = self.checker.event(seq, &tail, same_record);
        let is_good = match verdict {
            Verdict::First => was_fresh,
            Verdict::InOrder | Verdict::Snapshot => true,
            Verdict::Duplicate | Verdict::Unverified | Verdict::Unannounced => false,
        };
        assert!(is_good, "{verdict:?}, last seen {last:?}: {}", show(view));
        self.seen_anything |= !view.snapshot;
        self.skipped = false;
        (self.frame, self.was_snapshot) = (frame, view.snapshot);
        let place =
            truth.place(symbol, channel, seq).unwrap_or_else(|| panic!("no such record: {}", show(view)));
        let entry = &truth.list(symbol, channel)[place];
        let record = self.record.get_or_insert(Record {
            seq,
            after: tail.prev,
            events: 0,
            merged: 0,
            exact: !view.snapshot && stream.conflate == ConflateMs::NONE,
        });
        record.events += 1;
        record.merged += u64::from(tail.merged);
        match channel {
            Channel::Trades => {
                let value = number(view.price);
                assert!(entry.values.contains(&value), "{}", show(view));
                if !view.snapshot {
                    assert_eq!(entry.values.get(record.events as usize - 1), Some(&value), "{}", show(view));
                }
            }
            Channel::Quotes => self.value = Some(number(view.bid_price)),
            Channel::Status => {
                self.value = Some(view.reason.as_deref().expect("a reason").parse().expect("a number"));
            }
            Channel::Book => {
                let (bids, asks) = (view.bids.as_ref().expect("bids"), view.asks.as_ref().expect("asks"));
                let book = self.book.as_mut().expect("a book chain keeps a book");
                let _ = book.apply_levels(bids, asks, view.snapshot);
            }
        }
    }

    /// The last of a record's events was read: the state is the record's, and nothing of it is missing.
    fn close_record(&mut self, channel: Channel, symbol: usize, truth: &Truth) {
        let Some(record) = self.record.take() else { return };
        let place = truth.place(symbol, channel, record.seq).expect("it was found before");
        let entry = &truth.list(symbol, channel)[place];
        let what = || format!("{} {} at {}", channel.name(), NAMES[symbol], record.seq);
        match channel {
            Channel::Trades => {
                assert!(
                    !record.exact || record.events == entry.count,
                    "{} is not whole: {}",
                    what(),
                    record.events
                );
            }
            Channel::Quotes | Channel::Status => {
                assert_eq!(self.value, truth.value_at(symbol, channel, place), "{}", what());
                let after = record.after.and_then(|after| truth.place(symbol, channel, after));
                if let Some(after) = after
                    && !self.was_snapshot
                {
                    let updates = truth.count(symbol, channel, after, place);
                    assert!(
                        record.merged == updates || (!record.exact && record.merged > updates),
                        "{} stands for {} updates, not {}",
                        what(),
                        updates,
                        record.merged
                    );
                }
            }
            Channel::Book => {
                let keeper = self.book.as_ref().expect("a book chain keeps a book");
                let shown = (keeper.bids().collect::<Vec<_>>(), keeper.asks().collect::<Vec<_>>());
                // A snapshot of a limited book stands at the last change of its own, a later one may be out of sight.
                if let Some(book) = &entry.book {
                    assert_eq!(shown, top(book, self.depth), "{}", what());
                }
            }
        }
    }
}

fn number(price: Option<Decimal>) -> i64 {
    price.expect("a price").to_string().parse().expect("whole numbers only")
}

fn show(view: &EventView<'_>) -> String {
    let p = |p: Option<Position>| p.map_or("-".to_owned(), |p| p.to_string());
    if view.is_gap() {
        let channel = view.channel.map_or("?", |c| c.name());
        return format!(
            "gap {channel} {} after {} upto {} count {:?} {:?}",
            view.symbol,
            p(view.after),
            p(view.upto),
            view.count,
            view.cause
        );
    }
    let value = view.price.or(view.bid_price).map(|d| d.to_string());
    format!(
        "{} {} seq {} prev {} merged {:?} snapshot {} value {:?}",
        view.kind,
        view.symbol,
        p(view.seq),
        p(view.prev),
        view.merged,
        view.snapshot,
        value.or(view.reason.as_ref().map(|r| r.to_string()))
    )
}
