//! How many events a second the clients decode and check, in one table.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::node;
use crate::sdk;
use crate::setup::{self, Need};
use crate::shell::{self, EXIT_MISSING, Failure, step};

const RUST: &str = "clients/rust";

/// Measures how many events a second each client takes on one core: decoded, and held to the client's rule as a session does.
///
/// Runs the benchmark of each client (clients/python/benches/decode.py, `npm run bench` of clients/typescript, `decode` of
/// clients/rust in release mode) and puts what they print into one table. Each has batches of its own, of the same shape: a frame is
/// a JSON array of so many events. Figures are medians of several runs, of processor time, Rust's of the time that passed; other
/// programs on the machine change them. A client whose language is not on this machine is left out, and named.
#[derive(Debug, clap::Parser)]
#[command(
    max_term_width = 100,
    after_help = "Examples:\n  cargo xtask bench clients\n  cargo xtask bench clients python rust"
)]
pub struct Args {
    /// Only these
    #[arg(value_name = "CLIENT")]
    clients: Vec<Client>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    Python,
    Typescript,
    Rust,
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    client: &'static str,
    what: String,
    events_per_s: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    let mut left_out = Vec::new();
    for client in [Client::Python, Client::Typescript, Client::Rust] {
        if !args.clients.is_empty() && !args.clients.contains(&client) {
            continue;
        }
        step(client.name());
        let measured = match client.command() {
            Ok(Ok(command)) => client.measure(command),
            Ok(Err(why)) => {
                left_out.push(format!("{} ({why})", client.name()));
                continue;
            }
            Err(error) => Err(error),
        };
        if shell::check_interrupt().is_err() {
            break;
        }
        match measured {
            Ok(more) => rows.extend(more),
            Err(error) => wrong.push(format!("{}: {error:#}", client.name())),
        }
    }
    print!("\n{}", table(&rows));
    shell::check_interrupt()?;
    if !left_out.is_empty() {
        step(format_args!("LEFT OUT: {}", left_out.join(", ")));
    }
    if !wrong.is_empty() {
        return Err(Failure::error(1, wrong.join("\n")));
    }
    if rows.is_empty() {
        return Err(Failure::error(EXIT_MISSING, "no client can be measured here"));
    }
    Ok(())
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Typescript => "typescript",
            Self::Rust => "rust",
        }
    }

    /// Its benchmark, ready to be run, or why there is none on this machine.
    fn command(self) -> Result<Result<Command, String>> {
        Ok(match self {
            Self::Python => match sdk::python(false) {
                Ok(()) => {
                    let mut command = sdk::in_environment("python")?;
                    command.arg("benches/decode.py");
                    Ok(command)
                }
                Err(why) => Err(why),
            },
            Self::Typescript => match node::ensure() {
                Ok(()) => {
                    node::install(sdk::TYPESCRIPT)?;
                    let mut command = node::npm(sdk::TYPESCRIPT);
                    command.args(["run", "--silent", "bench"]);
                    Ok(command)
                }
                Err(why) => Err(why),
            },
            Self::Rust => {
                setup::ensure(&[Need::Build])?;
                Ok(rust()?)
            }
        })
    }

    fn measure(self, mut command: Command) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut add = |line: &str| {
            let found = match self {
                Self::Python => python_rows(line),
                Self::Typescript => typescript_row(line).into_iter().collect(),
                Self::Rust => rust_row(line).into_iter().collect(),
            };
            let client = self.name();
            rows.extend(found.into_iter().map(|(what, events_per_s)| Row { client, what, events_per_s }));
        };
        let status = shell::tee(&mut command, &mut add)?;
        shell::expect_success(&command, status)?;
        if rows.is_empty() {
            return Err(Failure::error(1, "its benchmark printed no figure that this can read"));
        }
        Ok(rows)
    }
}

/// The Rust client's, wherever it is.
fn rust() -> Result<Command> {
    let mut command = shell::cargo();
    let has = |path: &str| shell::root().join(RUST).join(path).is_file();
    if has("examples/decode.rs") {
        command.args(["run", "--release", "--package", "tickgate-client", "--example", "decode"]);
    } else if has("benches/decode.rs") {
        command.args(["bench", "--package", "tickgate-client", "--bench", "decode"]);
    } else {
        return Err(Failure::error(1, format!("{RUST} has neither an example nor a benchmark `decode`")));
    }
    Ok(command)
}

/// Reads `100  float  2,404,475  772,489`: trades a frame, how prices are given, decoded, and checked as well.
fn python_rows(line: &str) -> Vec<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [batch, prices, decoded, checked] = words[..] else { return Vec::new() };
    let (Some(batch), Some(decoded), Some(checked)) = (number(batch), number(decoded), number(checked))
    else {
        return Vec::new();
    };
    let row = |what: &str, rate| (format!("trade, {batch} a frame, {prices}: {what}"), rate);
    vec![row("decoded", decoded), row("checked too", checked)]
}

/// Reads `trade, 50 a frame: read and checked   661 k events/s (643 to 677)`.
fn typescript_row(line: &str) -> Option<(String, u64)> {
    let (before, _) = line.split_once(" k events/s")?;
    let (what, thousands) = before.trim_end().rsplit_once(char::is_whitespace)?;
    Some((what.trim().to_owned(), number(thousands)? * 1_000))
}

/// Reads `100  200000  1904475  1890001 to 1910000`: trades a frame, in all, decoded and checked a second, and the range of that.
fn rust_row(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [batch, _, rate, _, "to", _] = words[..] else { return None };
    Some((format!("trade, {} a frame: checked too", number(batch)?), number(rate)?))
}

/// Of `2,404,475`, or of `2404475.1`.
fn number(text: &str) -> Option<u64> {
    let whole = text.split('.').next()?.replace([',', '_'], "");
    whole.parse().ok()
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default().max(4);
    let mut text = format!("{:<11} {:<width$} {:>12}\n", "client", "what", "events/s");
    for Row { client, what, events_per_s } in rows {
        let _ = writeln!(text, "{client:<11} {what:<width$} {:>12}", grouped(*events_per_s));
    }
    text
}

/// `2404475` as `2,404,475`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_prints_is_read() {
        let python = python_rows("           100     float    2,404,475                772,489");
        let expected = [
            ("trade, 100 a frame, float: decoded".to_owned(), 2_404_475),
            ("trade, 100 a frame, float: checked too".to_owned(), 772_489),
        ];
        assert_eq!(python, expected);
        assert!(
            python_rows("trades a frame    prices    decoded/s decoded and checked/s").is_empty()
                && python_rows("a b c d").is_empty()
        );
        let typescript = "trade, 1 a frame: read and checked         661 k events/s (643 to 677)";
        let expected = ("trade, 1 a frame: read and checked".to_owned(), 661_000);
        assert_eq!(typescript_row(typescript), Some(expected));
        assert_eq!(typescript_row("> tickgate@0.1.0 bench"), None);
        let rust = "           100     200000        1904475          1890001 to 1910000";
        assert_eq!(rust_row(rust), Some(("trade, 100 a frame: checked too".to_owned(), 1_904_475)));
        assert_eq!(rust_row("trades a frame     events       trades/s                 of all runs"), None);
    }

    #[test]
    fn the_table_lines_up() {
        let row = |client, what: &str, events_per_s| Row { client, what: what.to_owned(), events_per_s };
        let text = table(&[row("python", "decoded", 2_404_475), row("rust", "all", 999)]);
        let lines = [
            "client      what        events/s",
            "python      decoded    2,404,475",
            "rust        all              999",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
