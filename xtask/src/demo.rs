//! Building the product and handing the terminal over to it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::page;
use crate::setup::{self, Need};
use crate::shell;

/// Builds in release mode and runs the demo: broker, simulator, gateway and clients in one process.
///
/// Arguments go to `tickgate demo`, for example `cargo xtask demo --symbols 500 --rate 5000 --for 30s`. Ctrl-C ends all
/// of it; the exit code is the demo's.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Arguments of `tickgate demo`; `cargo xtask demo -- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs the micro benchmarks, or those named; `instructions` counts, `system` runs the gateway beside other servers.
///
/// `cargo xtask bench instructions` counts what the hot path costs in instructions, bytes and allocations, and fails when
/// any of it grew by more than is allowed over `benches/instructions.toml`, which `--bless` writes. Nothing else on the
/// machine changes these figures.
///
/// `cargo xtask bench system` runs every workload and writes a report, `cargo xtask bench system W1a W1k --reps 3` those;
/// `cargo xtask bench system --help` lists the rest. The machine should have nothing else to do meanwhile.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Benchmarks to run: any part of their names; all when none is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Builds the gateway as a user would and becomes it: from then on signals and exit code are the demo's own.
pub fn demo(args: DemoArgs) -> Result<()> {
    setup::ensure(&[Need::Build])?;
    page::build_where_possible()?;
    shell::step(
        "building the gateway in release mode (the first time takes some minutes, librdkafka included)",
    );
    // The second is what the demo offers for a closer look.
    let packages = ["tickgate-gateway", "tickgate-load"].into_iter().flat_map(|name| ["--package", name]);
    shell::run(shell::cargo().args(["build", "--release", "--bins"]).args(packages))?;
    let program = shell::target_dir().join("release/tickgate");
    let error = Command::new(&program).arg("demo").args(args.args).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

pub fn bench(args: BenchArgs) -> Result<()> {
    setup::ensure(&[Need::Build])?;
    match args.names.split_first() {
        Some((first, more)) if first == "system" => return bench_system(more),
        Some((first, more)) if first == "instructions" => return count_instructions(more),
        _ => {}
    }
    let mut command = shell::cargo();
    command.args(["bench", "--package", "tickgate-benches", "--bench", "hot_path", "--bench", "compression"]);
    if !args.names.is_empty() {
        command.arg("--").args(args.names);
    }
    shell::run(&mut command)
}

/// Counts what the hot path costs, in a release build of nothing more than that needs.
pub fn count_instructions(words: &[String]) -> Result<()> {
    setup::ensure(&[Need::Build, Need::Valgrind])?;
    shell::step(
        "building the benchmarks in release mode (the first time takes some minutes, librdkafka included)",
    );
    let build = ["build", "--release", "--package", "tickgate-benches", "--bin", "tickgate-bench"];
    shell::run(shell::cargo().args(build))?;
    let program = shell::target_dir().join("release/tickgate-bench");
    shell::run(Command::new(program).arg("instructions").args(words).current_dir(shell::root()))
}

/// Builds everything that is measured and becomes the program that measures it.
fn bench_system(words: &[String]) -> Result<()> {
    shell::step(
        "building the benchmarks in release mode (the first time takes some minutes, librdkafka included)",
    );
    let packages =
        ["--package", "tickgate-benches", "--package", "tickgate-gateway", "--package", "tickgate-broker"];
    shell::run(shell::cargo().args(["build", "--release", "--bins"]).args(packages))?;
    let program = shell::target_dir().join("release/tickgate-bench");
    let error = Command::new(&program).arg("run").args(words).current_dir(shell::root()).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
