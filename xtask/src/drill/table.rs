//! The table in the runbook: faults, what moved, which alert came. Rows are the code's, figures are measured.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::dashboards::board::{self, Board};
use crate::shell::{self, Failure, step};

use super::cases::{DRILLS, Drill, Panel, Unit};
use super::ground::write as write_file;
use super::judge::Verdict;

const RUNBOOK: &str = "docs/runbook.md";
const BEGIN: &str = "<!-- drills: written by `cargo xtask drill --write` -->\n";
const END: &str = "<!-- end of drills -->\n";
const HEAD: &str = "| fault | what moves, and after how long | alert |\n|---|---|---|\n";

/// Writes what was measured; rows of drills that were not held stay.
pub fn write(measured: &[(&Drill, &Verdict)]) -> Result<()> {
    let path = shell::root().join(RUNBOOK);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {RUNBOOK}"))?;
    let boards = board::all()?;
    write_file(&path, &renewed(&text, &boards, measured)?)?;
    step(format_args!("{} rows written into {RUNBOOK}", measured.len()));
    Ok(())
}

fn renewed(text: &str, boards: &[Board], measured: &[(&Drill, &Verdict)]) -> Result<String> {
    let (before, table, after) = parts(text)?;
    let mut rows = String::new();
    for drill in DRILLS {
        let row = match measured.iter().find(|(one, _)| one.name == drill.name) {
            Some((_, verdict)) => row(drill, boards, Some(verdict))?,
            None => {
                let shape = shape(&row(drill, boards, None)?);
                let kept = table.lines().find(|line| self::shape(line) == shape);
                let kept =
                    kept.with_context(|| format!("{RUNBOOK} has no row of {}: run it as well", drill.name))?;
                kept.to_owned()
            }
        };
        let _ = writeln!(rows, "{row}");
    }
    Ok(format!("{before}{BEGIN}{HEAD}{rows}{END}{after}"))
}

/// What stands before the table, its text, and what stands behind it.
fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let found = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (table, after) = rest.split_once(END)?;
        Some((before, table, after))
    });
    found.with_context(|| format!("{RUNBOOK} has not the marks {} and {}", BEGIN.trim(), END.trim()))
}

/// A row, with figures in backticks; without a verdict they are left out.
fn row(drill: &Drill, boards: &[Board], verdict: Option<&Verdict>) -> Result<String> {
    let mut panels = Vec::new();
    for (index, panel) in drill.panels.iter().enumerate() {
        let board = boards.iter().find(|board| board.name == panel.board);
        let board = board.with_context(|| format!("there is no dashboard {}", panel.board))?;
        let (change, after) = match verdict.map(|verdict| verdict.panels[index]) {
            Some((from, to, after)) => {
                (format!("{} → {}", shown(panel, from), shown(panel, to)), seconds(after))
            }
            None => Default::default(),
        };
        panels.push(format!("*{}*, {}: `{change}` after `{after}`", board.title, named(panel)));
    }
    let after = verdict.and_then(|verdict| verdict.alert).map(seconds).unwrap_or_default();
    let alert = format!("[{}](#{}) after `{after}`", drill.alert, drill.alert.to_lowercase());
    Ok(format!("| **{}**: {} | {} | {alert} |", drill.name, drill.fault, panels.join("; ")))
}

/// A panel, and which of its series when it has several.
fn named(panel: &Panel) -> String {
    match panel.series {
        Some((_, value)) => format!("{} ({value})", panel.title),
        None if panel.legend.contains("{{") || panel.title.to_lowercase().contains(panel.legend) => {
            panel.title.to_owned()
        }
        None => format!("{} ({})", panel.title, panel.legend),
    }
}

fn shown(panel: &Panel, value: Option<f64>) -> String {
    const STATES: [&str; 3] = ["live", "stale", "down"];
    let Some(value) = value else { return "no data".to_owned() };
    match panel.unit {
        Unit::Count => figures(value),
        Unit::PerSecond => format!("{}/s", figures(value)),
        Unit::Ratio => format!("{} %", figures(value * 100.0)),
        Unit::State => STATES.get(value as usize).map_or_else(|| figures(value), |&name| name.to_owned()),
        Unit::Seconds if value.abs() >= 172_800.0 => format!("{:.0} d", value / 86_400.0),
        Unit::Seconds if value != 0.0 && value.abs() < 0.1 => format!("{} ms", figures(value * 1e3)),
        Unit::Seconds => format!("{} s", figures(value)),
    }
}

