//! The Tickgate gateway.
#![deny(rustdoc::broken_intra_doc_links)]

pub mod clock;
pub mod config;
pub mod latency;
pub mod stats;
pub mod event;
pub mod feed;
pub mod outbox;
pub mod shard;
