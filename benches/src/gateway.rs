//! The product, with a TCP stream of ticks in the place of Kafka.
//!
//! Everything behind the records is the gateway's own: decoder, engine, hand-over, shards, listener. Only the thread
//! that reads is ours, and it goes about its work as the gateway's does: take all that is there, decode, hand over one
//! batch per shard, never wait for one. Threads have the gateway's names, so that their time can be told apart.

use crate::ingest::Ingest;
use crate::process::{self, Counts};
use anyhow::Context as _;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tickgate_gateway::admission::Admission;
use tickgate_gateway::clock;
use tickgate_gateway::config::Config;
use tickgate_gateway::cursor_keys::{CursorKeys, Keys};
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::feed::dispatch::{self, Outlet};
use tickgate_gateway::feed::engine::{Arrival, Engine, EngineConfig};
use tickgate_gateway::feed::request::Mailbox;
use tickgate_gateway::latency::{Stage, StageHistograms};
use tickgate_gateway::listener;
use tickgate_gateway::shard::{Shared, run};
use tickgate_gateway::stats::Board;
use tickgate_gateway::tls::Tls;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;
use tokio::sync::{mpsc, oneshot};

/// As in the gateway's own feed.
const WAIT_MS: u64 = 100;
const HOUSEKEEPING_MS: u64 = 250;
const BATCH_BYTES: u64 = 4 << 20;

const LISTENER: u64 = 0;
const RECORDS: u64 = 1;
const WAKER: u64 = 2;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where clients connect
    #[arg(long)]
    listen: SocketAddr,
    /// Where ticks come from
    #[arg(long)]
    feed: SocketAddr,
    /// Threads that own sessions
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Interval of heartbeats; 0 for none
    #[arg(long)]
    heartbeat_ms: Option<u64>,
    /// Flush window of sessions; 0 for none
    #[arg(long, default_value_t = 0)]
    flush_ms: u64,
    /// Sessions that are allowed
    #[arg(long, default_value_t = 20_000)]
    sessions_max: usize,
    /// Certificate to speak TLS with
    #[arg(long, value_name = "PEM", default_value = "")]
    tls_certificate: String,
    /// Its key
    #[arg(long, value_name = "PEM", default_value = "")]
    tls_key: String,
    /// Processor of the first shard, and so on; all threads run where the process does when it is missing
    #[arg(long)]
    shard_cpu: Option<usize>,
}

