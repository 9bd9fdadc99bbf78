//! The fault matrix: builds the real program and what strikes at it, and runs that.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kafka;
use crate::setup::{self, Need};
use crate::shell;

/// Tries everything that can go wrong around a gateway: brokers, records, topics, clients, lines, clocks, the process.
///
/// Each row runs the real program under load, with clients that check every tick against what stood in Kafka, and fails
/// on a count or a number of bytes, never on a time. Without a name, the short form of every row that has one; a name
/// stands for all of its parts, for example `cargo xtask faults R9 R24`.
///
/// With --full, every row, for as long as the matrix says, against an Apache Kafka of three nodes: one that is up already
/// (`cargo xtask kafka up --nodes 3`), or one for the time of the run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name the rows and do nothing
    #[arg(long)]
    list: bool,

    /// Build in release mode: what bytes and times are worth showing for
    #[arg(long)]
    release: bool,

    /// Every row, and Apache Kafka
    #[arg(long)]
    full: bool,

    /// Names of rows, --out FILE, and other arguments of the matrix; `cargo xtask faults -- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Rows as the matrix lists them. It does so itself, but who asks for names should not wait for a build.
macro_rules! rows {
    ($($id:literal $form:ident $fault:literal => $run:path,)*) => {
        &[$(($id, stringify!($form), $fault),)*]
    };
}

const ROWS: &[(&str, &str, &str)] = include!("../../faults/src/rows/table.rs");

fn list() -> String {
    let line = |(id, form, fault): &(&str, &str, &str)| {
        let when = match *form {
            "Short" => "",
            "Cluster" => " (only with --full, and three nodes of Apache Kafka)",
            _ => " (only with --full)",
        };
        format!("{id:<5} {fault}{when}\n")
    };
    ROWS.iter().map(line).collect()
}

pub fn run(mut args: Args) -> Result<()> {
    if args.list || args.args.iter().any(|arg| arg == "--list") {
        // Who reads it may have had enough.
        let _ = std::io::stdout().write_all(list().as_bytes());
        return Ok(());
    }
    // Behind the name of a row it is among what is passed on.
    let given = args.args.len();
    args.args.retain(|arg| arg != "--full");
    let is_full = args.full || args.args.len() < given;
    let mut needs = vec![Need::Build];
    if is_full {
        needs.extend([Need::Java, Need::Maven]);
    }
    setup::ensure(&needs)?;
    if is_full
        && rustix::process::geteuid().is_root()
        && let Err(error) = setup::ensure(&[Need::Packets])
    {
        shell::step(format_args!("rows that lose packets will not be run: {error:#}"));
    }
    let profile = if args.release { "release" } else { "debug" };
    shell::step(format_args!(
        "building the gateway and the matrix ({profile}; the first time takes some minutes, librdkafka included)"
    ));
    let mut build = shell::cargo();
    build.args(["build", "--bins", "--package", "tickgate-gateway", "--package", "tickgate-faults"]);
    if args.release {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    if !is_full {
        return matrix(profile, &args.args);
    }
    let control = std::env::current_exe().context("where this program is")?;
    kafka::with_cluster(|bootstrap| {
        let more = ["--full", "--kafka", bootstrap, "--control"].map(str::to_owned);
        let control = control.display().to_string();
        matrix(profile, &[&more[..], &[control], &args.args].concat())
    })
}

/// The short form with what was built already, for continuous integration.
pub fn short() -> Result<()> {
    matrix("debug", &[])
}

fn matrix(profile: &str, args: &[String]) -> Result<()> {
    let program = shell::target_dir().join(profile).join("tickgate-faults");
    shell::run(Command::new(program).args(args).current_dir(shell::root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_matrix() {
        let list = list();
        assert_eq!(list.lines().count(), ROWS.len());
        for line in [
            "R9    malformed records: 1 in 100, then all of them",
            "R1b   one of three nodes killed and started again (only with --full, and three nodes of Apache Kafka)",
            "R21b  the same load for a long time (only with --full)",
        ] {
            assert!(list.lines().any(|listed| listed == line), "{line}");
        }
        assert!(ROWS.iter().all(|(_, form, _)| ["Short", "Full", "Cluster"].contains(form)));
    }
}
