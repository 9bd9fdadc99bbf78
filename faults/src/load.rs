//! The market: a thread that writes trades and quotes at a steady rate, and whatever else a row wants written.
//!
//! Every tick carries its number as its price and the time it was meant to be sent. Where it went is read from the topic
//! afterwards: what this thread believes to have written is no truth.

use anyhow::{Context, Result};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tickgate_load::clock::now_ns;

/// `send_ns` of the last tick of every stream: whoever has got it has got all before it.
pub const LAST_NS: i64 = 4_100_000_000_000_000_000;
/// How often the thread writes what is due.
const EVERY: Duration = Duration::from_millis(2);
/// Longest wait for brokers to take what was written.
const FLUSH: Duration = Duration::from_secs(60);

/// What is written.
#[derive(Debug, Clone)]
pub struct Market {
    /// Where to.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Symbols.
    pub symbols: usize,
    /// Ticks a second.
    pub rate_per_s: u32,
    /// Largest record that is written.
    pub record_bytes_max: usize,
}

/// The name of a symbol by its number.
pub fn symbol(number: usize) -> String {
    format!("S{number:04}")
}

/// A record that is no tick, and the reason the gateway has to count it under.
#[derive(Debug, Clone)]
pub struct Bad {
    /// The reason.
    pub reason: &'static str,
    /// The record.
    pub value: Vec<u8>,
}

/// What can be changed while it runs.
#[derive(Debug)]
struct Switches {
    is_stopped: AtomicBool,
    is_paused: AtomicBool,
    /// Whether the thread has seen that it is paused: from then on it writes nothing.
    is_resting: AtomicBool,
    rate_per_s: AtomicU32,
    partitions: AtomicU32,
    /// One in so many records is a bad one; 0 for none.
    bad_one_in: AtomicU32,
    bad: Vec<Bad>,
    /// How far the venue's clock is ahead.
    ahead_ns: AtomicI64,
    written: AtomicU64,
    bad_written: Mutex<BTreeMap<&'static str, u64>>,
    /// When the last bad record was handed over.
    bad_last_ns: AtomicI64,
}

/// The running market. Dropped, it ends.
#[derive(Debug)]
pub struct Load {
    market: Market,
    switches: Arc<Switches>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Begins to write; `bad` is what [`Load::bad`] takes turns with.
    pub fn start(market: Market, bad: Vec<Bad>) -> Result<Self> {
        let producer = producer(&market)?;
        let switches = Arc::new(Switches {
            is_stopped: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            is_resting: AtomicBool::new(false),
            rate_per_s: AtomicU32::new(market.rate_per_s),
            partitions: AtomicU32::new(market.partitions),
            bad_one_in: AtomicU32::new(0),
            bad,
            ahead_ns: AtomicI64::new(0),
            written: AtomicU64::new(0),
            bad_written: Mutex::default(),
            bad_last_ns: AtomicI64::new(0),
        });
        let writer = Writer { producer, market: market.clone(), switches: switches.clone() };
        let thread = std::thread::Builder::new().name("market".to_owned()).spawn(move || writer.run())?;
        Ok(Self { market, switches, thread: Some(thread) })
    }

    /// One in `one_in` records is a bad one from now on; 0 for none.
    pub fn bad(&self, one_in: u32) {
        self.switches.bad_one_in.store(one_in, Ordering::Relaxed);
    }

    /// When the last bad record was handed to the producer, in nanoseconds since the Unix epoch.
    pub fn bad_last_ns(&self) -> i64 {
        self.switches.bad_last_ns.load(Ordering::Relaxed)
    }

    /// Writes at another rate.
    pub fn rate(&self, per_s: u32) {
        self.switches.rate_per_s.store(per_s, Ordering::Relaxed);
    }

    /// Spreads symbols over so many partitions: some of them move.
    pub fn partitions(&self, count: u32) {
        self.switches.partitions.store(count, Ordering::Relaxed);
    }

    /// The venue's clock is so far ahead from now on.
    pub fn ahead(&self, by: Duration) {
        self.switches.ahead_ns.store(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Writes nothing, or goes on.
    pub fn pause(&self, is_paused: bool) {
        self.switches.is_paused.store(is_paused, Ordering::Release);
    }

    /// Whether it has paused: what was written until then is all there is.
    pub fn is_resting(&self) -> bool {
        self.switches.is_resting.load(Ordering::Acquire)
    }

    /// Ticks handed to the producer.
    pub fn written(&self) -> u64 {
        self.switches.written.load(Ordering::Relaxed)
    }

    /// Ends: with a last tick of every stream if `is_last`, and returns when the brokers have all of it. Says how many bad
    /// records there were, by reason.
    pub async fn stop(mut self, is_last: bool) -> Result<BTreeMap<&'static str, u64>> {
        self.switches.is_stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        let (market, switches) = (self.market.clone(), self.switches.clone());
        tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                thread.join().map_err(|_| anyhow::anyhow!("the market panicked"))??;
            }
            if is_last {
                let producer = producer(&market)?;
                let writer = Writer { producer, market, switches: switches.clone() };
                writer.last()?;
            }
            Ok(switches.bad_written.lock().unwrap_or_else(PoisonError::into_inner).clone())
        })
        .await?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.switches.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn producer(market: &Market) -> Result<BaseProducer> {
    ClientConfig::new()
        .set("bootstrap.servers", &market.brokers)
        // What is sent again after a broken connection must not stand in the log twice, nor in another order.
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("message.timeout.ms", "300000")
        .set("message.max.bytes", (market.record_bytes_max + (64 << 10)).to_string())
        .set("queue.buffering.max.messages", "1000000")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("retry.backoff.ms", "20")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create()
        .context("the market's Kafka client")
}

