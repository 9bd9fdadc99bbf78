//! Building the product and handing the terminal over to it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::page;
use crate::setup::{self, Need};
use crate::shell;

/// Builds in release mode and runs the demo: broker, simulator, gateway and clients in one process.
///
/// Arguments go to `tickgate demo`, for example `cargo xtask demo --symbols 500 --rate 5000 --for 30s`. Ctrl-C ends all
/// of it; the exit code is the demo's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments of `tickgate demo`; `cargo xtask demo -- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Builds the gateway as a user would and becomes it: from then on signals and exit code are the demo's own.
pub fn run(args: Args) -> Result<()> {
    setup::ensure(&[Need::Build])?;
    page::build_where_possible()?;
    shell::step(
        "building the gateway in release mode (the first time takes some minutes, librdkafka included)",
    );
    // The second is what the demo offers for a closer look.
    let packages = ["tickgate-gateway", "tickgate-load"].into_iter().flat_map(|name| ["--package", name]);
    shell::run(shell::cargo().args(["build", "--release", "--bins"]).args(packages))?;
    let program = shell::target_dir().join("release/tickgate");
    let error = Command::new(&program).arg("demo").args(args.args).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
