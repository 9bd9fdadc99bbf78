//! `cargo xtask`: the one entry point of the repository.
//!
//! A person on a fresh machine types `cargo xtask demo` or `cargo xtask test` and nothing before it. What is missing
//! is installed by the command that needs it ([`setup`]), what takes long says how it is going ([`shell`]), and what
//! was started is stopped ([`kafka`], [`cluster`]). Continuous integration types `cargo xtask ci`: there is no second way.
//!
//! The crate is compiled before anything is set up, so it depends on next to nothing and on no crate of the workspace.

mod alerts;
mod background;
mod bench;
mod beside;
mod check;
mod ci;
mod clients;
mod cluster;
mod conformance;
mod dashboards;
mod demo;
mod deploy;
mod drill;
mod faults;
mod fuzz;
mod http;
mod kafka;
mod lock;
mod node;
mod observe;
mod page;
mod sdk;
mod setup;
mod shell;
mod suite;
mod tidy;
mod venv;

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

/// The command line makes no sense (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;

const EXIT_CODES: &str = concat!(
    "Exit codes: 0 all well; 1 something failed, and the last lines say what; 64 bad usage; 69 a tool is missing that ",
    "could not be installed; 130 or 143 interrupted, after everything that was started has been stopped."
);

// The text of each is at its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Demo(demo::Args),
    Observe(observe::Args),
    Page(page::Args),
    Test(suite::Args),
    Check(check::Args),
    Kafka(kafka::Args),
    Clients(clients::Args),
    Sdk(sdk::Args),
    Cluster(cluster::Args),
    Bench(bench::Args),
    Faults(faults::Args),
    Fuzz(fuzz::Args),
    Conformance(conformance::Args),
    Dashboards(dashboards::Args),
    Drill(drill::Args),
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing to be done when even this cannot be written.
            let _ = error.print();
            return usage(&error);
        }
    };
    let result = shell::watch_signals().and_then(|()| match cli.command {
        Command::Setup(args) => setup::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Observe(args) => observe::run(args),
        Command::Page(args) => page::run(args),
        Command::Test(args) => suite::run(args),
        Command::Check(args) => check::run(args),
        Command::Kafka(args) => kafka::run(args),
        Command::Clients(args) => clients::run(args),
        Command::Sdk(args) => sdk::run(args),
        Command::Cluster(args) => cluster::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Faults(args) => faults::run(args),
        Command::Fuzz(args) => fuzz::run(args),
        Command::Conformance(args) => conformance::run(args),
        Command::Dashboards(args) => dashboards::run(args),
        Command::Drill(args) => drill::run(args),
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

/// The exit code for a command line that was not run: 0 when it asked for help.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Whether these are words for a command.
#[cfg(test)]
fn understands(words: &[&str]) -> bool {
    Cli::try_parse_from([&["xtask"], words].concat()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn bad_usage_is_64_and_help_is_0() {
        let code = |args: &[&str]| usage(&Cli::try_parse_from([&["xtask"], args].concat()).unwrap_err());
        for bad in [&[][..], &["fly"], &["kafka", "sideways"], &["test", "--no-such-flag"]] {
            assert_eq!(code(bad), ExitCode::from(64), "{bad:?}");
        }
        assert_eq!(code(&["--help"]), ExitCode::SUCCESS);
        assert!(EXIT_CODES.contains("64 bad usage"));
    }

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
