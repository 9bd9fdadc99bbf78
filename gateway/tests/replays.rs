//! Random schedules of clients that come back: the engine's memory, a Kafka of the test's own, records in between, and a
//! client that compares all it gets with what really happened.
//!
//! A seed is one schedule. A failure names its seed; `TICKGATE_TEST_SEED=n` runs that one alone, and with
//! `TICKGATE_TEST_TRACE=1` tells what happens in it. `TICKGATE_TEST_SEEDS=n` runs more of them.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use tickgate_gateway::event::{Event, Item, Stream};
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::feed::engine::{Arrival, Engine, EngineConfig};
use tickgate_gateway::feed::request::{Live, Reply, Request, Resume, SessionKey, State, Target, Want};
use tickgate_gateway::feed::symbols::encode;
use tickgate_gateway::replay::{Ask, Chunk, Lost, Missed, Reach, Replayed, seam};
use tickgate_protocol::checker::{ChainChecker, Verdict};
use tickgate_protocol::cursor::Cursor;
use tickgate_protocol::event::{Gap, GapCause, Meta, Tail};
use tickgate_protocol::record::RecordDecoder;
use tickgate_protocol::{Channel, ConflateMs, Depth, Position};

const NAMES: [&str; 5] = ["A", "AB", "ABC", "B", "BA"];
const TARGETS: [&str; 8] = ["A", "AB", "ABC", "B", "BA", "*", "A*", "B*"];
const CHANNELS: [Channel; 2] = [Channel::Trades, Channel::Quotes];
const PARTITIONS_MAX: usize = 4;
const EPOCH: u32 = 7;
/// Schedules of an ordinary run.
const SEEDS: u64 = 10_000;
/// Questions that a replay may need at the most: more, and it never ends.
const ASKS_MAX: usize = 500;
/// Questions between which the market goes on.
const BUSY_ASKS: usize = 10;

macro_rules! trace {
    ($($text:tt)*) => {
        if std::env::var_os("TICKGATE_TEST_TRACE").is_some() {
            eprintln!($($text)*);
        }
    };
}

#[test]
fn whoever_comes_back_has_everything_or_is_told() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    if let Some(seed) = number("TICKGATE_TEST_SEED") {
        return World::new(seed).run();
    }
    let (mut replayed, mut gaps, mut beyond) = (0, 0, 0);
    for seed in 0..number("TICKGATE_TEST_SEEDS").unwrap_or(SEEDS) {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.go();
            (world.replayed, world.gaps, world.beyond)
        });
        let Ok(counts) = result else { panic!("run again with TICKGATE_TEST_SEED={seed}") };
        (replayed, gaps, beyond) = (replayed + counts.0, gaps + counts.1, beyond + counts.2);
    }
    assert!(
        replayed > 10_000 && gaps > 100 && beyond > 1_000,
        "{replayed} replayed, {gaps} gaps, {beyond} from Kafka"
    );
}

/// A gateway that has just started may not have found a topic yet that a cursor names. It took that for one that is gone, and told
/// of a loss that was none.
#[test]
fn a_topic_that_is_not_found_yet_is_waited_for() {
    let mut world = World::new(0);
    world.engine.is_complete = false;
    let key = SessionKey { slot: 0, generation: 0 };
    let first = Position { epoch: EPOCH, partition: 0, offset: 0 };
    let cursor = Arc::new(Cursor { next: vec![first], ..Cursor::default() });
    let (target, stream) = (Target::parse("A"), Stream::whole(Channel::Trades));
    let resume = Some(Resume::Cursor(cursor));
    let want = Want { target: target.clone(), stream, trades: 0, resume };
    world.engine.request(0, Request::Subscribe(key, vec![want]));
    let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
    assert!(answers[0].replays && !answers[0].aged_out, "{answers:?}");
    let ask = Ask {
        next: vec![first],
        origin: Arc::from([first]),
        bytes_max: 1_000,
        ..Ask::new(0, key, 0, Arc::from([Missed { target, stream, after: None }]))
    };
    world.engine.request(0, Request::Resume(Box::new(ask)));
    let Reply::Beyond(ask) = world.reply() else { panic!("it was given up") };
    assert_eq!(ask.next, [first]);
    world.engine.begin(first);
    world.engine.is_complete = true;
    world.engine.request(0, Request::Resume(ask));
    let Reply::Resumed(resumed) = world.reply() else { panic!("it is there") };
    assert!(resumed.live.is_some_and(|live| !live.is_lost));
}

