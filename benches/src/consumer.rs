//! A plain Kafka consumer: what any reader of the topic sees of a tick's way, to be set beside what a client sees.

use crate::client::{Tally, Window};
use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::Duration;
use tickgate_gateway::clock;

/// How long to wait for the broker's answer, and for a record.
const ANSWER: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[arg(long)]
    brokers: String,
    #[arg(long, default_value = "ticks")]
    topic: String,
}

/// Reads the topic from its end, and prints what a client would.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("group.id", "tickgate-bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&args.topic), ANSWER)?;
    let topic = metadata.topics().first().context("no such topic")?;
    let mut partitions = TopicPartitionList::new();
    for partition in topic.partitions() {
        partitions.add_partition_offset(&args.topic, partition.id(), Offset::End)?;
    }
    consumer.assign(&partitions)?;
    // Positions are taken before anything is said: nothing that is published later is missed.
    consumer.poll(WAIT);
    println!("{}", serde_json::to_string(&crate::client::Connected::default())?);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let window: Window = line.parse()?;
    let mut tally = Tally::new(window);
    while clock::wall_ns() < window.end_ns {
        if let Some(Ok(record)) = consumer.poll(WAIT)
            && let Some(payload) = record.payload()
        {
            tally.read(payload.len());
            tally.frame(payload);
        }
    }
    println!("{}", serde_json::to_string(&tally.report(0))?);
    Ok(())
}
