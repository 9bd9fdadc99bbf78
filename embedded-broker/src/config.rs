//! Every limit of the broker, with its default and the reason for it.

use crate::error::BrokerError;
use std::net::{Ipv4Addr, SocketAddr};

/// 64 MiB: some 350,000 ticks of 150 bytes per partition, minutes of replay for a demo.
pub const PARTITION_BYTES_MAX: usize = 64 << 20;
/// 1 GiB: a demo must not eat the machine it is shown on.
pub const LOG_BYTES_MAX: usize = 1 << 30;
/// 1 MiB and a header, as Kafka's `message.max.bytes`.
pub const BATCH_BYTES_MAX: usize = (1 << 20) + 12;
/// 8 MiB: several batches of the largest size, far below what a stray HTTP request seems to announce.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// 16 MiB: what one answer may hold in memory.
pub const FETCH_BYTES_MAX: usize = 16 << 20;

/// Settings of a [`Broker`](crate::Broker). The default listens on a free loopback port.
///
/// Memory ceiling: `log_bytes_max` + one batch per partition (`partitions_max` × `batch_bytes_max`, as the newest batch
/// is never evicted) + per connection one request and one answer (`connections_max` × (`request_bytes_max` + 2 ×
/// `fetch_bytes_max`)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Allow an address that is not loopback. There is no authentication: anybody who reaches the port may do anything.
    pub allow_remote: bool,
    /// Partitions of a topic created without a number (1 to `partitions_max`).
    pub default_partitions: i32,
    /// Create a topic when a client asks for it and allows that.
    pub auto_create_topics: bool,
    /// Bytes kept per partition; the oldest batches go first. The topic setting `retention.bytes` can lower it.
    pub partition_bytes_max: usize,
    /// Bytes kept in all partitions together; over it, the largest partition loses its oldest batches.
    pub log_bytes_max: usize,
    /// Topics that may exist at once.
    pub topics_max: usize,
    /// Partitions that may exist at once, over all topics.
    pub partitions_max: usize,
    /// Connections at once; one more is closed at once.
    pub connections_max: usize,
    /// Largest record batch taken, in bytes (`MESSAGE_TOO_LARGE` over it).
    pub batch_bytes_max: usize,
    /// Largest request read, in bytes; a connection that announces more is closed.
    pub request_bytes_max: usize,
    /// Most bytes of records in one fetch answer, whatever the client allows.
    pub fetch_bytes_max: usize,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            default_partitions: 4,
            auto_create_topics: false,
            partition_bytes_max: PARTITION_BYTES_MAX,
            log_bytes_max: LOG_BYTES_MAX,
            topics_max: 256,
            partitions_max: 1024,
            connections_max: 256,
            batch_bytes_max: BATCH_BYTES_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            fetch_bytes_max: FETCH_BYTES_MAX,
        }
    }
}

impl BrokerConfig {
    /// Checks the settings as a whole.
    ///
    /// # Errors
    /// [`BrokerError::NotLoopback`] and [`BrokerError::Config`], the latter naming every setting that is wrong.
    pub fn check(&self) -> Result<(), BrokerError> {
        if !self.allow_remote && !self.listen.ip().is_loopback() {
            return Err(BrokerError::NotLoopback(self.listen));
        }
        let mut wrong = Vec::new();
        for (name, value) in [
            ("partition_bytes_max", self.partition_bytes_max),
            ("log_bytes_max", self.log_bytes_max),
            ("topics_max", self.topics_max),
            ("partitions_max", self.partitions_max),
            ("connections_max", self.connections_max),
            ("batch_bytes_max", self.batch_bytes_max),
            ("fetch_bytes_max", self.fetch_bytes_max),
        ] {
            if value == 0 {
                wrong.push(format!("{name} must be at least 1"));
            }
        }
        if self.default_partitions < 1 || self.default_partitions as usize > self.partitions_max {
            wrong.push(format!("default_partitions must be 1 to partitions_max ({})", self.partitions_max));
        }
        if self.request_bytes_max <= self.batch_bytes_max {
            wrong.push("request_bytes_max must be larger than batch_bytes_max".to_owned());
        }
        if self.request_bytes_max > i32::MAX as usize || self.fetch_bytes_max > (i32::MAX / 2) as usize {
            wrong.push("request_bytes_max and fetch_bytes_max must fit a Kafka frame".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(BrokerError::Config(wrong.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_all_faults_are_told_at_once() {
        BrokerConfig::default().check().unwrap();
        let bad = BrokerConfig { topics_max: 0, default_partitions: 0, ..BrokerConfig::default() };
        let told = bad.check().unwrap_err().to_string();
        assert!(told.contains("topics_max") && told.contains("default_partitions"), "{told}");
    }

    #[test]
    fn only_loopback_unless_told() {
        let open = BrokerConfig { listen: ([0, 0, 0, 0], 0).into(), ..BrokerConfig::default() };
        assert!(matches!(open.check(), Err(BrokerError::NotLoopback(_))));
        BrokerConfig { allow_remote: true, ..open }.check().unwrap();
    }
}
