//! The handle of a running broker.

use crate::config::BrokerConfig;
use crate::core::Core;
use crate::error::BrokerError;
use crate::faults::Faults;
use crate::server::{self, Command};
use kafka_protocol::messages::ApiKey;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// A running broker. Dropping it ends it: connections are closed, the port is free and all data is gone.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    core: Arc<Core>,
    /// `None` once shut down. Locked for a whole command, so the channel never holds more than one.
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    ended: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Listens, and serves on a thread of its own until dropped.
    ///
    /// # Errors
    /// [`BrokerError::NotLoopback`] and [`BrokerError::Config`] for settings, [`BrokerError::Bind`] for the address,
    /// [`BrokerError::Thread`] when the system has no thread left.
    pub fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        config.check()?;
        let bind = |source| BrokerError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let core = Arc::new(Core::new(config));
        let (commands, inbox) = mpsc::channel(1);
        let (alive, ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(BrokerError::Thread)?;
        let shared = core.clone();
        let serve = move || {
            let _alive = alive;
            runtime.block_on(server::run(shared, listener, inbox));
        };
        let thread = std::thread::Builder::new()
            .name("tickgate-broker".to_owned())
            .spawn(serve)
            .map_err(BrokerError::Thread)?;
        Ok(Broker { address, core, commands: Mutex::new(Some(commands)), ended, thread: Some(thread) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT` for a client's `bootstrap.servers`, on this machine.
    pub fn bootstrap(&self) -> String {
        let host = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(host, self.address.port()).to_string()
    }

    /// Creates a topic with the broker's retention.
    ///
    /// # Errors
    /// The name is taken or invalid, the number below 1, or a limit is reached.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), BrokerError> {
        self.core.topics().create(name, partitions, None)?;
        self.core.changed();
        Ok(())
    }

    /// Creates a topic whose partitions keep at most `retention_bytes` bytes each (and never more than the broker's
    /// bound).
    ///
    /// # Errors
    /// As [`create_topic`](Broker::create_topic).
    pub fn create_topic_with_retention(
        &self,
        name: &str,
        partitions: i32,
        retention_bytes: usize,
    ) -> Result<(), BrokerError> {
        self.core.topics().create(name, partitions, Some(retention_bytes))?;
        self.core.changed();
        Ok(())
    }

    /// Deletes a topic with its records; fetches that wait on it end at once.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.core.topics().delete(name)?;
        self.core.changed();
        Ok(())
    }

    /// Grows a topic to `total` partitions.
    ///
    /// # Errors
    /// There is no such topic, it has as many already, or a limit is reached.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<(), BrokerError> {
        self.core.topics().add_partitions(name, total)?;
        self.core.changed();
        Ok(())
    }

    /// Names of all topics, in order.
    pub fn topics(&self) -> Vec<String> {
        self.core.topics().iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Number of partitions of a topic.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn partitions(&self, name: &str) -> Result<i32, BrokerError> {
        Ok(self.core.topics().get(name)?.partitions.len() as i32)
    }

    /// The topic's id, which differs from that of a deleted topic of the same name.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn topic_id(&self, name: &str) -> Result<Uuid, BrokerError> {
        Ok(self.core.topics().get(name)?.id)
    }

    /// The offset the next record of this partition gets.
    ///
    /// # Errors
    /// There is no such topic or partition.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Result<i64, BrokerError> {
        Ok(self.core.topics().log(topic, partition)?.high())
    }

    /// The first offset of this partition that can still be read.
    ///
    /// # Errors
    /// There is no such topic or partition.
    pub fn low_watermark(&self, topic: &str, partition: i32) -> Result<i64, BrokerError> {
        Ok(self.core.topics().log(topic, partition)?.low())
    }

    /// Makes everything before `offset` unreadable, as retention would, and returns the new low watermark.
    ///
    /// # Errors
    /// There is no such topic or partition, or `offset` is past the high watermark.
    pub fn truncate_before(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, BrokerError> {
        let low = self.core.topics().truncate_before(topic, partition, Some(offset))?;
        self.core.changed();
        Ok(low)
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.core.connections()
    }

    /// Fetches that wait for new records now: a consumer that is counted here has read everything there is.
    pub fn fetches_waiting(&self) -> usize {
        self.core.fetches_waiting()
    }

    /// Requests of this kind read so far, failed ones included.
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.core.requests(api)
    }

    /// Faults on command.
    pub fn faults(&self) -> Faults<'_> {
        Faults::of(self)
    }

    /// Returns when the broker's thread has ended. Cancel safe.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Closes every connection and the port, and waits for the thread to end. Dropping does the same.
    pub fn shutdown(self) {}

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Sends a command to the server and waits for its answer. Fit for any thread, also one inside a runtime: the
    /// server runs on its own.
    pub(crate) fn command<T>(
        &self,
        command: impl FnOnce(SyncSender<T>) -> Command,
    ) -> Result<T, BrokerError> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = commands.as_ref().ok_or(BrokerError::Ended)?;
        let (answer, answered) = sync_channel(1);
        sender.try_send(command(answer)).map_err(|_| BrokerError::Ended)?;
        answered.recv().map_err(|_| BrokerError::Ended)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.commands.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the broker's thread had panicked");
        }
    }
}
