//! Market models and replay of recorded files into Kafka
pub mod calibration;
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
