//! The arguments of `run`, and the plan they make.

use crate::parse_on_slow;
use anyhow::Context;
use clap::Args;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tickgate_load::asserts::Assert;
use tickgate_load::persona::PersonaMix;
use tickgate_load::plan::{ChannelMix, Plan};
use tickgate_load::returning::Resume;
use tickgate_protocol::OnSlow;

/// A bound all the same: a month.
const UNTIL_STOPPED_MS: u64 = 30 * 24 * 3_600 * 1_000;

pub(crate) const RUN_HELP: &str = "\
PHASES
  The clients connect over --ramp on a schedule that waits for nobody, settle for --warmup, and are measured for --for.
  Stalled clients then read what waits for them, and everybody closes. Ctrl-C skips to the end: the report says what
  was measured until then.

SYMBOLS
  Without --symbols or --symbols-file, one connection listens to `*` for --discover; the busiest symbols rank first.
  Given symbols rank in the order they are given. Each client takes the --hot first ones (at most half of its symbols)
  and draws the others by rank, in proportion to rank^-zipf; each symbol goes to one channel, drawn by --channels.

PERSONAS
  healthy            reads everything as it comes; whoever is nothing else
  stalled=5%         stops reading once subscribed
  slow=5%@20000      reads 20,000 bytes a second
  churning=5%@1s     exchanges one subscription for another every second
  reconnecting=5%@10s  all of them drop and return together every ten seconds
  A share is a percentage or a number of connections. Stalled and slow clients may be cut off by the gateway, the
  others must not: `closed_early` counts those.

COMING BACK
  Without --resume a session that ends before the run does is a failure. With it, clients come back: the first attempt
  within 100 ms, then after twice as long each time, by chance and at most 5 s, or when `Retry-After` says. They go on
    --resume cursor  with the last cursor of a heartbeat, a goaway or an error
    --resume seq     with the last position of every symbol, and with the cursor for those of which nothing came yet
    --resume mixed   one half of the clients so, the other half so
  and verification goes on with them: what is missing between two sessions breaks a chain as in the middle of one. What
  comes again because a cursor is older than the last event is `resent` and discarded; after a position everything that
  comes again is a duplicate. A client is back when every replay has caught up: `recovery.p99` is from the loss to there.
  --feed-ends compares, at the end, where all clients stand: for a feed that has ended a second or more before the run.

