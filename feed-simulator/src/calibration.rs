//! What the models are measured against: real recordings, and the conditions under which a model is comparable with them.

use crate::model::{Model, ModelConfig, ModelError, Preset};
use crate::stats::{PeakCounter, Peaks};

/// How far a ratio may be from the real one, in either direction.
pub const FACTOR_MAX: f64 = 2.0;

/// A few symbols at a real mean rate, for as long as the recording lasted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Symbols.
    pub symbols: usize,
    /// Mean ticks per second.
    pub rate_per_s: f64,
    /// Simulated time in seconds.
    pub span_s: f64,
    /// What was recorded, and its peak-to-mean ratios at 1 s, 100 ms and 10 ms.
    pub real: Option<(&'static str, [f64; 3])>,
}

impl Preset {
    /// The conditions for this preset. There is no recording of a futures opening; `constant` is like nothing real.
    pub const fn calibration(self) -> Calibration {
        match self {
            Self::UsEquities => Calibration {
                symbols: 4,
                rate_per_s: 51.6,
                span_s: 23_400.0,
                real: Some(("AIG, BAC, IBM, SPY, 2013-10-07, regular session", [25.0, 220.0, 1_000.0])),
            },
            Self::CryptoPerp => Calibration {
                symbols: 1,
                rate_per_s: 272.5,
                span_s: 345.0,
                real: Some(("BTCUSDT perpetual, 2024-08-08, all messages", [9.3, 53.5, 237.8])),
            },
            Self::Fx => Calibration {
                symbols: 1,
                rate_per_s: 1.94,
                span_s: 86_400.0,
                real: Some(("EURUSD, 2014-05-08, 24 hours", [64.0, 134.1, 309.5])),
            },
            Self::FuturesOpen | Self::Constant => {
                Calibration { symbols: 4, rate_per_s: 500.0, span_s: 600.0, real: None }
            }
        }
    }
}

/// Runs a model in simulated time and counts its peaks.
///
/// # Errors
/// When the conditions are impossible.
pub fn measure(preset: Preset, conditions: Calibration, seed: u64) -> Result<Peaks, ModelError> {
    let Calibration { symbols, rate_per_s, span_s, .. } = conditions;
    let model = Model::new(preset, ModelConfig { symbols, rate_per_s, seed })?;
    let end_ns = (span_s * 1e9) as u64;
    let mut counter = PeakCounter::default();
    for timed in model.take_while(|timed| timed.offset_ns < end_ns) {
        counter.add(timed.offset_ns, 1);
    }
    Ok(counter.peaks_over(span_s))
}

/// Whether a ratio is within [`FACTOR_MAX`] of the real one.
pub fn is_close(ratio: f64, real: f64) -> bool {
    ratio <= real * FACTOR_MAX && ratio * FACTOR_MAX >= real
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: std::ops::RangeInclusive<u64> = 1..=7;

    #[test]
    fn every_preset_is_within_a_factor_of_two_of_the_real_recording() {
        for preset in Preset::ALL {
            let conditions = preset.calibration();
            let Some((_, real)) = conditions.real else { continue };
            let runs: Vec<[f64; 3]> =
                SEEDS.map(|seed| measure(preset, conditions, seed).unwrap().ratios()).collect();
            for (window, real) in real.into_iter().enumerate() {
                let mut ratios: Vec<f64> = runs.iter().map(|run| run[window]).collect();
                ratios.sort_by(f64::total_cmp);
                let median = ratios[ratios.len() / 2];
                assert!(is_close(median, real), "{} window {window}: {ratios:?}, real {real}", preset.name());
            }
        }
    }

    #[test]
    fn constant_has_no_peaks() {
        let peaks = measure(Preset::Constant, Preset::Constant.calibration(), 1).unwrap();
        assert!(peaks.ratios()[..2].iter().all(|ratio| (ratio - 1.0).abs() < 0.05), "{:?}", peaks.ratios());
    }

    #[test]
    fn an_opening_is_a_burst() {
        let peaks = measure(Preset::FuturesOpen, Preset::FuturesOpen.calibration(), 1).unwrap();
        assert!(peaks.ratios()[0] > 5.0, "{:?}", peaks.ratios());
    }
}
