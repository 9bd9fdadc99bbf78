//! Benchmarks of the hot path: see `benches/` beside this crate's manifest, and its README.
