//! A gateway that speaks TLS.

use crate::harness::certs::{self, Files};
use crate::harness::{Gateway, Kafka, Records, take_events, trade, until};
use serde_json::json;
use std::sync::Arc;
use tickgate_gateway::config::Config;
use tickgate_gateway::stats::{RefuseReason, TlsFailure};
use tickgate_load::Client;
use tokio::net::TcpStream;

pub struct World {
    pub files: Files,
    _kafka: Kafka,
    pub records: Records,
    pub gateway: Gateway,
}

impl World {
    pub async fn new(change: impl FnOnce(&mut Config, &Files)) -> Self {
        let (files, kafka) = (Files::new(), Kafka::embedded());
        let topic = kafka.topic(1).await;
        let records = kafka.producer(&topic);
        let mut config = kafka.config(&topic);
        config.tls = files.config();
        change(&mut config, &files);
        let gateway = Gateway::start(config).await;
        assert!(gateway.url().starts_with("wss://"));
        Self { files, _kafka: kafka, records, gateway }
    }

    /// A client of all trades.
    pub async fn subscribed(&self, config: Arc<rustls::ClientConfig>) -> Client {
        let client = self.gateway.client_as(&certs::options(config)).await;
        let mut client = client.expect("a session");
        client.subscribe(&[json!({"channel": "trades", "symbols": ["*"]})]).await.expect("an ack");
        client
    }

    /// Sends one trade, which the client has to get.
    pub async fn ticks(&self, client: &mut Client, price: &str) {
        self.records.send(&trade("A", price));
        assert_eq!(take_events(client, 1).await[0]["price"], price);
    }

    /// Handshakes so far: whole ones, and those that resumed a session.
    pub fn shaken(&self) -> [u64; 2] {
        let board = self.gateway.running().board();
        (0..board.shard_count()).fold([0, 0], |[whole, resumed], shard| {
            let [w, r] = board.shard(shard).tls_handshakes;
            [whole + w, resumed + r]
        })
    }

    /// Connections that became no session.
    pub fn refused(&self, reason: RefuseReason) -> u64 {
        let board = self.gateway.running().board();
        (0..board.shard_count()).map(|shard| board.shard(shard).refused[reason as usize]).sum()
    }

    /// A connection on which nothing was said.
    pub async fn connect(&self) -> TcpStream {
        let rest = self.gateway.url().trim_start_matches("wss://");
        let address = rest.split('/').next().expect("an address");
        TcpStream::connect(address).await.expect("it listens")
    }

    /// Waits until so many handshakes have failed of `reason`, and no others.
    pub async fn failed(&self, reason: TlsFailure, count: u64) {
        let board = self.gateway.running().board();
        let sum = |of: &dyn Fn(usize) -> u64| (0..board.shard_count()).map(of).sum::<u64>();
        let all = || sum(&|shard| board.shard(shard).tls_failures.iter().sum());
        let of_reason = || sum(&|shard| board.shard(shard).tls_failures[reason as usize]);
        until(reason.label(), || self.refused(RefuseReason::Tls) >= count).await;
        assert_eq!(
            (of_reason(), all(), self.refused(RefuseReason::Tls)),
            (count, count, count),
            "{}",
            reason.label()
        );
    }
}