VERIFICATION
  Every event of every session: the `prev` chain of each (channel, symbol), gaps and what they announce, duplicates,
  events before their ack or behind a heartbeat's cursor, messages that cannot be read. Latency is from `send_ns`, when
  the producer meant to send the event, to when it was read here; snapshots, replays and duplicates are left out.
  Events that carry no send_ns and latencies below zero are counted, not measured. When the generator was late by
  itself (lag p99 over 2 ms, and over half of the latency's p99 or over an asserted bound), it says so.

SEVERAL GATEWAYS, PROCESSES, MACHINES
  Clients take turns at the gateways when --url is given several times; the report has a line for each gateway. With
  --processes N the clients are shared out to N processes that begin at the same moment: same seed, same clients, more
  connections than one process may have. Their counts and histograms are added up and judged as one. On several
  machines, start a run on each at the same time, with --report and a --seed of its own, and add the reports up with
  `tickgate-load merge`.

METRICS
  --metrics 127.0.0.1:9102 serves http://127.0.0.1:9102/metrics until the report is made; a line on standard error says
  so, with the port that was taken. Whoever reaches the address may read it. Totals are copied at a scrape, at most twice a
  second. With --processes the sum of all is served, half a second old at most. docs/metrics-load.md lists what is there.

EXAMPLES
  tickgate-load run --url ws://127.0.0.1:8080/v1/stream --connections 1000 --for 30s --assert 'p99<5ms'
  tickgate-load run --url ws://127.0.0.1:8080/v1/stream --connections 200 --personas stalled=5,slow=5@50000 \\
      --on-slow skip --assert 'unannounced==0' --assert 'stalled.gaps>0' --report report.json
  tickgate-load run --url ws://127.0.0.1:8080/v1/stream --url ws://127.0.0.1:8081/v1/stream --connections 50000 \\
      --processes 4 --ramp 60s --for 1m
  tickgate-load run --url ws://load-balancer/v1/stream --connections 500 --until-stopped --resume mixed \\
      --assert 'gaps==0' --assert 'duplicates==0' --assert 'recovery.p99<5s'";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The gateway's stream; given several times, the clients are spread evenly over the gateways
    #[arg(long = "url", required = true, value_name = "ws://HOST:PORT/v1/stream")]
    urls: Vec<String>,
    /// PEM file with the roots that certificates of wss:// gateways must lead to [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// File with a token or an API key to show, for gateways that ask who we are
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long to wait for a gateway that is not there yet; 0s does not
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) connect_timeout: Duration,
    /// Clients, of all gateways and processes together
    #[arg(long, short = 'c', default_value_t = 100, value_name = "N")]
    connections: usize,
    /// Symbols of each client, each on one channel
    #[arg(long, default_value_t = 10, value_name = "N")]
    symbols_per_client: usize,
    /// Time to measure
    #[arg(long = "for", default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Duration,
    /// Measure until Ctrl-C or SIGTERM, which then is a regular end
    #[arg(long, conflicts_with = "duration")]
    until_stopped: bool,
    /// Time over which the clients connect [default: 1ms per connection]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    ramp: Option<Duration>,
    /// Time after the ramp that is not measured
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    warmup: Duration,
    /// Time for stalled clients to read what waits for them, after the measurement
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration, value_name = "TIME")]
    drain: Duration,
    /// Processes that the clients are shared out to
    #[arg(long, default_value_t = 1, value_name = "N")]
    processes: usize,
    /// Threads of each process [default: half of the cores, shared by the processes]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Symbols or patterns, the most popular first
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B*,...",
        conflicts_with = "symbols_file",
        help_heading = "Subscriptions"
    )]
    symbols: Vec<String>,
    /// File with one symbol or pattern a line, the most popular first
    #[arg(long, value_name = "FILE", help_heading = "Subscriptions")]
    symbols_file: Option<PathBuf>,
    /// How long to listen at the first gateway for the symbols there are, when none are given
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME", help_heading = "Subscriptions")]
    discover: Duration,
    /// Exponent of the symbols' popularity
    #[arg(long, default_value_t = 0.85, value_name = "S", help_heading = "Subscriptions")]
    zipf: f64,
    /// Most popular symbols that every client has
    #[arg(long, default_value_t = 3, value_name = "N", help_heading = "Subscriptions")]
    hot: usize,
    /// Channels and in what proportion symbols go to them
    #[arg(long, default_value = "trades=0.5,quotes=0.5", value_name = "MIX", help_heading = "Subscriptions")]
    channels: ChannelMix,
    /// What the gateway does when a client reads too slowly [default: as the channel says]
    #[arg(long, value_parser = parse_on_slow, value_name = "conflate|skip|disconnect", help_heading = "Subscriptions")]
    on_slow: Option<OnSlow>,
    /// Conflation of quotes and book, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS", help_heading = "Subscriptions")]
    conflate_ms: u64,
    /// Levels a side of book: 1, 5, 10, 20, 50, 100 or 0 for all
    #[arg(long, default_value_t = 10, value_name = "N", help_heading = "Subscriptions")]
    depth: u8,

    /// Clients that misbehave, like stalled=5%,slow=2%@20000 (see below)
    #[arg(long, default_value = "", value_name = "MIX", hide_default_value = true, help_heading = "Clients")]
    personas: PersonaMix,
    /// Let clients come back that lose their session: never, cursor, seq or mixed (see below)
    #[arg(
        long,
        default_value = "never",
        value_name = "HOW",
        hide_default_value = true,
        help_heading = "Clients"
    )]
    resume: Resume,
    /// Seed of every choice: personas, symbols, channels
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Clients")]
    seed: u64,
    /// Kernel receive buffer of stalled and slow clients, in bytes
    #[arg(long, default_value_t = 32 << 10, value_name = "BYTES", help_heading = "Clients")]
    slow_recv_buffer: usize,
    /// Local addresses 127.0.0.2, .3, … to connect from [default: one per 20,000 connections]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true, help_heading = "Clients")]
    source_addresses: usize,

    /// Say at http://ADDR/metrics how the run goes, for Prometheus; port 0 takes a free one (see below)
    #[arg(long, value_name = "ADDR", help_heading = "Report")]
    pub(crate) metrics: Option<SocketAddr>,
    /// JSON report; its percentiles go to .hgrm files beside it
    #[arg(long, short = 'o', value_name = "FILE", help_heading = "Report")]
    pub(crate) report: Option<PathBuf>,
    /// What must hold, like 'p99<5ms' or 'stalled.gaps>0'; may be repeated
    #[arg(long = "assert", value_name = "FIGURE<BOUND", help_heading = "Report")]
    pub(crate) asserts: Vec<Assert>,
    /// The gateway's process, one for each --url [default: whoever listens at the port, when it is on this machine]
    #[arg(long = "pid", value_name = "PID", help_heading = "Report")]
    pids: Vec<u32>,
    /// The generator's own lag beyond which the run fails
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration, value_name = "TIME", help_heading = "Report")]
    lag_max: Duration,
    /// The feed ends before the run does: fail when a client ends behind another
    #[arg(long, help_heading = "Report")]
    feed_ends: bool,
    /// Let a run pass in which no event came
    #[arg(long, help_heading = "Report")]
    allow_empty: bool,
}

impl RunArgs {
    /// The plan that the arguments ask for.
    pub(crate) fn plan(self) -> anyhow::Result<Plan> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let symbols = match &self.symbols_file {
            None => self.symbols,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let symbols: Vec<String> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty() && !l.starts_with('#'))
                    .map(str::to_owned)
                    .collect();
                anyhow::ensure!(!symbols.is_empty(), "{} holds no symbols", path.display());
                symbols
            }
        };
        let mut seen = BTreeSet::new();
        let symbols = symbols.into_iter().filter(|s| seen.insert(s.clone())).collect();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let plan = Plan {
            urls: self.urls,
            ca_file: self.ca_file,
            token_file: self.token_file,
            connections: self.connections,
            symbols_per_client: self.symbols_per_client,
            processes: self.processes,
            threads: self.threads.unwrap_or((cores / 2 / self.processes.max(1)).max(1)),
            ramp_ms: self.ramp.map_or(self.connections as u64, ms),
            warmup_ms: ms(self.warmup),
            measure_ms: if self.until_stopped { UNTIL_STOPPED_MS } else { ms(self.duration) },
            drain_ms: ms(self.drain),
            symbols,
            discover_ms: ms(self.discover).max(1),
            zipf: self.zipf,
            hot: self.hot,
            channels: self.channels,
            personas: self.personas,
            on_slow: self.on_slow,
            conflate_ms: self.conflate_ms,
            depth: self.depth,
            seed: self.seed,
            slow_recv_buffer_bytes: self.slow_recv_buffer,
            source_addresses: self.source_addresses,
            gateway_pids: self.pids,
            lag_max_ms: ms(self.lag_max),
            allow_empty: self.allow_empty,
            resume: self.resume,
            until_stopped: self.until_stopped,
            feed_ends: self.feed_ends,
        };
        plan.check().map_err(|faults| anyhow::anyhow!(faults.join("; ")))?;
        Ok(plan)
    }
}