/// The newest state of a conflated stream says all that was missed; but a gateway that had begun to read behind it had none, gave
/// none, and let the cursor pass it: the client showed an older quote until the next one came.
#[test]
fn a_conflated_stream_is_replayed_by_who_began_to_read_behind_what_was_missed() {
    let at = |offset| Position { epoch: EPOCH, partition: 0, offset };
    let conflated = Stream {
        conflate: ConflateMs::round_up(100).expect("an interval"),
        ..Stream::whole(Channel::Quotes)
    };
    let key = SessionKey { slot: 0, generation: 0 };
    let replays = |world: &mut World, name: &str, next: u64, stream: Stream| {
        let cursor = Cursor { next: vec![at(next)], others_ns: None, all_ns: None };
        let (target, resume) = (Target::parse(name), Some(Resume::Cursor(cursor.into())));
        world.engine.request(0, Request::Subscribe(key, vec![Want { target, stream, trades: 0, resume }]));
        let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
        (answers[0].replays, answers[0].unread)
    };
    let mut world = World::new(0);
    let (nothing, replayed, told) = ((false, false), (true, false), (false, true));
    world.engine.is_complete = false;
    assert_eq!(replays(&mut world, "A", 99, conflated), replayed, "nobody knows yet where reading begins");
    world.engine.is_complete = true;
    world.engine.begin(at(100));
    // Of a pattern the newest states are wanted, and no backlog.
    for (name, missed) in [("A", replayed), ("A*", told), ("*", told)] {
        assert_eq!(
            replays(&mut world, name, 99, conflated),
            missed,
            "{name}: what was at 99 nobody has read"
        );
        assert_eq!(replays(&mut world, name, 100, conflated), nothing, "{name}: all of it is to be read yet");
    }
    let top = Stream { depth: Depth::new(5).expect("a depth"), ..Stream::whole(Channel::Book) };
    assert_eq!(replays(&mut world, "A", 99, top), nothing, "the answer says that the book is not built");
    let quote =
        r#"{"type":"quote","symbol":"A","bid_price":"1","bid_size":"1","ask_price":"2","ask_size":"1"}"#;
    let mut decoder = RecordDecoder::new(1 << 20);
    for offset in [100, 101] {
        let arrival = Arrival { position: at(offset), append_ns: 1, ingest_ns: 1, now_ms: 1 };
        world.engine.record(&mut decoder, &arrival, quote.as_bytes(), |error| panic!("{error}"));
    }
    assert_eq!(replays(&mut world, "A", 99, conflated), nothing, "the newest quote is known");
    assert_eq!(replays(&mut world, "A*", 99, conflated), told, "and of others not");
    // Who is ahead of the gateway would get an older state, and then what it has once more.
    for (after, replays) in [(101, false), (102, true)] {
        let (target, resume) = (Target::parse("A"), Some(Resume::After(at(after))));
        let want = Want { target, stream: conflated, trades: 0, resume };
        world.engine.request(0, Request::Subscribe(key, vec![want]));
        let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
        assert_eq!(answers[0].replays, replays, "after {after}");
    }
    // One update went out, the other waits for those who listen. It is among what was replayed, which what is live follows from.
    let missed = Missed { target: Target::parse("A"), stream: conflated, after: None };
    let ask = Ask {
        next: vec![at(102)],
        origin: Arc::from([at(99)]),
        bytes_max: 1_000,
        is_read_again: true,
        ..Ask::new(0, key, 0, Arc::from([missed]))
    };
    world.engine.request(0, Request::Resume(Box::new(ask)));
    let Reply::Resumed(resumed) = world.reply() else { panic!("it is there") };
    let pending: Vec<_> = resumed.states.iter().map(|(_, state)| state.pending).collect();
    assert_eq!((pending, resumed.live.is_some()), (vec![Some(at(101))], true));
    // What was lost before it was read was never read either.
    world.engine.lost(at(300));
    assert_eq!(replays(&mut world, "B", 250, conflated), replayed);
    assert_eq!(replays(&mut world, "B", 301, conflated), nothing);
}

