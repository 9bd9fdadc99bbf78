//! Load generator and watcher for Tickgate.
//!
//! From the wire up:
//!
//! 1. [`transport`] opens one WebSocket and gives its two halves, a [`transport::Reader`] and a [`transport::Writer`] (from
//!    the Rust client);
//! 2. [`scan`] reads a data frame without parsing it, [`verify`] holds a session to the protocol's promises and
//!    counts into a [`tally::Tally`] (all three from the checker), [`latency`] measures from the time an event was meant
//!    to be sent;
//! 3. [`persona`] and [`plan`] say who connects and what they ask for, [`subscriber`] is one of them, [`fleet`] runs
//!    all of them over threads and [`processes`] over processes, [`report`] is what comes out and can be added to
//!    others, [`asserts`] judges it; clients that come back after a loss ([`returning`]) are counted in [`recovery`] and,
//!    at the end, in [`ends`];
//! 4. [`client`] is one session for tests and tools, [`book`] rebuilds an order book from its events (both from the Rust
//!    client), [`watch`] prints events for a person.
//!
//! [`target`] is where a gateway is, [`trust`] whom to believe that it is one, [`discover`] finds out which symbols there are, [`waiting`] waits for one that
//! is only starting, [`gateway_process`] tells what the gateway costs, [`machine`] where it ran, [`report_file`] writes
//! what came out, and [`metrics`] says meanwhile how it goes.
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod asserts;
pub mod client;
pub mod clock;
mod course;
pub mod discover;
pub mod ends;
pub mod fleet;
pub mod gateway_process;
pub mod latency;
pub mod live;
pub mod machine;
pub mod metrics;
pub mod persona;
pub mod plan;
pub mod processes;
pub mod recovery;
pub mod report;
pub mod report_file;
pub mod returning;
pub mod subscriber;
pub mod trust;
pub mod waiting;
pub mod watch;

pub use client::{Client, ClientOptions, Incoming};
pub use live::LiveStats;
pub use plan::Plan;
pub use report::Report;
pub use tickgate_checker::{scan, tally, verify};
pub use tickgate_client::{book, target, transport};
