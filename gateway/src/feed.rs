//! The Kafka side (in progress).
pub mod request;
