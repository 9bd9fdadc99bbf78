//! The plan of a run: who connects when, and what each client asks for. Everything random comes from one seed.

use crate::client::ClientOptions;
use crate::persona::{Persona, PersonaMix};
use crate::returning::Resume;
use crate::trust::{TrustError, client_options};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tickgate_protocol::command::is_symbol_or_pattern;
use tickgate_protocol::{Channel, ConflateMs, Depth, OnSlow};

/// Connections per source address: below the usual range of 28,232 ephemeral ports.
pub const CONNECTIONS_PER_ADDRESS: usize = 20_000;
/// Most symbols in one subscribe request, so that it stays far below any limit of message bytes.
pub(crate) const SYMBOLS_PER_REQUEST: usize = 500;

/// What a run does. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the gateways are; the clients are spread evenly over them.
    pub urls: Vec<String>,
    /// File with the roots that certificates of `wss://` gateways must lead to; the system's when there is none.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// File with the token or API key that clients show; none when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Clients, of all gateways and processes together.
    pub connections: usize,
    /// Symbols that each client subscribes to, each on one channel.
    pub symbols_per_client: usize,
    /// Processes that the clients are spread over.
    pub processes: usize,
    /// Threads of each process; each client belongs to one.
    pub threads: usize,
    /// Time over which the clients connect, on a schedule that waits for nobody.
    pub ramp_ms: u64,
    /// Time after the ramp that is not measured.
    pub warmup_ms: u64,
    /// Time that is measured.
    pub measure_ms: u64,
    /// Time after the measurement in which stalled clients read what waits for them.
    pub drain_ms: u64,
    /// Symbols, the most popular first; empty: ask the gateway which there are.
    pub symbols: Vec<String>,
    /// How long the gateway is listened to for its symbols.
    pub discover_ms: u64,
    /// Exponent of the popularity of symbols: rank r is chosen in proportion to r^-zipf.
    pub zipf: f64,
    /// The most popular symbols that every client has, at most half of a client's symbols.
    pub hot: usize,
    /// Which channels the symbols are subscribed on.
    pub channels: ChannelMix,
    /// Who misbehaves, and how.
    pub personas: PersonaMix,
    /// What happens to slow clients; `None` is each channel's own default.
    pub on_slow: Option<OnSlow>,
    /// Conflation of quotes and book.
    pub conflate_ms: u64,
    /// Levels a side of book.
    pub depth: u8,
    /// Seed of every choice.
    pub seed: u64,
    /// Kernel receive buffer of stalled and slow clients in bytes, so that what they do not read backs up soon.
    pub slow_recv_buffer_bytes: usize,
    /// Local addresses to connect from, 127.0.0.2 and following; 0 chooses.
    pub source_addresses: usize,
    /// The gateways' processes, in the order of their URLs; empty looks for them.
    pub gateway_pids: Vec<u32>,
    /// The generator's own lag beyond which its figures are not to be trusted.
    pub lag_max_ms: u64,
    /// Whether a run in which no event comes may pass.
    #[serde(default)]
    pub allow_empty: bool,
    /// Whether clients that lose their session come back, and how.
    #[serde(default)]
    pub resume: Resume,
    /// Whether being stopped is the regular end of the measurement.
    #[serde(default)]
    pub until_stopped: bool,
    /// Whether the feed ends before the run does, so that all clients must end at the same place.
    #[serde(default)]
    pub feed_ends: bool,
}

impl Plan {
    /// How its clients connect.
    ///
    /// # Errors
    /// When a gateway wants TLS, and there are no roots for it, or when the file of the token holds none.
    pub fn client_options(&self) -> Result<ClientOptions, TrustError> {
        client_options(&self.urls, self.ca_file.as_deref(), self.token_file.as_deref())
    }

