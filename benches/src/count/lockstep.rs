//! The gateway with a load that does not depend on time: each pass of its shard has the same ticks, however slow it is.
//!
//! The shard is the product's own, on a thread of its own, with its listener and real sockets. The other thread is
//! feed and clients in one: it hands over the ticks of one pass, reads until every client has got them, and only then
//! hands over those of the next.

use crate::client::Dialect;
use crate::{market, process, wire};
use anyhow::Context as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tickgate_gateway::admission::Admission;
use tickgate_gateway::clock;
use tickgate_gateway::config::Config;
use tickgate_gateway::cursor_keys::{CursorKeys, Keys};
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::feed::dispatch::Outlet;
use tickgate_gateway::feed::engine::{Arrival, Engine, EngineConfig};
use tickgate_gateway::feed::request::Mailbox;
use tickgate_gateway::listener;
use tickgate_gateway::shard::{Shared, run};
use tickgate_gateway::stats::Board;
use tickgate_protocol::Position;
use tickgate_protocol::record::RecordDecoder;
use tokio::sync::{mpsc, oneshot};

/// The number that valgrind gives to the shard's thread, which is the second that the process has.
pub const SHARD_THREAD: u32 = 2;

const SYMBOL_DIGITS: usize = 4;
const RECORD_BYTES: usize = 150;
/// Large enough to have as many digits throughout.
const FIRST_OFFSET: u64 = 1_000_000;
const READ_BYTES: usize = 16 << 10;
/// When all ticks happened: texts of the same length whenever they are counted.
const EVENT_NS: i64 = 1_790_000_000_000_000_000;
/// How long an answer may take, under valgrind and on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two passes, for the shard to go to sleep as it does between two ticks: it has little left to do by then.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Clients, all with the same subscription
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// Ticks that each pass brings them
    #[arg(long, default_value_t = 1)]
    ticks: usize,
    /// Passes
    #[arg(long, default_value_t = 100)]
    passes: usize,
}

/// Delivers, and prints how many bytes each client got in the last pass.
pub fn run(args: &Args) -> anyhow::Result<()> {
    process::raise_file_limit();
    let mut gateway = Gateway::start()?;
    let mut clients = Vec::with_capacity(args.clients);
    for _ in 0..args.clients {
        clients.push(gateway.connect()?);
    }
    let mut bytes = 0;
    for _ in 0..args.passes {
        gateway.tick(args.ticks);
        bytes = 0;
        for client in &mut clients {
            bytes +=
                client.take(args.ticks, |payload| memchr::memmem::find_iter(payload, market::DUE).count())?;
        }
        std::thread::sleep(PAUSE);
    }
    println!("{}", bytes / args.clients.max(1));
    // The shard's orderly end is not of interest.
    std::process::exit(0)
}

struct Gateway {
    address: SocketAddr,
    engine: Engine,
    decoder: RecordDecoder,
    outlet: Outlet,
    mailbox: Arc<Mailbox>,
    asked: Receiver<()>,
    offset: u64,
    /// What would stop the shard when it is dropped.
    _ends: (oneshot::Sender<()>, mpsc::Sender<tickgate_gateway::stats::Question>),
}

