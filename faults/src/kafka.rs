//! The Kafka that a row runs against: the embedded broker with its faults at hand, an Apache Kafka, or a mock of several nodes.

use crate::mock::MockNodes;
use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_checker::log::epoch_of;
use tickgate_gateway::feed::native;
use tickgate_protocol::Position;

/// Longest wait for an answer of a broker.
const ANSWER: Duration = Duration::from_secs(20);

/// A Kafka.
#[allow(missing_debug_implementations)]
pub enum Kafka {
    /// Our own, in this process.
    Embedded(Broker),
    /// A real one, at this address.
    Apache(String),
    /// A real one of one node, for this world alone.
    Apart(Node),
    /// Several nodes in this process, whose leaders move.
    Mock(MockNodes),
}

/// An Apache Kafka of one node that is reached from elsewhere by another listener. Dropped, it is ended.
#[derive(Debug)]
pub struct Node {
    /// Where it is reached from here.
    address: String,
    name: String,
    control: Control,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Somebody who looks finds it by `cargo xtask kafka --name`, and the next of that name ends it first.
        let _ = self.control.run(&["--name", &self.name, "down"]);
    }
}

/// What kills, stops and starts the nodes of an Apache Kafka: `cargo xtask`.
#[derive(Debug, Clone)]
pub struct Control(pub PathBuf);

impl Control {
    /// What `cargo xtask kafka` with these words says.
    fn run(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.0).arg("kafka").args(words).output().context("starting xtask")?;
        let words = words.join(" ");
        ensure!(output.status.success(), "kafka {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a node that listens on `listen` too, where clients are told to go to `advertised`.
    fn node(&self, listen: SocketAddr, advertised: SocketAddr) -> Result<Node> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("faults-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // What a run that was killed outright may have left.
        self.run(&["--name", &name, "down"])?;
        let (listen, advertised) = (listen.to_string(), advertised.to_string());
        let said = self.run(&["--name", &name, "up", "--listen", &listen, "--advertise", &advertised])?;
        let address = said.lines().find_map(|line| line.strip_prefix("bootstrap: "));
        Ok(Node { address: address.context("it says no address")?.to_owned(), name, control: self.clone() })
    }

    /// Kills nodes (`kill`), ends them as they want to be ended (`stop`), or starts them again and waits until they answer
    /// (`start`).
    pub async fn nodes(&self, what: &'static str, nodes: &[usize]) -> Result<()> {
        let (control, nodes) = (self.clone(), nodes.iter().map(ToString::to_string).collect::<Vec<_>>());
        let run = move || {
            let nodes = nodes.iter().map(String::as_str);
            control.run(&[what].into_iter().chain(nodes).collect::<Vec<_>>()).map(drop)
        };
        tokio::task::spawn_blocking(run).await?
    }
}

impl Kafka {
    /// Starts an embedded one that takes records of `record_bytes_max` bytes.
    pub fn embedded(record_bytes_max: usize) -> Result<Self> {
        Self::embedded_at(Ipv4Addr::LOCALHOST.into(), record_bytes_max)
    }

    /// The same, at this address.
    pub fn embedded_at(host: IpAddr, record_bytes_max: usize) -> Result<Self> {
        let default = BrokerConfig::default();
        let batch_bytes_max = default.batch_bytes_max.max(record_bytes_max + (64 << 10));
        let config = BrokerConfig {
            listen: (host, 0).into(),
            allow_remote: !host.is_loopback(),
            batch_bytes_max,
            request_bytes_max: default.request_bytes_max.max(2 * batch_bytes_max),
            fetch_bytes_max: default.fetch_bytes_max.max(2 * batch_bytes_max),
            ..default
        };
        Ok(Self::Embedded(Broker::start(config).context("the embedded broker")?))
    }

    /// Starts an Apache Kafka that listens on `host` too, and tells clients there to go to `advertised`, or to where it
    /// listens. Says where that is.
    pub async fn apart(
        control: &Control,
        host: IpAddr,
        advertised: Option<SocketAddr>,
    ) -> Result<(Self, SocketAddr)> {
        let listen =
            TcpListener::bind((host, 0)).and_then(|port| port.local_addr()).context("a free port")?;
        let control = control.clone();
        let start = move || control.node(listen, advertised.unwrap_or(listen));
        Ok((Self::Apart(tokio::task::spawn_blocking(start).await??), listen))
    }

    /// Starts a mock of `count` nodes.
    pub fn mock(count: i32) -> Result<Self> {
        Ok(Self::Mock(MockNodes::start(count)?))
    }

    /// What clients connect to.
    pub fn brokers(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.bootstrap(),
            Self::Apache(address) | Self::Apart(Node { address, .. }) => address.clone(),
            Self::Mock(nodes) => nodes.brokers().to_owned(),
        }
    }

