//! Random schedules of a whole cluster: a log, two gateways with feed, shards, outboxes and the tasks of their sessions,
//! lines that stall and are cut, and clients that come back to whichever gateway with what they have. Kafka and its consumers, the
//! kernel, the threads and the clock are simulated; engine, dispatch, shards, sessions and outboxes are those of production. When a
//! schedule is over, every client is held against the log. Books, `conflate_ms`, and clients that change their minds are for
//! the model of a single session (`tests/model`), which knows what they should show.
//!
//! A seed is one schedule. A failure names its seed; `TICKGATE_TEST_SEED=n` runs that one alone, and with
//! `TICKGATE_TEST_TRACE=1` tells what happens in it. `TICKGATE_TEST_SEEDS=n` runs more of them.

macro_rules! trace {
    ($($text:tt)*) => {
        if std::env::var_os("TICKGATE_TEST_TRACE").is_some() {
            eprintln!($($text)*);
        }
    };
}

mod client;
#[path = "../model/frame.rs"]
mod frame;
mod gateway;
mod kafka;
#[path = "../model/rng.rs"]
mod rng;
mod wire;

use client::{Client, How, Wish};
use gateway::Gateway;
use kafka::Kafka;
use rng::Rng;
use serde_json::{Value, json};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tickgate_checker::counts::Counts;
use tickgate_checker::judge::judge;
use tickgate_gateway::access::rights::Rights;
use tickgate_gateway::clock;
use tickgate_gateway::config::{Compression, Config};
use tickgate_protocol::Channel;
use wire::Pipe;

const NAMES: [&str; 5] = ["A", "AB", "ABC", "B", "BA"];
const TARGETS: [&str; 9] = ["A", "AB", "ABC", "B", "BA", "*", "A*", "AB*", "B*"];
const CHANNELS: [Channel; 3] = [Channel::Trades, Channel::Quotes, Channel::Status];
const CLIENTS_MAX: usize = 5;
const PARTITIONS_MAX: usize = 4;
/// Schedules of an ordinary run.
const SEEDS: u64 = 10_000;
/// Rounds in which everything must come to rest once nothing fails any more: a minute of the simulation.
const ROUNDS_MAX: usize = 3_000;

/// Subscriptions that replays brought up to date, over all schedules.
static REPLAYS: AtomicU64 = AtomicU64::new(0);

/// Patterns of clients that may not see all of them, over all schedules.
static NARROWED: AtomicU64 = AtomicU64::new(0);

/// Compressed messages that clients have read, over all schedules.
static INFLATED: AtomicU64 = AtomicU64::new(0);

#[test]
fn every_schedule_ends_with_everybody_told_everything() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    if let Some(seed) = number("TICKGATE_TEST_SEED") {
        let counts = World::new(seed).run();
        eprintln!("{counts:?}");
        return;
    }
    let seeds = number("TICKGATE_TEST_SEEDS").unwrap_or(SEEDS);
    let threads = 2;
    let (mut all, mut failed) = (Counts::default(), Vec::new());
    std::thread::scope(|scope| {
        let run = |first: u64| {
            move || {
                let mut all = Counts::default();
                for seed in (first..seeds).step_by(threads) {
                    match std::panic::catch_unwind(|| World::new(seed).run()) {
                        Ok(counts) => all.add(&counts),
                        Err(_) => return (all, Some(seed)),
                    }
                }
                (all, None)
            }
        };
        let running: Vec<_> = (0..threads as u64).map(|first| scope.spawn(run(first))).collect();
        for thread in running {
            let (counts, seed) = thread.join().expect("panics are caught");
            all.add(&counts);
            failed.extend(seed);
        }
    });
    assert!(failed.is_empty(), "run again with TICKGATE_TEST_SEED={failed:?}");
    // It would prove little if little happened.
    let replays = REPLAYS.load(Ordering::Relaxed);
    eprintln!("{replays} replays, {all:?}");
    assert!(replays > seeds / 2, "{replays} replays");
    let narrowed = NARROWED.load(Ordering::Relaxed);
    assert!(narrowed > seeds / 5, "{narrowed} patterns of which not everything may be seen");
    let inflated = INFLATED.load(Ordering::Relaxed);
    eprintln!("{inflated} compressed messages");
    assert!(inflated > seeds, "{inflated} compressed messages");
    assert!(all.sessions > 5 * seeds && all.delivered > 50 * seeds, "{all:?}");
    assert!(all.announced > seeds && all.conflated > seeds && all.discarded > seeds / 10, "{all:?}");
}

