//! The gateway with a wall clock that can be set, which no process can have otherwise: this program, started again as
//! one, with a file that says how far its clock is off. Nobody has to be root, and nobody else's clock moves.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tickgate_gateway::cli::{Cli, Command as Asked};
use tickgate_gateway::{clock, server};
use tokio::signal::unix::{SignalKind, signal};

/// Names the file, in the environment of the process that is such a gateway. It holds nanoseconds.
pub const CLOCK_FILE: &str = "FAULTS_GATEWAY_CLOCK";
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What starts one, to be followed by the arguments of `tickgate`.
pub fn command(file: &Path) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "tickgate-faults".into());
    let mut command = Command::new(program);
    command.env(CLOCK_FILE, file);
    command
}

/// Sets the clock of the gateway that was started with this file.
pub fn set(file: &Path, ahead_ns: i64) -> Result<()> {
    // Renamed into its place, so that half a number is never read.
    let whole = file.with_extension("new");
    std::fs::write(&whole, ahead_ns.to_string()).context("setting the clock")?;
    std::fs::rename(&whole, file).context("setting the clock")
}

/// Is such a gateway.
pub fn main(file: &Path) -> ExitCode {
    match serve(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &Path) -> Result<()> {
    let cli = Cli::read(std::env::args_os()).map_err(|(text, _)| anyhow::anyhow!("{text}"))?;
    let Asked::Run(args) = cli.command else { anyhow::bail!("only `run`") };
    let config = args.load().map_err(|errors| anyhow::anyhow!("{errors}"))?.config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let bound = server::bind(config)?;
        let (listen, admin) = (bound.listen_addr(), bound.admin_addr());
        let running = bound.start()?;
        // As the real one says it.
        eprintln!("clients: ws://{listen}/v1/stream   admin: http://{admin}/");
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = look.tick() => {
                    let ahead = std::fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
                    clock::shift_wall(ahead.unwrap_or(0));
                }
            }
        }
        tokio::task::spawn_blocking(move || running.stop()).await??;
        Ok(())
    })
}
