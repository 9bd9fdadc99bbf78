//! The system packages: looked for before they are needed, installed with apt where that is allowed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::node;
use crate::shell::{self, EXIT_MISSING, Failure};

/// The oldest Java that runs Apache Kafka 4.
const JAVA_MIN: u32 = 17;

/// Packages that bring a Java new enough, best first: a distribution has some of them.
const JAVA_PACKAGES: [&str; 4] =
    ["openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless", "default-jre-headless"];

/// Packages that bring docker compose, which is looked at files with: no container is started.
const COMPOSE_PACKAGES: [&str; 3] = ["docker-compose", "docker-compose-v2", "docker-compose-plugin"];

/// Looks for the system packages everything needs, and installs the missing ones.
///
/// Building needs gcc, g++, make and bash (librdkafka is C and is built here); Apache Kafka needs Java 17 or newer and
/// Maven, which fetches its jars; counting instructions needs valgrind; the cluster needs HAProxy; looking at what deploys
/// it needs that, Python and docker compose; proving dashboards needs Prometheus and openssl; the live page and the clients
/// are tried with Python, Chromium and Node, which is left out where the distribution has none that is new enough. On Debian and Ubuntu missing
/// ones are installed with apt-get when we are root or sudo asks for no password; otherwise the exact command is printed
/// and the exit code is 69.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only look: print what is missing and exit 69 if anything is
    #[arg(long)]
    dry_run: bool,
}

/// What a command is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Compile the workspace, the C code of librdkafka included.
    Build,
    /// List the files of the repository.
    Git,
    /// Run Apache Kafka.
    Java,
    /// Fetch Apache Kafka.
    Maven,
    /// Count instructions.
    Valgrind,
    /// Balance load over gateways.
    Haproxy,
    /// Look at the files that deploy it.
    Deploy,
    /// Lose packets, in a network namespace.
    Packets,
    /// Make certificates.
    Openssl,
    /// Make an environment of Python packages.
    Python,
    /// Ask a Prometheus.
    Prometheus,
    /// Look at the configuration of an Alertmanager.
    Alertmanager,
    /// Open pages.
    Chromium,
}

/// A tool that is missing and the packages that would bring it, best first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Missing {
    tool: &'static str,
    packages: &'static [&'static str],
}

pub fn run(args: Args) -> Result<()> {
    let needs = [
        Need::Build,
        Need::Git,
        Need::Java,
        Need::Maven,
        Need::Valgrind,
        Need::Haproxy,
        Need::Deploy,
        Need::Prometheus,
        Need::Openssl,
        Need::Python,
        Need::Chromium,
    ];
    if args.dry_run {
        let missing = missing(&needs);
        return if missing.is_empty() { Ok(()) } else { Err(advice(&missing)) };
    }
    ensure(&needs)?;
    if let Err(why) = node::ensure() {
        shell::step(format_args!("LEFT OUT: the live page and the TypeScript client: {why}"));
    }
    shell::step("everything needed is there");
    Ok(())
}

/// Makes sure that everything in `needs` is there, installing it where we may.
///
/// # Errors
/// Exit code 69 with the names of what is missing and what to type.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let before = missing(needs);
    if before.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = before.iter().map(|missing| missing.tool).collect();
    shell::step(format_args!("missing here: {}", names.join(", ")));
    let Some(apt) = Apt::find() else { return Err(advice(&before)) };
    apt.install(&before).map_err(|error| {
        Failure::error(EXIT_MISSING, format!("{error:#}\nWhen that is put right: {}", typed(&before)))
    })?;
    let after = missing(needs);
    if after.is_empty() { Ok(()) } else { Err(advice(&after)) }
}

/// The `java` to run: `JAVA_HOME`, the one on `PATH`, or any under `/usr/lib/jvm`, whichever first is new enough.
pub fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .map(|dirs| dirs.flatten().map(|dir| dir.path().join("bin/java")).collect())
        .unwrap_or_default();
    installed.sort();
    home.into_iter().chain(on_path("java")).chain(installed).find(|java| {
        shell::output(Command::new(java).arg("-version"))
            .and_then(|text| java_major(&text))
            .is_some_and(|major| major >= JAVA_MIN)
    })
}

