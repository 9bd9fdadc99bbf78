//! One gateway without its threads: everything between Kafka and sockets is the real thing, and moves when it is told to.

use crate::kafka::{EPOCH, Kafka};
use crate::rng::Rng;
use crate::wire::{Pipe, Wire};
use hyper::body::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use tickgate_gateway::access::rights::Rights;
use tickgate_gateway::access::seats::Seats;
use tickgate_gateway::access::{Identity, Way};
use tickgate_gateway::clock;
use tickgate_gateway::config::Config;
use tickgate_gateway::cursor_keys::{CursorKeys, Keys};
use tickgate_gateway::event::Batch;
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::feed::dispatch::Outlet;
use tickgate_gateway::feed::engine::{Arrival, Engine, EngineConfig};
use tickgate_gateway::feed::request::Mailbox;
use tickgate_gateway::replay::{Ask, Chunk, Reach, ReadAgain};
use tickgate_gateway::session::guest::{Guest, Opening, Pass};
use tickgate_gateway::shard::panics::session;
use tickgate_gateway::shard::{Shard, Shared};
use tickgate_gateway::stats::Board;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;
use tokio::sync::mpsc;

/// Questions that may wait for those who read Kafka again.
const WAITING_MAX: usize = 3;

/// A session's task, and whether it was woken.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One shard, and what its thread would keep beside it.
struct Place {
    shard: Rc<RefCell<Shard<Wire>>>,
    mailbox: Arc<Mailbox>,
    inbox: mpsc::Receiver<Batch>,
    tasks: Vec<Task>,
    /// What was read again for it.
    chunks: VecDeque<Chunk>,
    publish_ms: u64,
}

pub struct Gateway {
    engine: Engine,
    decoder: RecordDecoder,
    directory: Arc<Directory>,
    outlets: Vec<Outlet>,
    places: Vec<Place>,
    waiting: Arc<Mutex<VecDeque<Box<Ask>>>>,
    shared: Shared,
    /// The next record to read of each partition that it knows, and the first that it read or was to read.
    next: Vec<u64>,
    first: Vec<u64>,
    pub is_draining: bool,
}

impl Gateway {
    /// One that has just started, and reads each partition from some records before its end.
    pub fn new(
        rng: &mut Rng,
        config: &Arc<Config>,
        kafka: &Kafka,
        shards: usize,
        inbox_batches: usize,
    ) -> Self {
        let directory = Arc::new(Directory::new(config.kafka.symbols_max));
        let waiting: Arc<Mutex<VecDeque<Box<Ask>>>> = Arc::default();
        let queue = waiting.clone();
        let read_again: ReadAgain = Arc::new(move |ask| {
            let mut queue = queue.lock().expect("one thread");
            if queue.len() >= WAITING_MAX {
                return Err(ask);
            }
            queue.push_back(ask);
            Ok(())
        });
        let shared = Shared {
            config: config.clone(),
            board: Arc::new(Board::new(shards)),
            sessions: Arc::default(),
            subscriptions: Arc::default(),
            directory: directory.clone(),
            read_again: (config.replay.consumers_max > 0).then_some(read_again),
            wake_feed: Arc::new(|| {}),
            cursor_keys: CursorKeys::new(Keys::new(b"one for all of the cluster", None)),
            tier: Default::default(),
            tls: None,
            access: None,
            audit: None,
        };
        let (outlets, places) = (0..shards)
            .map(|number| {
                let (sender, inbox) = mpsc::channel(inbox_batches);
                let outlet = Outlet::new(number, sender, config.session.inbox_bytes_max);
                let mailbox = Arc::<Mailbox>::default();
                let shard = Shard::new(number, shared.clone(), mailbox.clone());
                let shard = Rc::new(RefCell::new(shard));
                let place = Place {
                    shard,
                    mailbox,
                    inbox,
                    tasks: Vec::new(),
                    chunks: VecDeque::new(),
                    publish_ms: 0,
                };
                (outlet, place)
            })
            .unzip();
        let engine = Engine::with_directory(EngineConfig::of(config), shards, directory.clone());
        let mut gateway = Self {
            engine,
            decoder: RecordDecoder::new(1 << 20),
            directory,
            outlets,
            places,
            waiting,
            shared,
            next: Vec::new(),
            first: Vec::new(),
            is_draining: false,
        };
        for partition in &kafka.partitions {
            let back = rng.below(8) as u64;
            gateway.assign(partition.next.saturating_sub(back).max(partition.low));
        }
        gateway
    }

    fn at(&self, partition: usize) -> Position {
        Position { epoch: EPOCH, partition: partition as u32, offset: self.next[partition] }
    }

    fn assign(&mut self, next: u64) {
        self.next.push(next);
        self.first.push(next);
        self.engine.begin(self.at(self.next.len() - 1));
    }