    /// A small plan for the gateway at `url`: ten healthy clients for ten seconds.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            ca_file: None,
            token_file: None,
            connections: 10,
            symbols_per_client: 10,
            processes: 1,
            threads: 1,
            ramp_ms: 0,
            warmup_ms: 0,
            measure_ms: 10_000,
            drain_ms: 2_000,
            symbols: Vec::new(),
            discover_ms: 1_000,
            zipf: 0.85,
            hot: 3,
            channels: ChannelMix::default(),
            personas: PersonaMix::default(),
            on_slow: None,
            conflate_ms: 0,
            depth: 10,
            seed: 1,
            slow_recv_buffer_bytes: 32 << 10,
            source_addresses: 0,
            gateway_pids: Vec::new(),
            lag_max_ms: 500,
            allow_empty: false,
            resume: Resume::Never,
            until_stopped: false,
            feed_ends: false,
        }
    }

    /// Everything that is wrong with the plan.
    ///
    /// # Errors
    /// One text per fault.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        require(self.connections > 0, "there must be at least one connection".to_owned());
        let (urls, pids) = (self.urls.len(), self.gateway_pids.len());
        require(urls > 0, "there must be at least one URL".to_owned());
        for url in
            self.urls.iter().enumerate().filter(|(n, url)| self.urls[..*n].contains(url)).map(|(_, u)| u)
        {
            require(false, format!("`{url}` is named twice"));
        }
        require(
            pids == 0 || pids == urls,
            format!("{pids} processes of gateways are given, but {urls} URLs: give one for each, or none"),
        );
        require(self.processes > 0 && self.processes <= 64, "processes must be from 1 to 64".to_owned());
        let least = urls * self.processes;
        require(
            self.connections == 0 || self.connections >= least,
            format!(
                "{} connections are too few: each of {} processes needs one to each of {urls} gateways",
                self.connections, self.processes
            ),
        );
        require(self.symbols_per_client > 0, "a client needs at least one symbol".to_owned());
        require(self.threads > 0 && self.threads <= 256, "threads must be from 1 to 256".to_owned());
        require(self.measure_ms > 0, "there must be some time to measure".to_owned());
        require((0.0..=10.0).contains(&self.zipf), "the Zipf exponent must be from 0 to 10".to_owned());
        require(self.source_addresses <= 250, "source addresses must be at most 250".to_owned());
        require(
            ConflateMs::round_up(self.conflate_ms).is_some(),
            "conflation must be at most 1000 ms".to_owned(),
        );
        require(
            Depth::new(self.depth.into()).is_some(),
            format!("the depth must be one of {:?}", Depth::ALLOWED),
        );
        for symbol in self.symbols.iter().filter(|s| !is_symbol_or_pattern(s)) {
            require(false, format!("`{symbol}` is neither a symbol nor a pattern"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The clients of `process`, in the order of connecting. `symbols` are by popularity. What a client does depends on
    /// its index alone, not on how the others are spread.
    pub fn clients(&self, process: usize, symbols: &[String]) -> Vec<ClientPlan> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let personas = self.personas.deal(self.connections, &mut rng);
        let popularity = Popularity::new(symbols.len(), self.zipf);
        personas
            .into_iter()
            .enumerate()
            .filter(|(index, _)| self.place(*index).process == process)
            .map(|(index, persona)| {
                let mut rng = self.rng_of(index);
                let hot = self.hot.min(self.symbols_per_client / 2);
                let chosen = popularity.choose(self.symbols_per_client, hot, &mut rng);
                let pairs = chosen.into_iter().map(|symbol| (self.channels.draw(&mut rng), symbol)).collect();
                ClientPlan { index, persona, pairs }
            })
            .collect()
    }

    /// Where client `index` belongs. Clients take turns at the gateways first, then at the processes, then at the threads:
    /// so every process has as many at each gateway, from all of the ramp.
    pub fn place(&self, index: usize) -> Place {
        let (turn, gateway) = (index / self.urls.len(), index % self.urls.len());
        let (turn, process) = (turn / self.processes, turn % self.processes);
        Place { gateway, process, thread: turn % self.threads }
    }

    /// How many clients belong to `process`.
    pub fn connections_of(&self, process: usize) -> usize {
        (0..self.connections).filter(|index| self.place(*index).process == process).count()
    }

    /// The source of chance of one client.
    pub(crate) fn rng_of(&self, index: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index as u64 + 1);
        rng
    }

    /// The source of chance of one client's waiting, apart from that of its choices.
    pub(crate) fn waits_of(&self, index: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(!self.seed);
        rng.set_stream(index as u64 + 1);
        rng
    }

    /// The number of client `index` among those of its gateway.
    pub(crate) fn turn_of(&self, index: usize) -> usize {
        index / self.urls.len().max(1)
    }

    /// Where client `index` connects from, for the gateway at `target`.
    pub fn source_address(&self, index: usize, target: SocketAddr) -> Option<IpAddr> {
        let needed = self.connections.div_ceil(CONNECTIONS_PER_ADDRESS);
        let count = if self.source_addresses == 0 { needed } else { self.source_addresses };
        let is_local = target.ip().is_loopback() && target.is_ipv4();
        if !is_local || (self.source_addresses == 0 && count < 2) {
            return None;
        }
        // From 127.0.0.2 on: 127.0.0.1 is what everybody else uses.
        let last = u8::try_from(2 + index % count).expect("checked: at most 250 addresses");
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
    }

    /// One `subscriptions` entry for `symbols` on `channel` with the plan's options.
    pub(crate) fn subscription(&self, channel: Channel, symbols: &[&str]) -> Value {
        let mut subscription = json!({"channel": channel.name(), "symbols": symbols});
        if let Some(on_slow) = self.on_slow.filter(|p| channel.is_state() || *p != OnSlow::Conflate) {
            subscription["on_slow"] = json!(on_slow.name());
        }
        if self.conflate_ms > 0 && matches!(channel, Channel::Quotes | Channel::Book) {
            subscription["conflate_ms"] = json!(self.conflate_ms);
        }
        if channel == Channel::Book {
            subscription["depth"] = json!(self.depth);
        }
        subscription
    }

    /// The subscribe requests for `pairs`: lists of `subscriptions`, each small enough for one message.
    pub(crate) fn requests(&self, pairs: &[(Channel, u32)], symbols: &[String]) -> Vec<Value> {
        let mut requests = Vec::new();
        for channel in Channel::ALL {
            let names: Vec<&str> = pairs
                .iter()
                .filter(|(c, _)| *c == channel)
                .filter_map(|(_, symbol)| symbols.get(*symbol as usize).map(String::as_str))
                .collect();
            requests.extend(
                names.chunks(SYMBOLS_PER_REQUEST).map(|part| json!([self.subscription(channel, part)])),
            );
        }
        requests
    }

    /// Time from the start to the end of the warm-up.
    pub(crate) fn before_measure(&self) -> Duration {
        Duration::from_millis(self.ramp_ms + self.warmup_ms)
    }
}

