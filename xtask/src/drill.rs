//! Faults on purpose, one at a time, beside a real Prometheus: does the right panel move, does the right alert come, and nothing else?
//!
//! Whoever is woken reads a panel and an alert. That both say what happened, and only that, is seen here: [`cases`] has the
//! faults and what must follow, [`ground`] the programs, [`history`] the days before, [`judge`] the verdict, and [`table`]
//! writes what was measured into the runbook.

mod cases;
mod ground;
mod history;
mod judge;
mod strike;
mod table;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::dashboards::board::{self, Board};
use crate::dashboards::stage;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, human, step};
use cases::{DRILLS, Drill};
use history::History;
use judge::Verdict;

/// Drills at once: one that waits for its fault to show leaves the processors to another that starts.
const LANES: usize = 3;
/// Held last and by itself: its neighbour takes the processors that the others need to stay well on.
const ALONE: &str = "overload";

/// Injects faults one after another under load, and looks whether the right panel moves and the right alert comes.
///
/// Each drill has a broker, a gateway, a simulated market, clients and a real Prometheus of its own, which has the rules and alerts
/// of dashboards/prometheus as they are, and three healthy days behind it. While all is well no alert may be there; within 15 s
/// after the fault the expected one has to be, the panels have to have moved, and no other alert may have come.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask drill\n  cargo xtask drill overload broker-down\n  cargo xtask drill --write"
)]
pub struct Args {
    /// Only these drills
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Name the drills and do nothing
    #[arg(long, conflicts_with_all = ["write", "without_fault"])]
    list: bool,

    /// Write what was measured into the table of docs/runbook.md
    #[arg(long, conflicts_with = "without_fault")]
    write: bool,

    /// Leave the faults out: every drill has to fail then, or it would not notice anything
    #[arg(long)]
    without_fault: bool,
}

/// What came of a drill.
struct Outcome {
    drill: &'static Drill,
    verdict: Verdict,
}

pub fn run(args: Args) -> Result<()> {
    let chosen = choose(&args.names)?;
    if args.list {
        let lines: String = chosen
            .iter()
            .map(|drill| format!("{:<16} {:<27} {}\n", drill.name, drill.alert, drill.fault))
            .collect();
        // Who reads it may have had enough.
        let _ = std::io::stdout().write_all(lines.as_bytes());
        return Ok(());
    }
    stage::build()?;
    let outcomes = run_all(&chosen, !args.without_fault)?;
    let verdict = report(&outcomes);
    if args.write && verdict.is_ok() {
        table::write(&outcomes.iter().map(|one| (one.drill, &one.verdict)).collect::<Vec<_>>())?;
    }
    verdict
}

/// Every drill, with programs that were built already, for continuous integration.
pub fn short() -> Result<()> {
    table::check()?;
    report(&run_all(&DRILLS.iter().collect::<Vec<_>>(), true)?)
}

fn choose(names: &[String]) -> Result<Vec<&'static Drill>> {
    if let Some(unknown) = names.iter().find(|name| DRILLS.iter().all(|drill| drill.name != **name)) {
        return Err(Failure::error(64, format!("there is no drill {unknown}: `cargo xtask drill --list`")));
    }
    Ok(DRILLS
        .iter()
        .filter(|drill| names.is_empty() || names.iter().any(|name| name == drill.name))
        .collect())
}

fn run_all(drills: &[&'static Drill], has_fault: bool) -> Result<Vec<Outcome>> {
    setup::ensure(&[Need::Prometheus, Need::Openssl])?;
    let boards = board::all()?;
    let history = History::make()?;
    let started = Instant::now();
    let mut outcomes = Vec::new();
    for drills in rounds(drills) {
        outcomes.extend(run_round(&drills, &boards, &history, has_fault)?);
    }
    let place = |drill: &Drill| DRILLS.iter().position(|one| one.name == drill.name);
    outcomes.sort_by_key(|outcome| place(outcome.drill));
    step(format_args!("{} drills in {}", outcomes.len(), human(started.elapsed())));
    Ok(outcomes)
}

/// Those that can be held beside each other, then the one that cannot.
fn rounds(drills: &[&'static Drill]) -> [Vec<&'static Drill>; 2] {
    let (alone, together) = drills.iter().partition(|drill| drill.name == ALONE);
    [together, alone]
}

/// Holds drills, some at once.
fn run_round(
    drills: &[&'static Drill],
    boards: &[Board],
    history: &History,
    has_fault: bool,
) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(drills.iter().copied().collect::<VecDeque<_>>());
    let take = || waiting.lock().expect("nobody panics while holding it").pop_front();
    let lane = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(drill) = take() {
            let verdict = judge::hold(drill, boards, history, has_fault).or_else(|error| {
                // An end that somebody asked for is one; of all else the other drills may still tell.
                shell::check_interrupt()?;
                Ok::<_, anyhow::Error>(Verdict::failed(format!("{error:#}")))
            })?;
            outcomes.push(Outcome { drill, verdict });
        }
        Ok(outcomes)
    };
    let mut outcomes = Vec::new();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES.min(drills.len())).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            outcomes.extend(lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(outcomes)
}

/// Says what came of all, and fails when one failed.
fn report(outcomes: &[Outcome]) -> Result<()> {
    let mut failed = Vec::new();
    for Outcome { drill, verdict } in outcomes {
        let word = if verdict.findings.is_empty() { "ok    " } else { "FAILED" };
        let after = verdict.alert.map(|after| format!(" after {}", human(after))).unwrap_or_default();
        println!("{word} {:<16} {}{after}", drill.name, drill.alert);
        failed.extend(verdict.findings.iter().map(|finding| format!("{}: {finding}", drill.name)));
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::error(1, format!("{} finding(s)\n{}", failed.len(), failed.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drills_are_chosen_by_name() {
        let chosen = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            choose(&names).map(|drills| drills.iter().map(|drill| drill.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap().len(), DRILLS.len());
        assert_eq!(chosen(&["overload", "bad-records"]).unwrap(), ["bad-records", "overload"]);
        assert!(chosen(&["overload", "flood"]).unwrap_err().to_string().contains("no drill flood"));
    }

    /// Its neighbour spins on a processor, and a drill beside it saw alerts that were not its own.
    #[test]
    fn the_one_that_takes_processors_is_held_alone() {
        let [together, alone] = rounds(&DRILLS.iter().collect::<Vec<_>>());
        assert_eq!(alone.iter().map(|drill| drill.name).collect::<Vec<_>>(), [ALONE]);
        assert_eq!(together.len() + 1, DRILLS.len());
        let [together, alone] = rounds(&[&DRILLS[0]]);
        assert_eq!((together.len(), alone.len()), (1, 0));
    }

    #[test]
    fn a_finding_fails_the_run() {
        let outcome = |finding: Option<&str>| Outcome {
            drill: &DRILLS[0],
            verdict: finding.map_or_else(Verdict::default, |text| Verdict::failed(text.to_owned())),
        };
        assert!(report(&[outcome(None)]).is_ok());
        let error = report(&[outcome(None), outcome(Some("nothing moved"))]).unwrap_err();
        assert_eq!(shell::exit_code(&error), 1);
        assert!(error.to_string().contains("nothing moved"));
    }
}
