//! librdkafka's own statistics, where `kafka.statistics_ms` asks for them.
//!
//! Each client of it writes a text of JSON now and then. The thread that this arrives at hands it over as it is; it is read here,
//! as somebody scrapes. Brokers are summed up, or the worst is shown: their names are no labels.

use super::Scrape;
use crate::stats::{Board, KafkaClient, KafkaStatistic};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// States of a connection to a broker: those of librdkafka, put together.
const STATES: [&str; 4] = ["up", "connecting", "down", "unused"];
/// The quantiles of a round trip that librdkafka has, and the longest.
const QUANTILES: [&str; 3] = ["0.5", "0.99", "1"];
/// What only grows, over all brokers of a client.
const COUNTERS: [&str; 6] = [
    "tickgate_kafka_requests_sent_total",
    "tickgate_kafka_requests_retried_total",
    "tickgate_kafka_requests_timed_out_total",
    "tickgate_kafka_requests_failed_total",
    "tickgate_kafka_disconnects_total",
    "tickgate_kafka_received_bytes_total",
];

/// What is read of a text; the rest is passed over. There are no more of them than fit into the longest text.
#[derive(Debug, Deserialize)]
struct Told {
    brokers: BTreeMap<String, Broker>,
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    /// Below 0, it is the address of a broker that is not known yet, or stands for one that is.
    nodeid: i64,
    state: String,
    tx: u64,
    txerrs: u64,
    txretries: u64,
    req_timeouts: u64,
    rxerrs: u64,
    rxbytes: u64,
    disconnects: u64,
    /// Microseconds.
    rtt: Window,
    /// Milliseconds.
    throttle: Window,
}

/// What was measured since the text before.
#[derive(Debug, Deserialize)]
struct Window {
    cnt: u64,
    p50: i64,
    p99: i64,
    max: i64,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: BTreeMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    fetchq_cnt: u64,
    fetchq_size: u64,
}

/// What the newest texts of all clients said.
#[derive(Debug, Default)]
pub(super) struct Kafka {
    clients: [Option<Client>; KafkaClient::COUNT],
}

/// What the newest text of one client said.
#[derive(Debug, Default)]
struct Client {
    brokers: [u64; STATES.len()],
    /// Of the last time that anything was asked; absent before.
    round_trip_us: Option<[i64; QUANTILES.len()]>,
    throttle_ms: i64,
    counters: [Grown; COUNTERS.len()],
    /// Records, and their bytes.
    queued: [u64; 2],
}

/// A sum over brokers as a counter: one that is not known any more takes its part along, and a counter does not fall.
#[derive(Debug, Default, Clone, Copy)]
struct Grown {
    last: u64,
    total: u64,
}

impl Grown {
    fn is(&mut self, sum: u64) {
        self.total += sum.saturating_sub(self.last);
        self.last = sum;
    }
}

impl Client {
    fn read(&mut self, told: &Told) {
        let Told { brokers, topics } = told;
        self.brokers = [0; STATES.len()];
        for broker in brokers.values().filter(|broker| broker.nodeid >= 0) {
            self.brokers[state_of(&broker.state)] += 1;
        }
        let round_trips = brokers.values().map(|broker| &broker.rtt).filter(|window| window.cnt > 0);
        let worst = round_trips.map(|window| [window.p50, window.p99, window.max]);
        if let Some(worst) = worst.reduce(|a, b| std::array::from_fn(|at| a[at].max(b[at]))) {
            self.round_trip_us = Some(worst);
        }
        self.throttle_ms = brokers.values().map(|broker| broker.throttle.max).max().unwrap_or(0);
        let parts: [fn(&Broker) -> u64; COUNTERS.len()] = [
            |broker| broker.tx,
            |broker| broker.txretries,
            |broker| broker.req_timeouts,
            |broker| broker.txerrs.saturating_add(broker.rxerrs),
            |broker| broker.disconnects,
            |broker| broker.rxbytes,
        ];
        for (counter, part) in self.counters.iter_mut().zip(parts) {
            counter.is(brokers.values().map(part).fold(0, u64::saturating_add));
        }
        // All partitions arrive in one queue, and each says what is in it.
        let partitions = topics.values().flat_map(|topic| topic.partitions.values());
        self.queued = partitions.fold([0; 2], |[records, bytes], partition| {
            [records.max(partition.fetchq_cnt), bytes.max(partition.fetchq_size)]
        });
    }
}

