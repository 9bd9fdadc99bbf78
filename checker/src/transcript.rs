//! What one client heard over all its sessions, short enough to be kept: what [`crate::judge`] judges.

use crate::content;
use crate::log::Run;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;
use tickgate_protocol::command::Id;
use tickgate_protocol::control::Control;
use tickgate_protocol::event::{EventView, Gap, Tail};
use tickgate_protocol::{Channel, Code, Position, cursor};

/// Positions by run: where a log stood, or a cursor.
pub type Positions = Arc<BTreeMap<Run, u64>>;

/// Positions as a map.
pub fn by_run(positions: &[Position]) -> Positions {
    Arc::new(positions.iter().map(|position| (Run::from(*position), position.offset)).collect())
}

/// What a session begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With nothing. `behind` is where the log stood once the subscriptions were acknowledged: every record behind it
    /// has to come. A partition that it does not name was empty, and when it is not known, what has to come begins with
    /// the first event heard.
    Fresh {
        /// The last position of every partition at that time.
        behind: Option<Positions>,
    },
    /// With a cursor: everything strictly after it has to come, and nothing that is not.
    Cursor(Positions),
    /// With a position for each subscription ([`SessionTranscript::hold_from`]): what is strictly after it has to come.
    Seq,
}

impl Start {
    /// Fresh, with the log at these positions.
    pub fn fresh(behind: Option<&[Position]>) -> Self {
        Self::Fresh { behind: behind.map(by_run) }
    }

    /// With the cursor of these positions.
    pub fn cursor(positions: &[Position]) -> Self {
        Self::Cursor(by_run(positions))
    }
}

/// A data event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    /// Index of its (channel, symbol) in its session.
    pub stream: u32,
    pub seq: Position,
    pub tail: Tail,
    /// Number of the frame it stood in.
    pub frame: u32,
    /// What it says; see [`content`].
    pub content: Option<u64>,
    pub received_ns: i64,
}

/// Something that a session heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A subscription was acknowledged.
    Hold {
        /// Its channel.
        channel: Channel,
        /// A symbol or a pattern.
        symbol: Box<str>,
        /// The position it was resumed from.
        from: Option<Position>,
        /// The `id` of the request that asked for it.
        request: Option<Id>,
    },
    /// A data event.
    Event(Event),
    /// A gap.
    Gap {
        /// As of an [`Event`].
        stream: u32,
        /// What it says.
        gap: Gap,
    },
    /// Something of what a request asked for is gone, of symbols that the gateway may know nothing of.
    AgedOut {
        /// The `id` of that request; without one the gateway says it of itself.
        request: Option<Id>,
    },
    /// A cursor: everything up to it was given, or its loss told.
    Cursor(Positions),
}

/// What one session heard, in order.
#[derive(Debug, Clone)]
pub struct SessionTranscript {
    /// What it began with.
    pub start: Start,
    /// Whether a subscription of it asks for `conflate_ms`: its order across channels is then not promised.
    pub is_conflated: bool,
    /// Everything it heard.
    pub heard: Vec<Heard>,
    /// Messages that could not be read.
    pub unreadable: u64,
    streams: Vec<(Channel, Box<str>)>,
    index: [FxHashMap<Box<str>, u32>; Channel::ALL.len()],
    from: FxHashMap<(Channel, Box<str>), Position>,
    conflated: FxHashSet<(Channel, Box<str>)>,
    frames: u32,
    cursor: Option<String>,
}

