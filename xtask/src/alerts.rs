//! Alerts and recording rules, looked at by the tools of Prometheus and held to their runbook.

mod runbook;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dashboards::board;
use crate::dashboards::names::{self, Known};
use crate::setup::{self, Need};
use crate::shell;

const FOLDER: &str = "dashboards/prometheus";
const RUNBOOK: &str = "docs/runbook.md";
const EXAMPLE: &str = "alertmanager.example.yml";
/// Where the example sends a page, a ticket and the dead man's switch.
const ROUTES: [(&str, &[&str]); 3] = [
    ("pages", &["alertname=TickgateDown", "severity=page", "job=tickgate"]),
    ("tickets", &["alertname=TickgateFull", "severity=ticket", "job=tickgate"]),
    ("watchdog", &["alertname=TickgateWatchdog", "severity=none"]),
];
/// Who gives targets their `job`.
const COMPOSE: &str = "deploy/compose/prometheus.yml";
const MONITOR: &str = "deploy/kubernetes/podmonitor.yaml";
const PODS: &str = "deploy/kubernetes/deployment.yaml";

/// Looks at the rules, runs their tests, asks the example for Alertmanager where alerts go, holds every alert to what it must have, and the
/// runbook to what there is.
///
/// # Errors
/// Which of these found something; the tools have said what.
pub fn check() -> Result<()> {
    setup::ensure(&[Need::Prometheus, Need::Alertmanager])?;
    let dir = shell::root().join(FOLDER);
    let run = |program: &str, words: &[&str]| shell::run(Command::new(program).args(words).current_dir(&dir));
    run("promtool", &["check", "rules", "rules.yml", "alerts.yml"])?;
    run("promtool", &["test", "rules", "alerts_test.yml", "budget_test.yml"])?;
    run("amtool", &["check-config", EXAMPLE])?;
    for (receiver, labels) in ROUTES {
        let words = ["config", "routes", "test", "--config.file", EXAMPLE, "--verify.receivers", receiver];
        run("amtool", &[&words[..], labels].concat())?;
    }
    let read =
        |path: &str| fs::read_to_string(shell::root().join(path)).with_context(|| format!("reading {path}"));
    let tests = read(&format!("{FOLDER}/alerts_test.yml"))? + &read(&format!("{FOLDER}/budget_test.yml"))?;
    let alerts = read(&format!("{FOLDER}/alerts.yml"))?;
    let runbook = read(RUNBOOK)?;
    let mut findings = findings(&alerts, &runbook, &tests);
    let known = Known::read()?;
    let of_runbook =
        runbook::findings(&runbook, &board::all()?, &names::names(&runbook), |name| known.is_known(name));
    findings.extend(of_runbook.into_iter().map(|finding| format!("{RUNBOOK}: {finding}")));
    findings.extend(jobs(&alerts, &read(COMPOSE)?, &read(MONITOR)?, &read(PODS)?));
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{}", findings.join("\n"));
}

/// What alerts lack: words for whoever is woken, a chapter of the runbook, a test that fires and one that does not.
fn findings(alerts: &str, runbook: &str, tests: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut parts = alerts.split("- alert: ");
    parts.next();
    let mut names = Vec::new();
    for part in parts {
        let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
        // A group may follow.
        let rest = rest.split("\n  - name: ").next().unwrap_or(rest);
        names.push(name);
        let anchor = name.to_lowercase();
        for (what, wanted) in [
            ("a severity", "severity: ".to_owned()),
            ("a summary", "summary: \"".to_owned()),
            ("a description", "description: \"".to_owned()),
            ("a link to its chapter of the runbook", format!("runbook_url: RUNBOOK#{anchor}\n")),
            ("a link to a dashboard", "dashboard_url: GRAFANA/d/tickgate-".to_owned()),
        ] {
            if !rest.contains(&wanted) {
                findings.push(format!("{name} has not {what} ({})", wanted.trim_end()));
            }
        }
        for (what, word) in [("fires", "firing"), ("is quiet", "quiet")] {
            // The dead man's switch is never quiet.
            let is_excused = word == "quiet" && rest.contains("severity: none");
            if !is_excused && !tests.contains(&format!("\"{name}, {word}: ")) {
                findings.push(format!("{name} has no test in which it {what}"));
            }
        }
        let chapter = runbook.split("\n### ").find(|chapter| chapter.lines().next() == Some(name));
        match chapter {
            None => findings.push(format!("{name} has no chapter in {RUNBOOK}")),
            Some(chapter) if chapter.len() < name.len() + 40 => {
                findings.push(format!("{name}: its chapter in {RUNBOOK} says nothing"));
            }
            Some(_) => {}
        }
    }
    for chapter in runbook.split("\n### ").skip(1).filter_map(|chapter| chapter.lines().next()) {
        if chapter.starts_with("Tickgate") && !names.contains(&chapter) {
            findings.push(format!("{RUNBOOK} has a chapter {chapter}, and there is no such alert"));
        }
    }
    findings
}