/// Installs `packages` from the distribution, if the first of them is there in a version that will do.
///
/// # Errors
/// Why not, in words for a person.
pub fn from_distribution(
    packages: &[&str],
    will_do: impl Fn(&str) -> bool,
) -> std::result::Result<(), String> {
    let apt = Apt::find().ok_or("apt-get may not be used here")?;
    apt.get(&["update"]).map_err(|error| format!("{error:#}"))?;
    let policy = shell::output(Command::new("apt-cache").args(["policy", packages[0]])).unwrap_or_default();
    match candidate(&policy) {
        None => return Err(format!("this distribution has no package {}", packages[0])),
        Some(version) if !will_do(version) => {
            return Err(format!("this distribution has {} {version}", packages[0]));
        }
        Some(_) => {}
    }
    apt.get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
        .map_err(|error| format!("{error:#}"))
}

/// The major version in what `java -version` prints: `openjdk version "17.0.15" …` is 17, `"1.8.0_402"` is 8.
fn java_major(text: &str) -> Option<u32> {
    let version = text.split_once("version \"")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

/// Whether there is a Python that can make an environment of its own with pip in it, which Debian has in two packages.
fn has_python() -> bool {
    shell::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_some()
}

/// How docker compose is called here: as a program of its own or as a part of docker.
pub fn compose() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    WAYS.into_iter().find(|way| {
        shell::output(Command::new(way[0]).args(&way[1..]).arg("version"))
            .is_some_and(|text| text.to_lowercase().contains("compose version"))
    })
}

/// HAProxy, which Debian installs where only root looks.
pub fn haproxy() -> Option<PathBuf> {
    on_path("haproxy").or_else(|| Some(PathBuf::from("/usr/sbin/haproxy")).filter(|path| path.is_file()))
}