/// Where a client belongs; all are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Place {
    pub gateway: usize,
    pub process: usize,
    pub thread: usize,
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPlan {
    /// Its place in the order of connecting.
    pub index: usize,
    /// How it behaves.
    pub persona: Persona,
    /// What it subscribes to; symbols by their rank of popularity.
    pub pairs: Vec<(Channel, u32)>,
}

/// Chooses symbols by their rank: rank r in proportion to r^-zipf.
#[derive(Debug, Clone)]
pub struct Popularity {
    /// Weights of all ranks up to and including this one.
    cumulative: Vec<f64>,
}

impl Popularity {
    /// For `count` symbols.
    pub fn new(count: usize, zipf: f64) -> Self {
        let weight = |rank: usize| (rank as f64).powf(-zipf);
        let cumulative = (1..=count).scan(0.0, |sum, rank| {
            *sum += weight(rank);
            Some(*sum)
        });
        Self { cumulative: cumulative.collect() }
    }

    /// One symbol, by its rank counted from 0; 0 when there are none.
    pub fn one(&self, rng: &mut impl Rng) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = rng.random::<f64>() * total;
        let rank = self.cumulative.partition_point(|sum| *sum <= at);
        rank.min(self.cumulative.len().saturating_sub(1)) as u32
    }

    /// `count` different symbols, or all there are: the `hot` most popular, the others by chance.
    pub fn choose(&self, count: usize, hot: usize, rng: &mut impl Rng) -> Vec<u32> {
        let symbols = self.cumulative.len();
        let count = count.min(symbols);
        let mut taken = vec![false; symbols];
        let mut chosen = Vec::with_capacity(count);
        let mut take = |rank: u32| {
            if !std::mem::replace(&mut taken[rank as usize], true) {
                chosen.push(rank);
            }
            chosen.len()
        };
        let mut len = 0;
        for rank in 0..hot.min(count) {
            len = take(rank as u32);
        }
        // Drawing again what is taken is quick until few are left; then the rest goes by rank.
        for _ in 0..count * 64 {
            if len == count {
                break;
            }
            len = take(self.one(rng));
        }
        for rank in 0..symbols {
            if len == count {
                break;
            }
            len = take(rank as u32);
        }
        chosen
    }
}

/// In what proportion symbols are subscribed on which channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelMix(pub Vec<(Channel, f64)>);

impl Default for ChannelMix {
    fn default() -> Self {
        Self(vec![(Channel::Trades, 0.5), (Channel::Quotes, 0.5)])
    }
}

impl ChannelMix {
    /// One channel by chance.
    pub fn draw(&self, rng: &mut impl Rng) -> Channel {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.random::<f64>() * total;
        let mut with_weight = self.0.iter().filter(|(_, weight)| *weight > 0.0);
        for (channel, weight) in with_weight.clone() {
            if at < *weight {
                return *channel;
            }
            at -= weight;
        }
        with_weight.next_back().map_or(Channel::Trades, |(channel, _)| *channel)
    }

    /// The channels that occur.
    pub fn channels(&self) -> impl Iterator<Item = Channel> + '_ {
        self.0.iter().filter(|(_, weight)| *weight > 0.0).map(|(channel, _)| *channel)
    }
}

impl FromStr for ChannelMix {
    type Err = String;

    /// Reads `trades=0.5,quotes=0.5,book=0`; a channel without a weight has weight 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix: Vec<(Channel, f64)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let channel = Channel::parse(name).ok_or_else(|| {
                format!("`{name}` is no channel: there are trades, quotes, book and status")
            })?;
            let weight: f64 = weight
                .parse()
                .ok()
                .filter(|w| (0.0..=1e9).contains(w))
                .ok_or_else(|| format!("`{weight}` is no weight: expected a number, like {name}=0.5"))?;
            if mix.iter().any(|(c, _)| *c == channel) {
                return Err(format!("`{name}` is named twice"));
            }
            mix.push((channel, weight));
        }
        if mix.iter().all(|(_, weight)| *weight == 0.0) {
            return Err("at least one channel needs a weight above 0".to_owned());
        }
        Ok(Self(mix))
    }
}

#[cfg(test)]
mod tests;