struct Writer {
    producer: BaseProducer,
    market: Market,
    switches: Arc<Switches>,
}

impl Writer {
    fn run(self) -> Result<()> {
        let switches = &self.switches;
        let mut number = 0u64;
        let mut due = Instant::now();
        let mut bad = 0usize;
        while !switches.is_stopped.load(Ordering::Relaxed) {
            let rate = switches.rate_per_s.load(Ordering::Relaxed).max(1);
            let now = Instant::now();
            let is_paused = switches.is_paused.load(Ordering::Acquire);
            switches.is_resting.store(is_paused, Ordering::Release);
            if is_paused {
                due = now + EVERY;
            }
            while due <= now {
                // When it was meant to be sent, however late this thread is.
                let send_ns = now_ns() - (now - due).as_nanos() as i64;
                let one_in = switches.bad_one_in.load(Ordering::Relaxed);
                if one_in > 0 && number.is_multiple_of(u64::from(one_in)) {
                    self.spoil(number, bad)?;
                    bad += 1;
                } else {
                    self.tick(number, send_ns)?;
                }
                number += 1;
                due += Duration::from_secs(1) / rate;
            }
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(EVERY);
        }
        self.flush()
    }

    /// The tick of this number. Symbols take turns, and so do channels.
    fn tick(&self, number: u64, send_ns: i64) -> Result<()> {
        let symbols = self.market.symbols as u64;
        let (at, is_trade) = ((number % symbols) as usize, (number / symbols).is_multiple_of(2));
        self.write(at, is_trade, number, send_ns)?;
        self.switches.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, at: usize, is_trade: bool, number: u64, send_ns: i64) -> Result<()> {
        let name = symbol(at);
        let event_ns = now_ns().saturating_add(self.switches.ahead_ns.load(Ordering::Relaxed));
        let text = if is_trade {
            format!(
                r#"{{"type":"trade","symbol":"{name}","price":"{number}.25","size":"100","event_ns":{event_ns},"send_ns":"{send_ns}"}}"#
            )
        } else {
            format!(
                r#"{{"type":"quote","symbol":"{name}","bid_price":"{number}.25","bid_size":"3","ask_price":"{number}.50","ask_size":"4","event_ns":{event_ns},"send_ns":"{send_ns}"}}"#
            )
        };
        self.record(at, text.as_bytes())
    }

    fn spoil(&self, number: u64, bad: usize) -> Result<()> {
        let switches = &self.switches;
        let Some(record) = switches.bad.get(bad % switches.bad.len().max(1)) else { return Ok(()) };
        self.record((number % self.market.symbols as u64) as usize, &record.value)?;
        let mut written = switches.bad_written.lock().unwrap_or_else(PoisonError::into_inner);
        *written.entry(record.reason).or_default() += 1;
        switches.bad_last_ns.store(now_ns(), Ordering::Relaxed);
        Ok(())
    }

    fn record(&self, at: usize, value: &[u8]) -> Result<()> {
        let name = symbol(at);
        let partition = at as u32 % self.switches.partitions.load(Ordering::Relaxed).max(1);
        let mut record =
            BaseRecord::to(&self.market.topic).key(&name).payload(value).partition(partition as i32);
        let started = Instant::now();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, unsent)) => {
                    let code = error.rdkafka_error_code();
                    // A full queue empties, and a partition that was just added is known in a moment.
                    let passes = [RDKafkaErrorCode::QueueFull, RDKafkaErrorCode::UnknownPartition];
                    if !code.is_some_and(|code| passes.contains(&code)) || started.elapsed() > FLUSH {
                        return Err(error).context("writing a record");
                    }
                    record = unsent;
                    self.producer.poll(Duration::from_millis(10));
                }
            }
        }
    }

    /// A last tick of every stream.
    fn last(&self) -> Result<()> {
        for at in 0..self.market.symbols {
            for is_trade in [true, false] {
                self.write(at, is_trade, 9_999_999, LAST_NS)?;
            }
        }
        self.flush()
    }

    fn flush(&self) -> Result<()> {
        self.producer.flush(FLUSH).context("brokers do not take what was written")
    }
}

/// Bad records of every kind but `oversize`, with the reason of each.
pub fn bad_records() -> Vec<Bad> {
    let trade = |rest: &str| format!(r#"{{"type":"trade","symbol":"S0000",{rest}}}"#);
    let texts = [
        ("not_json", trade(r#""price":"1","size":"1""#).split_at(40).0.to_owned()),
        ("not_json", "certainly not JSON".to_owned()),
        ("too_deep", format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        ("missing_field", trade(r#""price":"1""#)),
        ("unknown_type", r#"{"type":"weather","symbol":"S0000"}"#.to_owned()),
        ("bad_number", trade(r#""price":"a lot","size":"1""#)),
        ("bad_time", trade(r#""price":"1","size":"1","event_ns":"yesterday""#)),
        ("bad_value", trade(r#""price":"1","size":"1","side":"sideways""#)),
        ("bad_symbol", r#"{"type":"trade","symbol":"S*","price":"1","size":"1"}"#.to_owned()),
        ("empty", " \n".to_owned()),
    ];
    let mut all: Vec<Bad> =
        texts.into_iter().map(|(reason, text)| Bad { reason, value: text.into_bytes() }).collect();
    let no_text = b"{\"type\":\"trade\",\"symbol\":\"\xff\xfe\",\"price\":\"1\",\"size\":\"1\"}";
    all.push(Bad { reason: "not_json", value: no_text.to_vec() });
    all
}
