//! TLS towards clients, over real sockets.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../raw/mod.rs"]
mod raw;

mod files;
mod renewed;
mod shaking;
mod way;
mod world;
