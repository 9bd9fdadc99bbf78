//! The workloads.

use serde::Serialize;

/// One load on a server.
#[derive(Debug, Clone, Serialize)]
pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    /// Ticks per second.
    pub rate: f64,
    /// Ticks that are due together.
    pub burst: u64,
    pub symbols: usize,
    pub symbol_digits: usize,
    /// Exponent of Zipf's law over the symbols, 0 for in turn.
    pub zipf: f64,
    /// The market model that times and symbols come from, if they are not evenly spread.
    pub model: Option<&'static str>,
    pub record_bytes: usize,
    pub clients: usize,
    /// Subscriptions of each client.
    pub per_client: usize,
    /// Pause of the client between looks, 0 for none.
    pub lazy_ms: u64,
    pub stalled_percent: usize,
    /// Whether server and load get real-time priority, so that other programs cannot add to latencies.
    pub is_realtime: bool,
}

const BASE: Workload = Workload {
    name: "",
    what: "",
    rate: 0.0,
    burst: 1,
    symbols: 1,
    symbol_digits: 4,
    zipf: 0.0,
    model: None,
    record_bytes: 150,
    clients: 200,
    per_client: 1,
    lazy_ms: 5,
    stalled_percent: 0,
    is_realtime: false,
};
/// Many symbols of unequal popularity, clients with a watch list each.
pub const W2_SHAPE: Workload = Workload { symbols: 100, zipf: 1.0, clients: 1_000, per_client: 10, ..BASE };

/// The load for flush windows: 98 deliveries a second to each client.
pub const WINDOWS: Workload =
    Workload { name: "W2w", what: "W2b with flush windows", rate: 1_000.0, ..W2_SHAPE };

/// The shapes that are taken to saturation.
pub const RAMPS: &[Workload] = &[
    Workload { name: "W4-1", what: "1 symbol, 200 clients", ..BASE },
    Workload { name: "W4-2", what: "100 symbols, 1,000 clients with 10 each", ..W2_SHAPE },
];

/// The load under which all clients go away and return.
pub const STORM: Workload =
    Workload { name: "W8", what: "W2b, and all clients return within a second", rate: 1_000.0, ..W2_SHAPE };

/// The way from Kafka to clients: 10 deliveries for each tick.
pub const KAFKA: Workload = Workload {
    name: "W9",
    what: "from Kafka: 100 symbols, 20,000/s, 100 clients with 10 each",
    rate: 20_000.0,
    symbols: 100,
    clients: 100,
    per_client: 10,
    lazy_ms: 0,
    ..BASE
};

/// The way from Kafka with the load of W10.
pub const KAFKA_SINGLE: Workload = Workload {
    name: "W10-kafka",
    what: "from Kafka: 10,000 symbols with 1 tick/s of 512 bytes, 9,000 clients with 1 each",
    ..SINGLE
};

/// Nothing can be shared: every client has a symbol of its own.
const SINGLE: Workload = Workload {
    name: "W10",
    what: "10,000 symbols with 1 tick/s of 512 bytes, 9,000 clients with 1 each",
    rate: 10_000.0,
    symbols: 10_000,
    symbol_digits: 48,
    record_bytes: 512,
    clients: 9_000,
    ..BASE
};

/// W2 in full with some of the clients stalled; what the others see is compared with the first.
pub const ISOLATION: &[Workload] = &[
    Workload { name: "W7-0", what: "W2 in full, no client stalled", rate: 10_000.0, ..W2_SHAPE },
    Workload { name: "W7-1", what: "1 % stalled", rate: 10_000.0, stalled_percent: 1, ..W2_SHAPE },
    Workload { name: "W7-10", what: "10 % stalled", rate: 10_000.0, stalled_percent: 10, ..W2_SHAPE },
    Workload { name: "W7-50", what: "50 % stalled", rate: 10_000.0, stalled_percent: 50, ..W2_SHAPE },
];

/// Every workload in which servers are compared under one load.
pub const ALL: &[Workload] = &[
    Workload { name: "W1a", what: "single ticks: 1 symbol, 250/s, 200 clients", rate: 250.0, ..BASE },
    Workload {
        name: "W1k",
        what: "bursts of 10: 1 symbol, 500/s, 200 clients",
        rate: 500.0,
        burst: 10,
        ..BASE
    },
    Workload { name: "W1", what: "one busy symbol: 1,000/s, 200 clients", rate: 1_000.0, ..BASE },
    Workload { name: "W2a", what: "100 symbols, 500/s, 1,000 clients with 10 each", rate: 500.0, ..W2_SHAPE },
    Workload {
        name: "W2b",
        what: "100 symbols, 1,000/s, 1,000 clients with 10 each",
        rate: 1_000.0,
        ..W2_SHAPE
    },
    Workload {
        name: "W2k",
        what: "bursts of 50: 100 symbols, 1,000/s, 1,000 clients with 10 each",
        rate: 1_000.0,
        burst: 50,
        ..W2_SHAPE
    },
    Workload {
        name: "W2",
        what: "in full: 100 symbols, 10,000/s, 1,000 clients with 10 each",
        rate: 10_000.0,
        ..W2_SHAPE
    },
    Workload {
        name: "W3",
        what: "latency: 1 symbol, 1,000/s, 50 clients that read at once",
        rate: 1_000.0,
        clients: 50,
        lazy_ms: 0,
        is_realtime: true,
        ..BASE
    },
    Workload {
        name: "W6e",
        what: "bursts of US equities: 100 symbols, 1,000/s on average, 1,000 clients with 10 each",
        rate: 1_000.0,
        model: Some("us-equities"),
        ..W2_SHAPE
    },
    Workload {
        name: "W6c",
        what: "bursts of crypto futures: 100 symbols, 1,000/s on average, 1,000 clients with 10 each",
        rate: 1_000.0,
        model: Some("crypto-perp"),
        ..W2_SHAPE
    },
    SINGLE,
];
