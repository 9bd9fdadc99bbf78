//! What people build on: the clients in each language, the scenarios that they share, and the live page.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::check::{self, Step};
use crate::lock::Lock;
use crate::node;
use crate::page;
use crate::setup::{self, Need};
use crate::shell::{self, EXIT_MISSING, Failure, step};
use crate::venv;

const PYTHON: &str = "clients/python";
pub const TYPESCRIPT: &str = "clients/typescript";
const REQUIREMENTS: &str = "clients/python/requirements-dev.txt";
/// What takes the versions of the packages in that file.
const PYTHON_MIN: (u32, u32) = (3, 11);

/// Tries what people build on: the Python, TypeScript and Rust clients, the scenarios that they share, and the live page.
///
/// Everything runs against real gateways, of a debug build that this makes first, the live page in it. Python packages go
/// into an environment of their own in the build folder, those of npm beside their lock files. Python, Chromium and Node are
/// installed where that is allowed; what cannot be run here all the same, as the distribution's Node is older than 20.19, is left out,
/// and named.
///
/// Goes on after a failed step. Exit codes: 0 all well, 1 something failed, 69 nothing of what was asked for can be run here.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask sdk\n  cargo xtask sdk python\n  cargo xtask sdk typescript conformance --all"
)]
pub struct Args {
    /// Only these parts
    #[arg(value_name = "PART")]
    parts: Vec<Part>,

    /// Fail when something cannot be run here
    #[arg(long)]
    all: bool,

    /// What continuous integration runs: with programs and page as they were built, and nothing installed; exit code 0 where
    /// nothing can be run
    #[arg(long, conflicts_with = "all")]
    short: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// clients/typescript: build, types, tests
    Typescript,
    /// clients/python: ruff, mypy --strict, tests. Needs Python 3.11
    Python,
    /// clients/rust: its tests, which are among those of `cargo xtask test` too
    Rust,
    /// clients/conformance: every scenario with each of the three clients
    Conformance,
    /// dashboards/web: types, tests, and the page in Chromium as a gateway serves it
    Page,
}

/// One step of a part.
struct Job {
    name: &'static str,
    work: Box<dyn FnOnce() -> Result<()>>,
}

/// A step, or why it cannot be run on this machine.
type Prepared = Result<Job, (&'static str, String)>;

pub fn run(args: Args) -> Result<()> {
    let busy = "another `cargo xtask sdk` of this checkout is running";
    let _lock = Lock::take(&shell::target_dir().join("sdk.lock"), busy)?;
    let parts: Vec<Part> = Part::value_variants().iter().copied().filter(|part| args.wants(*part)).collect();
    if !args.short {
        build(&parts)?;
    }
    let mut steps = Vec::new();
    let mut left_out = Vec::new();
    for part in parts {
        let mut prepared = Vec::new();
        let mut preparing = Step::take(part.preparing(), || {
            prepared = part.prepare(args.short)?;
            Ok(())
        })?;
        if preparing.failure.is_some() {
            steps.push(preparing);
            continue;
        }
        for job in prepared {
            match job {
                Ok(Job { name, work }) => {
                    let mut step = Step::take(name, work)?;
                    // What was fetched for it.
                    step.took += std::mem::take(&mut preparing.took);
                    steps.push(step);
                }
                Err((name, why)) => left_out.push(format!("{name} ({why})")),
            }
        }
    }
    let verdict = check::report(&steps);
    for what in &left_out {
        step(format_args!("LEFT OUT: {what}"));
    }
    verdict?;
    match (steps.is_empty() && !args.short, args.all && !left_out.is_empty()) {
        (true, _) => Err(Failure::error(EXIT_MISSING, "nothing of it can be run here")),
        (_, true) => Err(Failure::error(EXIT_MISSING, "--all: some of it was left out")),
        _ => Ok(()),
    }
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// The page, and then the programs with it, as far as `parts` take them.
fn build(parts: &[Part]) -> Result<()> {
    setup::ensure(&[Need::Build])?;
    if parts.contains(&Part::Page) && node::ensure().is_ok() {
        step("building the live page");
        page::build()?;
    }
    if parts == [Part::Rust] {
        return Ok(());
    }
    step("building the gateway, a broker and a market");
    let packages = ["gateway", "broker", "sim"].map(|name| format!("--package=tickgate-{name}"));
    shell::run(shell::cargo().args(["build", "--bins"]).args(packages))?;
    if parts.contains(&Part::Conformance) {
        let words = ["build", "--package", "tickgate-client", "--example", "conformance"];
        shell::run(shell::cargo().args(words))?;
    }
    Ok(())
}

impl Part {
    fn preparing(self) -> &'static str {
        match self {
            Self::Typescript => "preparing typescript",
            Self::Python => "preparing python",
            Self::Rust => "preparing rust",
            Self::Conformance => "preparing conformance",
            Self::Page => "preparing page",
        }
    }

    /// Fetches what its commands need. Nothing of the system is installed when `is_short`.
    fn prepare(self, is_short: bool) -> Result<Vec<Prepared>> {
        let node = || if is_short { node::look() } else { node::ensure() };
        match self {
            Self::Typescript => Ok(vec![match node() {
                Ok(()) => {
                    node::install(TYPESCRIPT)?;
                    Ok(job("typescript", with_programs(node::npm(TYPESCRIPT)), &["test", "--silent"]))
                }
                Err(why) => Err(("typescript", why)),
            }]),
            Self::Python => match python(is_short) {
                Ok(()) => python_jobs(),
                Err(why) => Ok(vec![Err(("python", why))]),
            },
            Self::Rust => {
                Ok(vec![Ok(job("rust", shell::cargo(), &["test", "--package", "tickgate-client"]))])
            }
            Self::Conformance => match python(is_short) {
                Ok(()) => scenarios(node()),
                Err(why) => Ok(vec![Err(("scenarios", why))]),
            },
            Self::Page => Ok(vec![match node().and_then(|()| chromium(is_short)) {
                Ok(()) => {
                    let mut command = page::test_built()?;
                    Ok(Job { name: "page", work: Box::new(move || shell::run(&mut command)) })
                }
                Err(why) => Err(("page", why)),
            }]),
        }
    }
}

fn job(name: &'static str, mut command: Command, words: &[&str]) -> Job {
    command.args(words);
    Job { name, work: Box::new(move || shell::run(&mut command)) }
}

/// With what the tests take their programs from. It is not for the environment of all: a gateway refuses variables that it does not
/// know.
fn with_programs(mut command: Command) -> Command {
    command.env("TICKGATE_BIN_DIR", shell::target_dir().join("debug"));
    command
}

/// # Errors
/// Why there is no Python that will do.
pub fn python(is_short: bool) -> Result<(), String> {
    if !is_short {
        setup::ensure(&[Need::Python]).map_err(|error| format!("{error:#}"))?;
    }
    let asked = ["-c", "import ensurepip, venv, sys; print(*sys.version_info[:2])"];
    let said = shell::output(Command::new("python3").args(asked)).unwrap_or_default();
    will_do(&said)
}

/// Judges `3 11`, which is what Python was asked for.
fn will_do(said: &str) -> Result<(), String> {
    let mut numbers = said.split_whitespace().map(str::parse);
    let wanted = format!("Python {}.{} or later with venv", PYTHON_MIN.0, PYTHON_MIN.1);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= PYTHON_MIN => Ok(()),
        (Some(Ok(major)), Some(Ok(minor))) => Err(format!("{wanted} is needed, and this is {major}.{minor}")),
        _ => Err(format!("{wanted} is missing")),
    }
}

