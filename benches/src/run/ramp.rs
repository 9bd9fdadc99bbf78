//! W4: ever more ticks until a server no longer delivers them, and then twice its best.

use super::measure::{self, Sample};
use super::server::Server;
use super::workload::Workload;
use serde::Serialize;

/// The part that must be delivered for a rate to count as held.
const DELIVERED_MIN: f64 = 0.97;
/// From one step to the next; between the last two another is taken.
const FACTOR: f64 = 2.0;
const RATE_FIRST: f64 = 500.0;
const RATE_MAX: f64 = 64_000.0;

/// How far a server went.
#[derive(Debug, Clone, Serialize)]
pub struct Ramp {
    pub server: String,
    pub workload: String,
    /// Every rate that was tried.
    pub steps: Vec<Sample>,
    /// Deliveries per second at the highest rate that was held.
    pub best_per_s: f64,
    /// The same when twice that rate was offered.
    pub overload: Option<Sample>,
}

/// Whether a rate was delivered, and in the time in which it was offered: a server that is late catches up afterwards.
fn holds(sample: &Sample) -> bool {
    sample.delivered_share.min(sample.delivered_per_s / sample.offered_per_s) >= DELIVERED_MIN
}

/// Takes `server` to its limit.
pub fn ramp(server: &Server, shape: &Workload, seconds: f64, overload_s: f64) -> anyhow::Result<Ramp> {
    let mut steps: Vec<Sample> = Vec::new();
    let once = |rate: f64, seconds: f64| -> anyhow::Result<Sample> {
        let sample = measure::measure(server, &Workload { rate, ..shape.clone() }, seconds)?;
        eprintln!(
            "{} {:<18} {rate:>7.0} ticks/s: {:>9.0} deliveries/s, {:.1} %, {:.3} µs, load at {:.0} %",
            shape.name,
            sample.server,
            sample.delivered_per_s,
            sample.delivered_share * 100.0,
            sample.cpu_us,
            sample.load_load * 100.0,
        );
        Ok(sample)
    };
    // A rate that is not held gets a second chance: a pause of the machine is no limit of the server.
    let step = |rate: f64| -> anyhow::Result<Sample> {
        let first = once(rate, seconds)?;
        if holds(&first) {
            return Ok(first);
        }
        let second = once(rate, seconds)?;
        Ok(if holds(&second) { second } else { first })
    };
    let mut rate = RATE_FIRST;
    let mut held: Option<Sample> = None;
    while rate <= RATE_MAX {
        let sample = step(rate)?;
        steps.push(sample.clone());
        if !holds(&sample) {
            break;
        }
        held = Some(sample);
        rate *= FACTOR;
    }
    if let Some(best) = &held
        && rate <= RATE_MAX
    {
        let sample = step(best.rate * FACTOR.sqrt())?;
        steps.push(sample.clone());
        if holds(&sample) {
            held = Some(sample);
        }
    }
    let overload = held.as_ref().map(|best| once(best.rate * 2.0, overload_s)).transpose()?;
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    Ok(Ramp {
        server: server.name(),
        workload: shape.name.to_owned(),
        steps,
        best_per_s: held.map_or(0.0, |sample| sample.delivered_per_s),
        overload,
    })
}
