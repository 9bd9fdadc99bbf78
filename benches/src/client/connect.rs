//! Opening many connections, some at a time, each as far as the answer to its subscription.

use super::stream::{Stream, Tls};
use super::{Args, register};
use crate::market;
use crate::wire;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use tickgate_gateway::clock;

/// How long nothing may happen before opening has failed.
const SILENCE_NS: i64 = 20_000_000_000;
/// How long to wait for an answer before the next connection may be due.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// One subscribed connection.
pub struct Connection {
    pub socket: Stream,
    /// The beginning of a frame that has not come whole.
    pub rest: Vec<u8>,
}

/// How opening went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Connected {
    pub connections: usize,
    pub took_ms: f64,
    /// From the call of connect to the answer to the subscription.
    pub p50_us: u64,
    pub p99_us: u64,
}

struct Opening {
    at: usize,
    started_ns: i64,
    is_upgraded: bool,
    acks: usize,
}

/// Opens all connections, spread over `spread_ns`.
pub fn connect(
    args: &Args,
    epoll: &OwnedFd,
    buffer: &mut [u8],
    spread_ns: i64,
) -> anyhow::Result<(Vec<Connection>, Connected)> {
    let started_ns = clock::wall_ns();
    let tls = args.tls_root.as_deref().map(|root| Tls::new(root, args.to.ip())).transpose()?;
    let host = args.to.to_string();
    let request = wire::request(args.dialect.path(), &host);
    let acks_expected = args.dialect.acks_expected(args.per_client.min(args.symbols));
    let mut times_us = Histogram::<u64>::new_with_bounds(1, 600_000_000, 2)?;
    let mut connections: Vec<Connection> = Vec::with_capacity(args.connections);
    let mut opening: Vec<Opening> = Vec::new();
    let mut events = Vec::with_capacity(args.opening.max(1));
    let apart_ns = spread_ns / args.connections.max(1) as i64;
    let mut heard_ns = started_ns;
    while connections.len() < args.connections || !opening.is_empty() {
        while connections.len() < args.connections
            && opening.len() < args.opening
            && clock::wall_ns() >= started_ns + apart_ns * connections.len() as i64
        {
            let started_ns = clock::wall_ns();
            let socket = TcpStream::connect(args.to).with_context(|| {
                format!("connection {} of {} to {}", connections.len() + 1, args.connections, args.to)
            })?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let mut socket = Stream::new(socket, tls.as_ref())?;
            socket.write_all(request.as_bytes())?;
            let at = connections.len();
            connections.push(Connection { socket, rest: Vec::new() });
            register(epoll, &connections[at], at)?;
            opening.push(Opening { at, started_ns, is_upgraded: false, acks: 0 });
        }
        events.clear();
        epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&WAIT))?;
        let now_ns = clock::wall_ns();
        if !events.is_empty() {
            heard_ns = now_ns;
        }
        anyhow::ensure!(now_ns < heard_ns + SILENCE_NS, "{} connections were not answered", opening.len());
        for event in &events {
            let at = event.data.u64() as usize;
            let connection = &mut connections[at];
            let read = match connection.socket.read(buffer) {
                Ok(0) => anyhow::bail!("connection {at} was closed before it was subscribed"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("while subscribing"),
            };
            connection.rest.extend_from_slice(&buffer[..read]);
            let Some(place) = opening.iter().position(|o| o.at == at) else {
                // Subscribed already; what comes now is read later.
                continue;
            };
            let state = &mut opening[place];
            if !state.is_upgraded {
                let Some(end) = memchr::memmem::find(&connection.rest, b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&connection.rest[..end]);
                let status = head.lines().next().unwrap_or_default().to_owned();
                anyhow::ensure!(status.contains(" 101 "), "the server answered {status:?}");
                connection.rest.drain(..end + 4);
                state.is_upgraded = true;
                let names: Vec<String> =
                    market::subscriptions(args.first + at, args.symbols, args.per_client)
                        .into_iter()
                        .map(|index| market::symbol(index, args.symbol_digits))
                        .collect();
                connection.socket.write_all(&args.dialect.subscribe(&names, args.snapshot))?;
            }
            let mut done = 0;
            while let Some(frame) = wire::first(&mut connection.rest[done..]) {
                state.acks += args.dialect.acks(frame.payload);
                done += frame.bytes;
            }
            connection.rest.drain(..done);
            if state.acks >= acks_expected {
                times_us.saturating_record((clock::wall_ns() - state.started_ns).max(0) as u64 / 1_000);
                opening.swap_remove(place);
            }
        }
    }
    for connection in &mut connections {
        connection.rest.shrink_to_fit();
    }
    let connected = Connected {
        connections: connections.len(),
        took_ms: (clock::wall_ns() - started_ns) as f64 / 1e6,
        p50_us: times_us.value_at_quantile(0.5),
        p99_us: times_us.value_at_quantile(0.99),
    };
    Ok((connections, connected))
}
