//! One drill, from quiet to verdict. What is seen is told apart from what it means, so that the judge can be judged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::dashboards::board::Board;
use crate::dashboards::prometheus::{Alert, Prometheus, Sample};
use crate::dashboards::prove;
use crate::shell::{self, Progress, human, step};

use super::cases::{Drill, Panel, Turn};
use super::ground::Ground;
use super::history::History;

/// How long all must be well before.
const QUIET: Duration = Duration::from_secs(6);
/// How soon the alert must be there and the panels must have moved.
pub const WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks of a phase that may fail.
const MISSED_MAX: usize = 2;
/// How often a fault that has to be kept up is.
const AGAIN_EVERY: Duration = Duration::from_secs(1);
/// Fires whatever happens: it shows that alerts come at all.
const WATCHDOG: &str = "TickgateWatchdog";

/// One look at Prometheus.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Since quiet began, or since the fault.
    pub at: Duration,
    pub alerts: Vec<Alert>,
    /// Of each panel of the drill, its value; none when it has no data.
    pub values: Vec<Option<f64>>,
}

/// What came of a drill.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong; empty when it is as it should be.
    pub findings: Vec<String>,
    /// When the alert was there.
    pub alert: Option<Duration>,
    /// Each panel: from, to, and when it had moved.
    pub panels: Vec<(Option<f64>, Option<f64>, Duration)>,
}

impl Verdict {
    pub fn failed(finding: String) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }
}

/// Holds a drill.
pub fn hold(drill: &'static Drill, boards: &[Board], history: &History, has_fault: bool) -> Result<Verdict> {
    step(format_args!("{}: starts broker, market, gateway, clients and Prometheus", drill.name));
    let mut ground = Ground::set(drill.name, drill.gateway, history)?;
    let queries = queries(ground.prometheus, boards, drill)?;
    let quiet = watch(&mut ground, drill, &queries, &format!("{}: all is well", drill.name), QUIET, false)?;
    let mut label = format!("{}: {}", drill.name, drill.fault);
    if has_fault {
        (drill.strike)(&mut ground).with_context(|| format!("injecting the fault {}", drill.name))?;
    } else {
        label.push_str(", left out");
    }
    let after = watch(&mut ground, drill, &queries, &label, WITHIN, has_fault)?;
    let verdict = judge(drill, &quiet, &after);
    let (name, dir) = (drill.name, ground.dir.display());
    match verdict.alert {
        Some(after) if verdict.findings.is_empty() => {
            step(format_args!("{name}: {} after {}, and nothing else", drill.alert, human(after)));
        }
        _ => step(format_args!("{name}: failed; what it ran on is in {dir}")),
    }
    Ok(verdict)
}

/// The query of each panel of a drill, its variables filled.
fn queries(prometheus: Prometheus, boards: &[Board], drill: &Drill) -> Result<Vec<String>> {
    let asked = prove::questions(prometheus, boards)?;
    let query = |panel: &Panel| {
        let place = panel.place();
        let found = asked.iter().find(|question| question.place == place);
        found.map(|question| question.expr.clone()).with_context(|| format!("no dashboard has {place}"))
    };
    drill.panels.iter().map(query).collect()
}

fn watch(
    ground: &mut Ground,
    drill: &Drill,
    queries: &[String],
    label: &str,
    time: Duration,
    has_fault: bool,
) -> Result<Vec<Look>> {
    let mut progress = Progress::start(label);
    let begun = Instant::now();
    let (mut next, mut again) = (Duration::ZERO, AGAIN_EVERY);
    let (mut looks, mut missed) = (Vec::new(), 0);
    while begun.elapsed() < time {
        if has_fault && begun.elapsed() >= again {
            (drill.again)(ground)?;
            again += AGAIN_EVERY;
        }
        if begun.elapsed() >= next {
            next += LOOK_EVERY;
            match look(ground.prometheus, drill, queries, begun) {
                Ok(look) => looks.push(look),
                // A busy machine may keep it from answering for once.
                Err(error) if missed == MISSED_MAX => return Err(error),
                Err(_) => missed += 1,
            }
        }
        shell::pause(Duration::from_millis(50))?;
        ground.check()?;
        progress.tick();
    }
    Ok(looks)
}

