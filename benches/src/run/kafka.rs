//! The whole way, from a publisher's append to Kafka to what a client reads, beside a plain consumer of the same topic.

use super::measure::{self, Times};
use super::proc;
use super::server::{self, LOAD_CPU, Load, SERVER_CPU};
use super::workload::Workload;
use crate::client::{self, Connected};
use crate::publisher;
use anyhow::Context as _;
use serde::Serialize;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

const TOPIC: &str = "tickgate-bench";
/// How long ticks gather before they go to a real Kafka, in milliseconds: a request for each of 20,000 a second is more
/// than a broker takes that shares two processors with all the rest. Its own default is 5.
const LINGER_MS: u32 = 1;
const START: Duration = Duration::from_secs(20);

/// What a tick's way took.
#[derive(Debug, Clone, Serialize)]
pub struct Way {
    pub workload: String,
    pub repetition: usize,
    /// Who stands in for Kafka.
    pub broker: String,
    pub delivered_share: f64,
    pub client_p50_us: u64,
    pub client_p99_us: u64,
    pub client_p999_us: u64,
    /// What a plain consumer beside the gateway saw.
    pub consumer_p50_us: u64,
    pub consumer_p99_us: u64,
    /// What the coalescing floor's fan-out took under the same load without Kafka.
    pub floor_p50_us: u64,
    pub floor_p99_us: u64,
    /// Time of the gateway's threads for each delivery or record.
    pub shard_us_per_delivery: f64,
    pub feed_us_per_record: f64,
    pub librdkafka_us_per_record: f64,
}

/// Ends a program when it is dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures the way through `brokers`, or through the embedded broker.
pub fn way(workload: &Workload, brokers: Option<&str>, seconds: f64) -> anyhow::Result<Way> {
    let floor = measure::measure(&server::Server::Floor("copy".to_owned()), workload, seconds)?;
    let address = server::free_address()?.to_string();
    let _broker = match brokers {
        Some(_) => None,
        None => Some(start_broker(&address)?),
    };
    let brokers_text = brokers.unwrap_or(&address);
    let listen = server::free_address()?;
    let admin = server::free_address()?;
    let program = beside("tickgate")?;
    let words = format!(
        "{program} run --brokers {brokers_text} --topic {TOPIC} --listen {listen} --admin {admin} --set shards=1"
    );
    let gateway = Stopped(server::spawn(Some(SERVER_CPU), &[], &words_of(&words), server::server_stderr())?);
    wait_for(listen)?;
    wait_until_ready(admin)?;
    let mut clients = Load::start(&[], &measure::client_words(workload, &format!("--to {listen}")))?;
    let _: Connected = clients.report()?;
    let mut consumer = Load::start(&[], &format!("consumer --brokers {brokers_text} --topic {TOPIC}"))?;
    let _: Connected = consumer.report()?;
    let times = Times::after(measure::WARM_UP_NS, seconds);
    for load in [&mut clients, &mut consumer] {
        load.tell(format_args!("{} {} {}", times.from_ns, times.to_ns, times.end_ns))?;
    }
    let linger_ms = if brokers.is_some() { LINGER_MS } else { 0 };
    let to = format!("--brokers {brokers_text} --topic {TOPIC} --linger-ms {linger_ms}");
    let mut publisher = Load::start(&[], &measure::publisher_words(workload, &times, &to))?;
    let pid = gateway.0.id();
    let time = |wanted: fn(&str) -> bool| proc::time(pid, wanted).map(|time| time.run_ns);
    let kinds: [fn(&str) -> bool; 3] =
        [|name| name.starts_with("shard-"), |name| name == "feed", |name| name.starts_with("rdk:")];
    let read = || -> anyhow::Result<Vec<u64>> { kinds.into_iter().map(time).collect() };
    measure::sleep_until(times.from_ns);
    let before = read()?;
    measure::sleep_until(times.to_ns);
    let after = read()?;
    let client: client::Report = clients.report()?;
    let plain: client::Report = consumer.report()?;
    let published: publisher::Report = publisher.report()?;
    let records = published.counts.iter().sum::<u64>() as f64;
    let spent_us = |kind: usize| (after[kind] - before[kind]) as f64 / 1e3;
    let way = Way {
        workload: workload.name.to_owned(),
        repetition: 0,
        broker: if brokers.is_some() { "Apache Kafka".to_owned() } else { "embedded broker".to_owned() },
        delivered_share: client.delivered as f64 / measure::expected(workload, &published).max(1) as f64,
        client_p50_us: client.p50_us,
        client_p99_us: client.p99_us,
        client_p999_us: client.p999_us,
        consumer_p50_us: plain.p50_us,
        consumer_p99_us: plain.p99_us,
        floor_p50_us: floor.p50_us,
        floor_p99_us: floor.p99_us,
        shard_us_per_delivery: spent_us(0) / client.delivered.max(1) as f64,
        feed_us_per_record: spent_us(1) / records,
        librdkafka_us_per_record: spent_us(2) / records,
    };
    eprintln!(
        "{} client p50 {} p99 {} µs, consumer p50 {} p99 {} µs, floor p50 {} p99 {} µs, {:.1} % delivered",
        way.workload,
        way.client_p50_us,
        way.client_p99_us,
        way.consumer_p50_us,
        way.consumer_p99_us,
        way.floor_p50_us,
        way.floor_p99_us,
        way.delivered_share * 100.0,
    );
    Ok(way)
}

fn start_broker(address: &str) -> anyhow::Result<Stopped> {
    let words = format!("{} --listen {address} --topic {TOPIC}:4", beside("tickgate-broker")?);
    let broker = Stopped(server::spawn(Some(LOAD_CPU), &[], &words_of(&words), server::server_stderr())?);
    wait_for(address.parse()?)?;
    Ok(broker)
}

/// A program of the workspace, built beside this one.
fn beside(name: &str) -> anyhow::Result<String> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{name} is not built: cargo build --release");
    Ok(path.display().to_string())
}

fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > START => {
                return Err(error).with_context(|| format!("nothing listens on {address}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Waits until a gateway says that it reads all of its partitions.
fn wait_until_ready(admin: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let mut answer = String::new();
        let mut socket = TcpStream::connect(admin)?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        socket.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        anyhow::ensure!(started.elapsed() < START, "the gateway does not get ready: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
