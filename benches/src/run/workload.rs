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
    record_bytes: 150,
    clients: 200,
    per_client: 1,
    lazy_ms: 5,
    stalled_percent: 0,
    is_realtime: false,
};
const W2: Workload = Workload { symbols: 100, zipf: 1.0, clients: 1_000, per_client: 10, ..BASE };

/// Every workload with a constant load.
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
    Workload { name: "W2a", what: "100 symbols, 500/s, 1,000 clients with 10 each", rate: 500.0, ..W2 },
    Workload { name: "W2b", what: "100 symbols, 1,000/s, 1,000 clients with 10 each", rate: 1_000.0, ..W2 },
    Workload {
        name: "W2k",
        what: "bursts of 50: 100 symbols, 1,000/s, 1,000 clients with 10 each",
        rate: 1_000.0,
        burst: 50,
        ..W2
    },
    Workload {
        name: "W2",
        what: "in full: 100 symbols, 10,000/s, 1,000 clients with 10 each",
        rate: 10_000.0,
        ..W2
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
        name: "W10",
        what: "10,000 symbols with 1 tick/s of 512 bytes, 9,000 clients with 1 each",
        rate: 10_000.0,
        symbols: 10_000,
        symbol_digits: 48,
        record_bytes: 512,
        clients: 9_000,
        ..BASE
    },
];
