//! `tickgate-faults`: the fault matrix. Rows are run one after the other, each in a world of its own.

mod attack;
mod certificate;
mod client;
mod clocked;
mod gateway;
mod issuer;
mod kafka;
mod load;
mod memory_group;
mod mock;
mod namespace;
mod raw;
mod relay;
mod report;
mod rows;
mod world;

use anyhow::{Context, Result};
use clap::Parser;
use futures_util::StreamExt;
use kafka::Control;
use report::{Outcome, Report, Skipped};
use rows::{Form, ROWS, Row};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use world::Run;

/// The command line makes no sense (`EX_USAGE` of sysexits).
const EXIT_USAGE: u8 = 64;
/// Ended by Ctrl-C or SIGTERM.
const EXIT_INTERRUPTED: u8 = 130;

const MANUAL: &str = "\
Each row starts a Kafka, a gateway and clients of its own, puts them under load, strikes, and ends with counts: every \
tick that a client should have had is held against what really stood in Kafka. A row fails when a tick was lost \
without a word, came twice, came out of order or said something else than its record; when a connection ended that \
should not; or when a bound of counts or bytes was broken. Times are shown and decide nothing.

Names are those of the matrix: R24 runs R24a, R24b and R24c. Ctrl-C stops everything that was started.

Exit status: 0 every row passed, 1 one failed, 64 wrong command line, 130 interrupted.

Examples:
  tickgate-faults
  tickgate-faults R9 R24
  tickgate-faults --full --out faults.md";

/// Tries everything that can go wrong around a gateway, under load, with clients that check every tick.
#[derive(Debug, Parser)]
#[command(version, after_help = MANUAL, max_term_width = 110)]
struct Cli {
    /// Rows to run, as R9; those of the short form unless given
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Every row, for as long as the matrix says
    #[arg(long)]
    full: bool,
    /// Name the rows and do nothing
    #[arg(long)]
    list: bool,
    /// Write the results to this file too: Markdown, or JSON if its name ends in .json; may be repeated
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// The gateway's program; the one beside this one unless given
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// An Apache Kafka for the rows that need no fault of the broker; the embedded broker unless given
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// The program that kills and starts nodes of that Kafka, as `cargo xtask` does: it is given `kafka kill N` and `kafka start N …`
    #[arg(long, value_name = "FILE", requires = "kafka")]
    control: Option<PathBuf>,
    /// Rows that run at the same time; 2 unless given, and 1 with --full, as times say less beside another row
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=16))]
    at_once: Option<u8>,
    /// Seed of everything that is left to chance
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(clocked::CLOCK_FILE) {
        return clocked::main(Path::new(&file));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when not even the message can be written.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if cli.list {
        for row in ROWS {
            println!("{:<5} {}{}", row.id, row.fault, not_always(row.form));
        }
        return ExitCode::SUCCESS;
    }
    let rows = match chosen(&cli.rows, cli.full) {
        Ok(rows) => rows,
        Err(unknown) => {
            eprintln!("tickgate-faults: there is no row {unknown}: --list names them");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(&cli, &rows) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tickgate-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn not_always(form: Form) -> &'static str {
    match form {
        Form::Short => "",
        Form::Full => " (only with --full)",
        Form::Cluster => " (only with --full, and three nodes of Apache Kafka)",
    }
}

/// The rows of these names, in the order of the matrix.
fn chosen(names: &[String], is_full: bool) -> Result<Vec<Row>, String> {
    let is_it = |row: &Row, name: &str| {
        let rest = row.id.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name));
        rest.is_some_and(|_| row.id[name.len()..].chars().all(|c| c.is_ascii_lowercase()))
    };
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|row| is_it(row, name))) {
        return Err(unknown.clone());
    }
    let is_chosen = |row: &&Row| {
        if names.is_empty() {
            is_full || row.form == Form::Short
        } else {
            names.iter().any(|name| is_it(row, name))
        }
    };
    Ok(ROWS.iter().filter(is_chosen).copied().collect())
}

