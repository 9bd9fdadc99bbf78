//! The floor: one thread, epoll, frames made once, nothing else. What it costs is what any server must pay the kernel.

use crate::ingest::Ingest;
use crate::market;
use crate::process::{self, Counts, SharedCounts};
use crate::wire;
use anyhow::Context as _;
use rustc_hash::FxHashMap;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tickgate_gateway::clock;

/// Bytes that wait for a client before ticks for it are dropped: the gateway's default.
const WAITING_BYTES_MAX: usize = 1 << 20;
const EVENTS_PER_WAIT: usize = 1_024;
const LISTENER: u64 = u64::MAX;
const FEED_LISTENER: u64 = u64::MAX - 1;
const FEED: u64 = u64::MAX - 2;

/// When ticks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each tick with a write of its own.
    Each,
    /// What came together with one write per client.
    Copy,
    /// At once after a pause, and then at most once per so many milliseconds.
    Window(u64),
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "each" => Ok(Self::Each),
            "copy" => Ok(Self::Copy),
            _ => text
                .strip_prefix('p')
                .and_then(|ms| ms.parse().ok())
                .map(Self::Window)
                .ok_or_else(|| format!("{text:?} is none of each, copy, pN")),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// When ticks are written: each, copy, or pN for a window of N milliseconds
    #[arg(long, default_value = "each")]
    mode: Mode,
    /// Where clients connect
    #[arg(long)]
    listen: SocketAddr,
    /// Where ticks come from
    #[arg(long)]
    feed: SocketAddr,
    /// Send every client a heartbeat in this interval; 0 for none
    #[arg(long, default_value_t = 0)]
    heartbeat_ms: u64,
}

struct Client {
    socket: TcpStream,
    /// The request, or a frame of the client, that has not come whole; empty otherwise.
    half: Vec<u8>,
    is_open: bool,
    /// What waits to be written.
    out: Vec<u8>,
    /// Ticks in it.
    waiting: u32,
    /// Whether the socket refused bytes.
    is_blocked: bool,
    written_ms: u64,
}

struct Floor {
    mode: Mode,
    epoll: OwnedFd,
    clients: Slab<Client>,
    subscribers: FxHashMap<Box<[u8]>, Vec<u32>>,
    /// Clients with something to write.
    touched: Vec<u32>,
    /// Buffers of clients that have nothing to write.
    spares: Vec<Vec<u8>>,
    heartbeats: VecDeque<(u64, u32)>,
    heartbeat_ms: u64,
    counts: Counts,
    scratch: Vec<u8>,
}

