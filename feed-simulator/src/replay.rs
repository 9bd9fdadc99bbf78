//! Recorded files as a stream of ticks, with the time between them as it was recorded.
//!
//! Each format has its reader; all are streams, so a file's size does not matter. Several files are merged
//! by their times. What a reader leaves out is counted by kind ([`Replay::skipped`]); what it cannot read is an error with file and
//! line.

mod binance;
mod bitmex;
mod cryptofeed;
mod lean;
mod lines;
mod merge;
mod ndjson;
mod new_york;

use crate::TimedTick;
use lean::{Kind, Lean};
use lines::Lines;
use merge::Merge;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use tickgate_protocol::record::Tick;

pub use lines::LINE_BYTES_MAX;

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Decided for each file by its beginning
    Auto,
    /// A tick file of LEAN: trades, quotes or FX, decided by its columns
    Lean,
    /// US trades
    LeanTrade,
    /// US best bid and offer, a row for each side
    LeanQuote,
    /// FX quotes
    LeanFx,
    /// Raw capture of Binance futures with capture times
    Binance,
    /// Capture of the cryptofeed library
    Cryptofeed,
    /// Our own records, one a line
    Ndjson,
}

/// What the files do not say themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The symbol, where the folder (Lean) or the streams (Binance snapshots) do not name it.
    pub symbol: Option<String>,
    /// The clock of Lean FX files of other venues than FXCM and OANDA: seconds ahead of UTC.
    pub utc_offset_s: Option<i64>,
    /// Only what was recorded at these times of the day.
    pub between: Option<Between>,
}

/// Times of the day in UTC, from one (included) to another (excluded), in seconds after midnight. May go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// Start.
    pub from_s: u32,
    /// End.
    pub to_s: u32,
}

impl Between {
    fn contains(self, time_ns: i64) -> bool {
        let at_s = time_ns.div_euclid(1_000_000_000).rem_euclid(86_400) as u32;
        if self.from_s <= self.to_s {
            (self.from_s..self.to_s).contains(&at_s)
        } else {
            !(self.to_s..self.from_s).contains(&at_s)
        }
    }
}

impl std::str::FromStr for Between {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| {
            let parts: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
            let [hours, minutes, seconds] = match parts[..] {
                [hours, minutes] => [hours, minutes, 0],
                [hours, minutes, seconds] => [hours, minutes, seconds],
                _ => return None,
            };
            (hours <= 24 && minutes < 60 && seconds < 60).then_some(hours * 3_600 + minutes * 60 + seconds)
        };
        let (from, to) = text.split_once('-').unwrap_or((text, ""));
        match (time(from), time(to)) {
            (Some(from_s), Some(to_s)) if from_s != to_s => Ok(Self { from_s, to_s }),
            _ => Err("two times of the day in UTC, such as 13:30-20:00".to_owned()),
        }
    }
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file breaks off or is damaged.
    #[error("{}:{line}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The line being read.
        line: u64,
        /// Why not.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{}:{line}: expected {expected}; found `{found}`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What should have been there.
        expected: String,
        /// The beginning of what is there.
        found: String,
    },
    /// The name of the file does not say what is needed.
    #[error("{}: expected {expected}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What the name should say.
        expected: String,
    },
}

impl ReplayError {
    /// The exit code: 66 for a file that cannot be opened, 65 for one that cannot be understood.
    pub fn exit_code(&self) -> u8 {
        match self {
            // An archive that is none is found out while opening it.
            Self::Open { source, .. } if source.kind() != io::ErrorKind::InvalidData => 66,
            _ => 65,
        }
    }
}

/// What was left out, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    counts: BTreeMap<&'static str, u64>,
}

impl Skipped {
    /// Kinds and how often, in alphabetical order.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// How often one kind was left out.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    fn add(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_insert(0) += 1;
    }

    /// Counts a message that is left out as a whole, as the result of decoding it.
    fn skip(&mut self, kind: &'static str) -> Result<(), String> {
        self.add(kind);
        Ok(())
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (kind, count) in other.counts() {
            *sum.counts.entry(kind).or_insert(0) += count;
        }
        sum
    }
}

/// When a message was recorded: the venue's or the recorder's clock, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The time.
    pub time_ns: i64,
}

