//! Judges what clients of Tickgate were sent.
//!
//! | module | what |
//! |---|---|
//! | [`scan`] | reads a data frame without parsing it |
//! | [`verify`], [`tally`] | a session by the protocol alone, and what is counted of it |
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod scan;
pub mod tally;
pub mod verify;
