//! What the live page costs a browser.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::node;
use crate::page;
use crate::sdk;
use crate::setup::{self, Need};
use crate::shell::{self, EXIT_MISSING, Failure, step};

/// Measures the live page in headless Chromium while a market runs: frames a second, what scripts take of the main thread, memory.
///
/// Builds the page and, in release mode, the gateway, a broker and a market; then opens the page, has it subscribe to every symbol
/// with conflated quotes, and looks on: frames that were painted, how long the slowest took, the share of the main thread that went
/// into scripts and into all of its work, and memory, as a series when it runs for minutes. Nothing is asserted: Chromium draws in
/// software here, on the processors that the market and the gateway run on, so the machine should have nothing else to do.
///
/// What is looked for: 60 frames a second with 500 symbols at 20,000 updates a second, scripts below 30 %, and memory that is no larger
/// after 30 minutes than after one.
#[derive(Debug, clap::Parser)]
#[command(
    max_term_width = 100,
    after_help = "Examples:\n  cargo xtask bench page\n  cargo xtask bench page --minutes 30 --json page.json"
)]
pub struct Args {
    /// How long it is looked at
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u32,

    /// The same in minutes
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u32>,

    /// Symbols of the market, all of which the page shows
    #[arg(long, value_name = "N", default_value_t = 500)]
    symbols: u32,

    /// Updates a second of all symbols together
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rate: u32,

    /// Write everything that was measured to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if let Err(why) = node::ensure() {
        return Err(Failure::error(EXIT_MISSING, why));
    }
    setup::ensure(&[Need::Build])?;
    if node::chromium().is_none() {
        setup::ensure(&[Need::Chromium])?;
    }
    step("building the live page");
    page::build()?;
    step("building the gateway, a broker and a market in release mode (the first time takes some minutes)");
    let packages = ["gateway", "broker", "sim"].map(|name| format!("--package=tickgate-{name}"));
    shell::run(shell::cargo().args(["build", "--release", "--bins"]).args(packages))?;
    // What starts the programs is that of the client's tests.
    node::install(sdk::TYPESCRIPT)?;
    shell::run(node::npm(sdk::TYPESCRIPT).args(["run", "--silent", "build"]))?;
    shell::run(node::npm(sdk::TYPESCRIPT).args(["exec", "--", "tsc", "-p", "tsconfig.test.json"]))?;
    shell::run(&mut measure(args)?)
}

fn measure(args: &Args) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg("tools/measure.mjs").current_dir(shell::root().join(page::DIR));
    let seconds = args.minutes.map_or(args.seconds, |minutes| minutes.saturating_mul(60));
    for (name, value) in [("--seconds", seconds), ("--symbols", args.symbols), ("--rate", args.rate)] {
        command.args([name, &value.to_string()]);
    }
    if let Some(file) = &args.json {
        // It runs elsewhere.
        command.arg("--json").arg(std::path::absolute(file).context("where we are")?);
    }
    if let Some(chromium) = node::chromium() {
        command.env("CHROMIUM", chromium);
    }
    command.env("TICKGATE_BIN_DIR", shell::target_dir().join("release"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn minutes_are_seconds_and_files_are_where_the_caller_is() {
        let words = |text: &str| {
            let args = Args::parse_from(text.split(' '));
            shell::shown(&measure(&args).unwrap())
        };
        assert_eq!(words("page"), "node tools/measure.mjs --seconds 30 --symbols 500 --rate 20000");
        let here = std::env::current_dir().unwrap();
        let expected = format!(
            "node tools/measure.mjs --seconds 1800 --symbols 9 --rate 20000 --json {}",
            here.join("a.json").display()
        );
        assert_eq!(words("page --minutes 30 --symbols 9 --json a.json"), expected);
    }
}
