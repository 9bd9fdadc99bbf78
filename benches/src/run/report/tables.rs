//! Results as Markdown.

use crate::run::cost::Cost;
use crate::run::measure::Sample;
use crate::run::memory;
use crate::run::results::{Results, median, of_server, ratio};
use crate::run::workload;
use std::fmt::Write as _;

const ONE_WRITE: &str = "floor-each";
const COALESCING: &str = "floor-copy";

/// The whole report.
pub fn markdown(results: &Results) -> String {
    let mut text = head(results);
    // Writing to a string cannot fail, here and below.
    let _ = write!(text, "{}", limits(results));
    for workload in workload::ALL.iter().chain([&workload::WINDOWS]) {
        text.push_str(&steady(results, workload.name, workload.what));
    }
    for part in [tls, ramps, idle, isolation, storms, ways, costs] {
        text.push_str(&part(results));
    }
    text
}

/// A table, unless it has no rows.
fn table(title: &str, note: &str, columns: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## {title}\n\n");
    if !note.is_empty() {
        let _ = write!(text, "{note}\n\n");
    }
    let _ = writeln!(text, "| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Names in the order in which they were measured.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn head(results: &Results) -> String {
    let machine = &results.machine;
    let field = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    let mut text = format!(
        "# Benchmark results, {}\n\n{}, {} processors, {}; kernel {}, {}; congestion control {}; load average before: {}.\n\
         `cargo xtask bench system{}`; {} repetition(s) of {} s, medians. Ratios are within a repetition.\n",
        results.date,
        field("processor"),
        machine["processors"],
        field("memory"),
        field("kernel"),
        field("system"),
        field("congestion_control"),
        field("load_before"),
        results.command.strip_prefix("run").unwrap_or(&results.command),
        results.repetitions,
        results.seconds,
    );
    if let Some(by) = results.instructions_by {
        let _ = writeln!(text, "Instructions in user space by `{by}`.");
    }
    for (server, reason) in &results.left_out {
        let _ = writeln!(text, "\n- Left out: **{server}**, because {reason}.");
    }
    for failure in &results.failures {
        let _ = writeln!(text, "\n- Failed: {failure}.");
    }
    text
}

fn limits(results: &Results) -> String {
    let rows: Vec<_> = results
        .limits
        .iter()
        .map(|limit| {
            vec![
                thousands(limit.write_bytes as f64),
                format!("{:.3}", limit.cpu_us),
                thousands(limit.writes_per_s),
                format!("{:.0}", limit.bytes_per_s / 1e6),
            ]
        })
        .collect();
    let columns = ["bytes of a write", "CPU µs/write", "writes/s", "MB/s"];
    table("Limit of the transport", "One connection over loopback whose other end discards.", &columns, &rows)
}

fn steady(results: &Results, name: &str, what: &str) -> String {
    let samples = results.of(name);
    let rows: Vec<_> = names(samples.iter().map(|sample| sample.server.as_str()))
        .into_iter()
        .map(|server| {
            let of = |what: &dyn Fn(&Sample) -> Option<f64>| of_server(&samples, server, what);
            let against = |base: &str, what: &dyn Fn(&Sample) -> f64| {
                show(ratio(&samples, |s| s.server == server, |s| s.server == base, what), 2)
            };
            // Where nothing came in time there is nothing to take a percentile of.
            let latency =
                |what: &dyn Fn(&Sample) -> u64| show(of(&|s| (s.max_us > 0).then(|| what(s) as f64)), 0);
            vec![
                server.to_owned(),
                show(of(&|s| Some(s.cpu_us)), 3),
                against(ONE_WRITE, &|s| s.cpu_us),
                against(COALESCING, &|s| s.cpu_us),
                show(of(&|s| s.user_instructions), 0),
                show(of(&|s| s.user_share.map(|share| share * 100.0)), 0),
                show(of(&|s| s.deliveries_per_write), 1),
                show(of(&|s| Some(s.delivered_share * 100.0)), 1),
                latency(&|s| s.p50_us),
                latency(&|s| s.p99_us),
                latency(&|s| s.p999_us),
                against(ONE_WRITE, &|s| s.p50_us as f64),
                against(ONE_WRITE, &|s| s.p99_us as f64),
                show(of(&|s| s.ingest_to_written_us.map(|[p50, _]| p50)), 0),
                show(of(&|s| s.ingest_to_written_us.map(|[_, p99]| p99)), 0),
                show(of(&|s| s.feed_us_per_record), 1),
                show(of(&|s| Some(s.cpu_us * (1.0 + s.feed_load / s.cpu_load))), 3),
            ]
        })
        .collect();
    let columns = [
        "server",
        "CPU µs/delivery",
        "× one-write floor",
        "× coalescing floor",
        "user instr./delivery",
        "user %",
        "deliveries/write",
        "delivered %",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "p50 × floor",
        "p99 × floor",
        "own p50 µs",
        "own p99 µs",
        "feed µs/record",
        "CPU µs/delivery, feed included",
    ];
    let bytes = of_server(&samples, "gateway", |s| Some(s.bytes_per_delivery));
    let note =
        bytes.map(|bytes| format!("{bytes:.0} bytes per delivery from the gateway.")).unwrap_or_default();
    table(&format!("{name}: {what}"), &note, &columns, &rows)
}

/// What TLS adds, where the gateway was measured with and without it.
fn tls(results: &Results) -> String {
    const PLAIN: &str = "gateway";
    const TLS: &str = "gateway-tls";
    let rows: Vec<_> = workload::ALL
        .iter()
        .filter_map(|workload| {
            let samples = results.of(workload.name);
            let against = |what: &dyn Fn(&Sample) -> f64| {
                ratio(&samples, |s| s.server == TLS, |s| s.server == PLAIN, what)
            };
            let cpu = against(&|s| s.cpu_us)?;
            let of = |server: &str, what: &dyn Fn(&Sample) -> Option<f64>| of_server(&samples, server, what);
            Some(vec![
                workload.name.to_owned(),
                show(of(PLAIN, &|s| Some(s.cpu_us)), 3),
                show(of(TLS, &|s| Some(s.cpu_us)), 3),
                show(Some(cpu), 2),
                show(of(PLAIN, &|s| s.user_instructions), 0),
                show(of(TLS, &|s| s.user_instructions), 0),
                show(against(&|s| s.writes_per_s.unwrap_or(f64::NAN)), 2),
                show(against(&|s| s.p50_us as f64), 2),
                show(against(&|s| s.p99_us as f64), 2),
            ])
        })
        .collect();
    let columns = [
        "workload",
        "CPU µs/delivery",
        "with TLS",
        "×",
        "user instr./delivery",
        "with TLS",
        "writes ×",
        "p50 ×",
        "p99 ×",
    ];
    table("The gateway with TLS beside itself without", "", &columns, &rows)
}

fn ramps(results: &Results) -> String {
    let mut text = String::new();
    for shape in workload::RAMPS {
        let of_shape = || results.ramps.iter().filter(|ramp| ramp.workload == shape.name);
        let floor = of_shape().find(|ramp| ramp.server == COALESCING).map(|ramp| ramp.best_per_s);
        let rows: Vec<_> = of_shape()
            .map(|ramp| {
                let at_best = ramp.steps.iter().find(|step| step.delivered_per_s == ramp.best_per_s);
                let overload = ramp.overload.as_ref();
                vec![
                    ramp.server.clone(),
                    thousands(ramp.best_per_s),
                    show(floor.map(|floor| ramp.best_per_s / floor), 2),
                    show(at_best.map(|step| step.cpu_us), 3),
                    show(at_best.map(|step| step.cpu_load * 100.0), 0),
                    show(at_best.map(|step| step.load_load * 100.0), 0),
                    show(overload.map(|sample| sample.delivered_per_s / ramp.best_per_s), 2),
                    show(overload.map(|sample| sample.p99_us as f64 / 1e3), 0),
                    show(overload.map(|sample| sample.resident_bytes as f64 / f64::from(1 << 20)), 0),
                ]
            })
            .collect();
        let columns = [
            "server",
            "most deliveries/s (≥ 97 % delivered)",
            "× coalescing floor",
            "CPU µs/delivery there",
            "server %",
            "load %",
            "at twice that, × its best",
            "p99 there, ms",
            "memory there, MiB",
        ];
        let note = "Rates double, with one step in between at the end. Where clients and publisher are near 100 % they are the limit.";
        text.push_str(&table(&format!("{}: saturation, {}", shape.name, shape.what), note, &columns, &rows));
    }
    text
}

fn idle(results: &Results) -> String {
    let rows: Vec<_> = results
        .idle
        .iter()
        .map(|idle| {
            vec![
                idle.server.clone(),
                idle.heartbeat_ms.map_or_else(|| "own".to_owned(), |ms| ms.to_string()),
                thousands(idle.connections as f64),
                format!("{:.1}", idle.resident_bytes as f64 / f64::from(1 << 20)),
                show(memory::slope(&results.idle, &idle.server, idle.heartbeat_ms), 0),
                format!("{:.0}", idle.connect_ms),
                thousands(idle.connects_per_s),
                format!("{:.1}", idle.connect_cpu_us),
                format!("{:.2}", idle.idle_cpu_ms_per_s),
            ]
        })
        .collect();
    let columns = [
        "server",
        "heartbeat ms",
        "connections",
        "resident MiB",
        "slope B/connection",
        "connected in ms",
        "connects/s",
        "CPU µs/connect",
        "idle CPU ms/s",
    ];
    let mut text = table("W5: idle connections, 10 subscriptions each", "", &columns, &rows);
    if let Some(many) = &results.many {
        let _ = writeln!(
            text,
            "\n{} connections over {} gateways: {:.0} MiB resident in all, opened in {:.1} s, {:.1} ms/s of CPU when idle.",
            thousands(many.connections as f64),
            many.gateways,
            many.resident_bytes as f64 / f64::from(1 << 20),
            many.connect_ms / 1e3,
            many.idle_cpu_ms_per_s,
        );
    }
    text
}

fn isolation(results: &Results) -> String {
    let samples: Vec<&Sample> = results.samples.iter().filter(|s| s.workload.starts_with("W7-")).collect();
    let mut rows = Vec::new();
    for server in names(samples.iter().map(|sample| sample.server.as_str())) {
        for workload in workload::ISOLATION {
            let is_here = |s: &Sample| s.server == server && s.workload == workload.name;
            let is_base = |s: &Sample| s.server == server && s.workload == workload::ISOLATION[0].name;
            let of = |what: &dyn Fn(&Sample) -> f64| {
                show(median(samples.iter().filter(|s| is_here(s)).map(|s| what(s))), 1)
            };
            rows.push(vec![
                server.to_owned(),
                format!("{} %", workload.stalled_percent),
                of(&|s| s.delivered_share * 100.0),
                of(&|s| s.p50_us as f64 / 1e3),
                of(&|s| s.p99_us as f64 / 1e3),
                of(&|s| s.p999_us as f64 / 1e3),
                show(ratio(&samples, is_here, is_base, |s| s.p999_us as f64), 2),
                show(ratio(&samples, is_here, is_base, |s| s.delivered_share), 3),
                of(&|s| s.resident_bytes as f64 / f64::from(1 << 20)),
            ]);
        }
    }
    let columns = [
        "server",
        "stalled",
        "delivered to the others %",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "p99.9 × none stalled",
        "delivered × none stalled",
        "memory MiB",
    ];
    table("W7: isolation, W2 in full", "Healthy clients only.", &columns, &rows)
}

fn storms(results: &Results) -> String {
    let rows: Vec<_> = names(results.storms.iter().map(|storm| storm.server.as_str()))
        .into_iter()
        .map(|server| {
            let of = |what: &dyn Fn(&crate::run::storm::Storm) -> f64, digits| {
                show(median(results.storms.iter().filter(|s| s.server == server).map(what)), digits)
            };
            vec![
                server.to_owned(),
                of(&|s| s.clients as f64, 0),
                of(&|s| s.returned_ms, 0),
                of(&|s| s.p50_us as f64, 0),
                of(&|s| s.p99_us as f64, 0),
                of(&|s| s.cpu_load * 100.0, 0),
                of(&|s| s.closed as f64, 0),
                of(&|s| s.delivered_after * 100.0, 1),
            ]
        })
        .collect();
    let columns = [
        "server",
        "clients",
        "all back after ms",
        "connect to answer p50 µs",
        "p99 µs",
        "CPU meanwhile %",
        "lost afterwards",
        "delivered afterwards %",
    ];
    let note =
        "The schedule spreads the returns over a second. Servers other than the gateway send no snapshots.";
    table("W8: all clients of W2b go away and return", note, &columns, &rows)
}

fn ways(results: &Results) -> String {
    let way = |workload: &workload::Workload| {
        let ways: Vec<_> = results.ways.iter().filter(|way| way.workload == workload.name).collect();
        let Some(first) = ways.first() else { return String::new() };
        let of = |what: &dyn Fn(&crate::run::kafka::Way) -> f64, digits| {
            show(median(ways.iter().map(|way| what(way))), digits)
        };
        let ms = |what: fn(&crate::run::kafka::Way) -> u64| of(&|way| what(way) as f64 / 1e3, 2);
        let rows = [
            vec!["client of the gateway".to_owned(), ms(|w| w.client_p50_us), ms(|w| w.client_p99_us)],
            vec![
                "plain consumer of the topic".to_owned(),
                ms(|w| w.consumer_p50_us),
                ms(|w| w.consumer_p99_us),
            ],
            vec!["coalescing floor without Kafka".to_owned(), ms(|w| w.floor_p50_us), ms(|w| w.floor_p99_us)],
            vec![
                "client ÷ (consumer + floor)".to_owned(),
                of(&|w| w.client_p50_us as f64 / (w.consumer_p50_us + w.floor_p50_us) as f64, 2),
                of(&|w| w.client_p99_us as f64 / (w.consumer_p99_us + w.floor_p99_us) as f64, 2),
            ],
        ];
        let note = format!(
            "Through the {}; {} % delivered. The gateway's shard took {} µs per delivery; per record its feed took {} µs \
             and librdkafka's threads {} µs.",
            first.broker,
            of(&|w| w.delivered_share * 100.0, 1),
            of(&|w| w.shard_us_per_delivery, 3),
            of(&|w| w.feed_us_per_record, 2),
            of(&|w| w.librdkafka_us_per_record, 2),
        );
        let title = format!("{}: {}", workload.name, workload.what);
        table(&title, &note, &["", "p50 ms", "p99 ms"], &rows)
    };
    [workload::KAFKA, workload::KAFKA_SINGLE].iter().map(way).collect()
}

fn costs(results: &Results) -> String {
    let rows: Vec<_> = results
        .costs
        .iter()
        .map(|(server, cost)| {
            let Cost { delivery_us, write_us, tick_us, error, samples } = cost;
            vec![
                server.clone(),
                format!("{delivery_us:.3}"),
                format!("{write_us:.3}"),
                format!("{tick_us:.1}"),
                format!("{:.0} %", error * 100.0),
                samples.to_string(),
            ]
        })
        .collect();
    let columns = ["server", "a: µs/delivery", "b: µs/write", "c: µs/tick", "mean error", "samples"];
    let mut text = table("Cost model", "CPU = a × deliveries + b × writes + c × ticks.", &columns, &rows);
    let Some((_, cost)) = results.costs.iter().find(|(server, _)| server == "gateway") else { return text };
    // Each client gets one tick a second: nothing meets anything else on the way to it, so a delivery is a write.
    let cores = cost.delivery_us + cost.write_us;
    let _ = writeln!(
        text,
        "\n1 million clients at 1 million deliveries/s, nothing coalesced: 1 M/s × ({:.3} + {:.3}) µs = {cores:.2} s of CPU \
         per second, so {:.0} cores at 70 %, and {:.1} µs for each tick and gateway.",
        cost.delivery_us,
        cost.write_us,
        (cores / 0.7).ceil(),
        cost.tick_us,
    );
    let heartbeat_ms = results.idle.iter().filter_map(|idle| idle.heartbeat_ms).max();
    if let Some(slope) = memory::slope(&results.idle, "gateway", heartbeat_ms) {
        let _ = writeln!(
            text,
            "Resident memory: 1 M × {slope:.0} B = {:.2} GB, and the kernel's sockets beside it.",
            slope * 1e6 / 1e9,
        );
    }
    text
}
