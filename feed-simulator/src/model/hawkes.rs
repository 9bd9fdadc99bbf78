//! Arrivals: a marked, self-exciting point process, drawn as a branching process.
//!
//! Some orders come for reasons of their own (immigrants); every order makes further orders likely for a while (children).
//! This is the cluster form of Hawkes' process: an order with batch size `b` has a Poisson number of children with mean
//! `children · b^mark_power / mean(b^mark_power)`, each after a delay from one of three exponentials (a reaction of machines, of
//! algorithms, of people). Nothing has to be re-computed as time goes on: children wait in a heap until they are due, so an
//! event costs the logarithm of the orders pending, and memory is bounded by `rate × longest delay`.
//!
//! The process starts stationary in its mean: by Little's law the children pending at any time are
//! `rate × children × delay`, and what is left of an exponential delay is exponential again.

use super::marks::Batch;
use super::modulation::{Modulation, ModulationSpec};
use super::popularity::Popularity;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Poisson};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NS_PER_S: f64 = 1e9;

/// One of the exponentials of the excitation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    /// Mean delay of a child in seconds.
    pub(crate) delay_s: f64,
    /// Mean children per order; the sum over the kernels is the branching ratio and stays below 1.
    pub(crate) children: f64,
}

/// Bursts that hit all symbols of a group, or of the market, at once: news.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BurstSpec {
    /// Mean time between two bursts of one group in seconds.
    pub(crate) every_s: f64,
    /// Share of all immigrants that come in bursts.
    pub(crate) share: f64,
    /// Decay time of a burst in seconds.
    pub(crate) decay_s: f64,
    /// Share of a group's bursts that hit all other groups at the same time.
    pub(crate) market: f64,
}

/// Everything that decides when orders come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalSpec {
    pub(crate) kernels: [Kernel; 3],
    /// Exponent with which the batch size of an order raises its number of children.
    pub(crate) mark_power: f64,
    /// Share of children that land on another symbol of the group.
    pub(crate) cross: f64,
    pub(crate) batch: Batch,
    pub(crate) modulation: ModulationSpec,
    pub(crate) burst: BurstSpec,
}

impl ArrivalSpec {
    fn branching_ratio(&self) -> f64 {
        self.kernels.iter().map(|kernel| kernel.children).sum()
    }
}

/// Symbols that share a group's modulation and bursts, until there are [`GROUPS_MAX`] groups.
const GROUP_SYMBOLS: usize = 8;
const GROUPS_MAX: usize = 16;

/// One line of the tape: a print of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Print {
    /// Since the start of the model.
    pub(crate) offset_ns: u64,
    /// Rank of the symbol.
    pub(crate) symbol: u32,
    /// Random bits of the order, the same for each of its prints.
    pub(crate) order: u32,
    /// Which print of its order this is, counted from 0.
    pub(crate) index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Order,
    Print { order: u32, index: u32, last: u32 },
}

/// Time, then order of creation (so that equal times cannot depend on the heap), then what.
type Pending = Reverse<(u64, u64, u32, Due)>;

/// The endless stream of prints.
#[derive(Debug)]
pub(crate) struct Arrivals {
    spec: ArrivalSpec,
    rng: ChaCha8Rng,
    popularity: Popularity,
    modulation: Modulation,
    pending: BinaryHeap<Pending>,
    created: u64,
    immigrants_per_s: f64,
    mark_mean: f64,
    step_ns: u64,
    step_end_ns: u64,
    /// Sums of weight × factor over the groups, for drawing a group; the last one scales the rate.
    group_sums: Vec<f64>,
    now_ns: u64,
    immigrant_ns: u64,
    burst_ns: u64,
    burst_immigrants: f64,
}

impl Arrivals {
    /// Prints of `symbols` symbols at a mean rate of `rate_per_s`, decided by `rng` alone.
    pub(crate) fn new(spec: ArrivalSpec, symbols: usize, rate_per_s: f64, rng: ChaCha8Rng) -> Self {
        let branching = spec.branching_ratio();
        assert!(branching < 1.0, "a branching ratio of 1 or more explodes");
        let popularity = Popularity::new(symbols, (symbols / GROUP_SYMBOLS).clamp(1, GROUPS_MAX));
        let groups = popularity.group_weights().len();
        let orders_per_s = rate_per_s / spec.batch.moment(1.0);
        let immigrants_per_s = orders_per_s * (1.0 - branching);
        let mut this = Self {
            spec,
            rng,
            modulation: Modulation::new(spec.modulation, groups),
            popularity,
            pending: BinaryHeap::new(),
            created: 0,
            immigrants_per_s: immigrants_per_s * (1.0 - spec.burst.share),
            mark_mean: spec.batch.moment(spec.mark_power),
            step_ns: if spec.modulation.session.is_some() { 100_000_000 } else { 1_000_000_000 },
            step_end_ns: 0,
            group_sums: vec![0.0; groups],
            now_ns: 0,
            immigrant_ns: 0,
            burst_ns: 0,
            burst_immigrants: immigrants_per_s * spec.burst.share * spec.burst.every_s,
        };
        this.start(orders_per_s);
        this
    }

    fn start(&mut self, orders_per_s: f64) {
        self.step_end_ns = self.step_ns;
        self.sum_groups();
        for kernel in self.spec.kernels {
            for _ in 0..poisson(orders_per_s * kernel.children * kernel.delay_s, &mut self.rng) {
                let symbol = self.draw_symbol();
                let at_ns = exponential_ns(kernel.delay_s, &mut self.rng);
                self.push(at_ns, symbol, Due::Order);
            }
        }
        self.draw_immigrant();
        self.draw_burst();
    }

