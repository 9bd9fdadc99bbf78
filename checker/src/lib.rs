//! Judges what clients of Tickgate were sent.
//!
//! There are two judges. One needs nothing but the protocol: it holds a session to what the gateway promises, as it
//! comes, and is cheap enough for a load generator. The other knows what really stood in Kafka and holds the whole life
//! of a client against it, sessions that it resumed included: it can say of every single tick whether it was
//! delivered, conflated, announced as lost, or lost without a word.
//!
//! | module | what |
//! |---|---|
//! | [`scan`] | reads a data frame without parsing it |
//! | [`verify`], [`tally`] | a session by the protocol alone, and what is counted of it |
//! | [`content`] | what a tick says, read without the gateway's own decoder |
//! | [`log`] | what really stood in Kafka, by stream; filled by hand, or from a topic (`kafka`, a feature) |
//! | [`transcript`] | what a client heard over all its sessions |
//! | [`judge`], [`counts`] | a transcript against the log |
//!
//! ```
//! use tickgate_checker::judge::judge;
//! use tickgate_checker::log::Log;
//! use tickgate_checker::transcript::{ClientTranscript, Start};
//! use tickgate_protocol::{Channel, Position};
//!
//! let at = |offset| Position { epoch: 7, partition: 0, offset };
//! let mut log = Log::new();
//! for offset in 0..3 {
//!     log.push(at(offset), 0, br#"{"type":"trade","symbol":"A","price":"1","size":"1","event_ns":5}"#)?;
//! }
//! let mut client = ClientTranscript::default();
//! let mut session = client.begin(Start::fresh(None));
//! session.hold(Channel::Trades, "A");
//! for (offset, prev) in [(0, ""), (2, r#","prev":"7:0:1""#)] {
//!     let event = r#""type":"trade","symbol":"A","price":"1","size":"1","event_ns":"5""#;
//!     session.text(offset, &format!(r#"[{{{event},"seq":"7:0:{offset}"{prev}}}]"#));
//! }
//! client.end(session, true);
//! let judgement = judge(&log, &client);
//! assert_eq!((judgement.counts.delivered, judgement.counts.unannounced), (2, 1));
//! assert_eq!(judgement.missing[0].to_string(), "trades A: 7:0:1, lost without a word");
//! # Ok::<(), tickgate_checker::log::NotInOrder>(())
//! ```
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod content;
pub mod counts;
pub mod judge;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod log;
pub mod scan;
pub mod tally;
pub mod transcript;
pub mod verify;
