//! What a node is told: its properties, its logging, its JVM.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// The two listeners of a node, both on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub broker: u16,
    pub controller: u16,
}

/// A listener beside those two, for clients elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its clients are told that it is, which may be a relay's address.
    pub advertised: SocketAddr,
}

/// Small and quick to start rather than fast: the machine has other work to do while this runs.
pub const JVM_FLAGS: [&str; 6] = [
    "-Xms256m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
];

/// Warnings and worse, to standard output, which goes to the node's log file.
pub const LOG4J2_PROPERTIES: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
";

/// How many copies must have what was written: of three, one may be lost and writing goes on.
pub fn in_sync_min(nodes: usize) -> usize {
    nodes.div_ceil(2)
}

/// `server.properties` of node `id` (from 1) of a cluster with these `ports`: every node is broker and controller. A
/// listener `beside` is for one node alone.
pub fn server_properties(id: usize, ports: &[Ports], beside: Option<Beside>, data: &Path) -> String {
    let nodes = ports.len();
    let voters: Vec<String> =
        (1..).zip(ports).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let Ports { broker, controller } = ports[id - 1];
    let mut text = String::from("# Written by `cargo xtask`; written anew at every start.\n");
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").expect("a String takes everything");
    };
    set("process.roles", &"broker,controller");
    set("node.id", &id);
    set("controller.quorum.voters", &voters.join(","));
    let (listen, advertised) = beside.map_or_else(Default::default, |Beside { listen, advertised }| {
        (format!(",BESIDE://{listen}"), format!(",BESIDE://{advertised}"))
    });
    let own = format!("PLAINTEXT://127.0.0.1:{broker}");
    set("listeners", &format_args!("{own},CONTROLLER://127.0.0.1:{controller}{listen}"));
    set("advertised.listeners", &format_args!("{own}{advertised}"));
    set("inter.broker.listener.name", &"PLAINTEXT");
    set("controller.listener.names", &"CONTROLLER");
    set("listener.security.protocol.map", &"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,BESIDE:PLAINTEXT");
    set("log.dirs", &data.display());

    // A topic exists because somebody made it.
    set("auto.create.topics.enable", &false);
    set("num.partitions", &4);
    set("default.replication.factor", &nodes);
    let in_sync_min = in_sync_min(nodes);
    set("min.insync.replicas", &in_sync_min);
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.num.partitions"), &1);
        set(&format!("{topic}.replication.factor"), &nodes);
    }
    set("transaction.state.log.min.isr", &in_sync_min);
    set("share.coordinator.state.topic.min.isr", &in_sync_min);
    set("group.initial.rebalance.delay.ms", &0);

    // Few threads and small buffers; the defaults preallocate for a machine of its own.
    set("num.network.threads", &2);
    set("num.io.threads", &2);
    set("background.threads", &2);
    set("num.recovery.threads.per.data.dir", &1);
    set("group.coordinator.threads", &1);
    set("share.coordinator.threads", &1);
    set("log.cleaner.dedupe.buffer.size", &(2 << 20));
    set("log.index.size.max.bytes", &(1 << 20));
    set("metadata.log.segment.bytes", &(8 << 20));

    // Retention within seconds, so that tests can see old records go.
    set("log.segment.bytes", &(16 << 20));
    set("log.initial.task.delay.ms", &1000);
    set("log.retention.check.interval.ms", &1000);
    set("log.segment.delete.delay.ms", &1000);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(text: &'a str, key: &str) -> &'a str {
        let mut found = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = found.next().unwrap_or_else(|| panic!("{key} is not set"));
        assert_eq!(found.next(), None, "{key} is set twice");
        value
    }

    #[test]
    fn one_node_needs_nobody_else() {
        let text = server_properties(1, &[Ports { broker: 1001, controller: 1002 }], None, Path::new("/d"));
        assert_eq!(value(&text, "controller.quorum.voters"), "1@127.0.0.1:1002");
        assert_eq!(value(&text, "listeners"), "PLAINTEXT://127.0.0.1:1001,CONTROLLER://127.0.0.1:1002");
        assert_eq!(value(&text, "offsets.topic.replication.factor"), "1");
        assert_eq!(value(&text, "min.insync.replicas"), "1");
        assert_eq!(value(&text, "log.cleaner.dedupe.buffer.size"), "2097152");
    }

    #[test]
    fn clients_elsewhere_are_told_another_address() {
        let (listen, advertised) = (([10, 0, 0, 1], 7).into(), ([10, 0, 0, 2], 8).into());
        let ports = [Ports { broker: 1001, controller: 1002 }];
        let text = server_properties(1, &ports, Some(Beside { listen, advertised }), Path::new("/d"));
        let listeners = "PLAINTEXT://127.0.0.1:1001,CONTROLLER://127.0.0.1:1002,BESIDE://10.0.0.1:7";
        assert_eq!(value(&text, "listeners"), listeners);
        let advertised = "PLAINTEXT://127.0.0.1:1001,BESIDE://10.0.0.2:8";
        assert_eq!(value(&text, "advertised.listeners"), advertised);
    }

    #[test]
    fn three_nodes_know_each_other_and_survive_a_loss() {
        let ports = [1, 2, 3].map(|n| Ports { broker: 1000 + n, controller: 2000 + n });
        let text = server_properties(2, &ports, None, Path::new("/d"));
        assert_eq!(value(&text, "node.id"), "2");
        let voters = "1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003";
        assert_eq!(value(&text, "controller.quorum.voters"), voters);
        assert_eq!(value(&text, "advertised.listeners"), "PLAINTEXT://127.0.0.1:1002");
        assert_eq!(value(&text, "default.replication.factor"), "3");
        assert_eq!(value(&text, "min.insync.replicas"), "2");
    }
}
