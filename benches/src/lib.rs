//! Benchmarks of the hot path