    /// It finds the partitions that were added since.
    pub fn finds(&mut self, kafka: &Kafka) {
        while self.next.len() < kafka.partitions.len() {
            // All of a new one is wanted.
            let low = kafka.partitions[self.next.len()].low;
            self.assign(low);
            if low > 0 {
                let upto = Position { offset: low - 1, ..self.at(self.next.len() - 1) };
                self.engine.lost(upto);
            }
        }
    }

    /// The feed's turn: it answers shards, reads at most so many records of each partition, and hands over.
    pub fn feed(&mut self, kafka: &Kafka, records_max: usize) {
        self.hand_over();
        for number in 0..self.places.len() {
            while self.outlets[number].has_room()
                && let Some(request) = self.places[number].mailbox.pop()
            {
                trace!("    feed answers shard {number}: {request:?}");
                self.engine.request(number, request);
                self.outlets[number].send(&mut self.engine, clock::wall_ns());
            }
        }
        for number in 0..self.next.len() {
            self.read(kafka, number, records_max);
        }
        self.engine.fire(clock::mono_ms());
        self.hand_over();
    }

    fn read(&mut self, kafka: &Kafka, number: usize, records_max: usize) {
        let partition = &kafka.partitions[number];
        if records_max > 0 && self.next[number] < partition.low {
            let upto = Position { offset: partition.low - 1, ..self.at(number) };
            trace!("    lost up to {upto}");
            self.next[number] = partition.low;
            self.engine.lost(upto);
        }
        for record in partition.from(self.next[number]).iter().take(records_max) {
            self.next[number] = record.offset + 1;
            let position = Position { epoch: EPOCH, partition: number as u32, offset: record.offset };
            self.engine_reads(position, record.append_ns, &record.text);
        }
    }

    fn engine_reads(&mut self, position: Position, append_ns: i64, text: &str) {
        let arrival = Arrival { position, append_ns, ingest_ns: clock::wall_ns(), now_ms: clock::mono_ms() };
        self.engine.record(&mut self.decoder, &arrival, text.as_bytes(), |error| panic!("{error}: {text}"));
    }

    /// A partition is read from further back than needed, as after a broken connection.
    pub fn read_twice(&mut self, rng: &mut Rng, kafka: &Kafka) {
        let number = rng.below(self.next.len());
        let (log, next) = (&kafka.partitions[number], self.next[number]);
        let from = next.saturating_sub(rng.below(10) as u64).max(log.low).max(self.first[number]);
        trace!("  partition {number} is read again from {from}");
        for record in log.from(from).iter().take_while(|record| record.offset < next) {
            let position = Position { epoch: EPOCH, partition: number as u32, offset: record.offset };
            self.engine_reads(position, record.append_ns, &record.text);
        }
        self.hand_over();
    }

    pub fn tells_positions(&mut self) {
        let positions = (0..self.next.len()).map(|partition| self.at(partition)).collect();
        self.engine.tell_positions(positions);
        self.hand_over();
    }

    fn hand_over(&mut self) {
        for outlet in &mut self.outlets {
            outlet.send(&mut self.engine, clock::wall_ns());
        }
    }

    /// One of those who read Kafka again answers a question, or cannot.
    pub fn read_again(&mut self, rng: &mut Rng, kafka: &mut Kafka) {
        let ask = {
            let mut waiting = self.waiting.lock().expect("one thread");
            let at = rng.below(waiting.len());
            waiting.remove(at)
        };
        let Some(ask) = ask.filter(|ask| ask.is_wanted.load(Ordering::Relaxed)) else { return };
        let number = ask.shard;
        let chunk = if rng.chance(5) {
            Chunk { ask, events: Vec::new(), reach: Reach::Refused }
        } else {
            kafka.read_again(rng, ask, &self.directory, self.next.len())
        };
        trace!("    Kafka gives {} events, {:?}, then {:?}", chunk.events.len(), chunk.reach, chunk.ask.next);
        self.places[number].chunks.push_back(chunk);
    }

    /// A shard's turn: it takes what has come for it, and its tasks run.
    pub fn shard(&mut self, rng: &mut Rng, number: usize) {
        let place = &mut self.places[number];
        let mut batches = Vec::new();
        for _ in 0..rng.between(0, 3) {
            batches.extend(place.inbox.try_recv());
        }
        if !batches.is_empty() {
            place.shard.borrow_mut().pass(&mut batches);
        }
        if rng.chance(70)
            && let Some(chunk) = place.chunks.pop_front()
        {
            place.shard.borrow_mut().replayed(chunk);
        }
        place.run_tasks(rng);
    }

    pub fn shards(&self) -> usize {
        self.places.len()
    }