fn look(prometheus: Prometheus, drill: &Drill, queries: &[String], begun: Instant) -> Result<Look> {
    let alerts = prometheus.alerts()?;
    let value = |(query, panel): (&String, &Panel)| Ok(panel.value(&prometheus.samples(query)?));
    let values = queries.iter().zip(drill.panels).map(value).collect::<Result<_>>()?;
    Ok(Look { at: begun.elapsed(), alerts, values })
}

impl Panel {
    /// What a panel shows now: of several series the largest.
    pub fn value(&self, samples: &[Sample]) -> Option<f64> {
        let is_meant = |sample: &&Sample| {
            self.series
                .is_none_or(|(name, value)| sample.labels.iter().any(|(has, is)| has == name && is == value))
        };
        samples.iter().filter(is_meant).map(|sample| sample.value).reduce(f64::max)
    }

    fn has_moved(&self, value: Option<f64>) -> bool {
        match (self.turn, value) {
            (Turn::Above(bound), Some(value)) => value > bound,
            (Turn::Below(bound), Some(value)) => value < bound,
            (Turn::Gone, value) => value.is_none(),
            (_, None) => false,
        }
    }
}

/// What a drill's looks mean.
pub fn judge(drill: &'static Drill, quiet: &[Look], after: &[Look]) -> Verdict {
    let mut verdict = Verdict::default();
    let findings = &mut verdict.findings;
    let mut other = |alert: &Alert, when: &str| {
        let about = format!("{} ({}) is {} {when}", alert.name, alert.about, alert.state);
        if !findings.contains(&about) {
            findings.push(about);
        }
    };
    for alert in quiet.iter().flat_map(|look| &look.alerts).filter(|alert| alert.name != WATCHDOG) {
        other(alert, "while all is well");
    }
    let is_expected = |name: &str| name == WATCHDOG || name == drill.alert;
    for alert in after.iter().flat_map(|look| &look.alerts).filter(|alert| !is_expected(&alert.name)) {
        other(alert, "beside what was expected");
    }
    if !quiet.iter().chain(after).all(|look| look.alerts.iter().any(|alert| alert.name == WATCHDOG)) {
        findings.push(format!("{WATCHDOG} is not always there, so alerts need not be either"));
    }
    if quiet.is_empty() || after.is_empty() {
        findings.push("nobody looked".to_owned());
    }
    let first = after.iter().find(|look| look.alerts.iter().any(|alert| alert.name == drill.alert));
    verdict.alert = first.map(|look| look.at).filter(|at| *at <= WITHIN);
    if verdict.alert.is_none() {
        findings.push(format!("{} did not come within {} s", drill.alert, WITHIN.as_secs()));
    }
    for (index, panel) in drill.panels.iter().enumerate() {
        let value = |look: &Look| look.values.get(index).copied().flatten();
        if let Some(look) = quiet.iter().find(|look| panel.has_moved(value(look))) {
            findings.push(format!("{} shows {:?} while all is well", panel.place(), value(look)));
        }
        let from = quiet.last().and_then(value);
        let Some(look) = after.iter().find(|look| panel.has_moved(value(look))) else {
            let last = after.last().and_then(value);
            findings.push(format!("{} did not move: {from:?} before, {last:?} after", panel.place()));
            continue;
        };
        let seen = after.iter().filter_map(value);
        let to = match panel.turn {
            Turn::Above(_) => seen.reduce(f64::max),
            Turn::Below(_) => seen.reduce(f64::min),
            Turn::Gone => None,
        };
        verdict.panels.push((from, to, look.at));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::cases::{DRILLS, by_name};

    fn alert(name: &str) -> Alert {
        Alert { name: name.to_owned(), state: "pending".to_owned(), about: "instance=gateway".to_owned() }
    }

    /// Looks of a drill, one each second: `names` come with the third, and so do the panels' `values`.
    fn looks(drill: &Drill, seconds: u64, names: &[&str], is_moved: bool) -> Vec<Look> {
        let value = |panel: &Panel, is_moved: bool| match (panel.turn, is_moved) {
            (Turn::Above(bound), true) => Some(bound * 2.0 + 1.0),
            (Turn::Below(bound), true) => Some(bound / 2.0 - 1.0),
            (Turn::Gone, true) => None,
            (Turn::Above(bound), false) => Some(bound / 2.0),
            (Turn::Below(bound), false) => Some(bound * 2.0),
            (Turn::Gone, false) => Some(1.0),
        };
        let look = |second: u64| Look {
            at: Duration::from_secs(second),
            alerts: names.iter().filter(|_| second >= 3).copied().chain([WATCHDOG]).map(alert).collect(),
            values: drill.panels.iter().map(|panel| value(panel, is_moved && second >= 3)).collect(),
        };
        (0..seconds).map(look).collect()
    }

    #[test]
    fn what_should_follow_passes_and_is_timed() {
        for drill in DRILLS {
            let verdict = judge(drill, &looks(drill, 6, &[], false), &looks(drill, 15, &[drill.alert], true));
            assert_eq!(verdict.findings, [""; 0], "{}", drill.name);
            assert_eq!(verdict.alert, Some(Duration::from_secs(3)));
            assert!(verdict.panels.iter().all(|(_, _, after)| *after == Duration::from_secs(3)));
            assert_eq!(verdict.panels.len(), drill.panels.len());
        }
    }

    #[test]
    fn without_its_fault_every_drill_fails() {
        for drill in DRILLS {
            let verdict = judge(drill, &looks(drill, 6, &[], false), &looks(drill, 15, &[], false));
            assert_eq!(verdict.findings.len(), 1 + drill.panels.len(), "{}", drill.name);
            let alone = judge(drill, &looks(drill, 6, &[], false), &looks(drill, 15, &[drill.alert], false));
            assert_eq!(
                alone.findings.len(),
                drill.panels.len(),
                "an alert without its panels: {}",
                drill.name
            );
        }
    }

    #[test]
    fn another_alert_fails_before_and_after() {
        let drill = by_name("bad-records");
        let good = looks(drill, 15, &[drill.alert], true);
        let early = judge(drill, &looks(drill, 6, &["TickgateLag"], false), &good);
        assert_eq!(early.findings, ["TickgateLag (instance=gateway) is pending while all is well"]);
        let more = judge(
            drill,
            &looks(drill, 6, &[], false),
            &looks(drill, 15, &[drill.alert, "TickgateLag"], true),
        );
        assert_eq!(more.findings, ["TickgateLag (instance=gateway) is pending beside what was expected"]);
        // One that came and went again within the time was there, too.
        let mut passing = good.clone();
        passing[5].alerts.push(alert("TickgateLag"));
        assert_eq!(judge(drill, &looks(drill, 6, &[], false), &passing).findings.len(), 1);
        // The expected one must not have been there before.
        let before = judge(drill, &looks(drill, 6, &[drill.alert], false), &good);
        assert_eq!(before.findings.len(), 1);
    }

    #[test]
    fn a_panel_that_had_moved_before_proves_nothing() {
        let drill = by_name("bad-records");
        let good = looks(drill, 15, &[drill.alert], true);
        let verdict = judge(drill, &looks(drill, 6, &[], true), &good);
        assert_eq!(verdict.findings.len(), drill.panels.len(), "{:?}", verdict.findings);
        assert!(verdict.findings[0].contains("while all is well"));
    }

    #[test]
    fn alerts_that_cannot_come_at_all_are_no_quiet() {
        let drill = by_name("bad-records");
        let mut quiet = looks(drill, 6, &[], false);
        quiet[2].alerts.clear();
        let verdict = judge(drill, &quiet, &looks(drill, 15, &[drill.alert], true));
        assert_eq!(verdict.findings.len(), 1);
        assert!(verdict.findings[0].contains(WATCHDOG));
        assert!(!judge(drill, &[], &looks(drill, 15, &[drill.alert], true)).findings.is_empty());
    }

    #[test]
    fn too_late_is_not_at_all() {
        let drill = by_name("bad-records");
        let mut late = looks(drill, 15, &[drill.alert], true);
        for look in &mut late {
            look.at += Duration::from_secs(13);
        }
        let verdict = judge(drill, &looks(drill, 6, &[], false), &late);
        assert!(verdict.findings.iter().any(|finding| finding.contains("did not come within 15 s")));
    }

    #[test]
    fn one_series_of_a_panel_can_be_meant() {
        let sample =
            |state: &str, value| Sample { labels: vec![("reason".to_owned(), state.to_owned())], value };
        let samples = [sample("a", 1.0), sample("b", 3.0), sample("b", 2.0)];
        let panel = |series| Panel { series, ..DRILLS[0].panels[0] };
        assert_eq!(panel(None).value(&samples), Some(3.0));
        assert_eq!(panel(Some(("reason", "a"))).value(&samples), Some(1.0));
        assert_eq!(panel(Some(("reason", "c"))).value(&samples), None);
    }
}