/// A reader of one file.
trait Decode {
    /// Reads one message and appends its ticks, none to many; `None` at the end.
    fn read(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError>;
    fn skipped(&self) -> &Skipped;
}

/// Files as one stream of ticks in time order.
#[derive(Debug)]
pub struct Replay {
    paths: Vec<PathBuf>,
    merge: Merge,
    between: Option<Between>,
    start_ns: Option<i64>,
    ready: VecDeque<TimedTick>,
    scratch: Vec<Tick<'static>>,
    failed: bool,
}

/// Opens `paths`, all of one format (or each of its own with [`Format::Auto`] and [`Format::Lean`]).
///
/// # Errors
/// When a file cannot be opened or its kind cannot be told. Everything after that is reported by the iterator.
pub fn open<P: AsRef<Path>>(paths: &[P], format: Format) -> Result<Replay, ReplayError> {
    open_with(paths, format, &Options::default())
}

/// As [`open`], with `options`.
///
/// # Errors
/// As [`open`].
pub fn open_with<P: AsRef<Path>>(
    paths: &[P],
    format: Format,
    options: &Options,
) -> Result<Replay, ReplayError> {
    let readers =
        paths.iter().map(|path| reader(path.as_ref(), format, options)).collect::<Result<Vec<_>, _>>()?;
    Ok(Replay {
        paths: paths.iter().map(|path| path.as_ref().to_owned()).collect(),
        merge: Merge::new(readers),
        between: options.between,
        start_ns: None,
        ready: VecDeque::new(),
        scratch: Vec::new(),
        failed: false,
    })
}

impl Replay {
    /// What was left out so far, by file.
    pub fn skipped(&self) -> impl Iterator<Item = (&Path, &Skipped)> {
        self.paths.iter().map(PathBuf::as_path).zip(self.merge.skipped())
    }

    /// Reads one recorded message (a row of a CSV, a frame of a websocket): its time, and its ticks appended to `ticks`.
    /// Not to be mixed with iterating. `None` at the end.
    ///
    /// # Errors
    /// When a file cannot be read any further.
    pub fn next_message(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        loop {
            let before = ticks.len();
            let stamp = self.merge.next(ticks)?;
            match (stamp, self.between) {
                (Some(Stamp { time_ns }), Some(between)) if !between.contains(time_ns) => {
                    ticks.truncate(before)
                }
                _ => return Ok(stamp),
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<TimedTick, ReplayError>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(tick) = self.ready.pop_front() {
                return Some(Ok(tick));
            }
            if self.failed {
                return None;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let read = self.next_message(&mut scratch);
            match read {
                Ok(Some(Stamp { time_ns })) => {
                    let start_ns = *self.start_ns.get_or_insert(time_ns);
                    let offset_ns = u64::try_from(time_ns.saturating_sub(start_ns)).unwrap_or(0);
                    self.ready.extend(scratch.drain(..).map(|tick| TimedTick { offset_ns, tick }));
                    self.scratch = scratch;
                }
                Ok(None) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

fn reader(path: &Path, format: Format, options: &Options) -> Result<Box<dyn Decode + Send>, ReplayError> {
    let mut lines = Lines::open(path)?;
    let unknown = |expected: &str| ReplayError::Name { path: path.to_owned(), expected: expected.to_owned() };
    let first = lines.peek()?;
    let format = match format {
        Format::Auto => guess(path, first)
            .ok_or_else(|| unknown("a format that can be told from its beginning, or --format"))?,
        Format::Lean => match Kind::guess(path, first) {
            Some(Kind::Trade) => Format::LeanTrade,
            Some(Kind::Quote) => Format::LeanQuote,
            Some(Kind::Fx) => Format::LeanFx,
            None => return Err(unknown("rows of 3 (FX), 6 (trades) or 8 (quotes) columns")),
        },
        given => given,
    };
    Ok(match format {
        Format::LeanTrade => Box::new(Lean::new(lines, Kind::Trade, options)?),
        Format::LeanQuote => Box::new(Lean::new(lines, Kind::Quote, options)?),
        Format::LeanFx => Box::new(Lean::new(lines, Kind::Fx, options)?),
        Format::Binance => Box::new(binance::Binance::new(lines, options)),
        Format::Cryptofeed => Box::new(cryptofeed::Cryptofeed::new(lines)),
        Format::Ndjson => Box::new(ndjson::Ndjson::new(lines)),
        Format::Auto | Format::Lean => unreachable!("both were resolved above"),
    })
}

fn guess(path: &Path, first: &[u8]) -> Option<Format> {
    match first {
        [b'{' | b'[', ..] => Some(Format::Ndjson),
        _ if first.starts_with(b"wss://") || first.starts_with(b"https://") => Some(Format::Cryptofeed),
        _ => {
            let digits = first.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match first.get(digits..)? {
                [b' ', b'{', ..] => Some(Format::Binance),
                _ => Kind::guess(path, first).map(|kind| match kind {
                    Kind::Trade => Format::LeanTrade,
                    Kind::Quote => Format::LeanQuote,
                    Kind::Fx => Format::LeanFx,
                }),
            }
        }
    }
}
