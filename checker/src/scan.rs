//! Reads a data frame without parsing it: only the fields that verification and latency need.
//!
//! A load generator on one core has to check hundreds of thousands of events a second, and a full parse would cost
//! more than everything else it does. The scanner knows no layout, only JSON: it walks the fields of each object in
//! whatever order and skips what it does not need. An object it cannot walk (escapes in a symbol, white space, a
//! number where a text belongs) goes through [`EventView`] instead, so nothing is lost but time.

use tickgate_protocol::event::{EventView, Gap, GapCause, Tail};
use tickgate_protocol::{Channel, Position};

/// What was scanned of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned<'a> {
    /// Whether it is a `gap`.
    pub is_gap: bool,
    /// The channel of the event, or that a gap speaks of; `None` for types this version does not know.
    pub channel: Option<Channel>,
    /// The symbol.
    pub symbol: &'a str,
    /// Position of the event.
    pub seq: Option<Position>,
    /// Position of the event before it.
    pub prev: Option<Position>,
    /// Of a gap: the last event sent before it.
    pub after: Option<Position>,
    /// Of a gap: the last event lost.
    pub upto: Option<Position>,
    /// Of a gap: how many events were lost.
    pub count: Option<u64>,
    /// Of a gap: why.
    pub cause: Option<GapCause>,
    /// When the producer meant to send it, nanoseconds since the Unix epoch.
    pub send_ns: Option<i64>,
    /// How many updates it stands for.
    pub merged: u32,
    /// State sent because of a subscribe.
    pub snapshot: bool,
    /// Sent because of `from`.
    pub replay: bool,
}

impl Scanned<'_> {
    const NOTHING: Self = Scanned {
        is_gap: false,
        channel: None,
        symbol: "",
        seq: None,
        prev: None,
        after: None,
        upto: None,
        count: None,
        cause: None,
        send_ns: None,
        merged: 1,
        snapshot: false,
        replay: false,
    };

    /// The fields that may differ from client to client.
    pub fn tail(&self) -> Tail {
        Tail { prev: self.prev, merged: self.merged, snapshot: self.snapshot, replay: self.replay }
    }

    /// The gap, if it is one that says why.
    pub fn gap(&self) -> Option<Gap> {
        let cause = self.cause.filter(|_| self.is_gap)?;
        Some(Gap { after: self.after, upto: self.upto, count: self.count, cause })
    }
}

impl<'a> From<&'a EventView<'_>> for Scanned<'a> {
    fn from(view: &'a EventView<'_>) -> Self {
        Self {
            is_gap: view.is_gap(),
            channel: view.channel(),
            symbol: &view.symbol,
            seq: view.seq,
            prev: view.prev,
            after: view.after,
            upto: view.upto,
            count: view.count,
            cause: view.cause,
            send_ns: view.send_ns,
            merged: view.merged.unwrap_or(1),
            snapshot: view.snapshot,
            replay: view.replay,
        }
    }
}

/// What a frame held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events, gaps included.
    pub events: u64,
    /// Events among them that needed the full parse.
    pub parsed: u64,
}

