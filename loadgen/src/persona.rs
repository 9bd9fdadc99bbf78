//! How a client behaves, and how many behave how.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Persona {
    /// Reads everything as it comes.
    Healthy,
    /// Stops reading once it has subscribed, and reads on when the measurement is over.
    Stalled,
    /// Reads at a fixed number of bytes per second.
    Slow,
    /// Keeps exchanging one subscription for another.
    Churning,
    /// Drops its connection and returns, together with all of its kind.
    Reconnecting,
}

impl Persona {
    /// Every persona, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Stalled, Self::Slow, Self::Churning, Self::Reconnecting];

    /// The persona's name in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Stalled => "stalled",
            Self::Slow => "slow",
            Self::Churning => "churning",
            Self::Reconnecting => "reconnecting",
        }
    }

    /// Whether the gateway may cut such a client off for reading too slowly.
    pub const fn may_be_cut_off(self) -> bool {
        matches!(self, Self::Stalled | Self::Slow)
    }
}

/// How many clients a persona has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Percent of all connections.
    Percent(f64),
    /// A number of connections.
    Count(usize),
}

/// Which clients are not healthy, and how they misbehave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonaMix {
    /// The personas beside `healthy`, which has the rest.
    pub shares: Vec<(Persona, Share)>,
    /// What `slow` reads, in bytes per second.
    pub slow_bytes_per_s: u64,
    /// Time between two exchanges of a `churning` client, in milliseconds.
    pub churn_every_ms: u64,
    /// Time between two storms of `reconnecting` clients, in milliseconds.
    pub storm_every_ms: u64,
}

impl Default for PersonaMix {
    fn default() -> Self {
        Self { shares: Vec::new(), slow_bytes_per_s: 20_000, churn_every_ms: 1_000, storm_every_ms: 10_000 }
    }
}

/// A text that is no mix of personas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}`: {reason}")]
pub struct BadPersonas {
    part: String,
    reason: String,
}

impl FromStr for PersonaMix {
    type Err = BadPersonas;

    /// Reads `stalled=5%,slow=10@20000,churning=1%@500ms,reconnecting=2%@10s`.
    fn from_str(text: &str) -> Result<Self, BadPersonas> {
        let mut mix = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            mix.add(part).map_err(|reason| BadPersonas { part: part.to_owned(), reason })?;
        }
        let percent: f64 =
            mix.shares.iter().map(|(_, s)| if let Share::Percent(p) = s { *p } else { 0.0 }).sum();
        if percent > 100.0 {
            let reason = format!("the shares add up to {percent}%");
            return Err(BadPersonas { part: text.to_owned(), reason });
        }
        Ok(mix)
    }
}

impl PersonaMix {
    fn add(&mut self, part: &str) -> Result<(), String> {
        let (name, rest) = part.split_once('=').ok_or("expected NAME=SHARE, like stalled=5%")?;
        let persona = Persona::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            let names: Vec<_> = Persona::ALL.iter().map(|p| p.name()).collect();
            format!("no such persona, there are {}", names.join(", "))
        })?;
        if persona == Persona::Healthy {
            return Err("healthy has whatever the others leave".to_owned());
        }
        if self.shares.iter().any(|(p, _)| *p == persona) {
            return Err("named twice".to_owned());
        }
        let (share, option) = match rest.split_once('@') {
            Some((share, option)) => (share, Some(option)),
            None => (rest, None),
        };
        self.shares.push((persona, read_share(share)?));
        let Some(option) = option else { return Ok(()) };
        match persona {
            Persona::Slow => {
                let bytes = option.parse().ok().filter(|b| *b > 0);
                self.slow_bytes_per_s =
                    bytes.ok_or("after @ must stand bytes per second, like slow=5%@20000")?;
            }
            Persona::Churning => self.churn_every_ms = read_interval_ms(option)?,
            Persona::Reconnecting => self.storm_every_ms = read_interval_ms(option)?,
            Persona::Healthy | Persona::Stalled => return Err("takes nothing after @".to_owned()),
        }
        Ok(())
    }

    /// The persona of each of `connections` clients, dealt out by `rng`. Counts are cut to what is left.
    pub fn deal(&self, connections: usize, rng: &mut ChaCha8Rng) -> Vec<Persona> {
        let mut all = Vec::with_capacity(connections);
        for (persona, share) in &self.shares {
            let wanted = match share {
                Share::Percent(percent) => (connections as f64 * percent / 100.0).round() as usize,
                Share::Count(count) => *count,
            };
            let left = connections - all.len();
            all.extend(std::iter::repeat_n(*persona, wanted.min(left)));
        }
        all.resize(connections, Persona::Healthy);
        all.shuffle(rng);
        all
    }
}

fn read_share(text: &str) -> Result<Share, String> {
    let wrong = || format!("`{text}` is neither a percentage like 5% nor a number of connections");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        return if (0.0..=100.0).contains(&percent) { Ok(Share::Percent(percent)) } else { Err(wrong()) };
    }
    text.parse().map(Share::Count).map_err(|_| wrong())
}

fn read_interval_ms(text: &str) -> Result<u64, String> {
    let interval: Duration =
        humantime::parse_duration(text).map_err(|_| format!("`{text}` is no time like 500ms or 10s"))?;
    let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    if ms < 10 { Err("less than 10ms is no interval".to_owned()) } else { Ok(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn count(mix: &str, connections: usize) -> Vec<usize> {
        let mix: PersonaMix = mix.parse().unwrap();
        let all = mix.deal(connections, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(all.len(), connections);
        Persona::ALL.into_iter().map(|p| all.iter().filter(|q| **q == p).count()).collect()
    }

    #[test]
    fn deals_shares_and_counts() {
        assert_eq!(count("", 10), [10, 0, 0, 0, 0]);
        assert_eq!(count("stalled=5%", 1000), [950, 50, 0, 0, 0]);
        assert_eq!(count("stalled=50%,slow=3,reconnecting=10", 20), [0, 10, 3, 0, 7]);
    }

    #[test]
    fn reads_options() {
        let mix: PersonaMix = "slow=5%@20000, churning=1@500ms,reconnecting=2%@3s".parse().unwrap();
        assert_eq!((mix.slow_bytes_per_s, mix.churn_every_ms, mix.storm_every_ms), (20_000, 500, 3_000));
        assert_eq!(mix.shares[1], (Persona::Churning, Share::Count(1)));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (text, reason) in [
            ("stalled", "expected NAME=SHARE, like stalled=5%"),
            ("lazy=5%", "no such persona, there are healthy, stalled, slow, churning, reconnecting"),
            ("healthy=5%", "healthy has whatever the others leave"),
            ("stalled=5%,stalled=1%", "named twice"),
            ("stalled=many", "`many` is neither a percentage like 5% nor a number of connections"),
            ("stalled=-1%", "`-1%` is neither a percentage like 5% nor a number of connections"),
            ("stalled=5%@3", "takes nothing after @"),
            ("slow=5%@0", "after @ must stand bytes per second, like slow=5%@20000"),
            ("churning=5%@often", "`often` is no time like 500ms or 10s"),
            ("churning=5%@1ms", "less than 10ms is no interval"),
            ("stalled=60%,slow=60%", "the shares add up to 120%"),
        ] {
            assert_eq!(text.parse::<PersonaMix>().unwrap_err().reason, reason, "{text}");
        }
    }
}