struct World {
    rng: Rng,
    /// Of who may see what, apart: everything else is as it would be without.
    rights_rng: Rng,
    /// The same of whose line is compressed.
    deflate_rng: Rng,
    kafka: Kafka,
    config: Arc<Config>,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    /// The partition of each symbol.
    home: [usize; NAMES.len()],
    /// Whether symbols move. A position follows one partition, and then knows nothing of a symbol that moved and came back; a gap
    /// names the end of one partition. So then nobody comes back with positions, and nothing is lost.
    has_moves: bool,
    has_moved: [bool; NAMES.len()],
    counter: u64,
    now_ns: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut deflate_rng = Rng::new(seed.rotate_left(32) ^ 1);
        let has_moves = rng.chance(30);
        let kafka = Kafka::new(rng.between(1, 3));
        let mut config = config(&mut rng, has_moves);
        if deflate_rng.chance(70) {
            config.session.compression = Compression::Deflate;
            config.session.compress_bytes_min = *deflate_rng.pick(&[64, 64, 64, 300]);
        }
        let mut world = Self {
            kafka,
            config: Arc::new(config),
            gateways: Vec::new(),
            clients: Vec::new(),
            home: [0; NAMES.len()],
            has_moves,
            has_moved: [false; NAMES.len()],
            counter: 0,
            // Shortly before the microseconds wrap around.
            now_ns: (u64::from(u32::MAX) - 500_000) * 1_000,
            rng,
            rights_rng: Rng::new(!seed),
            deflate_rng,
        };
        world.passes(0);
        let partitions = world.kafka.partitions.len();
        world.home = std::array::from_fn(|symbol| symbol % partitions);
        // What was there before anybody started.
        let before = world.rng.below(20);
        world.records(before);
        for _ in 0..2 {
            let gateway = world.gateway();
            world.gateways.push(gateway);
        }
        world
    }

    fn gateway(&mut self) -> Gateway {
        let (shards, inbox) =
            (self.rng.between(1, 2), if self.has_moves { 100_000 } else { *self.rng.pick(&[1, 4, 64]) });
        Gateway::new(&mut self.rng, &self.config, &self.kafka, shards, inbox)
    }

    fn run(mut self) -> Counts {
        for _ in 0..self.rng.between(50, 300) {
            self.step();
            self.gateways.iter().for_each(Gateway::check);
        }
        trace!("nothing fails any more");
        self.comes_to_rest();
        // A last record of everything: what was lost in silence before breaks its chain now.
        for symbol in 0..NAMES.len() {
            let ticks = CHANNELS.map(|channel| self.tick(symbol, channel));
            self.append(symbol, Value::from(ticks.to_vec()));
        }
        self.comes_to_rest();
        let mut counts = Counts::default();
        for mut client in std::mem::take(&mut self.clients) {
            client.session.as_ref().expect("it came back").pipe.borrow_mut().hang_up();
            client.end(true);
            REPLAYS.fetch_add(client.replays_done, Ordering::Relaxed);
            // Of what it may not see nothing comes, and of what it may all.
            let judgement = match &client.rights {
                Some(rights) => judge(&self.kafka.truth_for(rights), &client.life),
                None => judge(&self.kafka.truth, &client.life),
            };
            let found = (judgement.counts.faults(), &judgement.missing, &judgement.samples);
            assert_eq!(
                judgement.counts.faults(),
                0,
                "client {}: {found:?} of {:?}",
                client.name,
                client.wishes
            );
            counts.add(&judgement.counts);
        }
        for _ in 0..10 {
            self.everything_moves();
        }
        let Self { gateways, kafka, .. } = &mut self;
        gateways.iter_mut().for_each(|gateway| gateway.check_empty(kafka));
        counts
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..25 => {
                let count = self.rng.between(1, 6);
                self.records(count);
            }
            25..40 => {
                let (at, records) = (self.any_gateway(), self.rng.below(8));
                self.gateways[at].feed(&self.kafka, records);
            }
            40..58 => {
                let at = self.any_gateway();
                let shard = self.rng.below(self.gateways[at].shards());
                self.gateways[at].shard(&mut self.rng, shard);
            }
            58..72 => self.clients_read(),
            72..78 => {
                let ms = *self.rng.pick(&[1, 10, 50, 200, 1_000]);
                self.passes(ms);
                self.gateways.iter_mut().for_each(Gateway::on_time);
                let at = self.any_gateway();
                self.gateways[at].tells_positions();
            }
            78..84 => {
                let at = self.any_gateway();
                self.gateways[at].read_again(&mut self.rng, &mut self.kafka);
            }
            84..91 => self.somebody_comes(),
            91..95 => self.somebody_goes(),
            95 if !self.has_moves => {
                let at = self.any_gateway();
                self.gateways[at].read_twice(&mut self.rng, &self.kafka);
            }
            96 if !self.has_moves => self.retention_passes(),
            95 | 96 => {}
            97 => self.partition_or_move(),
            98 => {
                let at = self.any_gateway();
                trace!("gateway {at} drains");
                self.gateways[at].drain();
            }
            _ => {
                let at = self.any_gateway();
                trace!("gateway {at} is killed");
                self.replace(at);
            }
        }
        self.drained_ones_start_again();
    }

    fn any_gateway(&mut self) -> usize {
        self.rng.below(self.gateways.len())
    }

    fn passes(&mut self, ms: u64) {
        self.now_ns += ms * 1_000_000;
        clock::simulate(NonZeroU64::new(self.now_ns).expect("not at the very beginning"));
    }

    fn records(&mut self, count: usize) {
        for _ in 0..count {
            let symbol = self.rng.below(NAMES.len());
            let mut ticks = vec![self.any_tick(symbol)];
            while self.rng.chance(15) {
                ticks.push(self.any_tick(symbol));
            }
            let value = if ticks.len() > 1 { Value::from(ticks) } else { ticks.remove(0) };
            self.append(symbol, value);
        }
    }

    fn any_tick(&mut self, symbol: usize) -> Value {
        let channel = *self.rng.pick(&CHANNELS);
        self.tick(symbol, channel)
    }

    fn tick(&mut self, symbol: usize, channel: Channel) -> Value {
        self.counter += 1;
        let (n, name) = (self.counter.to_string(), NAMES[symbol]);
        match channel {
            Channel::Trades => json!({"type": "trade", "symbol": name, "price": n, "size": "1"}),
            Channel::Quotes => {
                json!({"type": "quote", "symbol": name, "bid_price": n, "bid_size": "1", "ask_price": "2", "ask_size": "1"})
            }
            _ => json!({"type": "status", "symbol": name, "state": "trading", "reason": n}),
        }
    }

    fn append(&mut self, symbol: usize, value: Value) {
        let text = value.to_string();
        // Whole milliseconds, by clocks of producers that differ.
        let append_ns = clock::wall_ns() / 1_000_000 * 1_000_000 - self.rng.below(5) as i64 * 1_000_000;
        let hole = self.rng.below(2) as u64;
        trace!(
            "record {} of partition {} {text}",
            self.kafka.partitions[self.home[symbol]].next, self.home[symbol]
        );
        self.kafka.append(self.home[symbol], append_ns, text, hole);
    }

    fn clients_read(&mut self) {
        for at in 0..self.clients.len() {
            if self.rng.chance(60) {
                let takes = self.clients[at].takes;
                self.client_reads(at, takes);
            }
        }
    }

    fn client_reads(&mut self, at: usize, bytes_max: usize) {
        let truth = &self.kafka.truth;
        self.clients[at].read(bytes_max, || truth.ends());
    }

    fn somebody_comes(&mut self) {
        let away: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].session.is_none()).collect();
        let at = if !away.is_empty() && self.rng.chance(80) {
            *self.rng.pick(&away)
        } else if self.clients.len() < CLIENTS_MAX {
            let mut wishes = self.wishes();
            let rights = self.rights(&mut wishes);
            let takes = *self.rng.pick(&[100, 1_000, 100_000, 100_000]);
            self.clients.push(Client::new(self.clients.len(), wishes, takes, rights));
            self.clients.len() - 1
        } else {
            return;
        };
        self.connect(at);
    }

    fn connect(&mut self, at: usize) {
        let by_position = if self.has_moves { How::Cursor } else { How::Seq };
        let how = *self.rng.pick(&[How::Cursor, How::Cursor, by_position, How::Fresh]);
        let number = self.any_gateway();
        let pipe = Pipe::new(*self.rng.pick(&[300, 2_000, 100_000]));
        let rights = self.clients[at].rights.clone();
        let is_deflated =
            self.config.session.compression == Compression::Deflate && self.deflate_rng.chance(75);
        if self.gateways[number].connect(&mut self.rng, &pipe, rights, is_deflated) {
            self.clients[at].begin(number, pipe, how, is_deflated);
        }
    }

    /// What a client may see, if not everything; it wishes for nothing that it may not have at all.
    fn rights(&mut self, wishes: &mut Vec<Wish>) -> Option<Arc<Rights>> {
        if self.rights_rng.chance(50) {
            return None;
        }
        let symbols: Vec<&str> =
            (0..self.rights_rng.between(1, 3)).map(|_| *self.rights_rng.pick(&TARGETS)).collect();
        let channels: Vec<&str> =
            CHANNELS.iter().filter(|_| self.rights_rng.chance(80)).map(|c| c.name()).collect();
        let grant = json!({"symbols": symbols, "channels": channels, "wildcard": self.rights_rng.chance(80)});
        let rights = Rights::from_json(&grant.to_string()).expect("they are right");
        let may_wish = |wish: &Wish| match wish.symbol.strip_suffix('*') {
            Some(prefix) => rights.covers(wish.channel, prefix) || rights.may_narrow(wish.channel, prefix),
            None => rights.may(wish.channel, wish.symbol),
        };
        // Whoever has no pattern that is wider is like anybody else.
        let is_wider = |wish: &Wish| {
            wish.symbol
                .strip_suffix('*')
                .is_some_and(|prefix| may_wish(wish) && !rights.covers(wish.channel, prefix))
        };
        let wider = wishes.iter().filter(|wish| is_wider(wish)).count() as u64;
        if wider == 0 {
            return None;
        }
        wishes.retain(may_wish);
        NARROWED.fetch_add(wider, Ordering::Relaxed);
        Some(Arc::new(rights))
    }

    fn wishes(&mut self) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            let (channel, symbol) = (*self.rng.pick(&CHANNELS), *self.rng.pick(&TARGETS));
            if wishes.iter().any(|wish| (wish.channel, wish.symbol) == (channel, symbol)) {
                continue;
            }
            let on_slow = match channel {
                Channel::Trades => *self.rng.pick(&["skip", "skip", "disconnect"]),
                _ => *self.rng.pick(&["conflate", "conflate", "conflate", "skip", "disconnect"]),
            };
            let conflate_ms = match channel {
                Channel::Quotes => *self.rng.pick(&[0, 0, 10, 100]),
                _ => 0,
            };
            wishes.push(Wish { channel, symbol, on_slow, conflate_ms });
        }
        wishes
    }

    fn somebody_goes(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.rng.below(self.clients.len());
        let is_cut = self.rng.chance(50);
        if let Some(session) = &self.clients[at].session {
            trace!("client {at} {}", if is_cut { "is cut off" } else { "hangs up" });
            if is_cut {
                session.pipe.borrow_mut().cut();
            } else {
                session.pipe.borrow_mut().hang_up();
            }
            self.clients[at].end(false);
        }
    }

    fn retention_passes(&mut self) {
        let number = self.rng.below(self.kafka.partitions.len());
        let partition = &mut self.kafka.partitions[number];
        partition.low += self.rng.below((partition.next - partition.low) as usize + 1) as u64;
        trace!("partition {number} is kept from {}", partition.low);
    }

    fn partition_or_move(&mut self) {
        if self.kafka.partitions.len() < PARTITIONS_MAX && self.rng.chance(50) {
            trace!("partition {} is added", self.kafka.partitions.len());
            self.kafka.partitions.push(kafka::Partition::default());
        } else if self.has_moves {
            // Once: a client knows what comes again of one partition before the present one.
            let symbol = self.rng.below(NAMES.len());
            if std::mem::replace(&mut self.has_moved[symbol], true) {
                return;
            }
            self.home[symbol] = self.rng.below(self.kafka.partitions.len());
            trace!("{} moves to partition {}", NAMES[symbol], self.home[symbol]);
        }
        if self.rng.chance(50) {
            let at = self.any_gateway();
            self.gateways[at].finds(&self.kafka);
        }
    }

    /// A gateway ends without a word, and another one starts in its place.
    fn replace(&mut self, at: usize) {
        for client in &mut self.clients {
            if let Some(session) = client.session.as_ref().filter(|session| session.gateway == at) {
                session.pipe.borrow_mut().cut();
                client.end(false);
            }
        }
        let fresh = self.gateway();
        self.gateways[at] = fresh;
    }

    fn drained_ones_start_again(&mut self) {
        for at in 0..self.gateways.len() {
            if self.gateways[at].is_draining && self.gateways[at].is_empty() {
                trace!("gateway {at} has drained");
                // What it wrote last is still on its way to its clients.
                let fresh = self.gateway();
                self.gateways[at] = fresh;
                for client in &mut self.clients {
                    if let Some(session) = client.session.as_mut().filter(|session| session.gateway == at) {
                        session.gateway = usize::MAX;
                    }
                }
            }
        }
    }

    /// Everything moves, and nobody fails.
    fn everything_moves(&mut self) {
        self.passes(20);
        self.drained_ones_start_again();
        let Self { gateways, kafka, rng, .. } = self;
        for gateway in gateways {
            gateway.on_time();
            gateway.finds(kafka);
            gateway.feed(kafka, 100);
            gateway.tells_positions();
            for _ in 0..3 {
                gateway.read_again(rng, kafka);
                for shard in 0..gateway.shards() {
                    gateway.shard(rng, shard);
                }
            }
        }
        for at in 0..self.clients.len() {
            self.client_reads(at, usize::MAX);
        }
    }

    /// Whoever is away comes back, and everything moves until nothing does.
    fn comes_to_rest(&mut self) {
        let mut quiet_rounds = 0;
        for _ in 0..ROUNDS_MAX {
            for at in 0..self.clients.len() {
                if self.clients[at].session.is_none() {
                    self.connect(at);
                }
            }
            self.everything_moves();
            self.gateways.iter().for_each(Gateway::check);
            let is_quiet = self.gateways.iter().all(|gateway| gateway.is_quiet(&self.kafka))
                && self.clients.iter().all(|client| client.session.as_ref().is_some_and(|s| s.is_held));
            quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
            // With the heartbeats of a while, whose cursors must not promise too much.
            if quiet_rounds > 15 {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

fn config(rng: &mut Rng, has_moves: bool) -> Config {
    let mut config = Config::default();
    config.kafka.symbols_max = 100;
    config.kafka.trades_kept = 5;
    config.session.inbox_batches = 64;
    config.limits.requests_per_s = 1_000;
    config.outbox.bytes_max = if has_moves { 10_000_000 } else { *rng.pick(&[4_000, 20_000, 1_000_000]) };
    config.outbox.entries_max = if has_moves { 10_000_000 } else { *rng.pick(&[10, 100, 1_000]) };
    config.outbox.age_max_ms = if has_moves { 1_000_000 } else { 300 };
    config.outbox.stall_timeout_ms = if has_moves { 1_000_000 } else { 2_000 };
    config.outbox.write_bytes_max = *rng.pick(&[400, 1_000, 64 << 10]);
    config.outbox.frame_bytes_max = *rng.pick(&[500, 2_000, 64 << 10]);
    config.session.heartbeat_ms = 100;
    config.session.flush_ms = *rng.pick(&[0, 0, 10]);
    config.session.inbox_bytes_max = if has_moves { 1 << 30 } else { *rng.pick(&[8_000, 1 << 20]) };
    config.replay.memory_bytes_max = *rng.pick(&[0, 2_000, 1 << 20]);
    config.replay.consumers_max = if has_moves { 2 } else { *rng.pick(&[0, 2, 2, 2]) };
    // All at once: when each is closed is otherwise a matter of chance that no seed knows.
    config.drain.spread_ms = 0;
    config.drain.grace_ms = 500;
    config
}