/// Serves until the standard input ends.
pub fn run(args: &Args) -> anyhow::Result<()> {
    process::raise_file_limit();
    let mut config = Config { listen: args.listen, shards: args.shards, ..Config::default() };
    config.limits.sessions_max = args.sessions_max;
    config.limits.subscriptions_total_max = args.sessions_max * 50;
    if let Some(heartbeat_ms) = args.heartbeat_ms {
        config.session.heartbeat_ms = heartbeat_ms;
    }
    config.session.flush_ms = args.flush_ms;
    config.tls.certificate_file.clone_from(&args.tls_certificate);
    config.tls.key_file.clone_from(&args.tls_key);
    let tls = Tls::load(&config.tls).map_err(|error| anyhow::anyhow!("{error}"))?;
    let config = Arc::new(config);
    let board = Arc::new(Board::new(args.shards));
    let feed_listener =
        TcpListener::bind(args.feed).with_context(|| format!("cannot listen on {}", args.feed))?;
    let waker = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let wake_feed = {
        let waker = waker.clone();
        Arc::new(move || {
            // It fails only when the feed is billions of wake-ups behind.
            let _ = rustix::io::write(&*waker, &1_u64.to_ne_bytes());
        })
    };
    let shared = Shared {
        config: config.clone(),
        board: board.clone(),
        sessions: Arc::new(AtomicUsize::new(0)),
        subscriptions: Arc::new(AtomicUsize::new(0)),
        directory: Arc::new(Directory::new(config.kafka.symbols_max)),
        read_again: None,
        wake_feed,
        cursor_keys: CursorKeys::new(Keys::new(b"", None)),
        tier: Default::default(),
        tls,
        access: None,
        audit: None,
    };
    let (mut mailboxes, mut outlets, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for (id, listener) in
        listener::bind(args.listen, args.shards, Some(&config.outbox))?.into_iter().enumerate()
    {
        let mailbox = Arc::new(Mailbox::default());
        let (inbox_in, inbox) = mpsc::channel(config.session.inbox_batches);
        let (question, admin) = mpsc::channel(1);
        let (_, chunks) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        mailboxes.push(mailbox.clone());
        outlets.push(Outlet::new(id, inbox_in, config.session.inbox_bytes_max));
        stops.push((stop, question));
        let parts = run::Parts {
            id,
            shared: shared.clone(),
            mailbox,
            inbox,
            listener,
            admission: Admission::new(&config),
            chunks,
            admin,
            stop: stopped,
            serving: Arc::default(),
            delayed: Vec::new(),
        };
        let cpu = args.shard_cpu.map(|first| first + id);
        std::thread::Builder::new().name(format!("shard-{id}")).spawn(move || {
            if cpu.is_some() {
                process::pin(cpu)?;
            }
            run::run(parts)
        })?;
    }
    let reader = Reader {
        engine: Engine::new(EngineConfig::of(&config), args.shards),
        decoder: RecordDecoder::new(config.kafka.record_bytes_max),
        board: board.clone(),
        mailboxes,
        outlets,
        listener: feed_listener,
        waker,
        offset: 0,
        housekept_ms: 0,
    };
    let mut asked = StageHistograms::new();
    process::answer_questions(move || counts(&board, &mut asked))?;
    let feed = std::thread::Builder::new().name("feed".to_owned()).spawn(move || reader.run())?;
    feed.join().map_err(|_| anyhow::anyhow!("the feed panicked"))?
}

/// `asked` are the latencies up to the last question.
fn counts(board: &Board, asked: &mut StageHistograms) -> Counts {
    let mut counts = Counts { records: board.feed().records, ..Counts::default() };
    let mut now = StageHistograms::new();
    for shard in 0..board.shard_count() {
        let totals = board.shard(shard);
        counts.sent += totals.sent;
        counts.writes += totals.writes;
        counts.conflated += totals.conflated;
        counts.dropped += totals.dropped.iter().sum::<u64>();
        now.merge(&board.latency(shard));
    }
    let rest = now.since(asked);
    let quantile_ns = |quantile| rest.quantile_ns(Stage::IngestToWritten, quantile);
    counts.ingest_to_written_ns = quantile_ns(0.5).zip(quantile_ns(0.99)).map(<[u64; 2]>::from);
    *asked = now;
    counts
}

/// The reading thread.
struct Reader {
    engine: Engine,
    decoder: RecordDecoder,
    board: Arc<Board>,
    mailboxes: Vec<Arc<Mailbox>>,
    outlets: Vec<Outlet>,
    listener: TcpListener,
    waker: Arc<OwnedFd>,
    offset: u64,
    housekept_ms: u64,
}

impl Reader {
    fn run(mut self) -> anyhow::Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &self.waker, EventData::new_u64(WAKER), EventFlags::IN)?;
        let mut events = Vec::with_capacity(8);
        let mut ingest: Option<Ingest> = None;
        let mut is_more = false;
        loop {
            self.answer_requests();
            let wait_ms = if is_more { 0 } else { self.wait_ms() };
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: (wait_ms * 1_000_000) as _ };
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => {
                        let new = Ingest::new(self.listener.accept()?.0)?;
                        epoll::add(&epoll, new.socket(), EventData::new_u64(RECORDS), EventFlags::IN)?;
                        ingest = Some(new);
                    }
                    WAKER => {
                        // What it says is only that there is something.
                        let _ = rustix::io::read(&*self.waker, &mut [0_u8; 8]);
                    }
                    _ => {}
                }
            }
            if let Some(source) = &mut ingest {
                let taken = self.read(source)?;
                is_more = taken.is_more;
                if taken.is_closed {
                    ingest = None;
                }
            }
            let now_ms = clock::mono_ms();
            self.engine.fire(now_ms);
            if now_ms >= self.housekept_ms + HOUSEKEEPING_MS {
                self.housekeeping(now_ms);
            }
            let decoded_ns = clock::wall_ns();
            for outlet in &mut self.outlets {
                outlet.send(&mut self.engine, decoded_ns);
            }
            dispatch::give_way(&self.outlets);
        }
    }

    fn wait_ms(&self) -> u64 {
        self.engine
            .next_due_ms()
            .map_or(WAIT_MS, |due_ms| due_ms.saturating_sub(clock::mono_ms()).min(WAIT_MS))
    }

    fn answer_requests(&mut self) {
        for (shard, mailbox) in self.mailboxes.iter().enumerate() {
            while self.outlets[shard].has_room()
                && let Some(request) = mailbox.pop()
            {
                self.engine.request(shard, request);
                self.outlets[shard].send(&mut self.engine, clock::wall_ns());
            }
        }
    }

    fn read(&mut self, ingest: &mut Ingest) -> std::io::Result<crate::ingest::Taken> {
        let Self { engine, decoder, outlets, offset, .. } = self;
        let ingest_ns = clock::wall_ns();
        let now_ms = clock::mono_ms();
        let mut sent_bytes = engine.totals.encoded_bytes;
        ingest.take(|record| {
            let position = Position { epoch: 1, partition: 0, offset: *offset };
            *offset += 1;
            let arrival = Arrival { position, append_ns: ingest_ns, ingest_ns, now_ms };
            engine.record(decoder, &arrival, record, |_| {});
            if engine.totals.encoded_bytes > sent_bytes + BATCH_BYTES {
                sent_bytes = engine.totals.encoded_bytes;
                let decoded_ns = clock::wall_ns();
                outlets.iter_mut().for_each(|outlet| outlet.send(engine, decoded_ns));
            }
        })
    }

    fn housekeeping(&mut self, now_ms: u64) {
        self.housekept_ms = now_ms;
        self.engine.tell_positions(vec![Position { epoch: 1, partition: 0, offset: self.offset }]);
        self.board.feed().clone_from(&self.engine.totals);
    }
}