    /// Time has passed.
    pub fn on_time(&mut self) {
        for place in &mut self.places {
            place.shard.borrow_mut().on_time(&mut place.publish_ms);
        }
        self.engine.fire(clock::mono_ms());
        self.hand_over();
    }

    /// A client connects, unless it is refused.
    pub fn connect(
        &mut self,
        rng: &mut Rng,
        pipe: &Rc<RefCell<Pipe>>,
        rights: Option<Arc<Rights>>,
        is_deflated: bool,
    ) -> bool {
        if self.is_draining {
            return false;
        }
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let place = rng.below(self.places.len());
        let place = &mut self.places[place];
        let pass = rights.map(|rights| {
            let (subject, way) = (Arc::from("ann"), Way::Token { id: None });
            let seat = Seats::default().take(&subject, None).expect("there is no bound");
            Pass::new(Identity { subject, expires_s: None, way, rights }, seat)
        });
        let guest = Guest { pass, is_deflated, ..Guest::new(([127, 0, 0, 1], 1).into()) };
        let opening = Opening {
            answer: Vec::new(),
            early: Bytes::new(),
            guest,
            is_greeted: false,
            connect: tracing::Span::none(),
        };
        let future = session(place.shard.clone(), Wire(pipe.clone()), opening);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        place.tasks.push(Task { future: Box::pin(future), woken });
        true
    }

    /// It begins to stop.
    pub fn drain(&mut self) {
        self.is_draining = true;
        for place in &mut self.places {
            place.shard.borrow_mut().drain();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.places.iter().all(|place| place.shard.borrow().sessions().next().is_none())
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self, kafka: &Kafka) -> bool {
        let has_read = self.next.len() == kafka.partitions.len()
            && self.next.iter().zip(&kafka.partitions).all(|(next, log)| *next >= log.records_end());
        let is_still = |place: &Place| {
            let shard = place.shard.borrow();
            place.inbox.is_empty()
                && place.chunks.is_empty()
                && shard.sessions().all(|s| !s.outbox.has_work() && !s.is_replaying && s.pending.is_none())
        };
        has_read
            && self.engine.next_due_ms().is_none()
            && self.outlets.iter().all(Outlet::has_room)
            && self.places.iter().all(is_still)
    }

    /// What holds whatever happens.
    pub fn check(&self) {
        let outbox = &self.shared.config.outbox;
        let mut subscriptions = 0;
        let mut sessions = 0;
        for place in &self.places {
            let shard = place.shard.borrow();
            for session in shard.sessions() {
                sessions += 1;
                subscriptions += session.subs.len();
                assert_eq!(session.outbox.books().imbalance(), 0, "{:?}: the books close", session.key);
                // A snapshot, a part of a replay and an answer are as large as what was asked for.
                let bytes = session.outbox.queued_bytes();
                let most = 2 * outbox.bytes_max + outbox.write_bytes_max + 16_000;
                assert!(bytes <= most, "{:?} holds {bytes} bytes", session.key);
                assert!(session.outbox.books().held as usize <= outbox.entries_max + 200);
            }
        }
        assert_eq!(self.shared.sessions.load(Ordering::Relaxed), sessions, "sessions are counted");
        assert!(
            self.shared.subscriptions.load(Ordering::Relaxed) >= subscriptions,
            "subscriptions are counted"
        );
    }

    /// Nothing is left when everybody has gone.
    pub fn check_empty(&mut self, kafka: &Kafka) {
        self.feed(kafka, 0);
        assert!(self.is_empty());
        assert_eq!(
            self.shared.subscriptions.load(Ordering::Relaxed),
            0,
            "places of subscriptions are given back"
        );
        for (number, place) in self.places.iter_mut().enumerate() {
            assert!(place.tasks.is_empty(), "a task without a session");
            let mut publish_ms = 0;
            place.shard.borrow_mut().on_time(&mut publish_ms);
            let totals = self.shared.board.shard(number).clone();
            assert_eq!((totals.sessions, totals.subscriptions, totals.held), (0, 0, 0));
            assert_eq!((totals.slow_bytes, totals.reading_bytes), (0, 0), "memory is given back");
            let ends = totals.sent + totals.conflated + totals.dropped.iter().sum::<u64>();
            assert_eq!(totals.offered, ends, "the books of shard {number} close");
        }
    }
}

impl Place {
    /// Runs the tasks that were woken, in any order.
    fn run_tasks(&mut self, rng: &mut Rng) {
        for _ in 0..self.tasks.len() {
            let at = rng.below(self.tasks.len());
            let task = &mut self.tasks[at];
            if !task.woken.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let waker = Waker::from(task.woken.clone());
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(self.tasks.swap_remove(at));
            }
            if self.tasks.is_empty() {
                return;
            }
        }
    }
}
