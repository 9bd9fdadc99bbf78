//! Client for Tickgate: market data as a stream of typed events, which reconnects, resumes, and says what is missing.
//!
//! ```no_run
//! use tickgate_client::{Event, Live, Subscription};
//! #[tokio::main]
//! async fn main() -> Result<(), tickgate_client::LiveError> {
//!     let mut live = Live::builder("ws://127.0.0.1:8080").connect().await?;
//!     live.subscribe(Subscription::trades(["*"]))?; // or symbols and patterns: ["AAPL", "BTC*"]
//!     while let Some(event) = live.next().await {
//!         if let Event::Trade(trade) = event { println!("{} at {}", trade.size, trade.price) } else { eprintln!("{event:?}") }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The first `connect` fails at once when nobody is there; with [`Builder::wait`] it tries again.
//!
//! [`Live`] is made by a [`Builder`], asks for [`Subscription`]s and gives [`Event`]s; [`Live::book`] is a book kept in step with
//! them, [`Live::stats`] how it goes. Prices and sizes are exact ([`Decimal`]), times are integer nanoseconds since the Unix epoch.
//!
//! Below it, from the wire up: [`transport`] opens one WebSocket and gives its two halves; [`connection`] is one session as it
//! comes, for tests and tools that look at the protocol itself; [`recorded`] reads what was kept of one; [`book`] rebuilds an order book from its events, [`backoff`] says
//! when to try again. [`target`] is where a gateway is, [`trust`] whom to believe that it is one.
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod backoff;
pub mod book;
mod builder;
mod chains;
pub mod clock;
pub mod connection;
mod driver;
pub mod event;
mod hint;
mod live;
mod queue;
pub mod recorded;
mod session;
mod shown;
mod stats;
mod subscription;
pub mod target;
pub mod transport;
pub mod trust;
mod wanted;

pub use builder::Builder;
pub use connection::{ClientError, ConnectOptions, Connection, Incoming};
pub use driver::TokenError;
pub use event::{Event, State};
pub use live::{Live, LiveError};
pub use stats::{Latency, Stats};
pub use subscription::Subscription;
pub use tickgate_protocol::{Channel, Code, Decimal, Depth, OnSlow, Position};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
