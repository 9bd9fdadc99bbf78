//! The Tickgate gateway: Kafka ticks to WebSocket clients
