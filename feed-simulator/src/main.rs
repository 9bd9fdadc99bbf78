//! `tickgate-sim`: the command line. What it does is in the library; `--help` is the manual.

mod args;
mod commands;

use args::{Args, Command};
use clap::Parser;
use clap::error::ErrorKind;
use std::io::IsTerminal;
use std::process::ExitCode;

/// sysexits.h: the command was used incorrectly.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed pipe is nobody's fault.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { EXIT_USAGE });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log).unwrap_or_default();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    let done = match args.command {
        Command::Run(run) => commands::run(&run),
        Command::Replay(replay) => commands::replay(&replay),
        Command::Stats(stats) => commands::stats(&stats),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("tickgate-sim: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