    fn sum_groups(&mut self) {
        let mut sum = 0.0;
        let weights = self.popularity.group_weights().iter().zip(self.modulation.factors());
        for (slot, (weight, factor)) in self.group_sums.iter_mut().zip(weights) {
            sum += weight * factor;
            *slot = sum;
        }
    }

    fn factor(&self) -> f64 {
        self.group_sums.last().copied().unwrap_or(1.0)
    }

    fn draw_symbol(&mut self) -> u32 {
        let wanted = self.rng.random::<f64>() * self.factor();
        let group = self.group_sums.partition_point(|sum| *sum <= wanted).min(self.group_sums.len() - 1);
        self.popularity.draw_in(group, &mut self.rng)
    }

    fn draw_immigrant(&mut self) {
        let rate = self.immigrants_per_s * self.factor();
        self.immigrant_ns =
            if rate > 0.0 { self.now_ns + exponential_ns(1.0 / rate, &mut self.rng) } else { u64::MAX };
    }

    fn draw_burst(&mut self) {
        self.burst_ns = if self.burst_immigrants > 0.0 {
            self.now_ns + exponential_ns(self.spec.burst.every_s / self.bursts(), &mut self.rng)
        } else {
            u64::MAX
        };
    }

    /// Bursts of any kind for one burst of a group.
    fn bursts(&self) -> f64 {
        let market = self.spec.burst.market;
        (1.0 - market) * self.group_sums.len() as f64 + market
    }

    fn burst(&mut self) {
        let groups = self.group_sums.len();
        if self.rng.random::<f64>() * self.bursts() < self.spec.burst.market {
            (0..groups).for_each(|group| self.burst_of(group));
        } else {
            let group = self.rng.random_range(0..groups);
            self.burst_of(group);
        }
    }

    fn burst_of(&mut self, group: usize) {
        let mean = self.burst_immigrants * self.popularity.group_weights()[group];
        for _ in 0..poisson(mean, &mut self.rng) {
            let at_ns = self.now_ns + exponential_ns(self.spec.burst.decay_s, &mut self.rng);
            let symbol = self.popularity.draw_in(group, &mut self.rng);
            self.push(at_ns, symbol, Due::Order);
        }
    }

    fn push(&mut self, at_ns: u64, symbol: u32, due: Due) {
        self.created += 1;
        self.pending.push(Reverse((at_ns, self.created, symbol, due)));
    }

    /// An order: its first print, the rest of its batch and its children.
    fn order(&mut self, symbol: u32) -> Print {
        let prints = self.spec.batch.draw(&mut self.rng);
        let order: u32 = self.rng.random();
        let mark = f64::from(prints).powf(self.spec.mark_power) / self.mark_mean;
        for kernel in self.spec.kernels {
            for _ in 0..poisson(kernel.children * mark, &mut self.rng) {
                let at_ns = self.now_ns + exponential_ns(kernel.delay_s, &mut self.rng);
                let symbol = if self.rng.random::<f64>() < self.spec.cross {
                    self.popularity.draw_in(self.popularity.group_of(symbol), &mut self.rng)
                } else {
                    symbol
                };
                self.push(at_ns, symbol, Due::Order);
            }
        }
        self.print(symbol, order, 0, prints - 1)
    }

    fn print(&mut self, symbol: u32, order: u32, index: u32, last: u32) -> Print {
        if index < last {
            let at_ns = self.now_ns + exponential_ns(self.spec.batch.gap_ns / NS_PER_S, &mut self.rng);
            self.push(at_ns, symbol, Due::Print { order, index: index + 1, last });
        }
        Print { offset_ns: self.now_ns, symbol, order, index }
    }
}

impl Iterator for Arrivals {
    type Item = Print;

    fn next(&mut self) -> Option<Print> {
        loop {
            let pending_ns = self.pending.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns);
            let next_ns = pending_ns.min(self.immigrant_ns).min(self.burst_ns).min(self.step_end_ns);
            self.now_ns = next_ns;
            if next_ns == self.step_end_ns {
                // The rest of the wait for an immigrant is drawn anew at the new rate: exponentials have no memory.
                self.modulation.step(self.step_ns as f64 / NS_PER_S, &mut self.rng);
                self.sum_groups();
                self.step_end_ns += self.step_ns;
                self.draw_immigrant();
            } else if next_ns == pending_ns {
                let Reverse((_, _, symbol, due)) = self.pending.pop().expect("it was just peeked at");
                return Some(match due {
                    Due::Order => self.order(symbol),
                    Due::Print { order, index, last } => self.print(symbol, order, index, last),
                });
            } else if next_ns == self.immigrant_ns {
                let symbol = self.draw_symbol();
                self.draw_immigrant();
                return Some(self.order(symbol));
            } else {
                self.burst();
                self.draw_burst();
            }
        }
    }
}

fn exponential_ns<R: Rng>(mean_s: f64, rng: &mut R) -> u64 {
    let unit: f64 = Exp1.sample(rng);
    (unit * mean_s * NS_PER_S) as u64
}

fn poisson<R: Rng>(mean: f64, rng: &mut R) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean < 1.0 {
        // Most orders have few children: by inversion, with one draw.
        let mut left = rng.random::<f64>();
        let mut term = (-mean).exp();
        let mut count = 0;
        while left > term && count < 50 {
            left -= term;
            count += 1;
            term *= mean / count as f64;
        }
        return count;
    }
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(rng) as u64)
}

/// A generator for one purpose of a seed: streams of the same seed are independent of each other.
pub(crate) fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
