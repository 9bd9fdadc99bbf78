//! What continuous integration runs, which is what a developer runs before handing work in.

use std::process::Command;

use anyhow::Result;

use crate::beside::Beside;
use crate::check::{self, Step};
use crate::clients;
use crate::dashboards;
use crate::drill;
use crate::faults;
use crate::setup::{self, Need};
use crate::shell;
use crate::suite;

/// What continuous integration runs: check, test, a short demo, clients that are
/// not ours, the dashboards and alerts against a real Prometheus, the fault matrix in its short form, a
/// minute of each fuzz target of the codecs, the quick cases of the Autobahn test suite,
/// instruction counts, with the time of each step.
///
/// Licences, fuzzing and counting, which only compute, run beside the tests, which mostly wait, and the Autobahn test suite beside
/// the fault matrix; what they said is shown when they are through.
///
/// Goes on after a failed step, so that one run tells everything, and exits with 1 if any failed. The last lines are the
/// test runner's own results and their sum.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave Apache Kafka out
    #[arg(long)]
    no_kafka: bool,
}

pub fn run(args: Args) -> Result<()> {
    let mut needs = vec![Need::Build, Need::Git, Need::Valgrind, Need::Prometheus];
    if !args.no_kafka {
        needs.extend([Need::Java, Need::Maven]);
    }
    setup::ensure(&needs)?;
    let mut steps = check::all_but(&["deny"])?;

    let computing = [
        Beside::start("deny", &["check", "--only", "deny"])?,
        Beside::start("fuzz", &["fuzz", "--seconds", "60"])?,
        Beside::start("counts", &["bench", "instructions"])?,
    ];
    let mut summary = None;
    let mut test = Step::take("test", || {
        let summary = summary.insert(suite::test_all(args.no_kafka)?);
        summary.failure.take().map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure)))
    })?;
    if let Some(summary) = &summary {
        // The parts are more telling than the whole.
        test.took = summary.tests;
        steps.push(Step { name: "build", took: summary.build, failure: None });
        steps.push(Step { name: "kafka", took: summary.kafka, failure: None });
    }
    steps.push(test);
    steps.push(Step::take("smoke", smoke)?);
    steps.push(Step::take("clients", clients::short)?);
    for running in computing {
        steps.push(running.join()?);
    }
    let conformance = Beside::start("conformance", &["conformance", "--short"])?;
    steps.push(Step::take("faults", faults::short)?);
    steps.push(conformance.join()?);
    // What is to come within so many seconds has the machine to itself.
    steps.push(Step::take("dashboards", dashboards::short)?);
    steps.push(Step::take("drill", drill::short)?);

    let verdict = check::report(&steps);
    if let Some(summary) = summary {
        println!();
        for result in &summary.results {
            println!("{result}");
        }
        for name in &summary.failed_tests {
            println!("failed: {name}");
        }
        println!("{}", summary.line());
    }
    verdict
}

/// A short demo, with the program that the tests were built with: it must start, serve and end with 0.
fn smoke() -> Result<()> {
    let program = shell::target_dir().join("debug/tickgate");
    shell::run(Command::new(program).current_dir(shell::root()).args([
        "demo",
        "--for",
        "5s",
        "--clients",
        "20",
    ]))
}
