//! All tests of the workspace in one run, against a real Apache Kafka as well as the embedded broker.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::kafka::TemporaryKafka;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, human, step};

const BUSY: &str = "another `cargo xtask test` of this checkout is running; wait for it, or use --no-kafka";

/// What the test runner asks how many tests to run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Builds everything, then runs all tests, the Kafka suites against a real Apache Kafka too.
///
/// Kafka is started for the run and stopped after it, also when tests fail or on Ctrl-C. Tests on recorded market data
/// use the folder that TICKGATE_TEST_DATA names, or ../shared/data beside the repository; without either they are
/// left out, and this says so. Two tests run at once for each processor, unless RUST_TEST_THREADS says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --filter outbox\n  \
                        cargo xtask test --no-kafka --filter codec -- --nocapture")]
pub struct Args {
    /// Leave Apache Kafka out: Kafka suites run against the embedded broker only, and no Java is needed
    #[arg(long)]
    no_kafka: bool,

    /// Only tests with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Arguments for the test binaries
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// How a run went, in the test runner's own words and added up.
#[derive(Debug, Default)]
pub struct Summary {
    pub build: Duration,
    pub kafka: Duration,
    pub tests: Duration,
    /// The `test result: …` line of every test binary.
    pub results: Vec<String>,
    /// The names of the tests that failed.
    pub failed_tests: Vec<String>,
    counts: Counts,
    /// Why the run as a whole failed.
    pub failure: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub fn run(args: Args) -> Result<()> {
    let summary = test(&args, || Ok(()))?;
    for name in &summary.failed_tests {
        println!("failed: {name}");
    }
    step(summary.times());
    println!("{}", summary.line());
    match summary.failure {
        None => Ok(()),
        Some(failure) => Err(Failure::error(1, failure)),
    }
}

/// Everything with its defaults, for continuous integration. `when_built` is called once all is built, when the first test runs.
pub fn test_all(no_kafka: bool, when_built: impl FnOnce() -> Result<()>) -> Result<Summary> {
    test(&Args { no_kafka, filter: None, args: Vec::new() }, when_built)
}

fn test(args: &Args, when_built: impl FnOnce() -> Result<()>) -> Result<Summary> {
    let mut needs = vec![Need::Build];
    if !args.no_kafka {
        needs.extend([Need::Java, Need::Maven]);
    }
    setup::ensure(&needs)?;

    let mut summary = Summary::default();
    let started = Instant::now();
    // One command, so that crates are built once: with `--bins` alone their features could differ from the tests'.
    step("building all programs and tests (the first time takes some minutes, librdkafka included)");
    shell::run(shell::cargo().args(["build", "--workspace", "--lib", "--bins", "--tests", "--examples"]))?;
    summary.build = started.elapsed();

    let started = Instant::now();
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(&args.filter);
    if std::env::var_os(TEST_THREADS).is_none() {
        // Tests over real sockets wait more than they compute.
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        command.env(TEST_THREADS, (2 * processors).to_string());
    }
    if !args.args.is_empty() {
        command.arg("--").args(&args.args);
    }
    let kafka = if args.no_kafka {
        step("no Apache Kafka: Kafka tests run against the embedded broker only");
        command.env_remove("TICKGATE_TEST_KAFKA").env("TICKGATE_TEST_NO_KAFKA", "1");
        None
    } else {
        let kafka = TemporaryKafka::start("test", 1, BUSY)?;
        command.env("TICKGATE_TEST_KAFKA", kafka.bootstrap()).env_remove("TICKGATE_TEST_NO_KAFKA");
        Some(kafka)
    };
    match market_data() {
        Some(dir) => {
            step(format_args!("recorded market data: {}", dir.display()));
            command.env("TICKGATE_TEST_DATA", dir);
        }
        None => step("no recorded market data (TICKGATE_TEST_DATA is not set): tests on it are left out"),
    }
    summary.kafka = started.elapsed();

    let started = Instant::now();
    step("running the tests");
    let mut when_built = Some(when_built);
    let mut begun = Ok(());
    let status = shell::tee(&mut command, |line| {
        // Before this cargo still builds, or looks whether it has to, and whatever else builds would make it wait.
        if is_beginning(line)
            && let Some(when_built) = when_built.take()
        {
            begun = when_built();
        }
        summary.note(line);
    })?;
    begun?;
    summary.tests = started.elapsed();
    if !status.success() {
        summary.failure = Some(format!("`{}` failed: {status}", shell::shown(&command)));
        if let Some(kafka) = &kafka {
            eprintln!("The last lines of Apache Kafka's log:\n{}", kafka.log_tail());
        }
    }
    drop(kafka);
    if summary.failure.is_none() && summary.counts.passed == 0 {
        bail!("no test matched");
    }
    Ok(summary)
}

/// The folder with recorded market data, if this machine has one.
fn market_data() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("TICKGATE_TEST_DATA").filter(|dir| !dir.is_empty()) {
        return Some(dir.into());
    }
    let beside = shell::root().parent()?.join("shared/data");
    beside.is_dir().then_some(beside)
}

/// Whether the first test binary, or another one, begins with this line.
fn is_beginning(line: &str) -> bool {
    line.starts_with("running ") && (line.ends_with(" test") || line.ends_with(" tests"))
}

impl Summary {
    /// Takes note of a line of the test runner.
    fn note(&mut self, line: &str) {
        if let Some(counts) = Counts::parse(line) {
            self.counts.passed += counts.passed;
            self.counts.failed += counts.failed;
            self.counts.ignored += counts.ignored;
            self.results.push(line.to_owned());
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed_tests.push(name.to_owned());
        }
    }

    /// What took how long.
    pub fn times(&self) -> String {
        let Self { build, kafka, tests, .. } = self;
        format!("build {}, Apache Kafka {}, tests {}", human(*build), human(*kafka), human(*tests))
    }

    /// All of it on one line.
    pub fn line(&self) -> String {
        let Counts { passed, failed, ignored } = self.counts;
        let skipped = if ignored > 0 { format!(", {ignored} skipped") } else { String::new() };
        format!("tests: {passed} passed, {failed} failed{skipped}")
    }
}

impl Counts {
    /// Reads `test result: ok. 21 passed; 0 failed; 0 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut found = Self::default();
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((number, "passed")) => found.passed = number.parse().ok()?,
                Some((number, "failed")) => found.failed = number.parse().ok()?,
                Some((number, "ignored")) => found.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_test_is_noticed() {
        assert!(is_beginning("running 12 tests") && is_beginning("running 1 test"));
        assert!(!is_beginning("running the tests of tickgate") && !is_beginning("12 tests"));
    }

    #[test]
    fn results_add_up() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test outbox::bytes_are_bounded ... ok",
            "test table::unsubscribed ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 7 filtered out; finished in 1.20s",
        ] {
            summary.note(line);
        }
        assert_eq!(summary.line(), "tests: 42 passed, 1 failed, 2 skipped");
        assert_eq!(summary.failed_tests, ["table::unsubscribed"]);
        assert_eq!(summary.results.len(), 2);
    }
}
