//! The Tickgate gateway: market data from Kafka topics to WebSocket clients.
//!
//! The way of one tick: [`feed`] takes a record from Kafka and decodes it, its [`feed::engine`] keeps the symbol's state
//! and encodes the event once, [`feed::dispatch`] pushes it to each [`shard`] with an interested session; there
//! [`shard::Shard::pass`] finds the subscribers in the [`shard::table`], offers the event to each [`outbox`], and writes
//! once to every touched session. A command goes the other way: socket, [`session`], shard, and if it needs state the
//! feed, whose answer comes back in order with the events.
//!
//! What is no longer in the memory of the feed, [`replay`] reads from Kafka again for whoever missed it.
//!
//! [`tls`] is what clients are spoken to in, where that is wanted.
//!
//! [`reload`] takes another configuration over while it runs; [`cursor_keys`] are the first that it can change.
//!
//! [`access`] says who may connect and see what.
//!
//! [`server`] composes it, [`listener`] turns connections into sessions, [`admin`] shows what [`stats`] and [`latency`]
//! count. [`page`] is what a browser gets there that asks for no stream. [`clock`] reads the clocks, [`config`] the environment, [`metrics`] names what is measured, [`descriptors`]
//! raises the limit of open files, [`admission`] says who may connect and [`network`] from where, [`panics`] logs and counts panics,
//! [`ranking`] finds the highest of many: each alone.
#![deny(rustdoc::broken_intra_doc_links)]

pub mod access;
pub mod admin;
pub mod admission;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cursor_keys;
pub mod descriptors;
pub mod event;
pub mod feed;
pub mod latency;
pub mod listener;
pub mod log_filter;
pub mod log_limit;
pub mod logs;
pub mod metrics;
pub mod network;
pub mod outbox;
pub mod page;
pub mod panics;
pub mod ranking;
pub mod reload;
pub mod replay;
pub mod server;
pub mod session;
pub mod shard;
pub mod spans;
pub mod stats;
pub mod tls;
