//! Wire types and codecs of Tickgate: what Kafka records hold, what clients and gateway say to each other.
//!
//! Nothing in here reads a clock, opens a socket or needs a runtime, so every codec can be tested, fuzzed and
//! benchmarked as a plain function. The way of one tick through this crate:
//!
//! 1. [`record`] decodes a Kafka record into borrowed [`record::Tick`]s (and encodes them, for producers);
//! 2. [`event`] encodes a tick as the JSON event that every subscribed client gets, once;
//! 3. [`frame`] wraps events into WebSocket frames and reads the frames that clients send, [`deflate`] compresses what
//!    is in them;
//! 4. [`command`] and [`control`] are the requests and answers around them;
//! 5. [`checker`] is the client's rule: in order, duplicate, announced gap or unannounced loss.
//!
//! [`decimal`], [`position`], [`channel`] and [`code`] are the vocabulary. The reference of the wire is this crate's README.
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod channel;
pub mod checker;
pub mod code;
pub mod command;
pub mod control;
pub mod cursor;
pub mod decimal;
pub mod deflate;
pub mod event;
pub mod frame;
pub mod position;
pub mod record;

pub use channel::{Channel, ConflateMs, Depth, FlushMs, OnSlow};
pub use code::Code;
pub use decimal::Decimal;
pub use position::Position;

/// Longest symbol in bytes: long enough for any listed instrument or option series, short enough to bound tables.
pub const SYMBOL_BYTES_MAX: usize = 64;

/// Whether `text` can be a symbol: 1 to [`SYMBOL_BYTES_MAX`] bytes, no control characters, no `*` (patterns end in one).
pub fn is_symbol(text: &str) -> bool {
    !text.is_empty() && text.len() <= SYMBOL_BYTES_MAX && !text.chars().any(|c| c == '*' || c.is_control())
}
