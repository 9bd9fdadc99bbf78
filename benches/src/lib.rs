//! What is measured of the hot path, for those who take the time (`benches/`) and for those who count
//! instructions (`tickgate-bench steps`): both mean the same when they name a step.

pub mod steps;
