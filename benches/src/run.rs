//! The orchestrator: servers in turn under the same load, on processors of their own, and a report.
//!
//! The server has one processor, publisher and clients have another. Within a repetition every server is measured once,
//! and the order is reversed in every second repetition, so that a machine that gets slower harms nobody more than others.
//! Ratios are taken within a repetition and then their medians: other programs on the machine change the time of a send by
//! half, but for all servers alike.

mod instructions;
mod measure;
mod proc;
mod server;
mod workload;

use measure::Sample;
use server::Server;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use workload::Workload;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads; the list of them when none is named
    workloads: Vec<String>,
    /// Servers, the first one being what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "floor-each,floor-copy,gateway")]
    servers: Vec<String>,
    /// How often each server is measured
    #[arg(long, default_value_t = 5)]
    reps: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Leave out counting instructions
    #[arg(long)]
    no_instructions: bool,
    /// Write the samples there
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs workloads.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.workloads.is_empty() {
        for workload in workload::ALL {
            println!("{:<5} {}", workload.name, workload.what);
        }
        return Ok(());
    }
    raise_priority();
    let mut servers: Vec<Server> =
        args.servers.iter().map(|name| Server::named(name)).collect::<Result<_, _>>()?;
    servers.retain(|server| match server.absent() {
        Some(reason) => {
            println!("{} is left out: {reason}", server.name());
            false
        }
        None => true,
    });
    let mut samples = Vec::new();
    for name in &args.workloads {
        let workload = workload::ALL
            .iter()
            .find(|workload| workload.name == name)
            .ok_or_else(|| anyhow::anyhow!("no workload is called {name:?}"))?;
        let mut of_workload = Vec::new();
        for repetition in 0..args.reps {
            let mut order: Vec<&Server> = servers.iter().collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for server in order {
                let mut sample = measure::measure(server, workload, args.seconds)?;
                sample.repetition = repetition;
                eprintln!(
                    "{name} {repetition} {:<14} {:>7.3} µs/delivery  delivered {:.1} %  p99 {} µs",
                    sample.server,
                    sample.cpu_us,
                    sample.delivered_share * 100.0,
                    sample.p99_us,
                );
                of_workload.push(sample);
            }
        }
        if !args.no_instructions {
            for server in &servers {
                let counted = measure::count_instructions(server, workload, args.seconds);
                match counted {
                    Ok(count) => of_workload
                        .iter_mut()
                        .filter(|sample| sample.server == server.name())
                        .for_each(|sample| sample.user_instructions = Some(count)),
                    Err(error) => eprintln!("{name} {}: no instructions: {error:#}", server.name()),
                }
            }
        }
        print_table(workload, &servers, &of_workload);
        samples.extend(of_workload);
    }
    if let Some(path) = &args.out {
        let all = serde_json::json!({"machine": proc::machine(), "samples": samples});
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

/// Keeps other sessions' programs from taking the processors, where that is allowed.
fn raise_priority() {
    // A group of its own, or it would be the terminal's. Both fail without rights, which only makes numbers noisier.
    let _ = rustix::process::setsid();
    let _ = std::fs::write("/proc/self/autogroup", "-20");
}

/// What starts a program with real-time priority, where that is allowed.
fn realtime() -> Vec<String> {
    let words = ["chrt", "-r", "10"].map(str::to_owned);
    let status = Command::new("chrt").args(["-r", "10", "true"]).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) { words.into() } else { Vec::new() }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median over repetitions of a server's `what`, divided by that of `base` in the same repetition.
fn ratio(samples: &[Sample], server: &str, base: &str, what: impl Fn(&Sample) -> f64) -> Option<f64> {
    let of = |name: &str, repetition: usize| {
        samples.iter().find(|s| s.server == name && s.repetition == repetition).map(&what)
    };
    let repetitions = samples.iter().filter(|sample| sample.server == server).map(|s| s.repetition);
    median(repetitions.filter_map(|r| Some(of(server, r)? / of(base, r)?)).collect())
}

fn print_table(workload: &Workload, servers: &[Server], samples: &[Sample]) {
    println!("\n## {}: {}\n", workload.name, workload.what);
    println!(
        "| server | CPU µs/delivery | × floor-each | × floor-copy | user instr. | user % | deliveries/write | \
         delivered % | p50 µs | p99 µs | feed µs/record |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for server in servers {
        let name = server.name();
        let of = |what: &dyn Fn(&Sample) -> Option<f64>| {
            median(samples.iter().filter(|sample| sample.server == name).filter_map(what).collect())
        };
        let show = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            show(of(&|s| Some(s.cpu_us)), 3),
            show(ratio(samples, &name, "floor-each", |s| s.cpu_us), 3),
            show(ratio(samples, &name, "floor-copy", |s| s.cpu_us), 3),
            show(of(&|s| s.user_instructions), 0),
            show(of(&|s| s.user_share.map(|share| share * 100.0)), 0),
            show(of(&|s| s.deliveries_per_write), 1),
            show(of(&|s| Some(s.delivered_share * 100.0)), 1),
            show(of(&|s| Some(s.p50_us as f64)), 0),
            show(of(&|s| Some(s.p99_us as f64)), 0),
            show(of(&|s| s.feed_us_per_record), 2),
        );
    }
    println!();
}