/// Retention passed a feed, and a symbol of which it had read nothing yet was among what was lost: nobody was told. And who asked
/// for a quote from before a loss was given it as the present one.
#[test]
fn a_loss_is_told_of_symbols_that_were_not_read_and_with_states_from_before_it() {
    let mut world = World::new(0);
    let mut decoder = RecordDecoder::new(1 << 20);
    let at = |offset| Position { epoch: EPOCH, partition: 0, offset };
    let want = |name, channel| {
        let (target, stream) = (Target::parse(name), Stream::whole(channel));
        Want { target, stream, trades: 0, resume: None }
    };
    let key = SessionKey { slot: 0, generation: 0 };
    let wants = vec![want("A", Channel::Trades), want("B*", Channel::Trades)];
    world.engine.begin(at(0));
    world.engine.request(0, Request::Subscribe(key, wants));
    let mut read = |world: &mut World, offset, text: &str| {
        let arrival = Arrival { position: at(offset), append_ns: 1, ingest_ns: 1, now_ms: 1 };
        world.engine.record(&mut decoder, &arrival, text.as_bytes(), |error| panic!("{error}"));
    };
    let quote =
        r#"{"type":"quote","symbol":"Q","bid_price":"1","bid_size":"1","ask_price":"2","ask_size":"1"}"#;
    read(&mut world, 0, quote);
    world.engine.take(0);
    world.engine.lost(at(9));
    // Told before any cursor can pass it.
    assert!(matches!(world.engine.take(0)[..], [Item::Lost]));
    let lost = Gap { after: None, upto: Some(at(9)), count: None, cause: GapCause::Retention };
    for (offset, name) in [(10, "A"), (11, "BA")] {
        let trade = format!(r#"{{"type":"trade","symbol":"{name}","price":"1","size":"1"}}"#);
        read(&mut world, offset, &trade);
        let items = world.engine.take(0);
        let [Item::Gap(symbol, _, gap), Item::Event(event)] = &items[..] else { panic!("{items:?}") };
        assert_eq!((&*symbol.name, *gap, event.tail.prev), (name, lost, Some(at(9))));
    }
    world.engine.request(0, Request::Subscribe(key, vec![want("Q", Channel::Quotes)]));
    let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
    let state = &answers[0].states[0];
    assert_eq!((state.gap, state.events.len()), (Some(lost), 1));
    // The next quote is the present one.
    read(&mut world, 12, quote);
    world.engine.take(0);
    world.engine.request(0, Request::Subscribe(key, vec![want("Q", Channel::Quotes)]));
    let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
    assert_eq!(answers[0].states[0].gap, None);
}

/// All books that a pattern meant came as one answer when its replay had caught up, however many bytes that were.
#[test]
fn books_come_in_parts_as_well() {
    const BOOKS: usize = 40;
    let mut world = World::new(0);
    world.engine.begin(Position { epoch: EPOCH, partition: 0, offset: 0 });
    let book = |offset: u64, name: usize, snapshot: bool| {
        let levels: Vec<String> = (0..50).map(|price| format!(r#"["{}","1"]"#, price + offset)).collect();
        let levels = levels.join(",");
        let value = format!(
            r#"{{"type":"book","symbol":"S{name}","bids":[{levels}],"asks":[],"snapshot":{snapshot}}}"#
        );
        let position = Position { epoch: EPOCH, partition: 0, offset };
        (Arrival { position, append_ns: 1, ingest_ns: 1, now_ms: 1 }, value)
    };
    let mut decoder = RecordDecoder::new(1 << 20);
    for n in 0..BOOKS {
        let (arrival, value) = book(n as u64, n, true);
        world.engine.record(&mut decoder, &arrival, value.as_bytes(), |error| panic!("{error}"));
    }
    let key = SessionKey { slot: 0, generation: 0 };
    let (target, stream) = (Target::parse("S*"), Stream::whole(Channel::Book));
    let cursor =
        Cursor { next: vec![Position { epoch: EPOCH, partition: 0, offset: 0 }], ..Cursor::default() };
    let resume = Some(Resume::Cursor(cursor.clone().into()));
    let want = Want { target: target.clone(), stream, trades: 0, resume };
    world.engine.take(0);
    world.engine.request(0, Request::Subscribe(key, vec![want]));
    world.engine.take(0);
    let mut ask = Box::new(Ask {
        next: cursor.next.clone(),
        origin: cursor.next.into(),
        bytes_max: 4_096,
        ..Ask::new(0, key, 0, Arc::from([Missed { target, stream, after: None }]))
    });
    let mut chains: BTreeMap<String, ChainChecker> = BTreeMap::new();
    for part in 0..=BOOKS as u64 {
        world.engine.request(0, Request::Resume(ask));
        let Reply::Resumed(resumed) = world.reply() else { panic!("it is in memory") };
        let states = resumed.states.iter().flat_map(|(_, state)| &state.events);
        let events: Vec<_> = resumed.chunk.events.iter().map(|missed| &missed.event).chain(states).collect();
        let largest = events.iter().map(|event| event.bytes()).max().unwrap_or(0);
        let bytes: usize = events.iter().map(|event| event.bytes()).sum();
        assert!(bytes <= 4_096 + largest, "{bytes} bytes at once");
        for event in events {
            let chain = chains.entry(event.symbol.name.to_string()).or_default();
            let verdict = chain.event(event.position, &event.tail, false);
            let is_fine = matches!(verdict, Verdict::Snapshot | Verdict::InOrder);
            assert!(is_fine, "{verdict:?} {} {:?}", event.symbol.name, event.tail);
        }
        if resumed.live.is_some() {
            assert_eq!(chains.len(), BOOKS);
            assert!(part > 5, "in {part} parts");
            return;
        }
        ask = resumed.chunk.ask;
        // One that was given already changes meanwhile.
        let (arrival, value) = book(BOOKS as u64 + part, 0, false);
        world.engine.record(&mut decoder, &arrival, value.as_bytes(), |error| panic!("{error}"));
        world.engine.take(0);
    }
    panic!("it never catches up");
}

/// An engine that knows many symbols, none of which traded since, and the question of who had all of that.
fn who_has_all(symbols: usize) -> (World, Box<Ask>, RecordDecoder) {
    let mut world = World::new(0);
    let config = EngineConfig { symbols_max: symbols + 1_000, memory_bytes_max: 1 << 30, ..config() };
    world.directory = Arc::new(Directory::new(symbols + 1_000));
    world.engine = Engine::with_directory(config, 1, world.directory.clone());
    world.engine.begin(Position { epoch: EPOCH, partition: 0, offset: 0 });
    let mut decoder = RecordDecoder::new(1 << 20);
    for n in 0..symbols {
        trade(&mut world, &mut decoder, n as u64, n);
    }
    world.engine.take(0);
    let key = SessionKey { slot: 0, generation: 0 };
    let next = vec![Position { epoch: EPOCH, partition: 0, offset: symbols as u64 }];
    let (target, stream) = (Target::parse("*"), Stream::whole(Channel::Trades));
    let wants = Arc::from([Missed { target, stream, after: None }]);
    let ask = Ask { origin: next.as_slice().into(), next, bytes_max: 4_096, ..Ask::new(0, key, 0, wants) };
    (world, Box::new(ask), decoder)
}

fn trade(world: &mut World, decoder: &mut RecordDecoder, offset: u64, symbol: usize) {
    let value = format!(r#"{{"type":"trade","symbol":"S{symbol}","price":"1","size":"1","event_ns":1}}"#);
    let position = Position { epoch: EPOCH, partition: 0, offset };
    let arrival = Arrival { position, append_ns: 1, ingest_ns: 1, now_ms: 1 };
    world.engine.record(decoder, &arrival, value.as_bytes(), |error| panic!("{error}"));
}

/// For each part of the answer to a pattern the feed went through all of its symbols, however many.
#[test]
fn symbols_of_a_pattern_are_gone_through_in_parts() {
    const SYMBOLS: usize = 50_000;
    let (mut world, mut ask, mut decoder) = who_has_all(SYMBOLS);
    let mut came = Vec::new();
    for part in 0..10 {
        world.engine.request(0, Request::Resume(ask));
        let Reply::Resumed(resumed) = world.reply() else { panic!("it is in memory") };
        assert!(resumed.states.is_empty(), "nothing is lost");
        came.extend(resumed.chunk.events.iter().map(|missed| missed.event.symbol.name.to_string()));
        ask = resumed.chunk.ask;
        if resumed.live.is_some() {
            assert!((2..6).contains(&part), "in {part} parts and one");
            assert_eq!(came, ["S0", "S1"], "what came meanwhile of those that it had gone through");
            return;
        }
        let walk = ask.walk.expect("it goes on");
        assert!(walk.symbol as usize <= (part + 1) * 20_000, "{walk:?} after {part} parts");
        if part < 2 {
            trade(&mut world, &mut decoder, (SYMBOLS + part) as u64, part);
            world.engine.take(0);
        }
    }
    panic!("it never ends");
}

/// Of symbols that the feed has read nothing of, all losses were told at once, however many those were.
#[test]
fn losses_of_unread_symbols_come_in_parts() {
    const SYMBOLS: usize = 1_000;
    let (mut world, mut ask, _) = who_has_all(10);
    let at = |offset| Position { epoch: EPOCH, partition: 1, offset };
    ask.lost.push(Lost { from: at(10), upto: at(20) });
    for n in 0..SYMBOLS {
        let symbol = world.directory.meet(&format!("U{n}")).expect("there is room");
        ask.note((symbol.id, Channel::Trades), at(5));
    }
    let mut told = FxHashSet::default();
    for _ in 0..SYMBOLS {
        world.engine.request(0, Request::Resume(ask));
        let Reply::Resumed(resumed) = world.reply() else { panic!("it is in memory") };
        assert!(resumed.states.len() <= 4_096 / size_of::<State>() + 1, "{} at once", resumed.states.len());
        for (_, state) in &resumed.states {
            let gap = state.gap.expect("a gap");
            assert_eq!((gap.after, gap.upto), (Some(at(5)), Some(at(20))));
            assert!(told.insert(state.symbol.id), "{} is told twice", state.symbol.name);
        }
        ask = resumed.chunk.ask;
        if resumed.live.is_some() {
            assert_eq!(told.len(), SYMBOLS);
            return;
        }
    }
    panic!("it never ends");
}

/// Whoever asked for one symbol from a time on had to wait for every topic, the unreachable ones too.
#[test]
fn a_known_symbol_is_looked_for_in_its_own_topic() {
    let mut world = World::new(0);
    world.home = [0; NAMES.len()];
    world.start();
    world.records(100);
    world.engine.begin(Position { epoch: EPOCH + 1, partition: 0, offset: 0 });
    let key = SessionKey { slot: 0, generation: 0 };
    let (target, stream) = (Target::parse("A"), Stream::whole(Channel::Trades));
    let want = Want { target: target.clone(), stream, trades: 0, resume: Some(Resume::Since(0)) };
    world.engine.take(0);
    world.engine.request(0, Request::Subscribe(key, vec![want]));
    let Reply::Subscribed(_, answers) = world.reply() else { panic!("no answer") };
    assert_eq!(answers[0].epoch, Some(EPOCH));
    // Where the time stands in that topic, Kafka has said.
    let next: Vec<Position> =
        (0..world.partitions).map(|n| Position { epoch: EPOCH, partition: n as u32, offset: 0 }).collect();
    let ask = Ask {
        next,
        since_ns: Some(0),
        topics: Some(Arc::from([EPOCH])),
        origin: Arc::from([]),
        bytes_max: 100_000,
        ..Ask::new(0, key, 0, Arc::from([Missed { target, stream, after: None }]))
    };
    world.engine.request(0, Request::Resume(Box::new(Ask { topics: None, ..ask.clone() })));
    assert!(matches!(world.reply(), Reply::Beyond(_)), "another topic may have it, too");
    world.engine.request(0, Request::Resume(Box::new(Ask { is_memory_only: true, ..ask })));
    let Reply::Resumed(resumed) = world.reply() else { panic!("it is there") };
    assert!(resumed.live.is_some());
    assert!(resumed.chunk.ask.next.iter().all(|next| next.epoch == EPOCH));
}

type Key = (usize, Channel);

/// One record of the log.
struct Record {
    position: Position,
    append_ns: i64,
    text: String,
    holds: Vec<Key>,
}

struct World {
    rng: StdRng,
    engine: Engine,
    directory: Arc<Directory>,
    decoder: RecordDecoder,
    /// All records, in the order that they were written.
    log: Vec<Record>,
    partitions: usize,
    next: [u64; PARTITIONS_MAX],
    /// Offset of the first record that Kafka still has.
    low: [u64; PARTITIONS_MAX],
    home: [usize; NAMES.len()],
    /// Whether the gateway reads a partition yet, and from where on.
    is_read: [bool; PARTITIONS_MAX],
    first_read: [u64; PARTITIONS_MAX],
    /// Whether the client at hand is answered from memory alone.
    is_memory_only: bool,
    started: bool,
    replayed: u64,
    gaps: u64,
    beyond: u64,
}

/// Where a client comes back to.
#[derive(Debug)]
struct Start {
    next: Vec<Position>,
    since_ns: Option<i64>,
}

/// What a client had when it went away, and what it gets.
struct Client {
    wants: Vec<Want>,
    /// The want of each chain, the next record that it needs of each partition, and whether others are not its business.
    chains: BTreeMap<Key, Chain>,
}

struct Chain {
    want: usize,
    checker: ChainChecker,
    /// Places in the log of what it must get, in order of each partition.
    due: Vec<usize>,
    got: Vec<Position>,
    /// Ends of gaps, with where the chain stood before.
    lost: Vec<(Option<Position>, Option<Position>)>,
    /// Whether it is of a pattern, and nothing of it was read again.
    is_unheard: bool,
    /// What Kafka no longer had, if the client was told that it is so.
    gone: Vec<Lost>,
}

fn config() -> EngineConfig {
    EngineConfig {
        record_bytes_max: 1 << 20,
        symbols_max: 100,
        book_levels_max: 1_000,
        book_levels_total_max: 1_000_000,
        snapshots_bytes_max: 1_000_000,
        streams_max: 10_000,
        answer_bytes_max: 1_000_000,
        trades_kept: 5,
        unseen_symbols_max: 100,
        patterns_max: 100,
        allowed: None,
        memory_bytes_max: 1_000_000,
        memory_ms: 60_000,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let partitions = rng.random_range(1..=3);
        let memory_bytes_max = *[0, 1_500, 6_000, 1_000_000].choose(&mut rng).expect("one");
        let config = EngineConfig { memory_bytes_max, ..config() };
        let directory = Arc::new(Directory::new(100));
        Self {
            engine: Engine::with_directory(config, 1, directory.clone()),
            directory,
            decoder: RecordDecoder::new(1 << 20),
            log: Vec::new(),
            partitions,
            next: [0; PARTITIONS_MAX],
            low: [0; PARTITIONS_MAX],
            home: std::array::from_fn(|symbol| symbol % partitions),
            is_read: [false; PARTITIONS_MAX],
            first_read: [0; PARTITIONS_MAX],
            is_memory_only: false,
            started: false,
            replayed: 0,
            gaps: 0,
            beyond: 0,
            rng,
        }
    }

    fn run(mut self) {
        self.go();
    }

    fn go(&mut self) {
        // What was there before the gateway started.
        let before = self.rng.random_range(0..30);
        self.records(before);
        self.start();
        for _ in 0..self.rng.random_range(1..4) {
            self.something_happens();
            let (client, start) = self.client();
            self.come_back(client, start);
        }
    }

    fn start(&mut self) {
        self.started = true;
        for partition in 0..self.partitions {
            // With a warm-up or without.
            let back = self.rng.random_range(0..5);
            let first = self.next[partition].saturating_sub(back).max(self.low[partition]);
            self.read_from(partition, first);
        }
    }

    fn read_from(&mut self, partition: usize, first: u64) {
        trace!("partition {partition} is read from {first}");
        self.is_read[partition] = true;
        self.first_read[partition] = first;
        self.engine.begin(Position { epoch: EPOCH, partition: partition as u32, offset: first });
        for at in 0..self.log.len() {
            let position = self.log[at].position;
            if position.partition == partition as u32 && position.offset >= first {
                self.engine_reads(at);
            }
        }
    }

    fn something_happens(&mut self) {
        for _ in 0..self.rng.random_range(0..6) {
            match self.rng.random_range(0..12) {
                0 => {
                    let symbol = self.rng.random_range(0..NAMES.len());
                    self.home[symbol] = self.rng.random_range(0..self.partitions);
                    trace!("{} moves to {}", NAMES[symbol], self.home[symbol]);
                }
                1 if self.partitions < PARTITIONS_MAX => {
                    self.partitions += 1;
                    trace!("partition {} is added", self.partitions - 1);
                    if self.rng.random() {
                        self.records(3);
                    }
                    self.read_from(self.partitions - 1, 0);
                }
                2 => {
                    let partition = self.rng.random_range(0..self.partitions);
                    self.low[partition] = self.rng.random_range(self.low[partition]..=self.next[partition]);
                    trace!("partition {partition} is kept from {}", self.low[partition]);
                }
                _ => {
                    let count = self.rng.random_range(1..10);
                    self.records(count);
                }
            }
        }
    }

    fn records(&mut self, count: usize) {
        for _ in 0..count {
            let symbol = self.rng.random_range(0..NAMES.len());
            let mut holds = vec![(symbol, *CHANNELS.choose(&mut self.rng).expect("one"))];
            while self.rng.random_range(0..6) == 0 {
                holds.push((symbol, *CHANNELS.choose(&mut self.rng).expect("one")));
            }
            let ticks: Vec<String> = holds
                .iter()
                .map(|(symbol, channel)| match channel {
                    Channel::Trades => format!(r#"{{"type":"trade","symbol":"{}","price":"1","size":"1"}}"#, NAMES[*symbol]),
                    _ => format!(
                        r#"{{"type":"quote","symbol":"{}","bid_price":"1","bid_size":"1","ask_price":"2","ask_size":"1"}}"#,
                        NAMES[*symbol]
                    ),
                })
                .collect();
            let partition = self.home[symbol];
            let position =
                Position { epoch: EPOCH, partition: partition as u32, offset: self.next[partition] };
            self.next[partition] += self.rng.random_range(1..=2);
            holds.sort_unstable();
            holds.dedup();
            // Clocks of producers differ: times do not ascend.
            let append_ns = self.log.len() as i64 * 10 - self.rng.random_range(0..40);
            trace!("record {position} {holds:?}");
            self.log.push(Record { position, append_ns, text: format!("[{}]", ticks.join(",")), holds });
            if self.started && self.is_read[partition] {
                self.engine_reads(self.log.len() - 1);
            }
        }
    }

    fn engine_reads(&mut self, at: usize) {
        let Record { position, append_ns, text, .. } = &self.log[at];
        let arrival = Arrival { position: *position, append_ns: *append_ns, ingest_ns: 1, now_ms: 1 };
        self.engine.record(&mut self.decoder, &arrival, text.as_bytes(), |error| panic!("{error}: {text}"));
    }

    /// A client that went away some time ago, and where it stood.
    fn client(&mut self) -> (Client, Start) {
        let channel = *CHANNELS.choose(&mut self.rng).expect("one");
        let cut = self.rng.random_range(0..=self.log.len());
        let mut targets: Vec<&str> = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let target = *TARGETS.choose(&mut self.rng).expect("one");
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        let mut next: Vec<Position> = Vec::new();
        for record in &self.log[..cut] {
            let after = Position { offset: record.position.offset + 1, ..record.position };
            match next.iter_mut().find(|next| next.partition == after.partition) {
                Some(next) => next.offset = after.offset,
                None => next.push(after),
            }
        }
        let has_cursor = !next.is_empty() && self.rng.random_range(0..3) > 0;
        let is_since = !has_cursor && self.rng.random();
        let since_ns = cut as i64 * 10 - self.rng.random_range(0..5);
        if !has_cursor && !is_since {
            // By position, one symbol each.
            targets.retain(|target| !target.ends_with('*') && self.last(target, channel, cut).is_some());
        }
        targets.sort_by_key(|target| std::cmp::Reverse(Target::parse(target).specificity()));
        let cursor = Arc::new(Cursor { next: next.clone(), ..Cursor::default() });
        let mut start = Vec::new();
        let wants: Vec<Want> = targets
            .iter()
            .map(|target| {
                let resume = match self.last(target, channel, cut) {
                    _ if has_cursor => Resume::Cursor(cursor.clone()),
                    _ if is_since => Resume::Since(since_ns),
                    last => {
                        let after = last.expect("it was chosen so");
                        start.push(Position { offset: after.offset + 1, ..after });
                        Resume::After(after)
                    }
                };
                Want {
                    target: Target::parse(target),
                    stream: Stream::whole(channel),
                    trades: 0,
                    resume: Some(resume),
                }
            })
            .collect();
        let mut chains = BTreeMap::new();
        for (symbol, name) in NAMES.iter().enumerate() {
            let Some(want) = wants.iter().position(|want| want.target.matches(name)) else { continue };
            let mut checker = ChainChecker::default();
            let last = self.log[..cut].iter().rfind(|record| record.holds.contains(&(symbol, channel)));
            if let Some(last) = last.filter(|_| !is_since) {
                checker.event(last.position, &Tail::default(), false);
            }
            let is_due = |at: usize| if is_since { self.is_since(at, since_ns) } else { at >= cut };
            let holds = |at: &usize| self.log[*at].holds.contains(&(symbol, channel));
            let due = (0..self.log.len()).filter(|at| holds(at) && is_due(*at));
            let chain = Chain {
                want,
                checker,
                due: due.collect(),
                got: Vec::new(),
                lost: Vec::new(),
                is_unheard: false,
                gone: Vec::new(),
            };
            chains.insert((symbol, channel), chain);
        }
        let mut together: Vec<Position> = Vec::new();
        for next in start {
            match together.iter_mut().find(|other| other.partition == next.partition) {
                Some(other) => other.offset = other.offset.min(next.offset),
                None => together.push(next),
            }
        }
        together.sort_unstable();
        let since_ns = is_since.then_some(since_ns);
        let start = Start { next: if has_cursor { next } else { together }, since_ns };
        trace!("a client that had {cut} records wants {targets:?} of {channel:?} from {start:?}");
        (Client { wants, chains }, start)
    }

    /// Whether a record of the log is behind the first of its partition that is so late.
    fn is_since(&self, at: usize, since_ns: i64) -> bool {
        let partition = self.log[at].position.partition;
        self.log[..=at].iter().any(|r| r.position.partition == partition && r.append_ns >= since_ns)
    }

    /// The same, of what can be known: what is gone, or was there before memory was, may have been late enough or not.
    fn is_known_since(&self, at: usize, since_ns: i64) -> bool {
        let partition = self.log[at].position.partition;
        let mut first = self.low[partition as usize];
        if self.is_memory_only {
            first = first.max(self.first_read[partition as usize]);
        }
        let is_known = |r: &&Record| r.position.partition == partition && r.position.offset >= first;
        self.log[..=at].iter().filter(is_known).any(|r| r.append_ns >= since_ns)
    }

    fn last(&self, name: &str, channel: Channel, cut: usize) -> Option<Position> {
        let symbol = NAMES.iter().position(|other| *other == name)?;
        let holds = |record: &&Record| record.holds.contains(&(symbol, channel));
        self.log[..cut].iter().rfind(holds).map(|record| record.position)
    }

    fn come_back(&mut self, mut client: Client, start: Start) {
        if client.wants.is_empty() {
            return;
        }
        let key = SessionKey { slot: 0, generation: 0 };
        self.engine.take(0);
        self.engine.request(0, Request::Subscribe(key, client.wants.clone()));
        let answers = match self.engine.take(0).pop() {
            Some(Item::Reply(reply)) => match *reply {
                Reply::Subscribed(_, answers) => answers,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert!(answers.iter().all(|answer| answer.replays && answer.states.is_empty()), "{answers:?}");
        let wants: Vec<Missed> = client
            .wants
            .iter()
            .map(|want| {
                let after = match want.resume.as_ref().expect("all have one") {
                    Resume::After(after) => Some(*after),
                    _ => None,
                };
                Missed { target: want.target.clone(), stream: want.stream, after }
            })
            .collect();
        let is_memory_only = self.rng.random_range(0..4) == 0;
        self.is_memory_only = is_memory_only;
        let mut ask = Box::new(Ask {
            origin: start.next.as_slice().into(),
            next: start.next,
            since_ns: start.since_ns,
            bytes_max: *[1, 500, 100_000].choose(&mut self.rng).expect("one"),
            is_memory_only,
            ..Ask::new(0, key, 3, wants.into())
        });
        let ask_bytes = ask.bytes_max;
        for asked in 0..ASKS_MAX {
            self.engine.request(0, Request::Resume(ask));
            match self.reply() {
                Reply::Beyond(beyond) => {
                    assert!(!is_memory_only, "nobody else is asked");
                    self.beyond += 1;
                    self.something_happens_meanwhile(&mut client, asked);
                    let chunk = self.kafka(beyond);
                    self.hear(&mut client, chunk.events);
                    ask = chunk.ask;
                }
                Reply::Resumed(resumed) => {
                    self.hear(&mut client, resumed.chunk.events);
                    // Whatever an answer is about, it has room for one more.
                    assert!(resumed.states.len() <= 1 || ask_bytes > 1);
                    self.hear_states(&mut client, resumed.states);
                    match resumed.live {
                        Some(live) => return self.goes_live(client, live, &resumed.chunk.ask.lost),
                        None => ask = resumed.chunk.ask,
                    }
                }
                other => panic!("{other:?}"),
            }
            self.something_happens_meanwhile(&mut client, asked);
        }
        panic!("it never catches up");
    }

    /// The answer; live events before it are not for this client yet.
    fn reply(&mut self) -> Reply {
        for item in self.engine.take(0) {
            if let Item::Reply(reply) = item {
                return *reply;
            }
        }
        panic!("no answer");
    }

    /// A client that gets one event at a time would never catch up with a market that does not pause.
    fn something_happens_meanwhile(&mut self, client: &mut Client, asked: usize) {
        let before = self.log.len();
        if asked < BUSY_ASKS && self.rng.random_range(0..3) == 0 {
            self.something_happens();
        }
        self.owe(client, before);
    }

    fn owe(&self, client: &mut Client, from: usize) {
        for at in from..self.log.len() {
            for held in &self.log[at].holds {
                if let Some(chain) = client.chains.get_mut(held) {
                    chain.due.push(at);
                }
            }
        }
    }

    /// As those do who read Kafka again: partition by partition, what is still there, until there is enough.
    fn kafka(&mut self, mut ask: Box<Ask>) -> Chunk {
        let mut next = ask.next.clone();
        if let Some(ns) = ask.since_ns {
            for partition in 0..self.partitions {
                if !self.is_read[partition] || next.iter().any(|next| next.partition == partition as u32) {
                    continue;
                }
                let low = self.low[partition];
                let mut kept = self.log.iter().filter(|record| {
                    record.position.partition == partition as u32 && record.position.offset >= low
                });
                let oldest = kept.clone().next().map(|record| record.position.offset);
                let found = kept.find(|record| record.append_ns >= ns).map(|record| record.position.offset);
                let offset = found.unwrap_or(self.next[partition]);
                let at = Position { epoch: EPOCH, partition: partition as u32, offset };
                if low > 0 && (found.is_none() && oldest.is_none() || found.is_some() && found == oldest) {
                    ask.lost.push(Lost {
                        from: Position { offset: 0, ..at },
                        upto: Position { offset: low - 1, ..at },
                    });
                }
                next.push(at);
            }
        }
        ask.is_read_again = true;
        let wants = ask.wants.clone();
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut reach = Reach::End;
        let turn = self.rng.random_range(0..next.len());
        next.rotate_left(turn);
        'all: for next in &mut next {
            let low = self.low[next.partition as usize];
            if next.offset < low {
                ask.lost.push(Lost { from: *next, upto: Position { offset: low - 1, ..*next } });
                next.offset = low;
            }
            let is_last = |want: &Missed| {
                want.after.is_some_and(|after| Position { offset: after.offset + 1, ..after } == *next)
            };
            let is_there = low < next.offset && next.offset <= self.next[next.partition as usize];
            if is_there && wants.iter().any(is_last) {
                next.offset -= 1;
            }
            for record in &self.log {
                if !next.is_at_or_before(record.position) {
                    continue;
                }
                if bytes >= ask.bytes_max {
                    reach = Reach::More;
                    break 'all;
                }
                next.offset = record.position.offset + 1;
                for (symbol, channel) in &record.holds {
                    let name = NAMES[*symbol];
                    let want = wants.iter().find(|w| w.stream.channel == *channel && w.target.matches(name));
                    let Some(want) = want else { continue };
                    let symbol = self.directory.meet(name).expect("room");
                    if want.after == Some(record.position) {
                        ask.confirm(want, symbol.id);
                    }
                    if !want.has_at(record.position) {
                        continue;
                    }
                    let (prev, gap) = seam(&ask.last, &ask.lost, want, (symbol.id, record.position), None);
                    ask.note((symbol.id, *channel), record.position);
                    let ticks = self.decoder.ticks(record.text.as_bytes()).expect("JSON");
                    let ticks =
                        ticks.iter().flatten().filter(|t| t.symbol == name && t.body.channel() == *channel);
                    let meta = Meta { position: record.position, event_ns: 1, ingest_ns: 1, send_ns: None };
                    let tail = Tail { prev, replay: true, ..Tail::default() };
                    let event =
                        encode(&symbol, want.stream, ticks.map(|t| (&t.body, meta)), tail).expect("ticks");
                    bytes += event.bytes();
                    events.push(Replayed { append_ns: 0, event: Arc::new(event), gap });
                }
            }
            // To the end, where no record need be.
            next.offset = next.offset.max(self.next[next.partition as usize]);
        }
        ask.next = next;
        trace!("Kafka gives {} events, {reach:?}, then {:?}", events.len(), ask.next);
        Chunk { ask, events, reach }
    }

    fn hear(&mut self, client: &mut Client, events: Vec<Replayed>) {
        for Replayed { event, gap, .. } in events {
            if let Some(gap) = gap {
                self.hear_gap(client, &event.symbol.name, event.stream.channel, gap);
            }
            assert!(event.tail.replay && !event.tail.snapshot);
            self.hear_event(client, &event);
            self.replayed += 1;
        }
    }

    fn hear_states(&mut self, client: &mut Client, states: Vec<(usize, State)>) {
        for (want, state) in states {
            let name = state.symbol.name.clone();
            let channel = client.wants[want].stream.channel;
            if let Some(gap) = state.gap {
                self.hear_gap(client, &name, channel, gap);
            }
            for event in &state.events {
                self.hear_event(client, event);
            }
        }
    }

    fn hear_gap(&mut self, client: &mut Client, name: &str, channel: Channel, gap: Gap) {
        trace!("    gap of {name}: {gap:?}");
        let symbol = NAMES.iter().position(|other| *other == name).expect("one of ours");
        let chain = client.chains.get_mut(&(symbol, channel)).expect("asked for");
        assert!(matches!(gap.cause, GapCause::Retention | GapCause::Repartitioned), "{gap:?}");
        let before = chain.checker.last();
        assert!(chain.checker.gap(&gap), "{name}: {gap:?} does not begin at {before:?}");
        chain.lost.push((before, gap.upto));
        self.gaps += 1;
    }

    fn hear_event(&mut self, client: &mut Client, event: &Event) {
        let (name, channel) = (&*event.symbol.name, event.stream.channel);
        trace!("    {name} {} {:?}", event.position, event.tail);
        let symbol = NAMES.iter().position(|other| *other == name).expect("one of ours");
        let chain =
            client.chains.get_mut(&(symbol, channel)).unwrap_or_else(|| panic!("{name} was not asked for"));
        let last = chain.checker.last();
        let verdict = chain.checker.event(event.position, &event.tail, false);
        let is_fine =
            matches!(verdict, Verdict::First | Verdict::InOrder | Verdict::Unverified | Verdict::Snapshot);
        assert!(is_fine, "{name}: {verdict:?} {} {:?} after {last:?}", event.position, event.tail);
        chain.got.push(event.position);
    }

    /// From here on the client gets what is live.
    fn goes_live(&mut self, mut client: Client, live: Live, lost: &Vec<Lost>) {
        trace!("live");
        for chain in client.chains.values_mut() {
            let is_prefix = matches!(client.wants[chain.want].target, Target::Prefix(_));
            chain.is_unheard = is_prefix && chain.got.is_empty();
            if live.is_lost {
                chain.gone.clone_from(lost);
            }
        }
        let before = self.log.len();
        let count = self.rng.random_range(0..10);
        self.records(count);
        self.owe(&mut client, before);
        for item in self.engine.take(0) {
            match item {
                Item::Event(event)
                    if client
                        .wants
                        .iter()
                        .any(|w| w.stream == event.stream && w.target.matches(&event.symbol.name)) =>
                {
                    self.hear_event(&mut client, &event);
                }
                Item::Gap(symbol, stream, gap)
                    if client.wants.iter().any(|w| w.stream == stream && w.target.matches(&symbol.name)) =>
                {
                    self.hear_gap(&mut client, &symbol.name, stream.channel, gap);
                }
                _ => {}
            }
        }
        for ((symbol, _), chain) in &client.chains {
            self.check(NAMES[*symbol], chain, &client.wants[chain.want]);
        }
        self.engine.take(0);
        for want in client.wants {
            self.engine.request(0, Request::Drop(want.target, want.stream));
        }
    }

    /// What is missing was told, nothing came twice, and each partition's came in order.
    fn check(&self, name: &str, chain: &Chain, want: &Want) {
        let due: Vec<Position> = chain.due.iter().map(|at| self.log[*at].position).collect();
        for (i, got) in chain.got.iter().enumerate() {
            let earlier = chain.got[..i].iter().any(|other| got.is_at_or_before(*other));
            assert!(!earlier || !chain.lost.is_empty(), "{name}: {got} comes late or twice");
            assert!(due.contains(got) || !chain.lost.is_empty(), "{name}: {got} was not asked for");
        }
        // A gap from where the chain stood up to its end; without that, all before.
        let place = |at: Position| due.iter().position(|other| *other == at);
        for (i, missing) in due.iter().enumerate().filter(|(_, due)| !chain.got.contains(due)) {
            let is_told = chain.lost.iter().any(|(after, upto)| {
                let is_behind = after.and_then(place).is_none_or(|after| after < i);
                let is_before = match upto {
                    Some(upto) if (upto.epoch, upto.partition) == (missing.epoch, missing.partition) => {
                        missing.offset <= upto.offset
                    }
                    // Of a symbol that moved, all that came before the end of the gap.
                    Some(upto) => place(*upto).is_none_or(|upto| i <= upto),
                    None => true,
                };
                is_behind && is_before
            });
            // Nobody knows the symbols of a pattern that nothing was read of since, nor that a symbol was in another partition
            // before. What the client is told is that something is gone.
            let is_elsewhere = |other: &Position| other.partition != missing.partition;
            let is_unknown = chain.is_unheard || chain.got.iter().any(is_elsewhere);
            let is_gone = |lost: &Lost| lost.holds(*missing);
            // A position follows one partition: what a symbol said in others, when it has come back since, it cannot know.
            let is_away = matches!(want.resume, Some(Resume::After(after)) if after.partition != missing.partition
                && chain.got.iter().any(|got| got.partition == after.partition && place(*got) > Some(i)));
            let is_early =
                matches!(want.resume, Some(Resume::Since(ns)) if !self.is_known_since(chain.due[i], ns));
            let is_told = is_told || is_early || is_away || (is_unknown && chain.gone.iter().any(is_gone));
            assert!(
                is_told,
                "{name}: {missing} is missing and nobody said so, {:?} {:?}",
                want.resume, chain.lost
            );
        }
    }
}
