//! Market models and replay of recorded files into Kafka.
//!
//! The way of one tick: a source ([`model::Model`] or [`replay::Replay`]) gives it with the time at which it is due; [`producer::produce`]
//! waits for that time by a [`pacing::Schedule`], writes it as a Kafka record keyed by its symbol, and counts what becomes of
//! it; a [`report::Report`] says how that went.
//!
//! | module | what |
//! |---|---|
//! | [`model`] | markets from a seed: arrivals, popularity, prices, books |
//! | [`replay`] | recorded files: LEAN, Binance, cryptofeed, our own records; merged by time |
//! | [`pacing`] | absolute due times and speeds |
//! | [`producer`] | the sending loop, the topic, what is counted while it runs |
//! | [`report`] | the end of a run in numbers, and its exit code |
//! | [`metrics`] | what a run says of itself while it goes on |
//! | [`stats`] | peak-to-mean ratios of a stream |
//! | [`calibration`] | the recordings that models are measured against |
//!
//! A model in a process of one's own, without Kafka:
//!
//! ```
//! use tickgate_sim::model::{Model, ModelConfig, Preset};
//!
//! let config = ModelConfig { symbols: 500, rate_per_s: 5_000.0, seed: 1 };
//! let model = Model::new(Preset::UsEquities, config)?;
//! assert_eq!(model.symbols()[0], "AAPL");
//! for timed in model.take(1_000) {
//!     let record = timed.tick.to_json();
//!     println!("{} ns: {}", timed.offset_ns, String::from_utf8_lossy(&record));
//! }
//! # Ok::<(), tickgate_sim::model::ModelError>(())
//! ```
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod calibration;
pub mod metrics;
pub mod model;
pub mod pacing;
pub mod producer;
pub mod replay;
pub mod report;
pub mod stats;
pub mod text;

use tickgate_protocol::record::Tick;

/// A tick and when it is due.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedTick {
    /// Nanoseconds since the start of the stream it belongs to.
    pub offset_ns: u64,
    /// What is sent. `send_ns` is filled in when it is.
    pub tick: Tick<'static>,
}
