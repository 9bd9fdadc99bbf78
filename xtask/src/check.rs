//! Everything that can be said about the code without running it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::alerts;
use crate::deploy;
use crate::lock::Lock;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, human, step};
use crate::tidy;

/// The pinned release of cargo-deny.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Format, lints, licences, documentation, what deploys it, and the rules of the house; reports every failure at the end.
///
/// The steps are `tidy` (lengths of files, sleeps in tests, machine paths), `cargo fmt --check`, `deploy` (manifests of
/// Kubernetes against its schemas, hadolint, `docker compose config`, `promtool check config`, `haproxy -c`), `alerts` (`promtool check rules` and `test rules`,
/// `amtool check-config`, a chapter of the runbook for each), `cargo clippy`, `cargo deny check
/// bans licenses sources` and `cargo doc`, warnings being errors. A file that has a reason to break a rule of tidy says so
/// in a comment: `tidy: allow(sleep) because …`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask check\n  cargo xtask check --only tidy --only fmt")]
pub struct Args {
    /// Look for known vulnerabilities too; fetches the advisory database
    #[arg(long)]
    advisories: bool,

    /// Only this step; may be repeated
    #[arg(long, value_name = "STEP", value_parser = STEPS.map(|(name, _)| name))]
    only: Vec<String>,
}

/// What a step does.
type Work = fn(&Args) -> Result<()>;

/// The steps in their order: what is quick is first.
const STEPS: [(&str, Work); 7] = [
    ("tidy", |_| tidy::check()),
    ("fmt", |_| shell::run(shell::cargo().args(["fmt", "--all", "--check"]))),
    ("deploy", |_| deploy::check()),
    ("alerts", |_| alerts::check()),
    ("clippy", |_| {
        let words = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        shell::run(shell::cargo().args(words))
    }),
    ("doc", |_| {
        let words = ["doc", "--workspace", "--no-deps"];
        shell::run(shell::cargo().args(words).env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("deny", |args| deny(args.advisories)),
];

/// One thing that was done, and how it went.
#[derive(Debug)]
pub struct Step {
    pub name: &'static str,
    pub took: Duration,
    /// Why it failed.
    pub failure: Option<String>,
    /// What of it could not be done on this machine, and why.
    pub left_out: Vec<String>,
}

impl Step {
    /// One that left nothing out.
    pub fn new(name: &'static str, took: Duration, failure: Option<String>) -> Self {
        Self { name, took, failure, left_out: Vec::new() }
    }

    /// Does `work`, taking the time. Fails itself only when interrupted.
    pub fn take(name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        step(name);
        let started = Instant::now();
        let result = work();
        shell::check_interrupt()?;
        let failure = result.err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            eprintln!("xtask: {name}: {failure}");
        }
        Ok(Self::new(name, started.elapsed(), failure))
    }
}

pub fn run(args: Args) -> Result<()> {
    report(&steps(&args)?)
}

/// Does some steps, for continuous integration.
pub fn only(names: &[&str]) -> Result<Vec<Step>> {
    steps(&Args { advisories: false, only: names.iter().map(|name| (*name).to_owned()).collect() })
}

/// The names of all steps.
#[cfg(test)]
pub fn names() -> [&'static str; STEPS.len()] {
    STEPS.map(|(name, _)| name)
}

/// Does the steps that are wanted, failed ones not stopping the rest.
fn steps(args: &Args) -> Result<Vec<Step>> {
    setup::ensure(&[Need::Build, Need::Git])?;
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let wanted = STEPS.into_iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(name, work)| Step::take(name, || work(args))).collect()
}

/// Prints a line per step and fails if any has.
pub fn report(steps: &[Step]) -> Result<()> {
    println!();
    print!("{}", table(steps));
    let failed: Vec<_> = steps.iter().filter(|step| step.failure.is_some()).map(|step| step.name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::error(1, format!("failed: {} (see above for what each said)", failed.join(", "))))
}

/// A line per step, and one for whatever was left out.
fn table(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or_default().max(11);
    let mut text = String::new();
    for Step { name, took, failure, .. } in steps {
        let verdict = if failure.is_some() { "FAILED" } else { "ok" };
        let _ = writeln!(text, "{name:<width$} {verdict:<7} {:>12}", human(*took));
    }
    for Step { name, left_out, .. } in steps {
        for what in left_out {
            let _ = writeln!(text, "{name:<width$} LEFT OUT: {what}");
        }
    }
    text
}

fn deny(advisories: bool) -> Result<()> {
    let mut command = Command::new(cargo_deny()?);
    command.current_dir(shell::root()).args(["check", "bans", "licenses", "sources"]);
    if advisories {
        command.arg("advisories");
    }
    shell::run(&mut command)
}

/// The program, installed into the build folder unless the right version is there or on `PATH`.
fn cargo_deny() -> Result<PathBuf> {
    let tools = shell::target_dir().join("tools");
    let ours = tools.join("bin/cargo-deny");
    let find = || {
        std::iter::once(ours.clone()).chain(setup::on_path("cargo-deny")).find(|program| {
            shell::output(Command::new(program).arg("--version")).is_some_and(|text| is_pinned(&text))
        })
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    let _lock = Lock::take(&tools.join("lock"), "another command is installing cargo-deny")?;
    if let Some(found) = find() {
        return Ok(found);
    }
    step(format_args!("installing cargo-deny {CARGO_DENY_VERSION} into {} (once)", tools.display()));
    // It reads a few hundred small files: that it is compiled soon matters more than that it runs fast.
    shell::run(
        shell::cargo()
            .args(["install", "--locked", "cargo-deny", "--version", CARGO_DENY_VERSION])
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(tools.join("build"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    )?;
    // Hundreds of megabytes that nothing needs any more; left there, they do no harm.
    let _ = std::fs::remove_dir_all(tools.join("build"));
    Ok(ours)
}

fn is_pinned(version: &str) -> bool {
    version.split_whitespace().nth(1) == Some(CARGO_DENY_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_version_will_do() {
        assert!(is_pinned("cargo-deny 0.20.2\n"));
        assert!(!is_pinned("cargo-deny 0.20.20\n"));
        assert!(!is_pinned("cargo-deny 0.18.0"));
        assert!(!is_pinned(""));
    }

    #[test]
    fn a_failed_step_is_named_and_the_others_still_count() {
        let steps = [
            Step::take("first", || Err(anyhow::anyhow!("no"))).unwrap(),
            Step::take("second", || Ok(())).unwrap(),
        ];
        assert!(report(&steps).unwrap_err().to_string().starts_with("failed: first ("));
        assert!(report(&steps[1..]).is_ok());
    }

    #[test]
    fn what_was_left_out_is_named_last() {
        let mut steps = [
            Step::new("scenarios", Duration::from_millis(1), None),
            Step::new("a long name it has", Duration::from_secs(70), Some("no".to_owned())),
        ];
        steps[0].left_out.push("typescript (no Node)".to_owned());
        let lines = [
            "scenarios          ok              1 ms",
            "a long name it has FAILED    1 min 10 s",
            "scenarios          LEFT OUT: typescript (no Node)",
        ];
        assert_eq!(table(&steps).lines().collect::<Vec<_>>(), lines);
    }
}
