//! Shards (in progress).
pub mod table;