impl SessionTranscript {
    /// An empty one.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            is_conflated: false,
            heard: Vec::new(),
            unreadable: 0,
            streams: Vec::new(),
            index: Default::default(),
            from: FxHashMap::default(),
            conflated: FxHashSet::default(),
            frames: 0,
            cursor: None,
        }
    }

    /// Takes note that a subscription is being asked for from a position: it counts once it is acknowledged.
    pub fn resume(&mut self, channel: Channel, symbol: &str, from: Position) {
        self.from.insert((channel, symbol.into()), from);
    }

    /// Takes note that a subscription to a symbol or pattern is being asked for with `conflate_ms`.
    pub fn conflate(&mut self, channel: Channel, symbol: &str) {
        self.is_conflated = true;
        self.conflated.insert((channel, symbol.into()));
    }

    /// Whether a subscription is one with `conflate_ms`.
    pub fn conflates(&self, channel: Channel, symbol: &str) -> bool {
        !self.conflated.is_empty() && self.conflated.contains(&(channel, symbol.into()))
    }

    /// A subscription holds from here on.
    pub fn hold(&mut self, channel: Channel, symbol: &str) {
        self.hold_as_asked(channel, symbol, None);
    }

    fn hold_as_asked(&mut self, channel: Channel, symbol: &str, request: Option<Id>) {
        let from = self.from.get(&(channel, symbol.into())).copied();
        self.heard.push(Heard::Hold { channel, symbol: symbol.into(), from, request });
    }

    /// A subscription holds from here on, resumed behind this position.
    pub fn hold_from(&mut self, channel: Channel, symbol: &str, from: Position) {
        self.resume(channel, symbol, from);
        self.hold(channel, symbol);
    }

    /// Takes a text message, whatever it is. An `ack` with results counts as one of a subscribe: sessions that
    /// unsubscribe are not judged. Returns the control message, if it was one.
    pub fn text(&mut self, received_ns: i64, text: &str) -> Option<Control> {
        if text.starts_with('{') {
            let control = serde_json::from_str(text).ok();
            match &control {
                Some(control) => self.control(control),
                None => self.unreadable += 1,
            }
            return control;
        }
        let Ok(events) = serde_json::from_str::<Vec<EventView<'_>>>(text) else {
            self.unreadable += 1;
            return None;
        };
        self.frames += 1;
        for event in &events {
            if self.event(received_ns, event).is_none() {
                self.unreadable += 1;
            }
        }
        None
    }

    fn control(&mut self, control: &Control) {
        match control {
            Control::Ack { id, results, .. } => {
                for result in results.iter().filter(|result| result.ok) {
                    match Channel::parse(&result.channel) {
                        Some(channel) => self.hold_as_asked(channel, &result.symbol, id.clone()),
                        None => self.unreadable += 1,
                    }
                }
            }
            Control::Error { id, code: Code::ReplayAgedOut, .. } => {
                self.heard.push(Heard::AgedOut { request: id.clone() });
            }
            // One that comes before the acknowledgement says nothing of what is asked for.
            Control::Heartbeat { .. } | Control::Goaway { .. } | Control::Error { cursor: Some(_), .. }
                if self.heard.is_empty() => {}
            Control::Heartbeat { cursor, .. }
            | Control::Goaway { cursor, .. }
            | Control::Error { cursor: Some(cursor), .. } => match cursor::given_unverified(cursor) {
                Ok(next) => {
                    let given = next.iter().filter_map(|next| {
                        next.offset.checked_sub(1).map(|offset| Position { offset, ..*next })
                    });
                    let positions: Vec<Position> = given.collect();
                    self.heard.push(Heard::Cursor(by_run(&positions)));
                    self.cursor = Some(cursor.clone());
                }
                Err(_) => self.unreadable += 1,
            },
            _ => {}
        }
    }

    /// `None` when it lacks what every event has.
    fn event(&mut self, received_ns: i64, event: &EventView<'_>) -> Option<()> {
        let channel = event.channel()?;
        let stream = self.stream(channel, &event.symbol);
        if event.is_gap() {
            let gap = Gap { after: event.after, upto: event.upto, count: event.count, cause: event.cause? };
            self.heard.push(Heard::Gap { stream, gap });
            return Some(());
        }
        self.heard.push(Heard::Event(Event {
            stream,
            seq: event.seq?,
            tail: event.tail(),
            frame: self.frames,
            content: content::of_event(event),
            received_ns,
        }));
        Some(())
    }

    fn stream(&mut self, channel: Channel, symbol: &str) -> u32 {
        let index = &mut self.index[channel as usize];
        if let Some(known) = index.get(symbol) {
            return *known;
        }
        let next =
            u32::try_from(self.streams.len()).expect("a session has fewer streams than memory has bytes");
        index.insert(symbol.into(), next);
        self.streams.push((channel, symbol.into()));
        next
    }

    /// The (channel, symbol) of every stream that was heard of.
    pub fn streams(&self) -> &[(Channel, Box<str>)] {
        &self.streams
    }

    /// The newest cursor, as it came.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The data events.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.heard.iter().filter_map(|heard| match heard {
            Heard::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The last position of each stream by the client's rule, to resume it from.
    pub fn last(&self) -> Vec<(Channel, &str, Position)> {
        let mut last: Vec<Option<Position>> = vec![None; self.streams.len()];
        for heard in &self.heard {
            let (stream, position) = match heard {
                Heard::Event(event) => (event.stream, Some(event.seq)),
                Heard::Gap { stream, gap } => (*stream, gap.upto),
                Heard::Hold { .. } | Heard::Cursor(_) | Heard::AgedOut { .. } => continue,
            };
            let known = &mut last[stream as usize];
            let is_news = |position: &Position| !known.is_some_and(|known| position.is_at_or_before(known));
            *known = position.filter(is_news).or(*known);
        }
        let named = self.streams.iter().zip(last);
        named.filter_map(|((channel, symbol), last)| Some((*channel, &**symbol, last?))).collect()
    }
}

/// The life of one client: its sessions, one after the other.
#[derive(Debug, Clone, Default)]
pub struct ClientTranscript {
    /// Every session that has ended.
    pub sessions: Vec<SessionTranscript>,
    /// Whether the last session was open, and had been given the time it needs, when the log was read: then everything
    /// in the log has to have come. Otherwise only what is before the last it heard.
    pub is_settled: bool,
}

impl ClientTranscript {
    /// Begins a session.
    pub fn begin(&self, start: Start) -> SessionTranscript {
        SessionTranscript::new(start)
    }

    /// Ends one.
    pub fn end(&mut self, session: SessionTranscript, is_settled: bool) {
        self.sessions.push(session);
        self.is_settled = is_settled;
    }

    /// When it received the first event that is no snapshot at or after `since_ns`.
    pub fn flows_again(&self, since_ns: i64) -> Option<i64> {
        let events = self.sessions.iter().flat_map(SessionTranscript::events);
        events.filter(|e| !e.tail.snapshot && e.received_ns >= since_ns).map(|e| e.received_ns).min()
    }
}
