//! Fuzzing: what strangers send, against what reads it.
//!
//! The targets are in `fuzz/`, laid out as cargo-fuzz has it, and built here with the instrumentation that it would ask
//! for: with neither a sanitizer nor a nightly compiler nor another tool to install. Our code is safe Rust; what a
//! sanitizer would find is in C, and not read by these targets.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::background::Program;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, Progress, step};

/// What libFuzzer is guided by: which edges an input takes, how often, and what it is compared to.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longest input: more is what limits of length are for.
const INPUT_BYTES_MAX: usize = 4_096;
/// An input that takes longer is a fault.
const INPUT_S_MAX: u32 = 5;
/// How long a target may be behind its time until it is taken for stuck.
const GRACE: Duration = Duration::from_secs(60);

/// Feeds made-up input to everything that reads what strangers send, and looks for panics, hangs and broken promises.
///
/// Each target begins with the inputs in fuzz/corpus, and stops after --seconds or --inputs, whichever is first. What it
/// finds worth keeping goes to the build folder; an input that breaks something is named, with the command that plays it again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz frames --seconds 3600 --inputs 0\n  \
                        cargo xtask fuzz --gateway"
)]
pub struct Args {
    /// Only these targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// Seconds for each target at most
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,

    /// Inputs for each target at most; 0 is no limit
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    inputs: u64,

    /// Targets at once
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// The gateway's targets too, for which all of it is built once more
    #[arg(long)]
    gateway: bool,

    /// Name the targets and do nothing
    #[arg(long)]
    list: bool,
}

/// A target, and whether it is one of the gateway.
type Target = (String, bool);

pub fn run(args: Args) -> Result<()> {
    let known = targets(&fs::read_to_string(manifest()).context("reading fuzz/Cargo.toml")?);
    if args.list {
        for (name, is_gateways) in known {
            println!("{name}{}", if is_gateways { " (with --gateway, or by its name)" } else { "" });
        }
        return Ok(());
    }
    let wanted = wanted(&args, &known)?;
    setup::ensure(&[Need::Build])?;
    let programs = build(&wanted)?;
    fuzz(&args, wanted.iter().map(|(name, _)| (name.clone(), programs.join(name))).collect())
}

fn manifest() -> PathBuf {
    shell::root().join("fuzz/Cargo.toml")
}

/// The targets of a manifest, in their order.
fn targets(manifest: &str) -> Vec<Target> {
    let tables = manifest.split("[[bin]]").skip(1);
    let name = |table: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some((line.trim_matches('"').to_owned(), table.contains("required-features")))
    };
    tables.filter_map(name).collect()
}

fn wanted(args: &Args, known: &[Target]) -> Result<Vec<Target>> {
    if args.targets.is_empty() {
        return Ok(known.iter().filter(|(_, is_gateways)| args.gateway || !is_gateways).cloned().collect());
    }
    let find = |name: &String| {
        let found = known.iter().find(|(known, _)| known == name).cloned();
        found.ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
            Failure::error(64, format!("no target {name}: there are {}", names.join(", ")))
        })
    };
    args.targets.iter().map(find).collect()
}

/// Builds the targets, and says where they are.
fn build(wanted: &[Target]) -> Result<PathBuf> {
    let version = shell::output(Command::new("rustc").arg("-vV")).context("asking rustc for its version")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let target_dir = shell::target_dir().join("fuzz");
    step(format_args!("building {} fuzz targets with their instrumentation", wanted.len()));
    let mut command = shell::cargo();
    // With a target of its own, so that build scripts and macros are not instrumented.
    command.args(["build", "--release", "--target", host, "--target-dir"]).arg(&target_dir);
    command.arg("--manifest-path").arg(manifest()).env("RUSTFLAGS", INSTRUMENTATION);
    if wanted.iter().any(|(_, is_gateways)| *is_gateways) {
        command.args(["--features", "gateway"]);
    }
    for (name, _) in wanted {
        command.args(["--bin", name]);
    }
    shell::run(&mut command)?;
    Ok(target_dir.join(host).join("release"))
}

