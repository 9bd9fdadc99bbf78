//! When ticks are due, and of which symbol.

use crate::market::Draw;
use rustc_hash::FxHashMap;
use tickgate_sim::model::{Model, ModelConfig, Preset};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Ticks per second
    #[arg(long)]
    rate: f64,
    /// Ticks that are due at the same time
    #[arg(long, default_value_t = 1)]
    burst: u64,
    /// Symbols
    #[arg(long, default_value_t = 1)]
    pub symbols: usize,
    /// Exponent of Zipf's law over the symbols; 0 takes them in turn
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,
    /// Take times and symbols from a model of a market: us-equities, crypto-perp, …
    #[arg(long)]
    model: Option<String>,
}

/// Where times and symbols come from.
pub enum Source {
    /// Bursts of equal size, evenly spaced.
    Even { burst: u64, burst_ns: f64, number: u64, draw: Box<Draw> },
    /// A model of a market.
    Model { model: Box<Model>, indices: FxHashMap<String, usize> },
}

impl Source {
    pub fn new(args: &Args) -> anyhow::Result<Self> {
        let Some(name) = &args.model else {
            return Ok(Self::Even {
                burst: args.burst,
                burst_ns: args.burst as f64 / args.rate * 1e9,
                number: 0,
                draw: Box::new(Draw::new(args.symbols, args.zipf)),
            });
        };
        let preset = Preset::ALL
            .into_iter()
            .find(|preset| preset.name() == name)
            .ok_or_else(|| anyhow::anyhow!("no model is called {name:?}"))?;
        let model =
            Model::new(preset, ModelConfig { symbols: args.symbols, rate_per_s: args.rate, seed: 1 })?;
        let indices = model.symbols().iter().cloned().zip(0..).collect();
        Ok(Self::Model { model: Box::new(model), indices })
    }

    /// Nanoseconds from the start to the next tick, and its symbol.
    pub fn next(&mut self) -> (i64, usize) {
        match self {
            Self::Even { burst, burst_ns, number, draw } => {
                let offset_ns = ((*number / *burst) as f64 * *burst_ns) as i64;
                *number += 1;
                (offset_ns, draw.next())
            }
            Self::Model { model, indices } => match model.next() {
                Some(timed) => {
                    (timed.offset_ns as i64, indices.get(&*timed.tick.symbol).copied().unwrap_or(0))
                }
                None => (i64::MAX / 2, 0),
            },
        }
    }
}
