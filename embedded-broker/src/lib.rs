//! An in-memory, single-node Kafka for demos and tests. **Not a product**: no disk, no replication, no consumer groups, no
//! transactions, no authentication. See the README of this crate for the whole list.
//!
//! ```
//! use tickgate_broker::{Broker, BrokerConfig};
//!
//! let broker = Broker::start(BrokerConfig::default())?;
//! broker.create_topic("ticks", 4)?;
//! println!("bootstrap.servers={}", broker.bootstrap());
//! assert_eq!(broker.high_watermark("ticks", 0)?, 0);
//! broker.shutdown();
//! # Ok::<(), tickgate_broker::BrokerError>(())
//! ```
//!
//! The broker runs on a thread of its own with its own runtime, so it can be used from plain threads, from `#[test]`
//! functions and from inside any async runtime. Its methods are synchronous and take microseconds (stopping and dropping
//! connections: a few milliseconds).
//!
//! # The way of one record
//! A connection reads a frame and decodes the request; produce checks each record batch, gives it its offset and
//! appends it to the partition's log; a change counter wakes the fetches that wait; fetch hands the same bytes out again.
//!
//! | module | what |
//! |---|---|
//! | `config`, `error` | limits and their reasons; what can go wrong |
//! | `broker` | the handle: start, topics, watermarks, shutdown |
//! | `faults` | stop, restart, stall, fail a request, drop connections |
//! | `server`, `connection` | accept loop; one connection's frames |
//! | `api/` | one file per kind of request |
//! | `shape` | counts in a request are checked before anything is allocated for them |
//! | `core` | what connections and the handle share |
//! | `topics`, `log`, `batch`, `producers` | plain data: topics, one partition, one record batch, retries |

mod api;
mod batch;
mod broker;
mod config;
mod connection;
mod core;
mod error;
mod faults;
mod log;
mod producers;
mod server;
mod shape;
mod topics;

pub use broker::Broker;
pub use config::BrokerConfig;
pub use error::BrokerError;
pub use faults::Faults;
/// A Kafka error code, for [`Faults::fail_next`].
pub use kafka_protocol::error::ResponseError as ErrorCode;
/// A kind of request, for [`Faults::fail_next`] and [`Broker::requests`].
pub use kafka_protocol::messages::ApiKey;

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