/// A number with as many digits as say something.
fn figures(value: f64) -> String {
    let digits = match value.abs() {
        at if at >= 10.0 => 0,
        at if at >= 0.1 => 1,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A row without its figures, which stand in backticks.
fn shape(row: &str) -> String {
    row.split('`').step_by(2).collect()
}

/// Fails when the rows are not those of the code.
pub fn check() -> Result<()> {
    let text =
        fs::read_to_string(shell::root().join(RUNBOOK)).with_context(|| format!("reading {RUNBOOK}"))?;
    let found = differences(&text, &board::all()?)?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::error(1, format!("{RUNBOOK}: `cargo xtask drill --write`\n{}", found.join("\n"))))
}

/// Rows that are missing, and rows that are of no drill.
fn differences(text: &str, boards: &[Board]) -> Result<Vec<String>> {
    let (_, table, _) = parts(text)?;
    let has: Vec<_> = table.lines().skip(HEAD.lines().count()).map(shape).collect();
    let wanted =
        DRILLS.iter().map(|drill| Ok(shape(&row(drill, boards, None)?))).collect::<Result<Vec<_>>>()?;
    let missing = wanted.iter().filter(|row| !has.contains(row)).map(|row| format!("missing: {row}"));
    let needless = has.iter().filter(|row| !wanted.contains(row)).map(|row| format!("of no drill: {row}"));
    let mut found: Vec<_> = missing.chain(needless).collect();
    if found.is_empty() && has != wanted {
        found.push("the rows are in another order".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(drill: &'static Drill) -> Verdict {
        let after = Duration::from_millis(2_340);
        Verdict {
            findings: Vec::new(),
            alert: Some(after),
            panels: drill.panels.iter().map(|_| (Some(0.0), Some(3.5), after)).collect(),
        }
    }

    #[test]
    fn the_runbook_has_the_drills_of_the_code() {
        check().unwrap();
    }

    #[test]
    fn a_row_too_many_too_few_or_other_is_found() {
        let boards = board::all().unwrap();
        let verdicts: Vec<_> = DRILLS.iter().map(verdict).collect();
        let all: Vec<_> = DRILLS.iter().zip(&verdicts).collect();
        let text = renewed(&format!("a\n{BEGIN}{HEAD}{END}b\n"), &boards, &all).unwrap();
        assert!(text.starts_with("a\n") && text.ends_with("b\n") && text.contains("`2.3 s`"), "{text}");
        assert_eq!(differences(&text, &boards).unwrap(), [""; 0]);
        // Figures are free.
        assert_eq!(differences(&text.replace("2.3 s", "7 s"), &boards).unwrap(), [""; 0]);
        for (from, to, findings) in [
            ("**bad-records**", "**worse-records**", 2),
            ("TickgateOverload", "TickgateLag", 2),
            ("Worst staleness", "Staleness", 4),
            (END, &format!("| **flood**: much | | |\n{END}")[..], 1),
        ] {
            assert_eq!(differences(&text.replace(from, to), &boards).unwrap().len(), findings, "{from}");
        }
        assert!(differences("no marks", &boards).is_err());
        // One alone: the others stay.
        let once = renewed(&text.replace("2.3 s", "7 s"), &boards, &all[..1]).unwrap();
        assert!(once.contains("`2.3 s`") && once.contains("`7 s`"));
        assert!(renewed(&format!("a\n{BEGIN}{HEAD}{END}"), &boards, &all[..1]).is_err());
    }

    #[test]
    fn figures_read_well() {
        for (value, unit, expected) in [
            (Some(0.0), Unit::Seconds, "0 s"),
            (Some(0.001_23), Unit::Seconds, "1.2 ms"),
            (Some(12.34), Unit::Seconds, "12 s"),
            (Some(2_591_000.0), Unit::Seconds, "30 d"),
            (Some(0.344), Unit::Ratio, "34 %"),
            (Some(4.0), Unit::Count, "4"),
            (Some(0.934), Unit::PerSecond, "0.9/s"),
            (Some(1_234.6), Unit::PerSecond, "1235/s"),
            (Some(2.0), Unit::State, "down"),
            (Some(3.0), Unit::State, "3"),
            (None, Unit::Count, "no data"),
        ] {
            assert_eq!(shown(&Panel { unit, ..DRILLS[0].panels[0] }, value), expected);
        }
    }
}
