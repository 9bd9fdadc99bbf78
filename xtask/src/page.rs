//! The live page: built by Node, from where the next build of the gateway takes it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, EXIT_MISSING, Failure, step};

const DIR: &str = "dashboards/web";
/// What Vite needs.
const NODE_MIN: (u32, u32) = (20, 19);

/// Builds the live page into dashboards/web/dist, from where the next build of the gateway takes it.
///
/// Needs Node 20.19 or later, with npm, which fetches what dashboards/web/package-lock.json lists. A gateway that is built without it
/// has no page, and everything else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Try it in Chromium as well, against gateways: needs the programs, `cargo build --bins`
    #[arg(long)]
    test: bool,
}

pub fn run(args: Args) -> Result<()> {
    if let Err(why) = node() {
        return Err(Failure::error(EXIT_MISSING, format!("{why}; https://nodejs.org has it")));
    }
    install()?;
    if !args.test {
        return npm(&["run", "--silent", "build"]);
    }
    npm(&["test", "--silent"])
}

/// Builds it unless it is there, or says why there is none.
pub fn build_where_possible() -> Result<()> {
    if dir().join("dist/index.html").exists() {
        return Ok(());
    }
    if let Err(why) = node() {
        step(format_args!("the gateway is built without its live page: {why}"));
        return Ok(());
    }
    step("building the live page (once; `cargo xtask page` builds it again)");
    install()?;
    npm(&["run", "--silent", "build"])
}

fn dir() -> PathBuf {
    shell::root().join(DIR)
}

fn install() -> Result<()> {
    npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
}

fn npm(words: &[&str]) -> Result<()> {
    let mut command = Command::new("npm");
    command.args(words).current_dir(dir()).env("TICKGATE_BIN_DIR", shell::target_dir().join("debug"));
    shell::run(&mut command)
}

/// # Errors
/// Why there is no Node that will do.
fn node() -> Result<(), String> {
    let says = |program: &str| shell::output(Command::new(program).arg("--version"));
    let wanted = format!("Node {}.{} or later with npm", NODE_MIN.0, NODE_MIN.1);
    match says("node").as_deref().and_then(version) {
        Some(found) if found >= NODE_MIN && says("npm").is_some() => Ok(()),
        Some((major, minor)) if (major, minor) < NODE_MIN => {
            Err(format!("{wanted} is needed, and this is {major}.{minor}"))
        }
        _ => Err(format!("{wanted} is missing")),
    }
}

/// Of `v20.19.2`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        assert_eq!(version("v20.19.2\n"), Some((20, 19)));
        assert!(version("v18.20.4").is_some_and(|found| found < NODE_MIN));
        assert_eq!(version("node"), None);
    }
}
