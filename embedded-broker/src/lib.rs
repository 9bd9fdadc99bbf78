//! An in-memory single-node Kafka for demos and tests