    /// The embedded one, for its faults.
    pub fn broker(&self) -> Result<&Broker> {
        match self {
            Self::Embedded(broker) => Ok(broker),
            _ => bail!("this fault is one of the embedded broker"),
        }
    }

    /// The mock, for its faults.
    pub fn nodes_of_mock(&self) -> Result<&MockNodes> {
        match self {
            Self::Mock(nodes) => Ok(nodes),
            _ => bail!("this fault is one of the mock of several nodes"),
        }
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", self.brokers()).create()?)
    }

    /// Makes a topic, waiting for one of that name to be wholly gone.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        if let Self::Mock(nodes) = self {
            ensure!(settings.is_empty(), "topics of the mock have no settings");
            return nodes.create_topic(name, partitions);
        }
        let replicas = self.nodes().await?.min(3);
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let started = Instant::now();
        loop {
            let made = self.admin()?.create_topics([&topic], &options).await?;
            match &made[0] {
                Ok(_) => return Ok(()),
                Err(_) if started.elapsed() < ANSWER => tokio::time::sleep(Duration::from_millis(20)).await,
                Err((name, code)) => bail!("creating {name}: {code}"),
            }
        }
    }

    async fn nodes(&self) -> Result<i32> {
        if matches!(self, Self::Embedded(_)) {
            return Ok(1);
        }
        let address = self.brokers();
        let ask = move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create()?;
            client.fetch_metadata(None, ANSWER).map(|metadata| metadata.brokers().len() as i32)
        };
        tokio::task::spawn_blocking(ask).await?.context("asking for the nodes of Kafka")
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let deleted = self.admin()?.delete_topics(&[name], &options).await?;
        ensure!(deleted[0].is_ok(), "deleting a topic: {deleted:?}");
        Ok(())
    }

    /// Gives a topic more partitions, `total` in all.
    pub async fn add_partitions(&self, name: &str, total: usize) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let grown = self.admin()?.create_partitions([&NewPartitions::new(name, total)], &options).await?;
        ensure!(grown[0].is_ok(), "adding partitions: {grown:?}");
        Ok(())
    }

    /// The epoch that positions in a topic have.
    pub fn epoch(&self, topic: &str) -> Result<u32> {
        let id = match self {
            Self::Embedded(broker) => broker.topic_id(topic)?.as_u128(),
            _ => {
                let consumer: BaseConsumer = ClientConfig::new()
                    .set("bootstrap.servers", self.brokers())
                    .set("group.id", "tickgate-faults")
                    .create()?;
                // The mock names a controller that there is not.
                let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
                let node = metadata.brokers().first().map(|node| node.id());
                native::topic_id(&consumer, topic, node, ANSWER.as_millis() as i32)
                    .context("the broker tells no topic id")?
            }
        };
        Ok(epoch_of(id))
    }

    /// Takes the records before these offsets away, one for each partition, as retention does.
    pub async fn take_away(&self, topic: &str, firsts: &[(i32, i64)]) -> Result<()> {
        if let Self::Embedded(broker) = self {
            for (partition, first) in firsts {
                broker.truncate_before(topic, *partition, *first)?;
            }
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, first) in firsts {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(*first))?;
        }
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let deleted = self.admin()?.delete_records(&offsets, &options).await?;
        for partition in deleted.elements() {
            partition.error().context("taking records away")?;
        }
        Ok(())
    }

    /// The offset behind the last record of every partition.
    pub async fn highs(&self, topic: &str) -> Result<Vec<(i32, i64)>> {
        let address = match self {
            Self::Embedded(broker) => {
                let high = |partition| -> Result<(i32, i64)> {
                    Ok((partition, broker.high_watermark(topic, partition)?))
                };
                return (0..broker.partitions(topic)?).map(high).collect();
            }
            _ => self.brokers(),
        };
        let topic = topic.to_owned();
        let ask = move || -> Result<Vec<(i32, i64)>> {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create()?;
            let metadata = client.fetch_metadata(Some(&topic), ANSWER)?;
            let partitions = metadata.topics().first().context("no such topic")?.partitions().iter();
            let high =
                |id| -> Result<(i32, i64)> { Ok((id, client.fetch_watermarks(&topic, id, ANSWER)?.1)) };
            partitions.map(|partition| high(partition.id())).collect()
        };
        tokio::task::spawn_blocking(ask).await?.context("asking how long partitions are")
    }

    /// The position of the last record of every partition that has one; only the embedded broker tells at once.
    pub fn ends(&self, topic: &str, epoch: u32) -> Option<Vec<Position>> {
        let Self::Embedded(broker) = self else { return None };
        let partitions = broker.partitions(topic).ok()? as u32;
        let last = |partition| {
            let high = broker.high_watermark(topic, partition as i32).ok()?;
            Some(Position { epoch, partition, offset: u64::try_from(high).ok()?.checked_sub(1)? })
        };
        Some((0..partitions).filter_map(last).collect())
    }
}
