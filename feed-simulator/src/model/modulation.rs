//! Slow modulation: the rate at which fresh orders come, as it wanders over minutes and over a session.
//!
//! Every group of symbols has a factor `exp(sigma · x − sigma²·var/2)`, where `x` is an Ornstein-Uhlenbeck process that is partly
//! shared by the whole market. The correction keeps the mean of the factor at 1, so the mean rate is what was asked for.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// How strongly, how long and how much together the groups wander.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModulationSpec {
    /// Standard deviation of the logarithm of the factor.
    pub(crate) sigma: f64,
    /// Correlation time in seconds.
    pub(crate) time_s: f64,
    /// Share of the variance that all groups have in common, 0 to 1.
    pub(crate) shared: f64,
    /// The course of a session, repeated for ever.
    pub(crate) session: Option<Session>,
}

/// A session that opens with a burst: quiet auction, opening, decay, over a fixed period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// Seconds until the next session starts.
    pub(crate) period_s: f64,
    /// Seconds of auction before the opening.
    pub(crate) auction_s: f64,
    /// Activity in the auction, relative to the floor.
    pub(crate) auction_level: f64,
    /// Activity at the opening over the floor, in units of the floor.
    pub(crate) burst_level: f64,
    /// Decay time of the opening burst in seconds.
    pub(crate) burst_s: f64,
}

impl Session {
    /// Relative activity at `time_s`, with a mean of 1 over one period.
    fn level(&self, time_s: f64) -> f64 {
        let at = time_s % self.period_s;
        let open_s = self.period_s - self.auction_s;
        let mean = (self.auction_level * self.auction_s
            + open_s
            + self.burst_level * self.burst_s * (1.0 - (-open_s / self.burst_s).exp()))
            / self.period_s;
        let level = if at < self.auction_s {
            self.auction_level
        } else {
            1.0 + self.burst_level * (-(at - self.auction_s) / self.burst_s).exp()
        };
        level / mean
    }
}

/// The factors of all groups, moved on step by step.
#[derive(Debug)]
pub(crate) struct Modulation {
    spec: ModulationSpec,
    market: f64,
    groups: Vec<f64>,
    variance: f64,
    time_s: f64,
    factors: Vec<f64>,
}

impl Modulation {
    pub(crate) fn new(spec: ModulationSpec, groups: usize) -> Self {
        let mut this = Self {
            spec,
            market: 0.0,
            groups: vec![0.0; groups],
            variance: 0.0,
            time_s: 0.0,
            factors: vec![1.0; groups],
        };
        this.refresh();
        this
    }

    /// The factor of each group during the present step.
    pub(crate) fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// Moves on by `step_s` seconds.
    pub(crate) fn step<R: Rng>(&mut self, step_s: f64, rng: &mut R) {
        let keep = (-step_s / self.spec.time_s).exp();
        let noise = (1.0 - keep * keep).sqrt();
        let mut draw = |x: &mut f64| {
            let fresh: f64 = StandardNormal.sample(rng);
            *x = keep * *x + noise * fresh;
        };
        draw(&mut self.market);
        self.groups.iter_mut().for_each(&mut draw);
        self.variance = keep * keep * self.variance + noise * noise;
        self.time_s += step_s;
        self.refresh();
    }

    fn refresh(&mut self) {
        let ModulationSpec { sigma, shared, session, .. } = self.spec;
        let level = session.map_or(1.0, |session| session.level(self.time_s));
        for (factor, own) in self.factors.iter_mut().zip(&self.groups) {
            let x = shared.sqrt() * self.market + (1.0 - shared).sqrt() * own;
            *factor = level * (sigma * x - 0.5 * sigma * sigma * self.variance).exp();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn factors_average_to_one() {
        let spec = ModulationSpec { sigma: 0.5, time_s: 20.0, shared: 0.3, session: None };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut modulation = Modulation::new(spec, 8);
        let mut sum = 0.0;
        let steps = 200_000;
        for _ in 0..steps {
            modulation.step(1.0, &mut rng);
            sum += modulation.factors().iter().sum::<f64>() / 8.0;
        }
        let mean = sum / f64::from(steps);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn a_session_averages_to_one_and_peaks_at_its_opening() {
        let session =
            Session { period_s: 60.0, auction_s: 5.0, auction_level: 0.2, burst_level: 15.0, burst_s: 2.0 };
        let mean = (0..60_000).map(|i| session.level(f64::from(i) / 1000.0)).sum::<f64>() / 60_000.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!(session.level(5.0) > 10.0 * session.level(40.0));
        assert!(session.level(4.9) < 0.5 * session.level(40.0));
    }
}
