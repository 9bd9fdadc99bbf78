//! The Tickgate gateway.
#![deny(rustdoc::broken_intra_doc_links)]

pub mod admin;
pub mod clock;
pub mod config;
pub mod latency;
pub mod metrics;
pub mod stats;
pub mod event;
pub mod feed;
pub mod outbox;
pub mod shard;
pub mod listener;
pub mod session;