/// Serves until the standard input ends.
pub fn run(args: &Args) -> anyhow::Result<()> {
    process::raise_file_limit();
    let listener = listen(args.listen)?;
    let feed_listener = listen(args.feed)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&epoll, &feed_listener, EventData::new_u64(FEED_LISTENER), EventFlags::IN)?;
    let counts = Arc::new(SharedCounts::default());
    process::answer_with(counts.clone())?;
    let mut floor = Floor {
        mode: args.mode,
        epoll,
        clients: Slab::new(),
        subscribers: FxHashMap::default(),
        touched: Vec::new(),
        spares: Vec::new(),
        heartbeats: VecDeque::new(),
        heartbeat_ms: args.heartbeat_ms,
        counts: Counts::default(),
        scratch: vec![0; 64 << 10],
    };
    let mut feed: Option<Ingest> = None;
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let mut wait_ms = None;
    loop {
        events.clear();
        let wait = wait_ms.map(|ms: u64| Timespec {
            tv_sec: (ms / 1_000) as i64,
            tv_nsec: ((ms % 1_000) * 1_000_000) as _,
        });
        match epoll::wait(&floor.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept(&listener)?,
                FEED_LISTENER => {
                    let ingest = Ingest::new(feed_listener.accept()?.0)?;
                    epoll::add(&floor.epoll, ingest.socket(), EventData::new_u64(FEED), EventFlags::IN)?;
                    feed = Some(ingest);
                }
                FEED => {
                    let Some(ingest) = &mut feed else { continue };
                    let taken = ingest.take(|record| floor.tick(record))?;
                    if taken.is_closed {
                        feed = None;
                    }
                }
                client => floor.ready(client as u32, event.flags),
            }
        }
        wait_ms = floor.flush();
        counts.publish(&floor.counts);
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listeners = tickgate_gateway::listener::bind(address, 1, None)
        .with_context(|| format!("cannot listen on {address}"))?;
    listeners.into_iter().next().context("no listener")
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let entry = self.clients.vacant_entry();
            epoll::add(&self.epoll, &socket, EventData::new_u64(entry.key() as u64), EventFlags::IN)?;
            entry.insert(Client {
                socket,
                half: Vec::new(),
                is_open: false,
                out: Vec::new(),
                waiting: 0,
                is_blocked: false,
                written_ms: 0,
            });
        }
    }

    fn ready(&mut self, id: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.write(id);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(id);
        }
    }

    fn read(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(id as usize) else { return };
        match client.socket.read(&mut self.scratch) {
            Ok(read) if read > 0 => client.half.extend_from_slice(&self.scratch[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => return self.close(id),
        }
        let mut half = std::mem::take(&mut client.half);
        let mut at = 0;
        let mut answer = Vec::new();
        if !client.is_open {
            let Some((text, len)) = wire::upgrade(&half) else {
                client.half = half;
                return;
            };
            client.is_open = true;
            answer.extend_from_slice(text.as_bytes());
            at = len;
            if self.heartbeat_ms > 0 {
                self.heartbeats.push_back((clock::mono_ms() + self.heartbeat_ms, id));
            }
        }
        while let Some(frame) = wire::first(&mut half[at..]) {
            if frame.opcode == wire::TEXT {
                for symbol in market::symbols_of(frame.payload) {
                    self.subscribers.entry(symbol.into()).or_default().push(id);
                }
                wire::frame(&mut answer, wire::TEXT, br#"{"op":"ack"}"#);
            }
            at += frame.bytes;
        }
        if at < half.len() {
            client.half = half.split_off(at);
        }
        self.queue(id, &answer, 0);
        self.write(id);
    }

    fn close(&mut self, id: u32) {
        self.clients.remove(id as usize);
        for subscribers in self.subscribers.values_mut() {
            subscribers.retain(|subscriber| *subscriber != id);
        }
        self.touched.retain(|touched| *touched != id);
        self.heartbeats.retain(|(_, client)| *client != id);
    }

    fn tick(&mut self, record: &[u8]) {
        self.counts.records += 1;
        let Some(symbol) = market::symbol_of(record) else { return };
        let Some(subscribers) = self.subscribers.get_mut(symbol) else { return };
        let subscribers = std::mem::take(subscribers);
        let mut frame = Vec::with_capacity(record.len() + 4);
        wire::frame(&mut frame, wire::TEXT, record);
        for id in &subscribers {
            if self.mode == Mode::Each {
                self.send(*id, &frame);
            } else {
                self.queue(*id, &frame, 1);
            }
        }
        if let Some(place) = self.subscribers.get_mut(symbol) {
            *place = subscribers;
        }
    }

    /// Writes a tick at once unless the socket is full.
    fn send(&mut self, id: u32, frame: &[u8]) {
        let client = &mut self.clients[id as usize];
        if client.is_blocked {
            return self.queue(id, frame, 1);
        }
        self.counts.writes += 1;
        match client.socket.write(frame) {
            Ok(written) if written == frame.len() => self.counts.sent += 1,
            Ok(written) => {
                self.queue(id, &frame[written..], 1);
                self.block(id);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.queue(id, frame, 1);
                self.block(id);
            }
            // Its end is read as an event of its own.
            Err(_) => {}
        }
    }

    /// Adds to what a client gets with the next write.
    fn queue(&mut self, id: u32, bytes: &[u8], ticks: u32) {
        let client = &mut self.clients[id as usize];
        if client.out.is_empty() {
            if client.out.capacity() == 0 {
                client.out = self.spares.pop().unwrap_or_default();
            }
            if !client.is_blocked {
                self.touched.push(id);
            }
        }
        if client.out.len() + bytes.len() > WAITING_BYTES_MAX {
            self.counts.dropped += u64::from(ticks);
            return;
        }
        client.out.extend_from_slice(bytes);
        client.waiting += ticks;
    }

    fn block(&mut self, id: u32) {
        let client = &mut self.clients[id as usize];
        client.is_blocked = true;
        // It cannot fail for a registered socket.
        let data = EventData::new_u64(u64::from(id));
        let _ = epoll::modify(&self.epoll, &client.socket, data, EventFlags::IN | EventFlags::OUT);
    }

    /// Writes what waits for a client, as far as its socket takes it.
    fn write(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(id as usize) else { return };
        if client.out.is_empty() {
            return;
        }
        self.counts.writes += 1;
        match client.socket.write(&client.out) {
            Ok(written) if written == client.out.len() => {
                self.counts.sent += u64::from(client.waiting);
                client.waiting = 0;
                client.out.clear();
                self.spares.push(std::mem::take(&mut client.out));
                if client.is_blocked {
                    client.is_blocked = false;
                    let data = EventData::new_u64(u64::from(id));
                    let _ = epoll::modify(&self.epoll, &client.socket, data, EventFlags::IN);
                }
            }
            Ok(written) => {
                client.out.drain(..written);
                self.block(id);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(id),
            Err(_) => {}
        }
    }

    /// Writes to every client that has something due; returns how long nothing more is.
    fn flush(&mut self) -> Option<u64> {
        let now_ms = clock::mono_ms();
        while let Some((due_ms, id)) = self.heartbeats.front().copied()
            && due_ms <= now_ms
        {
            self.heartbeats.pop_front();
            let mut frame = Vec::new();
            let text = format!(r#"{{"op":"heartbeat","now_ns":"{}"}}"#, clock::wall_ns());
            wire::frame(&mut frame, wire::TEXT, text.as_bytes());
            self.queue(id, &frame, 0);
            self.heartbeats.push_back((due_ms + self.heartbeat_ms, id));
        }
        let mut wait_ms = self.heartbeats.front().map(|(due_ms, _)| due_ms.saturating_sub(now_ms).max(1));
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| {
            let Some(client) = self.clients.get_mut(*id as usize) else { return false };
            if let Mode::Window(window_ms) = self.mode {
                let due_ms = client.written_ms + window_ms;
                if due_ms > now_ms {
                    wait_ms = Some(wait_ms.map_or(due_ms - now_ms, |wait| wait.min(due_ms - now_ms)));
                    return true;
                }
                client.written_ms = now_ms;
            }
            if !client.is_blocked {
                self.write(*id);
            }
            false
        });
        self.touched = touched;
        wait_ms
    }
}
