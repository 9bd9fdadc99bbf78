//! A Kafka of several nodes in this process: the mock cluster of librdkafka. It knows leaders, their epochs and nodes that
//! are gone; it keeps records in memory, a few MiB of each partition.

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use std::time::Duration;

/// Longest wait for an answer of a node.
const ANSWER: Duration = Duration::from_secs(20);

/// The nodes. Dropped, they are gone.
#[allow(missing_debug_implementations)]
pub struct MockNodes {
    /// The client that they belong to, which does nothing else: a reference to them is had from it by any thread.
    owner: BaseProducer,
    count: i32,
    brokers: String,
}

impl MockNodes {
    /// Starts `count` nodes, named 1 to `count`.
    pub fn start(count: i32) -> Result<Self> {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", count.to_string())
            .create()
            .context("the mock cluster of librdkafka")?;
        let brokers = cluster(&owner)?.bootstrap_servers();
        Ok(Self { owner, count, brokers })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = i32> + use<> {
        1..=self.count
    }

    /// What clients connect to.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Makes a topic of which every node has everything.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        cluster(&self.owner)?.create_topic(name, partitions, self.count).context("making a topic of the mock")
    }

    /// Makes a node the leader of a partition.
    pub fn lead(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        cluster(&self.owner)?
            .partition_leader(topic, partition, Some(node))
            .context("moving a leader of the mock")
    }

    /// Ends a node's connections and lets nobody connect, until it is [`MockNodes::up`] again. Its leaders stay its own.
    pub fn down(&self, node: i32) -> Result<()> {
        cluster(&self.owner)?.broker_down(node).context("taking a node of the mock down")
    }

    /// Lets a node serve again.
    pub fn up(&self, node: i32) -> Result<()> {
        cluster(&self.owner)?.broker_up(node).context("bringing a node of the mock up")
    }

    /// The leader of each partition, as a client is told.
    pub async fn leaders(&self, topic: &str) -> Result<Vec<i32>> {
        self.ask(topic, |client, topic| {
            let metadata = client.fetch_metadata(Some(topic), ANSWER)?;
            let found = metadata.topics().first().context("no such topic")?;
            Ok(found.partitions().iter().map(|partition| partition.leader()).collect())
        })
        .await
    }

    /// Fails if the mock has let go of the first records of a partition, as it does when there are too many: what was read
    /// of it would not be all there was.
    pub async fn has_all(&self, topic: &str) -> Result<()> {
        let partitions = self.leaders(topic).await?.len() as i32;
        self.ask(topic, move |client, topic| {
            for partition in 0..partitions {
                let (low, _) = client.fetch_watermarks(topic, partition, ANSWER)?;
                ensure!(low == 0, "the mock let go of the first {low} records of partition {partition}");
            }
            Ok(())
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        topic: &str,
        what: impl FnOnce(&BaseConsumer, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (brokers, topic) = (self.brokers.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
            what(&client, &topic)
        })
        .await?
    }
}

fn cluster(owner: &BaseProducer) -> Result<MockCluster<'_, DefaultProducerContext>> {
    owner.client().mock_cluster().context("this librdkafka has no mock cluster")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::producer::BaseRecord;

    fn write(nodes: &MockNodes, records: usize) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", nodes.brokers()).create().unwrap();
        let value = vec![0; 600_000];
        for _ in 0..records {
            producer.send(BaseRecord::<(), _>::to("ticks").payload(&value).partition(0)).unwrap();
            producer.flush(ANSWER).unwrap();
        }
    }

    #[tokio::test]
    async fn leaders_are_where_they_were_moved() {
        let nodes = MockNodes::start(3).unwrap();
        nodes.create_topic("ticks", 3).unwrap();
        for (partition, node) in [(0, 2), (1, 3), (2, 2)] {
            nodes.lead("ticks", partition, node).unwrap();
        }
        assert_eq!(nodes.leaders("ticks").await.unwrap(), [2, 3, 2]);
        nodes.down(1).unwrap();
        write(&nodes, 1);
        assert_eq!(nodes.leaders("ticks").await.unwrap(), [2, 3, 2], "as the others say");
        assert!(nodes.lead("ticks", 0, 4).is_err(), "there is no such node");
    }

    #[tokio::test]
    async fn records_that_the_mock_let_go_of_are_noticed() {
        let nodes = MockNodes::start(2).unwrap();
        nodes.create_topic("ticks", 1).unwrap();
        write(&nodes, 4);
        nodes.has_all("ticks").await.unwrap();
        write(&nodes, 8);
        let error = nodes.has_all("ticks").await.unwrap_err().to_string();
        assert!(error.contains("let go of the first"), "{error}");
    }
}
