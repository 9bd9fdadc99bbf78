//! Market models and replay of recorded files into Kafka
pub mod model;
pub mod stats;

use tickgate_protocol::record::Tick;

/// A tick and when it is due.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedTick {
    /// Nanoseconds since the start of the stream it belongs to.
    pub offset_ns: u64,
    /// What is sent. `send_ns` is filled in when it is.
    pub tick: Tick<'static>,
}