impl Kafka {
    /// Shows what is known, the newest texts included. Nothing without any.
    pub(super) fn show(&mut self, scrape: &Scrape, board: &Board) {
        for (client, known) in KafkaClient::ALL.iter().zip(&mut self.clients) {
            let statistics = &board.kafka[*client as usize];
            if let Some(text) = statistics.take() {
                match serde_json::from_slice(&text) {
                    Ok(told) => known.get_or_insert_default().read(&told),
                    Err(_) => statistics.count(KafkaStatistic::Malformed),
                }
            }
            let counts = statistics.results.each_ref().map(|count| count.load(Ordering::Relaxed));
            if counts != [0; KafkaStatistic::COUNT] {
                for (result, count) in KafkaStatistic::ALL.iter().zip(counts) {
                    let labels = [("consumer", client.label()), ("result", result.label())];
                    scrape.counter("tickgate_kafka_statistics_total", &labels, count);
                }
            }
            if let Some(known) = known {
                show(scrape, *client, known);
            }
        }
    }
}

fn show(scrape: &Scrape, client: KafkaClient, known: &Client) {
    let of_client = ("consumer", client.label());
    for (state, brokers) in STATES.into_iter().zip(known.brokers) {
        scrape.gauge("tickgate_kafka_brokers_known", &[of_client, ("state", state)], brokers as f64);
    }
    for (quantile, us) in QUANTILES.into_iter().zip(known.round_trip_us.into_iter().flatten()) {
        let labels = [of_client, ("q", quantile)];
        scrape.gauge("tickgate_kafka_broker_rtt_seconds", &labels, us.max(0) as f64 / 1e6);
    }
    let throttle_s = known.throttle_ms.max(0) as f64 / 1e3;
    scrape.gauge("tickgate_kafka_throttle_max_seconds", &[of_client], throttle_s);
    for (name, counter) in COUNTERS.into_iter().zip(known.counters) {
        scrape.counter(name, &[of_client], counter.total);
    }
    if client == KafkaClient::Feed {
        let [records, bytes] = known.queued;
        scrape.gauge("tickgate_kafka_queue_records", &[], records as f64);
        scrape.gauge("tickgate_kafka_queue_bytes", &[], bytes as f64);
    }
}

/// The place of one of librdkafka's states among [`STATES`].
fn state_of(state: &str) -> usize {
    match state {
        "UP" | "REAUTH" => 0,
        "DOWN" => 2,
        // It connects only to those that it needs.
        "INIT" => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(nodeid: i64, state: &str, count: u64, us: i64) -> String {
        format!(
            r#""b:9092/{nodeid}":{{"name":"x","nodeid":{nodeid},"state":"{state}","tx":{count},"txerrs":1,"txretries":2,
            "req_timeouts":3,"rxerrs":4,"rxbytes":{count},"disconnects":5,"toppars":{{"t-0":{{"topic":"t"}}}},
            "rtt":{{"cnt":{count},"p50":{us},"p99":{us},"max":{us},"p99_99":9}},
            "throttle":{{"cnt":0,"p50":0,"p99":0,"max":{us}}}}}"#
        )
    }

    fn told(brokers: &[String], queued: &str) -> Told {
        let text = format!(
            r#"{{"name":"rdkafka#1","brokers":{{{}}},"topics":{{"t":{{"age":1,"partitions":{{{queued}}}}}}}}}"#,
            brokers.join(",")
        );
        serde_json::from_str(&text).expect("as librdkafka writes it")
    }

    #[test]
    fn brokers_are_summed_up_and_the_worst_is_shown() {
        let mut client = Client::default();
        let brokers = [broker(-1, "UP", 7, 50), broker(1, "UP", 10, 900), broker(2, "TRY_CONNECT", 0, 5_000)];
        let queued = r#""0":{"fetchq_cnt":4,"fetchq_size":400},"-1":{"fetchq_cnt":0,"fetchq_size":0}"#;
        client.read(&told(&brokers, queued));
        assert_eq!(client.brokers, [1, 1, 0, 0]);
        assert_eq!(client.round_trip_us, Some([900; 3]), "of those who were asked anything");
        assert_eq!((client.throttle_ms, client.queued), (5_000, [4, 400]));
        assert_eq!(client.counters.map(|counter| counter.total), [17, 6, 9, 15, 15, 17]);
        // Nothing was asked since, and one of them is not known any more.
        client.read(&told(&[broker(1, "INIT", 0, 0)], ""));
        assert_eq!((client.brokers, client.round_trip_us), ([0, 0, 0, 1], Some([900; 3])));
        assert_eq!(client.counters.map(|counter| counter.total), [17, 6, 9, 15, 15, 17]);
        client.read(&told(&[broker(1, "UP", 3, 70)], ""));
        assert_eq!(client.counters[0].total, 20);
        assert_eq!((client.round_trip_us, client.queued), (Some([70; 3]), [0, 0]));
    }
}
