//! Market models and replay of recorded files into Kafka
