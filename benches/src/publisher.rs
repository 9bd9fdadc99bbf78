//! The publisher: an open loop. Every tick has a time when it is due and carries it; what is late is sent at once, nothing
//! is skipped, so a server that holds the publisher up shows it as latency.

use crate::client::Dialect;
use crate::market::{self, Draw};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tickgate_gateway::clock;

/// What is written at once at most.
const WRITE_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the server takes ticks
    #[arg(long)]
    to: SocketAddr,
    /// How the server takes them
    #[arg(long, value_enum, default_value_t = Dialect::Tickgate)]
    dialect: Dialect,
    /// Ticks per second
    #[arg(long)]
    rate: f64,
    /// Ticks that are due at the same time
    #[arg(long, default_value_t = 1)]
    burst: u64,
    /// Symbols
    #[arg(long, default_value_t = 1)]
    symbols: usize,
    /// Digits in their names
    #[arg(long, default_value_t = 4)]
    symbol_digits: usize,
    /// Exponent of Zipf's law over the symbols; 0 takes them in turn
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,
    /// Bytes of a record
    #[arg(long, default_value_t = 150)]
    record_bytes: usize,
    /// When the first tick is due, nanoseconds since the Unix epoch
    #[arg(long)]
    start_ns: i64,
    /// From when ticks are counted
    #[arg(long)]
    from_ns: i64,
    /// Until when ticks are counted
    #[arg(long)]
    to_ns: i64,
    /// When the last tick is due
    #[arg(long)]
    end_ns: i64,
}

/// What was published.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Ticks of each symbol that were due in the time that counts.
    pub counts: Vec<u64>,
    /// How late the latest of them was written, in microseconds.
    pub late_us_max: i64,
}

/// Publishes, and prints a [`Report`].
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(args.to).with_context(|| format!("cannot connect to {}", args.to))?;
    socket.set_nodelay(true)?;
    let names: Vec<String> = (0..args.symbols).map(|i| market::symbol(i, args.symbol_digits)).collect();
    let mut draw = Draw::new(args.symbols, args.zipf);
    let mut report = Report { counts: vec![0; args.symbols], late_us_max: 0 };
    let burst_ns = args.burst as f64 / args.rate * 1e9;
    let mut number = 0;
    let mut buffer = Vec::with_capacity(WRITE_BYTES_MAX);
    let mut record = Vec::new();
    socket.write_all(args.dialect.publisher_hello())?;
    discard(&socket)?;
    for burst in 0_u64.. {
        let due_ns = args.start_ns + (burst as f64 * burst_ns) as i64;
        if due_ns >= args.end_ns {
            break;
        }
        let now_ns = clock::wall_ns();
        if due_ns > now_ns || buffer.len() > WRITE_BYTES_MAX {
            socket.write_all(&buffer)?;
            buffer.clear();
            let left_ns = due_ns - clock::wall_ns();
            if left_ns > 0 {
                std::thread::sleep(Duration::from_nanos(left_ns as u64));
            }
        }
        let counts = (args.from_ns..args.to_ns).contains(&due_ns);
        if counts {
            report.late_us_max = report.late_us_max.max((clock::wall_ns() - due_ns) / 1_000);
        }
        for _ in 0..args.burst {
            let symbol = draw.next();
            record.clear();
            market::record(&mut record, &names[symbol], number, due_ns, args.record_bytes);
            args.dialect.publish(&mut buffer, &names[symbol], &record);
            number += 1;
            report.counts[symbol] += u64::from(counts);
        }
    }
    socket.write_all(&buffer)?;
    println!("{}", serde_json::to_string(&report)?);
    // The connection stays until the experiment ends: its end is no part of what is measured.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Reads whatever the server says to a publisher, so that it never has to wait with it.
fn discard(socket: &TcpStream) -> std::io::Result<()> {
    let mut socket = socket.try_clone()?;
    std::thread::spawn(move || std::io::copy(&mut socket, &mut std::io::sink()));
    Ok(())
}
