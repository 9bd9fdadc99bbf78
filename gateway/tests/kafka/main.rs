//! The feed and a Kafka: what a topic, a broker and a record can do to a gateway, and what clients are told of it.
//!
//! Everything runs twice, against the embedded broker and against Apache Kafka, save what needs faults on command (the
//! embedded one alone) or transactions (Apache Kafka alone).

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../issuer/mod.rs"]
mod issuer;
#[path = "../raw/mod.rs"]
mod raw;

mod bad_records;
mod broker_loss;
mod delayed;
mod lag;
mod partitions;
mod positions;
mod records;
mod recreated;
mod resumed;
mod retention;
mod revocations;
mod start;
mod statistics;
mod warm_up;