impl Gateway {
    fn start() -> anyhow::Result<Self> {
        let mut config = Config { listen: (Ipv4Addr::LOCALHOST, 0).into(), shards: 1, ..Config::default() };
        // They come by the clock, which runs ahead of what is counted.
        config.session.heartbeat_ms = 0;
        let config = Arc::new(config);
        let (ask, asked) = sync_channel(1);
        let shared = Shared {
            config: config.clone(),
            board: Arc::new(Board::new(1)),
            sessions: Arc::new(AtomicUsize::new(0)),
            subscriptions: Arc::new(AtomicUsize::new(0)),
            directory: Arc::new(Directory::new(config.kafka.symbols_max)),
            read_again: None,
            wake_feed: Arc::new(move || {
                // One that is there already says as much.
                let _ = ask.try_send(());
            }),
            tier: Default::default(),
            cursor_keys: CursorKeys::new(Keys::new(b"", None)),
            tls: None,
            access: None,
            audit: None,
        };
        let listener =
            listener::bind(config.listen, 1, Some(&config.outbox))?.pop().context("no listener")?;
        let address = listener.local_addr()?;
        let mailbox = Arc::new(Mailbox::default());
        let (inbox_in, inbox) = mpsc::channel(config.session.inbox_batches);
        let (question, admin) = mpsc::channel(1);
        let (_, chunks) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let parts = run::Parts {
            id: 0,
            shared,
            mailbox: mailbox.clone(),
            inbox,
            listener,
            admission: Admission::new(&config),
            chunks,
            admin,
            stop: stopped,
            serving: Arc::default(),
            delayed: Vec::new(),
        };
        std::thread::Builder::new().name("shard-0".to_owned()).spawn(move || run::run(parts))?;
        Ok(Self {
            address,
            engine: Engine::new(EngineConfig::of(&config), 1),
            decoder: RecordDecoder::new(config.kafka.record_bytes_max),
            outlet: Outlet::new(0, inbox_in, config.session.inbox_bytes_max),
            mailbox,
            asked,
            offset: FIRST_OFFSET,
            _ends: (stop, question),
        })
    }

    /// A client that has subscribed to the only symbol.
    fn connect(&mut self) -> anyhow::Result<Client> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let request = wire::request(Dialect::Tickgate.path(), &self.address.to_string());
        socket.write_all(request.as_bytes())?;
        let mut client = Client { socket, rest: Vec::new() };
        let head = loop {
            client.read()?;
            if let Some(end) = memchr::memmem::find(&client.rest, b"\r\n\r\n") {
                break end + 4;
            }
        };
        client.rest.drain(..head);
        client.socket.write_all(&Dialect::Tickgate.subscribe(&[market::symbol(0, SYMBOL_DIGITS)], 0))?;
        self.asked.recv_timeout(PATIENCE).context("the shard did not ask for the subscription")?;
        while let Some(request) = self.mailbox.pop() {
            self.engine.request(0, request);
        }
        self.outlet.send(&mut self.engine, clock::wall_ns());
        client.take(1, |payload| Dialect::Tickgate.acks(payload))?;
        Ok(client)
    }

    /// Hands over so many ticks at once.
    fn tick(&mut self, count: usize) {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        let (ingest_ns, now_ms) = (clock::wall_ns(), clock::mono_ms());
        for _ in 0..count {
            record.clear();
            market::record(
                &mut record,
                &market::symbol(0, SYMBOL_DIGITS),
                self.offset,
                EVENT_NS,
                RECORD_BYTES,
            );
            let position = Position { epoch: 1, partition: 0, offset: self.offset };
            self.offset += 1;
            let arrival = Arrival { position, append_ns: ingest_ns, ingest_ns, now_ms };
            self.engine.record(&mut self.decoder, &arrival, &record, |_| {});
        }
        self.outlet.send(&mut self.engine, clock::wall_ns());
    }
}

struct Client {
    socket: TcpStream,
    /// What was read and is not a whole frame yet.
    rest: Vec<u8>,
}

impl Client {
    /// Reads frames until `what` has counted `wanted` in them; returns how many bytes they had.
    fn take(&mut self, wanted: usize, what: impl Fn(&[u8]) -> usize) -> anyhow::Result<usize> {
        let (mut seen, mut bytes) = (0, 0);
        loop {
            let mut done = 0;
            while let Some(frame) = wire::first(&mut self.rest[done..]) {
                seen += what(frame.payload);
                done += frame.bytes;
            }
            self.rest.drain(..done);
            bytes += done;
            if seen >= wanted {
                anyhow::ensure!(
                    seen == wanted && self.rest.is_empty(),
                    "got {seen} in the place of {wanted}"
                );
                return Ok(bytes);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let read = self.socket.read(&mut buffer).context("waiting for the gateway")?;
        anyhow::ensure!(read > 0, "the gateway closed the connection");
        self.rest.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}
