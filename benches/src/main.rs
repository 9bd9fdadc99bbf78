//! System benchmarks: the gateway, a bare epoll loop and other servers under the same load, in turn.
//!
//! One program is every part of an experiment, each a process of its own: servers ([`floor`], [`gateway`], [`peers`]), the load
//! ([`publisher`], [`client`]), and [`run`], which starts them on their processors, measures and reports. The parts can
//! be started by hand too; all of them end when their standard input does. Apart from them stands [`count`], for which time is no
//! matter.

mod client;
mod consumer;
mod count;
mod floor;
mod gateway;
mod ingest;
mod market;
mod peers;
mod process;
mod publisher;
mod run;
mod scrape;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// As in the gateway that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the gateway beside a bare epoll loop and other servers.
#[derive(Debug, Parser)]
#[command(name = "tickgate-bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run workloads and write a report
    Run(run::Args),
    /// Serve as a bare epoll loop does: the least that any server can cost
    Floor(floor::Args),
    /// Serve as the product does, with a TCP stream of ticks in the place of Kafka
    Gateway(gateway::Args),
    /// Serve as a plain program with a WebSocket library would
    Peer(peers::Args),
    /// Send ticks to a server, each when it is due
    Publisher(publisher::Args),
    /// Subscribe, read, count
    Client(client::Args),
    /// Read a Kafka topic, and count
    Consumer(consumer::Args),
    Instructions(count::Args),
    Scrape(scrape::Args),
    /// Do each step of the hot path, for callgrind to count
    Steps,
    /// Deliver pass after pass, each when the one before it is through, for callgrind to count
    Lockstep(count::lockstep::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Floor(args) => floor::run(&args),
        Command::Gateway(args) => gateway::run(&args),
        Command::Peer(args) => peers::run(&args),
        Command::Publisher(args) => publisher::run(&args),
        Command::Client(args) => client::run(&args),
        Command::Consumer(args) => consumer::run(&args),
        Command::Instructions(args) => return count::run(&args),
        Command::Scrape(args) => scrape::run(&args),
        Command::Steps => {
            count::steps::run();
            Ok(())
        }
        Command::Lockstep(args) => count::lockstep::run(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
