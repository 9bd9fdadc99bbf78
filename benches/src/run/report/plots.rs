//! What is seen better than read.

use crate::run::measure::Sample;
use crate::run::memory::Idle;
use crate::run::plot::{Line, Plot};
use crate::run::results::Results;

/// Every plot that there is something for: its file, its title and its text.
pub fn all(results: &Results) -> Vec<(String, String, String)> {
    let mut plots = Vec::new();
    for shape in crate::run::workload::RAMPS {
        let name = shape.name.to_lowercase();
        let mut add = |kind: &str, title: &str, y: &str, what: &dyn Fn(&Sample) -> f64| {
            let lines = ramp_lines(results, shape.name, what);
            let title = format!("{}, {}: {title}", shape.name, shape.what);
            let plot = Plot { title: &title, x: "deliveries per second", y, lines };
            if let Some(svg) = plot.svg() {
                plots.push((format!("{name}-{kind}.svg"), title.clone(), svg));
            }
        };
        add("cpu", "CPU per delivery against load", "µs", &|sample| sample.cpu_us);
        add("p50", "median latency against load", "µs", &|sample| sample.p50_us as f64);
        add("p99", "99th percentile of latency against load", "µs", &|sample| sample.p99_us as f64);
    }
    let title = "W5: resident memory against connections".to_owned();
    let plot = Plot { title: &title, x: "idle connections", y: "MiB", lines: memory_lines(results) };
    if let Some(svg) = plot.svg() {
        plots.push(("w5-memory.svg".to_owned(), title.clone(), svg));
    }
    plots
}

fn ramp_lines(results: &Results, workload: &str, what: &dyn Fn(&Sample) -> f64) -> Vec<Line> {
    let ramps = results.ramps.iter().filter(|ramp| ramp.workload == workload);
    ramps
        .map(|ramp| Line {
            name: ramp.server.clone(),
            points: ramp.steps.iter().map(|step| (step.delivered_per_s, what(step))).collect(),
        })
        .collect()
}

fn memory_lines(results: &Results) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    // With heartbeats where a server was told to send them.
    for Idle { server, connections, resident_bytes, .. } in
        results.idle.iter().filter(|idle| idle.heartbeat_ms != Some(0))
    {
        let point = (*connections as f64, *resident_bytes as f64 / f64::from(1 << 20));
        match lines.iter_mut().find(|line| line.name == *server) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: server.clone(), points: vec![point] }),
        }
    }
    lines
}
