//! Clients that read too slowly: what each policy does to them, and that nobody else notices.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../raw/mod.rs"]
mod raw;

mod blame;
mod bounds;
mod policies;
mod world;
