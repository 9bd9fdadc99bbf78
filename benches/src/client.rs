//! The load: many subscribed connections on one thread, which walks frames and looks for due times, and parses nothing.
//!
//! A *lazy* client looks at its sockets every few milliseconds: it leaves the processor to what it shares it with, and the
//! server does not pay for waking it, as it would not for a client elsewhere. Latencies then include the pause. An *eager*
//! one reads as soon as it can.

mod connect;
mod dialect;
mod stream;
mod tally;

pub use connect::Connected;
pub use dialect::Dialect;
pub use tally::{Report, Tally};

use crate::market;
use crate::process;
use crate::wire;
use anyhow::Context as _;
use connect::Connection;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tickgate_gateway::clock;

const READ_BYTES: usize = 256 << 10;
const EVENTS_PER_WAIT: usize = 1_024;
/// How long an eager client waits for something to read before it looks at the time.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the server is
    #[arg(long)]
    to: SocketAddr,
    /// How the server wants to be spoken to
    #[arg(long, value_enum, default_value_t = Dialect::Tickgate)]
    dialect: Dialect,
    /// Speak TLS, and believe whom this certificate vouches for
    #[arg(long, value_name = "PEM")]
    tls_root: Option<PathBuf>,
    /// Connections
    #[arg(long)]
    connections: usize,
    /// The number of the first of them, where several processes share a load
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Symbols in all
    #[arg(long, default_value_t = 1)]
    symbols: usize,
    /// Digits in their names
    #[arg(long, default_value_t = 4)]
    symbol_digits: usize,
    /// Subscriptions of each connection
    #[arg(long, default_value_t = 1)]
    per_client: usize,
    /// Pause between two looks at the sockets, in milliseconds; 0 reads eagerly
    #[arg(long, default_value_t = 5)]
    lazy_ms: u64,
    /// Percentage of the connections that stop to read once they have subscribed
    #[arg(long, default_value_t = 0)]
    stalled_percent: usize,
    /// Ticks of each symbol to ask for when subscribing
    #[arg(long, default_value_t = 0)]
    snapshot: usize,
    /// Drop all connections when counting starts, and return within this time, in milliseconds
    #[arg(long)]
    storm_ms: Option<i64>,
    /// Connections that are being opened at once
    #[arg(long, default_value_t = 64)]
    opening: usize,
}

/// When to count, read from the standard input once all is subscribed.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Ticks due from here on count.
    pub from_ns: i64,
    /// Ticks due before this count.
    pub to_ns: i64,
    /// When to stop.
    pub end_ns: i64,
}

impl std::str::FromStr for Window {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let numbers: Vec<i64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [from_ns, to_ns, end_ns] = numbers[..] else { anyhow::bail!("three times are expected") };
        Ok(Self { from_ns, to_ns, end_ns })
    }
}

/// Connects, says so, reads until it is told to stop, and prints a [`Report`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    process::raise_file_limit();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut connections, connected) = connect::connect(args, &epoll, &mut buffer, 0)?;
    println!("{}", serde_json::to_string(&connected)?);
    for (at, connection) in connections.iter().enumerate() {
        if market::is_chosen(args.first + at, args.stalled_percent) {
            epoll::delete(&epoll, &connection.socket)?;
        }
    }
    // While nobody says what to count there is nothing to read but heartbeats: they wait in the sockets.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let window: Window = line.parse().context("the window")?;
    if let Some(storm_ms) = args.storm_ms {
        let left_ns = (window.from_ns - clock::wall_ns()).max(0);
        std::thread::sleep(Duration::from_nanos(left_ns as u64));
        connections.clear();
        let returned;
        (connections, returned) = connect::connect(args, &epoll, &mut buffer, storm_ms * 1_000_000)?;
        println!("{}", serde_json::to_string(&returned)?);
    }
    let mut tally = Tally::new(window);
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let mut next_look_ns = clock::wall_ns();
    let mut closed = 0;
    while clock::wall_ns() < window.end_ns {
        let mut timeout = WAIT;
        if args.lazy_ms > 0 {
            let now_ns = clock::wall_ns();
            next_look_ns = (next_look_ns + args.lazy_ms as i64 * 1_000_000).max(now_ns);
            std::thread::sleep(Duration::from_nanos((next_look_ns - now_ns) as u64));
            timeout = Timespec::default();
        }
        // All that is ready, not only the first events: otherwise the first connections would starve the last.
        for _ in 0..=connections.len() / EVENTS_PER_WAIT {
            events.clear();
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let connection = &mut connections[event.data.u64() as usize];
                if read(connection, &mut buffer, &mut tally)? {
                    closed += 1;
                    epoll::delete(&epoll, &connection.socket)?;
                }
            }
            if events.len() < EVENTS_PER_WAIT {
                break;
            }
        }
    }
    println!("{}", serde_json::to_string(&tally.report(closed))?);
    Ok(())
}

/// Takes what a connection has; returns whether it is over.
fn read(connection: &mut Connection, buffer: &mut [u8], tally: &mut Tally) -> anyhow::Result<bool> {
    let kept = connection.rest.len();
    buffer[..kept].copy_from_slice(&connection.rest);
    connection.rest.clear();
    let read = match connection.socket.read(&mut buffer[kept..]) {
        Ok(0) => return Ok(true),
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(_) => return Ok(true),
    };
    tally.read(read);
    let (mut at, end) = (0, kept + read);
    while let Some(frame) = wire::first(&mut buffer[at..end]) {
        at += frame.bytes;
        match frame.opcode {
            wire::TEXT | wire::BINARY => tally.frame(frame.payload),
            wire::PING => {
                let mut pong = Vec::new();
                wire::masked(&mut pong, wire::PONG, frame.payload);
                connection.socket.write_all(&pong)?;
            }
            _ => {}
        }
    }
    anyhow::ensure!(end - at < buffer.len(), "a frame of more than {} bytes", buffer.len());
    connection.rest.extend_from_slice(&buffer[at..end]);
    Ok(false)
}

/// Registers a connection for reading.
fn register(epoll: &impl std::os::fd::AsFd, connection: &Connection, at: usize) -> std::io::Result<()> {
    Ok(epoll::add(epoll, &connection.socket, EventData::new_u64(at as u64), EventFlags::IN)?)
}
