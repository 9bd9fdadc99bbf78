//! The broker as its clients see it.
//!
//! `semantics` and `admin` run twice: against the embedded broker and, where `TICKGATE_TEST_KAFKA` names one, against a
//! real Apache Kafka, so that what passes here is Kafka's behaviour and not ours. The others are about what only the
//! embedded broker has: its bounds, its faults, its program, and its patience with bytes that make no sense.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

mod admin;
mod bounds;
mod faults;
mod program;
mod semantics;
mod wire;