/// A frame that is no array of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an array of events, at byte {at}: {reason}")]
pub struct Unreadable {
    /// Where in the frame.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

/// Hands every event of `frame` to `sink`, in order.
///
/// # Errors
/// [`Unreadable`] at the first event that is none; those before it were handed out.
pub fn scan(frame: &[u8], mut sink: impl FnMut(&Scanned<'_>)) -> Result<Counts, Unreadable> {
    let mut walk = Walk { bytes: frame, at: 0 };
    let mut counts = Counts::default();
    let expected =
        |walk: &Walk<'_>, what: &str| Unreadable { at: walk.at, reason: format!("expected {what}") };
    walk.space();
    walk.eat(b'[').ok_or_else(|| expected(&walk, "`[`"))?;
    walk.space();
    if walk.peek() == Some(b']') {
        walk.at += 1;
    } else {
        loop {
            let start = walk.at;
            let mut event = Scanned::NOTHING;
            if walk.event(&mut event).is_some() {
                sink(&event);
            } else {
                walk.at = start + parse(&frame[start..], start, &mut sink)?;
                counts.parsed += 1;
            }
            counts.events += 1;
            walk.space();
            match walk.next() {
                Some(b',') => walk.space(),
                Some(b']') => break,
                _ => return Err(expected(&walk, "`,` or `]`")),
            }
        }
    }
    walk.space();
    if walk.at == frame.len() { Ok(counts) } else { Err(expected(&walk, "the end")) }
}

/// Reads one event the long way; returns its bytes.
fn parse(bytes: &[u8], start: usize, sink: &mut impl FnMut(&Scanned<'_>)) -> Result<usize, Unreadable> {
    let mut events = serde_json::Deserializer::from_slice(bytes).into_iter::<EventView<'_>>();
    let unreadable = |reason: String| Unreadable { at: start, reason };
    let view = events.next().ok_or_else(|| unreadable("expected an event".to_owned()))?;
    let view = view.map_err(|error| unreadable(error.to_string()))?;
    sink(&Scanned::from(&view));
    Ok(events.byte_offset())
}

/// A place in the frame. Every step returns `None` for what it does not know, wherever it then stands.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn event(&mut self, out: &mut Scanned<'a>) -> Option<()> {
        self.eat(b'{')?;
        let mut gap_channel = None;
        // Duplicate fields are no business of a fast path.
        let mut seen = 0u16;
        loop {
            let name = self.string()?;
            self.eat(b':')?;
            let bit = match name {
                b"type" => {
                    let kind = std::str::from_utf8(self.string()?).ok()?;
                    out.is_gap = kind == "gap";
                    out.channel = Channel::of_event_type(kind);
                    0
                }
                b"symbol" => {
                    out.symbol = std::str::from_utf8(self.string()?).ok()?;
                    1
                }
                b"seq" => {
                    out.seq = Some(self.position()?);
                    2
                }
                b"prev" => {
                    out.prev = Some(self.position()?);
                    3
                }
                b"send_ns" => {
                    out.send_ns = Some(digits(self.string()?).and_then(|n| i64::try_from(n).ok())?);
                    4
                }
                b"merged" => {
                    out.merged = u32::try_from(self.number()?).ok()?;
                    5
                }
                b"snapshot" => {
                    out.snapshot = self.boolean()?;
                    6
                }
                b"replay" => {
                    out.replay = self.boolean()?;
                    7
                }
                b"channel" => {
                    gap_channel = Some(Channel::parse(std::str::from_utf8(self.string()?).ok()?)?);
                    8
                }
                b"after" => {
                    out.after = Some(self.position()?);
                    9
                }
                b"upto" => {
                    out.upto = Some(self.position()?);
                    10
                }
                b"count" => {
                    out.count = Some(self.number()?);
                    11
                }
                b"cause" => {
                    let name = self.string()?;
                    out.cause = Some(GapCause::ALL.into_iter().find(|c| c.name().as_bytes() == name)?);
                    12
                }
                _ => {
                    self.skip_value()?;
                    15
                }
            };
            let before = seen;
            seen |= 1 << bit;
            if before == seen && bit < 15 {
                return None;
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        if out.is_gap {
            out.channel = gap_channel;
        }
        // Without a type or a symbol it is no event: the parser says what is missing.
        (seen & 3 == 3).then_some(())
    }

    /// A text without escapes, without its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        self.at += n + 1;
        (rest[n] == b'"').then(|| &rest[..n])
    }

    fn position(&mut self) -> Option<Position> {
        let text = self.string()?;
        let first = text.iter().position(|b| *b == b':')?;
        let second = first + 1 + text[first + 1..].iter().position(|b| *b == b':')?;
        Some(Position {
            epoch: hexadecimal(&text[..first])?,
            partition: u32::try_from(digits(&text[first + 1..second])?).ok()?,
            offset: digits(&text[second + 1..])?,
        })
    }

    fn number(&mut self) -> Option<u64> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| !b.is_ascii_digit())?;
        self.at += n;
        // JSON knows no leading zeros.
        if n > 1 && rest[0] == b'0' {
            return None;
        }
        digits(&rest[..n])
    }

    fn boolean(&mut self) -> Option<bool> {
        let rest = &self.bytes[self.at..];
        let (value, n) = if rest.starts_with(b"true") {
            (true, 4)
        } else if rest.starts_with(b"false") {
            (false, 5)
        } else {
            return None;
        };
        self.at += n;
        Some(value)
    }

    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'[' | b'{' => self.skip_nested(),
            _ => {
                let rest = &self.bytes[self.at..];
                self.at += rest.iter().position(|b| matches!(b, b',' | b'}' | b']'))?;
                Some(())
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

fn hexadecimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    let mut value = 0u32;
    for byte in text {
        value = value << 4 | char::from(*byte).to_digit(16)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests;
