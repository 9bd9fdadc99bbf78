//! Client for Tickgate.
//!
//! From the wire up: [`transport`] opens one WebSocket and gives its two halves; [`connection`] is one session, its messages
//! as they come; [`book`] rebuilds an order book from its events, [`backoff`] says when to try again. [`target`] is where a
//! gateway is, [`trust`] whom to believe that it is one.
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod backoff;
pub mod book;
pub mod clock;
pub mod connection;
pub mod target;
pub mod transport;
pub mod trust;

pub use connection::{ClientError, ConnectOptions, Connection, Incoming};
