//! Benchmarks: of the hot path, of the whole gateway, of the clients and of the live page.

mod clients;
mod page;

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Parser;

use crate::setup::{self, Need};
use crate::shell::{self, Failure};

/// Runs the micro benchmarks, or those named; `instructions`, `system`, `clients` and `page` are more than that.
///
/// `cargo xtask bench instructions` counts what the hot path costs in instructions, bytes and allocations, and fails when
/// any of it grew by more than is allowed over `benches/instructions.toml`, which `--bless` writes. Nothing else on the
/// machine changes these figures.
///
/// `cargo xtask bench system` runs every workload and writes a report, `cargo xtask bench system W1a W1k --reps 3` those;
/// `cargo xtask bench system --help` lists the rest. The machine should have nothing else to do meanwhile.
///
/// `cargo xtask bench clients` says how many events a second each client decodes, `cargo xtask bench page` what the live page
/// costs a browser: `--help` after either of them is its manual.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Benchmarks to run: any part of their names; all when none is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    if let Some((first, more)) = args.names.split_first() {
        match first.as_str() {
            "system" => return system(more),
            "instructions" => return instructions(more),
            "clients" => return parsed("clients", more)?.map_or(Ok(()), |args| clients::run(&args)),
            "page" => return parsed("page", more)?.map_or(Ok(()), |args| page::run(&args)),
            _ => {}
        }
    }
    setup::ensure(&[Need::Build])?;
    let mut command = shell::cargo();
    command.args(["bench", "--package", "tickgate-benches", "--bench", "hot_path", "--bench", "compression"]);
    if !args.names.is_empty() {
        command.arg("--").args(args.names);
    }
    shell::run(&mut command)
}

/// What stands behind the name of a benchmark; `None` when that was a wish for help, which has been heard.
fn parsed<T: Parser>(name: &str, words: &[String]) -> Result<Option<T>> {
    let ours = format!("cargo xtask bench {name}");
    match T::try_parse_from([&[ours], words].concat()) {
        Ok(args) => Ok(Some(args)),
        Err(error) => {
            // Nothing to be done when even this cannot be written.
            let _ = error.print();
            if error.use_stderr() { Err(Failure::error(crate::USAGE, "bad usage")) } else { Ok(None) }
        }
    }
}

/// Counts what the hot path costs, in a release build of nothing more than that needs.
fn instructions(words: &[String]) -> Result<()> {
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
fn system(words: &[String]) -> Result<()> {
    setup::ensure(&[Need::Build])?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn each_has_a_manual_and_minds_its_words() {
        page::Args::command().debug_assert();
        clients::Args::command().debug_assert();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(parsed::<page::Args>("page", &words("--help")).unwrap().is_none());
        assert!(parsed::<page::Args>("page", &words("--minutes 30 --json out.json")).unwrap().is_some());
        let refused = parsed::<clients::Args>("clients", &words("--no-such-flag")).unwrap_err();
        assert_eq!(shell::exit_code(&refused), 64);
    }
}
