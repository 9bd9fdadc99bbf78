//! What continuous integration runs, which is what a developer runs before handing work in.

use std::process::Command;

use anyhow::Result;

use crate::beside::{Lane, Uses};
use crate::check::{self, Step};
use crate::clients;
use crate::dashboards;
use crate::drill;
use crate::faults;
use crate::node;
use crate::page;
use crate::setup::{self, Need};
use crate::shell::{self, step};
use crate::suite;

/// What continuous integration runs: check, test, a short demo, the clients and the live page, clients that are
/// not ours, the dashboards and alerts against a real Prometheus, the fault matrix in its short form, a
/// minute of each fuzz target of the codecs, the quick cases of the Autobahn test suite,
/// instruction counts, with the time of each step.
///
/// Tests, the fault matrix and whatever else talks to programs mostly wait, so what only computes, compilers first of all, runs
/// beside them and gives way to them; what it said is shown when it is through. The drills and the proof of the dashboards have the
/// machine to themselves.
///
/// Goes on after a failed step, so that one run tells everything, and exits with 1 if any failed. What this machine could not
/// run, as its Node is too old for the live page, is named behind the times. The last lines are the test runner's own results and their
/// sum.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave Apache Kafka out
    #[arg(long)]
    no_kafka: bool,
}

/// A step that runs beside others, and how `cargo xtask` is asked for it.
type Words = (&'static str, &'static [&'static str]);

/// Quick, and in front of everybody's eyes first.
const FIRST: [&str; 2] = ["tidy", "fmt"];

/// What needs nothing that is built here. Packages come over the network meanwhile.
const APART: [Words; 1] = [("deploy", &["check", "--only", "deploy"])];
/// What computes, or compiles into folders of its own.
const OWN_FOLDERS: [Words; 3] = [
    ("alerts", &["check", "--only", "alerts"]),
    ("deny", &["check", "--only", "deny"]),
    ("fuzz", &["fuzz", "--seconds", "60"]),
];
/// What compiles in release mode, the live page included.
const RELEASE: [Words; 1] = [("counts", &["bench", "instructions"])];
/// What compiles where the tests do, and would make their build wait. Dependencies' build scripts have run by then.
const SAME_FOLDER: [Words; 2] =
    [("clippy", &["check", "--only", "clippy"]), ("doc", &["check", "--only", "doc"])];
/// What takes the programs that the tests were built with. One after the other: they share what npm fetched, and Chromium wants a
/// processor.
const PROGRAMS: [Words; 4] = [
    ("typescript", &["sdk", "typescript", "--short"]),
    ("python", &["sdk", "python", "--short"]),
    ("scenarios", &["sdk", "conformance", "--short"]),
    ("page", &["sdk", "page", "--short"]),
];
const AUTOBAHN: [Words; 1] = [("conformance", &["conformance", "--short"])];

pub fn run(args: Args) -> Result<()> {
    set_up(args.no_kafka)?;
    let mut lanes = vec![Lane::start(Uses::TheRest, OWN_FOLDERS), Lane::start(Uses::Little, APART)];
    let mut steps = check::only(&FIRST)?;
    // Before any gateway that has it in it. Where it cannot be built, the step that tries it says so.
    if node::look().is_ok() {
        steps.push(Step::take("page build", page::build)?);
    }
    lanes.push(Lane::start(Uses::TheRest, RELEASE));

    let mut later = None;
    let mut summary = None;
    let mut test = Step::take("test", || {
        let tested = suite::test_all(args.no_kafka, || {
            later = Some(when_built());
            Ok(())
        })?;
        summary.insert(tested).failure.take().map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure)))
    })?;
    if let Some(summary) = &summary {
        // The parts are more telling than the whole.
        test.took = summary.tests;
        steps.push(Step::new("build", summary.build, None));
        steps.push(Step::new("kafka", summary.kafka, None));
    }
    steps.push(test);
    // It may not even have been built.
    lanes.extend(later.unwrap_or_else(when_built));
    lanes.push(Lane::start(Uses::Little, AUTOBAHN));
    steps.push(Step::take("smoke", smoke)?);
    steps.push(Step::take("clients", clients::short)?);
    steps.push(Step::take("faults", faults::short)?);
    for lane in lanes {
        steps.extend(lane.join()?);
    }
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

/// Installs everything at once: asking for the lists of packages takes as long as many of them.
fn set_up(no_kafka: bool) -> Result<()> {
    let mut needs = vec![Need::Build, Need::Git, Need::Valgrind, Need::Prometheus, Need::Python];
    if !no_kafka {
        needs.extend([Need::Java, Need::Maven]);
    }
    // Without one of these a step fails, or leaves something out, and says so; the others go on.
    let more = [Need::Deploy, Need::Alertmanager, Need::Openssl, Need::Chromium];
    if setup::ensure(&[&needs[..], &more].concat()).is_err() {
        setup::ensure(&needs)?;
    }
    if let Err(why) = node::ensure() {
        step(format_args!("without the live page: {why}"));
    }
    shell::check_interrupt()
}

/// What the tests' build was waited for with.
fn when_built() -> [Lane; 2] {
    [Lane::start(Uses::TheRest, SAME_FOLDER), Lane::start(Uses::Little, PROGRAMS)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A new step of check was run by developers alone.
    #[test]
    fn every_step_of_check_is_run_once() {
        let beside = [&APART[..], &OWN_FOLDERS, &SAME_FOLDER].concat();
        let mut run: Vec<&str> = FIRST.to_vec();
        run.extend(beside.iter().filter(|(_, words)| words[0] == "check").map(|(_, words)| words[2]));
        run.sort_unstable();
        let mut all = check::names();
        all.sort_unstable();
        assert_eq!(run, all);
    }

    #[test]
    fn what_runs_beside_is_understood_and_has_a_log_of_its_own() {
        let steps = [&APART[..], &OWN_FOLDERS, &RELEASE, &SAME_FOLDER, &PROGRAMS, &AUTOBAHN].concat();
        let mut names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), steps.len());
        for (name, words) in steps {
            assert!(crate::understands(words), "{name}: {words:?}");
        }
    }
}