/// Where alerts ask for a job that nobody gives, or one is given that no alert asks for.
fn jobs(alerts: &str, compose: &str, monitor: &str, pods: &str) -> Vec<String> {
    let mut asked: Vec<_> =
        alerts.split("job=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(job, _)| job).collect();
    asked.sort_unstable();
    asked.dedup();
    let [job] = asked[..] else {
        return vec![format!("alerts ask for the jobs {asked:?}, and it should be one")];
    };
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(key));
        line.map(|rest| rest.trim().to_owned())
    };
    let mut findings = Vec::new();
    let given = value(compose, "job_name:");
    if given.as_deref() != Some(job) {
        findings.push(format!("{COMPOSE} has the job {given:?}, alerts ask for {job}"));
    }
    // The operator's own is NAMESPACE/NAME.
    let label = value(monitor, "jobLabel:");
    let template = pods.split_once("\n  template:\n").map_or("", |(_, rest)| rest);
    let given = label.and_then(|label| value(template, &format!("{label}:")));
    if given.as_deref() != Some(job) {
        findings
            .push(format!("{MONITOR}: by its jobLabel the job of {PODS} is {given:?}, alerts ask for {job}"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In Kubernetes TickgateDown could not fire and TickgateAbsent always did: the operator called the job `NAMESPACE/tickgate`, alerts
    /// asked for `tickgate`.
    #[test]
    fn jobs_are_called_what_alerts_ask_for() {
        let alerts = "expr: up{job=\"tickgate\"} == 0\nexpr: absent(up{job=\"tickgate\"})\n";
        let compose = "scrape_configs:\n  - job_name: tickgate\n";
        let monitor = "spec:\n  jobLabel: app/name\n";
        let pods = "metadata:\n  labels:\n    app/name: other\nspec:\n  template:\n    metadata:\n      labels:\n        app/name: tickgate\n";
        assert_eq!(jobs(alerts, compose, monitor, pods), [""; 0]);
        let unlabelled = monitor.replace("jobLabel", "label");
        for (found, which) in [
            (
                jobs(
                    &alerts.replace("absent(up{job=\"tickgate", "absent(up{job=\"gateway"),
                    compose,
                    monitor,
                    pods,
                ),
                "jobs",
            ),
            (jobs(alerts, "  - job_name: gateway\n", monitor, pods), COMPOSE),
            (jobs(alerts, compose, &unlabelled, pods), MONITOR),
            (jobs(alerts, compose, monitor, &pods.replace(": tickgate", ": gateway")), MONITOR),
        ] {
            assert!(found.len() == 1 && found[0].contains(which), "{which}: {found:?}");
        }
    }

    const ALERTS: &str = "groups:\n  - name: a\n    rules:\n      - alert: TickgateLag\n        labels: {severity: page}\n        \
        annotations:\n          summary: \"s\"\n          description: \"d\"\n          runbook_url: RUNBOOK#tickgatelag\n          \
        dashboard_url: GRAFANA/d/tickgate-feeds\n";
    const RUNBOOK: &str =
        "# Runbook\n\n### TickgateLag\nRecords wait in Kafka, and that is what it says of them.\n";
    const TESTS: &str = "- name: \"TickgateLag, firing: x\"\n- name: \"TickgateLag, quiet: y\"\n";

    #[test]
    fn an_alert_has_all_that_it_needs_or_it_is_said_what_is_missing() {
        assert_eq!(findings(ALERTS, RUNBOOK, TESTS), Vec::<String>::new());
        for (alerts, runbook, tests, finding) in [
            (ALERTS.replace("summary", "sumary"), RUNBOOK.to_owned(), TESTS.to_owned(), "a summary"),
            (
                ALERTS.replace("#tickgatelag", "#lag"),
                RUNBOOK.to_owned(),
                TESTS.to_owned(),
                "a link to its chapter",
            ),
            (
                ALERTS.to_owned(),
                RUNBOOK.replace("### TickgateLag", "### TickgateLags"),
                TESTS.to_owned(),
                "no chapter",
            ),
            (
                ALERTS.to_owned(),
                RUNBOOK.replace("TickgateLag\n", "TickgateLag\n\n### X\n"),
                TESTS.to_owned(),
                "says nothing",
            ),
            (
                ALERTS.to_owned(),
                RUNBOOK.to_owned(),
                TESTS.replace("quiet", "silent"),
                "no test in which it is quiet",
            ),
            (ALERTS.to_owned(), format!("{RUNBOOK}\n### TickgateOld\n"), TESTS.to_owned(), "no such alert"),
        ] {
            let findings = findings(&alerts, &runbook, &tests);
            assert!(findings.iter().any(|found| found.contains(finding)), "{finding}: {findings:?}");
        }
    }
}
