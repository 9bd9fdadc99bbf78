//! `cargo xtask`: the one entry point of the repository.
//!
//! A person on a fresh machine types `cargo xtask demo` or `cargo xtask test` and nothing before it. What is missing
//! is installed by the command that needs it ([`setup`]), what takes long says how it is going ([`shell`]), and what
//! was started is stopped ([`kafka`]). Continuous integration types `cargo xtask ci`: there is no second way.
//!
//! The crate is compiled before anything is set up, so it depends on next to nothing and on no crate of the workspace.

mod check;
mod ci;
mod demo;
mod kafka;
mod lock;
mod setup;
mod shell;
mod suite;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and checks Tickgate.
///
/// Every command sets up what it needs first: system packages by apt where it may (as root, or by `sudo` without a
/// password), and otherwise it says exactly what to type.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = concat!(
    "Exit codes: 0 all well; 1 something failed, and the last lines say what; 2 bad usage; 69 a tool is missing that ",
    "could not be installed; 130 or 143 interrupted, after everything that was started has been stopped."
);

// The text of each is at its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Demo(demo::DemoArgs),
    Test(suite::Args),
    Check(check::Args),
    Kafka(kafka::Args),
    Bench(demo::BenchArgs),
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = shell::watch_signals().and_then(|()| match cli.command {
        Command::Setup(args) => setup::run(args),
        Command::Demo(args) => demo::demo(args),
        Command::Test(args) => suite::run(args),
        Command::Check(args) => check::run(args),
        Command::Kafka(args) => kafka::run(args),
        Command::Bench(args) => demo::bench(args),
        Command::Ci(args) => ci::run(args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(shell::exit_code(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
