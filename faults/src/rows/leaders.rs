//! Leaders that move, on a mock of three nodes.

use super::broker::ends_well;
use crate::mock::MockNodes;
use crate::report::Outcome;
use crate::world::{Remains, Run, Setup, World};
use anyhow::{Result, ensure};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_load::clock::now_ns;
use tokio::time::sleep;

/// How long a node is gone once it has handed its leaders over.
const GONE: Duration = Duration::from_millis(600);

/// R3a. Every node in turn hands its leaders over, goes and comes back, twice round. Ticks go on from those that remain:
/// nothing is missing, and nobody is told that the feed is down.
pub async fn move_on(run: &Run, outcome: &mut Outcome) -> Result<()> {
    // As many as to have a few on each node, whoever is gone.
    let setup = Setup { partitions: 6, mock_nodes: 3, ..Setup::default() };
    let world = World::start(run, setup).await?;
    let nodes = world.kafka.nodes_of_mock()?;
    sleep(Duration::from_millis(500)).await;
    let (mut moved, since_ns) = (0, now_ns());
    for _ in 0..run.pick(10, 2) {
        for node in nodes.names() {
            moved += hand_over(nodes, &world.topic, node).await?;
            nodes.down(node)?;
            // What comes now is of the nodes that remain.
            world.flowing(now_ns(), 0..world.clients.len()).await?;
            sleep(GONE).await;
            nodes.up(node)?;
        }
    }
    let until_ns = now_ns();
    outcome.at_least("leaders moved", moved, 2 * u64::from(world.setup.partitions));
    let downs: u64 = world.clients.iter().map(|client| client.seen.downs.load(Ordering::Relaxed)).sum();
    outcome.exactly("heartbeats that said `down`", downs, 0);
    let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
    let remains = ends_well(world, outcome, until_ns).await?;
    kafka.nodes_of_mock()?.has_all(&topic).await?;
    let pause = longest_pause(&remains, (since_ns, until_ns));
    outcome.show("longest pause of a client's ticks", format!("{:.0} ms", pause.as_secs_f64() * 1e3));
    Ok(())
}

/// Gives the leaders of a node to the others; says how many there were. They move at once: of a partition that has no
/// leader the mock answers nothing, it crashes.
async fn hand_over(nodes: &MockNodes, topic: &str, node: i32) -> Result<u64> {
    let before = nodes.leaders(topic).await?;
    let others: Vec<i32> = nodes.names().filter(|name| *name != node).collect();
    for (partition, _) in (0..).zip(&before).filter(|(_, leader)| **leader == node) {
        nodes.lead(topic, partition, others[partition as usize % others.len()])?;
    }
    let after = nodes.leaders(topic).await?;
    ensure!(!after.contains(&node), "node {node} leads still: {after:?}");
    Ok(before.iter().zip(&after).filter(|(before, after)| before != after).count() as u64)
}

/// The longest that a client waited for its next tick in a span of time.
fn longest_pause(remains: &Remains, span_ns: (i64, i64)) -> Duration {
    let pauses = remains.lives.iter().flat_map(|life| life.latencies.windows(2)).filter_map(|two| {
        let ((before, _), (after, _)) = (two[0], two[1]);
        (span_ns.0 <= before && after < span_ns.1).then_some(after - before)
    });
    Duration::from_nanos(pauses.max().unwrap_or(0) as u64)
}