fn run(cli: &Cli, rows: &[Row]) -> Result<ExitCode> {
    let program = match &cli.gateway {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("tickgate"),
    };
    anyhow::ensure!(
        program.is_file(),
        "there is no gateway at {}: build it, or name it with --gateway",
        program.display()
    );
    raise_open_files();
    let control = cli.control.clone().map(Control);
    let context = Run { program, apache: cli.kafka.clone(), control, is_full: cli.full, seed: cli.seed };
    let is_possible = |row: &&Row| row.form != Form::Cluster || context.control.is_some();
    let mut rows: Vec<Row> = rows.iter().filter(is_possible).copied().collect();
    rows.sort_by_key(|row| ALONE.contains(&row.id));
    let beside = rows.iter().filter(|row| !ALONE.contains(&row.id)).count();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let finished = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let at_once = cli.at_once.unwrap_or(if cli.full { 1 } else { 2 });
        let mut each = rows.iter().enumerate().map(|(at, row)| {
            let title = format!("==> {} of {}: {} {}", at + 1, rows.len(), row.id, row.fault);
            let context = &context;
            async move {
                eprintln!("{title}");
                let outcome = one(context, row).await;
                print!("{}", outcome.lines());
                outcome
            }
        });
        let beside: Vec<_> = each.by_ref().take(beside).collect();
        let beside = futures_util::stream::iter(beside).buffered(usize::from(at_once));
        let all = beside.chain(futures_util::stream::iter(each).buffered(1)).collect();
        tokio::select! {
            outcomes = all => anyhow::Ok(Some(outcomes)),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })?;
    let Some(outcomes) = finished else {
        eprintln!("tickgate-faults: interrupted");
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    };
    let report = report(cli, outcomes);
    for file in &cli.out {
        write(file, &report).with_context(|| format!("writing {}", file.display()))?;
    }
    let failed = report.failed();
    if failed.is_empty() {
        println!("{} rows passed", report.rows.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} rows passed, failed: {}", report.rows.len() - failed.len(), failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Rows that run behind all others: a gateway that starts meanwhile would inherit the connections of a mock in this process,
/// and keep them open when the mock closes them.
const ALONE: [&str; 1] = ["R3a"];

/// As many files as the system allows: every client is one, and every gateway inherits the limit.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // A lower limit shows where it does not do, in the row that needs more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

async fn one(context: &Run, row: &Row) -> Outcome {
    let mut outcome = Outcome::new(row.id, row.fault);
    let started = Instant::now();
    if let Err(error) = (row.run)(context, &mut outcome).await {
        outcome.failures.push(format!("{error:#}"));
    }
    outcome.took_s = started.elapsed().as_secs_f64();
    outcome
}

fn report(cli: &Cli, rows: Vec<Outcome>) -> Report {
    let not_run = |row: &&Row| !rows.iter().any(|outcome| outcome.row == row.id);
    let reason = |row: &Row| match row.form {
        Form::Cluster if cli.control.is_none() => {
            "needs three nodes of Apache Kafka: `cargo xtask faults --full`"
        }
        _ if cli.rows.is_empty() => "only with --full",
        _ => "not asked for",
    };
    let skip = |row: &'static str, fault: &'static str, reason: &str| Skipped {
        row,
        fault,
        reason: reason.to_owned(),
    };
    let mut skipped: Vec<Skipped> =
        ROWS.iter().filter(not_run).map(|row| skip(row.id, row.fault, reason(row))).collect();
    let (impossible, rows): (Vec<Outcome>, Vec<Outcome>) =
        rows.into_iter().partition(|outcome| outcome.not_run.is_some());
    skipped.extend(
        impossible
            .iter()
            .map(|outcome| skip(outcome.row, outcome.fault, outcome.not_run.as_deref().unwrap_or_default())),
    );
    let kafka = match &cli.kafka {
        Some(_) => "Apache Kafka, and the embedded broker where it has to fail",
        None => "the embedded broker",
    };
    Report { kafka: kafka.to_owned(), seed: cli.seed, rows, skipped }
}

fn write(file: &Path, report: &Report) -> Result<()> {
    let text = match file.extension() {
        Some(extension) if extension == "json" => serde_json::to_string_pretty(report)? + "\n",
        _ => report.markdown(),
    };
    Ok(std::fs::write(file, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    fn ids(names: &[&str], is_full: bool) -> Result<Vec<&'static str>, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Ok(chosen(&names, is_full)?.iter().map(|row| row.id).collect())
    }

    #[test]
    fn rows_are_chosen_by_name() {
        assert_eq!(ids(&["R24", "r9"], false).unwrap(), ["R9", "R24a", "R24b", "R24c"]);
        assert_eq!(ids(&["R1"], false).unwrap(), ["R1a", "R1b", "R1c"], "and not R10 to R19");
        assert_eq!(ids(&["R14b"], true).unwrap(), ["R14b"]);
        assert_eq!(ids(&["R9", "R99"], false), Err("R99".to_owned()));
        assert_eq!(ids(&[], true).unwrap().len(), ROWS.len());
        assert!(ids(&[], false).unwrap().len() < ROWS.len());
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
