//! Node: the one that is there, or the distribution's, if either is new enough.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::setup;
use crate::shell::{self, step};

type Version = (u32, u32);

/// What Vite needs. The TypeScript client would do with less.
const MIN: Version = (20, 19);

/// What is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    node: Option<Version>,
    has_npm: bool,
}

/// Looks for a Node that will do, and for npm.
///
/// # Errors
/// What is missing.
pub fn look() -> Result<(), String> {
    lacks(found())
}

/// As [`look`], but installs the distribution's where it may and where that is new enough.
///
/// # Errors
/// What is missing, and why it was not installed.
pub fn ensure() -> Result<(), String> {
    let found = found();
    let Err(why) = lacks(found) else { return Ok(()) };
    step(&why);
    let installed = if found.node.is_some_and(|version| version >= MIN) {
        setup::from_distribution(&["npm"], |_| true)
    } else {
        setup::from_distribution(&["nodejs", "npm"], |version| {
            of_package(version).is_some_and(|it| it >= MIN)
        })
    };
    installed.map_err(|not| format!("{why}; {not}"))?;
    look()
}

/// Fetches what the lock file of `dir`, a folder of the repository, lists, unless just that is there.
pub fn install(dir: &str) -> Result<()> {
    let path = shell::root().join(dir);
    let wanted = fs::read_to_string(path.join("package-lock.json"))
        .with_context(|| format!("reading {dir}/package-lock.json"))?;
    // npm empties the folder before it fills it, so a half-filled one is without the mark.
    let mark = path.join("node_modules/.package-lock-done");
    let is_there = || fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted);
    if is_there() {
        return Ok(());
    }
    let lock = shell::target_dir().join("tools/npm.lock");
    let _lock = Lock::take(&lock, "another command is installing packages of npm")?;
    if is_there() {
        return Ok(());
    }
    step(format_args!("fetching what {dir}/package-lock.json lists (once)"));
    // Nothing of what a package brings is run.
    shell::run(npm(dir).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]))?;
    fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))
}

/// npm in a folder of the repository.
pub fn npm(dir: &str) -> Command {
    let mut command = Command::new("npm");
    command.current_dir(shell::root().join(dir));
    command
}

/// Chromium: the one that `CHROMIUM` names, or the distribution's.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from).filter(|path| path.is_file());
    named.or_else(|| ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(setup::on_path))
}

fn found() -> Found {
    let says = |program: &str| shell::output(Command::new(program).arg("--version"));
    Found { node: says("node").as_deref().and_then(of_node), has_npm: says("npm").is_some() }
}

fn lacks(found: Found) -> Result<(), String> {
    let wanted = format!("Node {}.{} or later with npm", MIN.0, MIN.1);
    match found {
        Found { node: None, .. } => Err(format!("{wanted} is missing")),
        Found { node: Some(version @ (major, minor)), .. } if version < MIN => {
            Err(format!("{wanted} is needed, and this is {major}.{minor}"))
        }
        Found { has_npm: false, .. } => Err(format!("{wanted} is needed, and npm is missing")),
        Found { .. } => Ok(()),
    }
}

/// Of `v20.19.2`.
fn of_node(text: &str) -> Option<Version> {
    numbers(text.trim().strip_prefix('v')?)
}

/// Of `18.20.4+dfsg-1~deb12u3`, or with an epoch before it, `1:18.20`.
fn of_package(text: &str) -> Option<Version> {
    numbers(text.split_once(':').map_or(text, |(_, version)| version))
}

fn numbers(text: &str) -> Option<Version> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(of_node("v20.19.2\n"), Some((20, 19)));
        assert_eq!(of_node("node"), None);
        assert_eq!(of_package("18.20.4+dfsg-1~deb12u3"), Some((18, 20)));
        assert_eq!(of_package("1:20.19~rc1"), Some((20, 19)));
        assert_eq!(of_package("next"), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |node, has_npm, end: &str| {
            let said = lacks(Found { node, has_npm }).err().unwrap_or_default();
            assert!(said.ends_with(end) && said.is_empty() == end.is_empty(), "{said}");
        };
        check(None, true, "is missing");
        check(Some((18, 20)), true, "and this is 18.20");
        check(Some((20, 18)), false, "and this is 20.18");
        check(Some((20, 19)), false, "and npm is missing");
        check(Some((22, 0)), true, "");
    }
}