/// # Errors
/// Why there is no Chromium.
fn chromium(is_short: bool) -> Result<(), String> {
    if node::chromium().is_none() && !is_short {
        setup::ensure(&[Need::Chromium]).map_err(|error| format!("{error:#}"))?;
    }
    node::chromium().map(drop).ok_or_else(|| "Chromium is missing".to_owned())
}

/// Where the programs of the Python client's own environment are.
fn environment() -> Result<PathBuf> {
    venv::bin("client-python", REQUIREMENTS)
}

/// A program of that environment, in the client's folder, which finds the client where it is.
pub fn in_environment(program: &str) -> Result<Command> {
    let mut command = with_programs(Command::new(environment()?.join(program)));
    let dir = shell::root().join(PYTHON);
    command.env("PYTHONPATH", dir.join("src")).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir);
    Ok(command)
}

fn python_jobs() -> Result<Vec<Prepared>> {
    let jobs: [(&'static str, &str, &[&str]); 4] = [
        ("python lint", "ruff", &["check", "--no-cache", "."]),
        ("python format", "ruff", &["format", "--no-cache", "--check", "."]),
        ("python types", "mypy", &[]),
        ("python tests", "python", &["-m", "pytest", "-q", "-p", "no:cacheprovider"]),
    ];
    let caches = shell::target_dir().join("tools/mypy-cache");
    jobs.into_iter()
        .map(|(name, program, words)| {
            let mut command = in_environment(program)?;
            // All that the tests take is there: none is to be left out.
            command.env("MYPY_CACHE_DIR", &caches).env("CI", "true");
            Ok(Ok(job(name, command, words)))
        })
        .collect()
}

/// Every scenario with each client that can be run.
fn scenarios(node: Result<(), String>) -> Result<Vec<Prepared>> {
    let root = shell::root();
    let adapter = |client: &str| root.join("clients").join(client);
    let with = |name, words: &[PathBuf]| -> Result<Prepared> {
        let mut command = in_environment("python")?;
        command.arg(adapter("conformance/run.py"));
        Ok(Ok(job(name, command, &["--adapter", &quoted(words)])))
    };
    let python = environment()?.join("python");
    let typescript = match node {
        Ok(()) => {
            node::install(TYPESCRIPT)?;
            shell::run(node::npm(TYPESCRIPT).args(["run", "--silent", "build"]))?;
            with("scenarios typescript", &["node".into(), adapter("typescript/conformance/adapter.mjs")])?
        }
        Err(why) => Err(("scenarios typescript", why)),
    };
    let rust = shell::target_dir().join("debug/examples/conformance");
    Ok(vec![
        with("scenarios python", &[python, adapter("python/conformance/adapter.py")])?,
        typescript,
        with("scenarios rust", &[rust])?,
    ])
}

/// Words as a shell reads them.
fn quoted(words: &[PathBuf]) -> String {
    let quote = |word: &PathBuf| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_python() {
        assert_eq!(will_do("3 11\n"), Ok(()));
        assert_eq!(will_do("4 0"), Ok(()));
        assert!(will_do("3 9").unwrap_err().ends_with("and this is 3.9"));
        assert!(will_do("").unwrap_err().ends_with("is missing"));
    }

    #[test]
    fn paths_with_blanks_and_quotes_stay_whole() {
        assert_eq!(quoted(&["node".into(), "/a b/it's".into()]), r"'node' '/a b/it'\''s'");
    }

    #[test]
    fn all_parts_unless_some_are_named() {
        let args = |parts: &[Part]| Args { parts: parts.to_vec(), all: false, short: false };
        assert!(Part::value_variants().iter().all(|part| args(&[]).wants(*part)));
        let one = args(&[Part::Python]);
        assert!(one.wants(Part::Python) && !one.wants(Part::Page));
    }
}
