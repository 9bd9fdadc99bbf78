//! The gateway as whoever connects meets it: through its public API, or as the real program, over real sockets.
//!
//! One program, as each would be linked with the whole gateway again. What needs a program to itself is beside this folder.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../issuer/mod.rs"]
mod issuer;
#[path = "../raw/mod.rs"]
mod raw;

mod compression;
mod conflation;
mod door;
mod entitlements;
mod first_tick;
mod floods;
mod flush_windows;
mod handshake;
mod heartbeats;
mod injection;
mod jwks;
mod limits;
mod log_lines;
mod malformed;
mod memory;
mod page;
#[cfg(debug_assertions)]
mod panics;
mod past;
mod reload;
mod replay_cursors;
mod replay_faults;
mod replay_metrics;
mod requests;
mod resume;
mod snapshots;
mod stopping;
mod strangers;
mod subscriptions;
mod symbols;
mod traces;
