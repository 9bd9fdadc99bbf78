//! Channels and the options of a subscription.

use serde::{Deserialize, Serialize};

/// What kind of market data an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Channel {
    /// Executions: price and size of every trade.
    Trades,
    /// Best bid and offer.
    Quotes,
    /// Order book levels.
    Book,
    /// Trading status of an instrument.
    Status,
}

impl Channel {
    /// All channels, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Trades, Self::Quotes, Self::Book, Self::Status];

    /// The channel's name on the wire and as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trades => "trades",
            Self::Quotes => "quotes",
            Self::Book => "book",
            Self::Status => "status",
        }
    }

    /// The `type` of the events on this channel.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Trades => "trade",
            Self::Quotes => "quote",
            Self::Book => "book",
            Self::Status => "status",
        }
    }

    /// The channel named `name` on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The channel whose events have this `type`.
    pub fn of_event_type(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.event_type() == event_type)
    }

    /// What happens to a subscription of this channel at the bound of a slow client, unless it says otherwise.
    pub const fn default_on_slow(self) -> OnSlow {
        match self {
            Self::Trades => OnSlow::Disconnect,
            _ => OnSlow::Conflate,
        }
    }

    /// Whether a newer event makes an older one of the same symbol worthless, so that it may be conflated.
    pub const fn is_state(self) -> bool {
        !matches!(self, Self::Trades)
    }
}

/// What happens to a subscription when its client reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum OnSlow {
    /// Only the newest state of each symbol is kept.
    Conflate,
    /// The oldest events are dropped and announced in a `gap` with their exact count.
    Skip,
    /// The session ends with `slow_consumer` and a cursor.
    Disconnect,
}

impl OnSlow {
    /// The policy's name on the wire and as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflate => "conflate",
            Self::Skip => "skip",
            Self::Disconnect => "disconnect",
        }
    }

    /// The policy named `name` on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Conflate, Self::Skip, Self::Disconnect].into_iter().find(|p| p.name() == name)
    }
}

/// How many levels a side a book subscription sees; 0 is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Depth(u8);

impl Depth {
    /// The whole book; also what channels without depth carry.
    pub const ALL: Self = Self(0);

    /// The depths that a client may ask for: few, so that each book update is encoded once per depth in use.
    pub const ALLOWED: [u8; 7] = [1, 5, 10, 20, 50, 100, 0];

    /// `levels` as a depth, if it is one of [`Depth::ALLOWED`].
    pub fn new(levels: u64) -> Option<Self> {
        u8::try_from(levels).ok().filter(|n| Self::ALLOWED.contains(n)).map(Self)
    }

    /// Levels a side; `None` for all.
    pub fn levels(self) -> Option<usize> {
        (self.0 != 0).then_some(usize::from(self.0))
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A conflation interval in milliseconds: 0 (none), 10, 20, 50, 100, 250, 500 or 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConflateMs(u16);

impl ConflateMs {
    /// Every event as it comes.
    pub const NONE: Self = Self(0);

    /// The intervals that are served: few, so that conflated state is shared between clients.
    pub const STEPS: [u16; 7] = [10, 20, 50, 100, 250, 500, 1000];

    /// `ms` rounded up to the next step; `None` when it is over a second.
    pub fn round_up(ms: u64) -> Option<Self> {
        if ms == 0 {
            return Some(Self::NONE);
        }
        Self::STEPS.into_iter().find(|step| ms <= u64::from(*step)).map(Self)
    }

    /// The interval in milliseconds; 0 when there is none.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A flush window in milliseconds: 0 (none), 1, 2, 5, 10, 20, 50, 100, 250, 500 or 1000. A session is written to at once,
/// and then not again before its window is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlushMs(u8);

impl FlushMs {
    /// Every event is written as it comes.
    pub const NONE: Self = Self(0);

    /// The windows that are served: few, so that those of a length end in the order in which they began.
    pub const STEPS: [u16; 10] = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000];

    /// `ms` rounded up to the next step; `None` when it is over a second.
    pub fn round_up(ms: u64) -> Option<Self> {
        if ms == 0 {
            return Some(Self::NONE);
        }
        let step = Self::STEPS.iter().position(|step| ms <= u64::from(*step))?;
        Some(Self(step as u8 + 1))
    }

    /// Its place among [`FlushMs::STEPS`], if there is a window at all.
    pub fn step(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }

    /// The window in milliseconds; 0 when there is none.
    pub fn get(self) -> u16 {
        self.step().map_or(0, |step| Self::STEPS[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for channel in Channel::ALL {
            assert_eq!(Channel::parse(channel.name()), Some(channel));
            assert_eq!(Channel::of_event_type(channel.event_type()), Some(channel));
        }
        assert_eq!(Channel::parse("bars"), None);
        assert_eq!(OnSlow::parse("skip"), Some(OnSlow::Skip));
        assert_eq!(OnSlow::parse("drop"), None);
    }

    #[test]
    fn conflation_rounds_up() {
        let rounded = |ms| ConflateMs::round_up(ms).map(ConflateMs::get);
        assert_eq!([0, 1, 10, 11, 60, 251, 1000].map(rounded), [0, 10, 10, 20, 100, 500, 1000].map(Some));
        assert_eq!(rounded(1001), None);
    }

    #[test]
    fn flush_windows_round_up() {
        let rounded = |ms| FlushMs::round_up(ms).map(FlushMs::get);
        assert_eq!([0, 1, 3, 10, 11, 251, 1000].map(rounded), [0, 1, 5, 10, 20, 500, 1000].map(Some));
        assert_eq!(rounded(1001), None);
    }

    #[test]
    fn only_listed_depths() {
        assert_eq!(Depth::new(20).and_then(Depth::levels), Some(20));
        assert_eq!(Depth::new(0).map(Depth::levels), Some(None));
        assert_eq!(Depth::new(3), None);
        assert_eq!(Depth::new(256), None);
    }
}
