//! Where ticks go: a server's TCP port, or Kafka.

use crate::client::Dialect;
use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What is written at once at most.
const WRITE_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the server takes ticks
    #[arg(long, required_unless_present = "brokers")]
    to: Option<SocketAddr>,
    /// Publish to Kafka instead
    #[arg(long)]
    brokers: Option<String>,
    /// The topic there
    #[arg(long, default_value = "ticks")]
    topic: String,
    /// How long a tick may wait there for others to be sent with it, in milliseconds
    #[arg(long, default_value_t = 0)]
    linger_ms: u32,
}

pub enum Sink {
    Tcp { socket: TcpStream, buffer: Vec<u8> },
    Kafka { producer: BaseProducer, topic: String },
}

impl Sink {
    pub fn open(args: &Args, dialect: Dialect) -> anyhow::Result<Self> {
        if let Some(brokers) = &args.brokers {
            let producer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("linger.ms", args.linger_ms.to_string())
                .set("acks", "1")
                .create()?;
            return Ok(Self::Kafka { producer, topic: args.topic.clone() });
        }
        let address = args.to.context("no address")?;
        let mut socket =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.write_all(dialect.publisher_hello())?;
        // Whatever the server says to a publisher is read, so that it never has to wait with it.
        let mut answers = socket.try_clone()?;
        std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        Ok(Self::Tcp { socket, buffer: Vec::with_capacity(2 * WRITE_BYTES_MAX) })
    }

    /// Whether so much waits that it has to go before more comes.
    pub fn is_large(&self) -> bool {
        matches!(self, Self::Tcp { buffer, .. } if buffer.len() > WRITE_BYTES_MAX)
    }

    pub fn add(&mut self, dialect: Dialect, symbol: &str, record: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Tcp { buffer, .. } => dialect.publish(buffer, symbol, record),
            Self::Kafka { producer, topic } => {
                let mut message = BaseRecord::to(topic).key(symbol).payload(record);
                while let Err((error, returned)) = producer.send(message) {
                    if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                        return Err(error.into());
                    }
                    producer.poll(Duration::from_millis(1));
                    message = returned;
                }
            }
        }
        Ok(())
    }

    /// Sends what was added.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Tcp { socket, buffer } => {
                socket.write_all(buffer)?;
                buffer.clear();
            }
            Self::Kafka { producer, .. } => {
                producer.poll(Duration::ZERO);
            }
        }
        Ok(())
    }

    /// Sends the last of it.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if let Self::Kafka { producer, .. } = self {
            producer.flush(Duration::from_secs(10))?;
        }
        Ok(())
    }
}