/// A target at work.
struct Running {
    name: String,
    program: Program,
    log: PathBuf,
    began: Instant,
}

fn fuzz(args: &Args, mut waiting: VecDeque<(String, PathBuf)>) -> Result<()> {
    let count = waiting.len();
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    let mut progress = Progress::start(format!("fuzzing {count} targets, {} at once", args.jobs));
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < usize::from(args.jobs)
            && let Some((name, program)) = waiting.pop_front()
        {
            running.push(start(args, name, &program)?);
        }
        shell::pause(Duration::from_millis(200))?;
        progress.tick();
        let mut still = Vec::new();
        for mut target in running {
            match target.program.wait(Duration::ZERO)? {
                Some(status) if status.success() => println!("{}", verdict(&target)?),
                Some(status) => {
                    println!("{:<10} FAILED: {status}\n{}", target.name, target.program.log_tail(40));
                    failed.push(target.name);
                }
                None if target.began.elapsed() > Duration::from_secs(args.seconds) + GRACE => {
                    println!("{:<10} FAILED: still runs\n{}", target.name, target.program.log_tail(40));
                    failed.push(target.name);
                }
                None => still.push(target),
            }
        }
        running = still;
    }
    match failed.as_slice() {
        [] => Ok(()),
        names => {
            let again = "play an input again by giving its file to the target: \
                         the log above names it behind `Test unit written to`";
            Err(Failure::error(1, format!("broken: {}; {again}", names.join(", "))))
        }
    }
}

fn start(args: &Args, name: String, program: &Path) -> Result<Running> {
    let dir = shell::target_dir().join("fuzz");
    let found = dir.join("corpus").join(&name);
    let artifacts = dir.join("artifacts");
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let log = dir.join(format!("{name}.log"));
    if log.exists() {
        fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
    }
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={}", args.seconds)).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-timeout={INPUT_S_MAX}"));
    command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    if args.inputs > 0 {
        command.arg(format!("-runs={}", args.inputs));
    }
    // The first folder takes what is new; what the repository has is only read.
    command.arg(found).arg(shell::root().join("fuzz/corpus").join(&name));
    Ok(Running { program: Program::start(&name, command, &log)?, name, log, began: Instant::now() })
}

/// What a target that found nothing has done. One that did nothing has not passed.
fn verdict(target: &Running) -> Result<String> {
    let log = fs::read_to_string(&target.log).with_context(|| format!("reading {}", target.log.display()))?;
    let Some((inputs, seconds)) = done(&log).filter(|(inputs, _)| *inputs > 0) else {
        bail!("{} ended without a word of what it has done: see {}", target.name, target.log.display());
    };
    Ok(format!("{:<10} ok: {inputs} inputs in {seconds} s", target.name))
}

/// Reads `Done 1000000 runs in 31 second(s)`.
fn done(log: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = log.lines().rev().find(|line| line.starts_with("Done "))?.split(' ').collect();
    match words.as_slice() {
        ["Done", inputs, "runs", "in", seconds, ..] => Some((inputs.parse().ok()?, seconds.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_inputs_to_begin_with() {
        let known = targets(&fs::read_to_string(manifest()).unwrap());
        assert!(known.len() > 4 && known.iter().any(|(_, is_gateways)| !is_gateways), "{known:?}");
        for (name, _) in known {
            assert!(shell::root().join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(), "{name}");
            let corpus = fs::read_dir(shell::root().join("fuzz/corpus").join(&name));
            assert!(corpus.is_ok_and(|mut files| files.next().is_some()), "fuzz/corpus/{name} is empty");
        }
    }

    #[test]
    fn what_was_done_is_read() {
        assert_eq!(done("#1 x\nDone 1000000 runs in 31 second(s)\n"), Some((1_000_000, 31)));
        assert_eq!(done("==1== libFuzzer: deadly signal\n"), None);
    }
}