/// The first file of that name on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn missing(needs: &[Need]) -> BTreeSet<Missing> {
    const BUILD: &[&str] = &["build-essential"];
    let mut found = BTreeSet::new();
    for need in needs {
        let tools: &[(&'static str, &'static [&'static str])] = match need {
            Need::Build => &[("gcc", BUILD), ("g++", BUILD), ("make", BUILD), ("bash", &["bash"])],
            Need::Git => &[("git", &["git"])],
            Need::Maven => &[("mvn", &["maven"])],
            Need::Valgrind => &[("valgrind", &["valgrind"])],
            Need::Openssl => &[("openssl", &["openssl"])],
            Need::Chromium => &[("chromium", &["chromium"])],
            Need::Prometheus => &[("prometheus", &["prometheus"]), ("promtool", &["prometheus"])],
            Need::Alertmanager => &[("amtool", &["prometheus-alertmanager"])],
            Need::Python => {
                if !has_python() {
                    found.insert(Missing { tool: "python3 with venv", packages: &["python3-venv"] });
                }
                continue;
            }
            Need::Haproxy => {
                if haproxy().is_none() {
                    found.insert(Missing { tool: "haproxy", packages: &["haproxy"] });
                }
                continue;
            }
            Need::Packets => &[("ip", &["iproute2"]), ("nft", &["nftables"])],
            Need::Java => {
                if java().is_none() {
                    found.insert(Missing { tool: "java (17 or newer)", packages: &JAVA_PACKAGES });
                }
                continue;
            }
            Need::Deploy => {
                for (is_there, tool, packages) in [
                    (has_python(), "python3 with venv", &["python3-venv"][..]),
                    (compose().is_some(), "docker compose", &COMPOSE_PACKAGES),
                    (haproxy().is_some(), "haproxy", &["haproxy"]),
                ] {
                    if !is_there {
                        found.insert(Missing { tool, packages });
                    }
                }
                continue;
            }
        };
        for &(tool, packages) in tools {
            if on_path(tool).is_none() {
                found.insert(Missing { tool, packages });
            }
        }
    }
    found
}

/// What to tell a person when we cannot install.
fn advice(missing: &BTreeSet<Missing>) -> anyhow::Error {
    let names: Vec<_> = missing.iter().map(|missing| missing.tool).collect();
    let how = if on_path("apt-get").is_some() {
        format!("type this, then try again:\n\n    {}\n", typed(missing))
    } else {
        "install them with this system's package manager, then try again".to_owned()
    };
    Failure::error(EXIT_MISSING, format!("missing on this machine: {}; {how}", names.join(", ")))
}

fn typed(missing: &BTreeSet<Missing>) -> String {
    let packages: BTreeSet<_> = missing.iter().map(|missing| missing.packages[0]).collect();
    let packages: Vec<_> = packages.into_iter().collect();
    format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

/// An apt-get that may be used without asking anybody.
#[derive(Debug)]
struct Apt {
    by_sudo: bool,
}

impl Apt {
    fn find() -> Option<Self> {
        on_path("apt-get")?;
        if rustix::process::geteuid().is_root() {
            return Some(Self { by_sudo: false });
        }
        on_path("sudo")?;
        shell::output(Command::new("sudo").args(["-n", "true"])).map(|_| Self { by_sudo: true })
    }

    fn install(&self, missing: &BTreeSet<Missing>) -> Result<()> {
        self.get(&["update"])?;
        let packages: BTreeSet<_> = missing.iter().map(|missing| available(missing.packages)).collect();
        let mut words = vec!["install", "-y", "--no-install-recommends"];
        words.extend(packages);
        self.get(&words)
    }

    /// In the foreground of the terminal, with its output shown: sudo wants it so.
    fn get(&self, words: &[&str]) -> Result<()> {
        shell::check_interrupt()?;
        let mut command = Command::new(if self.by_sudo { "sudo" } else { "env" });
        if self.by_sudo {
            command.args(["-n", "env"]);
        }
        command.arg("DEBIAN_FRONTEND=noninteractive").arg("apt-get").args(words).stdin(Stdio::null());
        shell::step(shell::shown(&command));
        let status = command.status().context("starting apt-get")?;
        shell::check_interrupt()?;
        shell::expect_success(&command, status)
    }
}

/// The first of `packages` that this distribution has.
fn available(packages: &'static [&'static str]) -> &'static str {
    let has = |package: &&&str| {
        Path::new("/var/lib/apt/lists").is_dir()
            && shell::output(Command::new("apt-cache").args(["policy", package]))
                .is_some_and(|text| candidate(&text).is_some())
    };
    packages.iter().find(has).copied().unwrap_or(packages[0])
}

/// The version that could be installed, in what `apt-cache policy PACKAGE` prints.
fn candidate(policy: &str) -> Option<&str> {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .map(str::trim)
        .find(|version| *version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions() {
        let check = |text: &str, expected| assert_eq!(java_major(text), expected, "{text}");
        check("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime …", Some(17));
        check("java version \"1.8.0_402\"", Some(8));
        check("openjdk version \"21\" 2023-09-19", Some(21));
        check("openjdk version \"25-ea\" 2025-09-16", Some(25));
        check("bash: java: command not found", None);
    }

    #[test]
    fn candidates() {
        let check = |text: &str, expected| assert_eq!(candidate(text), expected, "{text}");
        check("maven:\n  Installed: (none)\n  Candidate: 3.8.7-1\n", Some("3.8.7-1"));
        check("gone:\n  Installed: (none)\n  Candidate: (none)\n", None);
        check("", None);
    }

    #[test]
    fn one_package_for_several_tools() {
        let missing = BTreeSet::from([
            Missing { tool: "gcc", packages: &["build-essential"] },
            Missing { tool: "java (17 or newer)", packages: &JAVA_PACKAGES },
            Missing { tool: "make", packages: &["build-essential"] },
        ]);
        assert_eq!(
            typed(&missing),
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends \
             build-essential openjdk-17-jre-headless"
        );
    }
}
