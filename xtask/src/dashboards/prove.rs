//! Every query of every panel, variable and rule, asked of a Prometheus.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::board::{self, Board};
use super::lint;
use super::names::Known;
use super::prometheus::{Answer, Prometheus};
use super::stage::Stage;
use crate::shell::{self, Failure, Progress, human, step};

/// How long the gateway is alone with Prometheus: a few scrapes.
const IDLE: Duration = Duration::from_secs(8);
/// How long there is load: long enough for clients to be too slow, to come back, and for a feed to fall silent.
const LOAD: Duration = Duration::from_secs(40);

/// What has to have happened, or a panel that shows it may be right by chance.
const WORST: [(&str, &str); 12] = [
    ("no client was too slow", "tickgate_sessions_closed_total{reason=\"slow_consumer\"} > 0"),
    ("no stalled client was ended", "tickgate_sessions_closed_total{reason=\"stalled\"} > 0"),
    ("nothing was skipped", "tickgate_events_dropped_total{reason=\"skipped\"} > 0"),
    ("nobody was told of a gap", "tickgate_gaps_announced_total{cause=\"slow_consumer\"} > 0"),
    ("no socket refused bytes", "tickgate_socket_stalls_total > 0"),
    ("no client came back", "tickgate_replays_begun_total{kind=\"missed\"} > 0"),
    ("no record was unreadable", "tickgate_feed_bad_records_total{reason=\"not_json\"} > 0"),
    ("no feed fell silent", "tickgate_feed_state{feed=\"paused\", state=\"stale\"} > 0"),
    ("nothing was read late", "tickgate_delayed_records_total > 0"),
    // Their rules are 0 where there is nothing to judge by, a mistake in them included.
    ("no event was too late", "tickgate:slo:error_ratio_rate5m{slo=\"delivery\"} > 0"),
    ("no feed was too old", "tickgate:slo:error_ratio_rate5m{slo=\"freshness\"} > 0"),
    ("no session was lost", "tickgate:slo:error_ratio_rate5m{slo=\"survival\"} > 0"),
];

/// A dashboard with everything wrong that this must notice.
const BROKEN: &str = include_str!("broken.json");

/// A query that is to be asked.
#[derive(Debug)]
pub struct Question {
    /// Dashboard, panel, legend.
    pub place: String,
    pub expr: String,
    is_instant: bool,
    /// Whether its panel says in words what no data means.
    says_empty: bool,
}

/// Starts all of it and asks.
pub fn prove() -> Result<()> {
    let (boards, known) = (board::all()?, Known::read()?);
    let started = Instant::now();
    let mut stage = Stage::set()?;
    let prometheus = stage.prometheus();

    wait(&mut stage, "the gateway is scraped while nothing goes on", IDLE)?;
    let of_gateway: Vec<_> =
        questions(prometheus, &boards)?.into_iter().filter(|q| !q.place.starts_with("load/")).collect();
    let idle = ask_all(prometheus, &of_gateway)?;
    // Words of its own are something to show.
    let mut failures: Vec<String> = of_gateway
        .iter()
        .zip(&idle)
        .filter(|(question, answer)| !(question.says_empty && **answer == Answer::Nothing))
        .filter_map(|(question, answer)| failure(question, answer))
        .map(|text| format!("while idle: {text}"))
        .collect();

    stage.load()?;
    wait(&mut stage, "clients, some of them slow, and feeds, one of which falls silent", LOAD)?;
    failures.extend(ask(prometheus, &boards, &known, false)?);
    for (what, expr) in WORST {
        if !matches!(prometheus.ask(expr, false)?, Answer::Data(_)) {
            failures.push(format!("it was not as bad as it should be: {what}: {expr}"));
        }
    }
    failures.extend(lint::findings(stage.scraped())?);
    verdict(failures, &format!("seen within {}", human(started.elapsed())))
}

/// Asks a Prometheus that was there already.
pub fn ask_other(address: SocketAddr) -> Result<()> {
    let prometheus = Prometheus { address };
    // What is off there is not there.
    verdict(ask(prometheus, &board::all()?, &Known::read()?, true)?, &format!("asked of {address}"))
}

fn verdict(failures: Vec<String>, how: &str) -> Result<()> {
    if failures.is_empty() {
        step(format_args!("every query returns data, {how}"));
        return Ok(());
    }
    Err(Failure::error(1, format!("{} failure(s), {how}\n{}", failures.len(), failures.join("\n"))))
}

/// Lets time pass in which everything goes on.
pub fn wait(stage: &mut Stage, label: &str, time: Duration) -> Result<()> {
    let mut progress = Progress::start(label);
    let end = Instant::now() + time;
    while Instant::now() < end {
        shell::pause(Duration::from_millis(200))?;
        stage.check()?;
        progress.tick();
    }
    Ok(())
}

/// Asks everything. `may_be_empty`: a panel that says in words what no data means need not have any.
fn ask(prometheus: Prometheus, boards: &[Board], known: &Known, may_be_empty: bool) -> Result<Vec<String>> {
    let asked = questions(prometheus, boards)?;
    let mut answers = ask_all(prometheus, &asked)?;
    for (question, answer) in asked.iter().zip(&mut answers) {
        if may_be_empty && question.says_empty && *answer == Answer::Nothing {
            *answer = Answer::Words;
        }
    }
    let mut failures: Vec<_> =
        asked.iter().zip(&answers).filter_map(|(question, answer)| failure(question, answer)).collect();
    let found = asked.len() - failures.len();
    step(format_args!("{found} of {} queries of panels and variables return data", asked.len()));

    failures.extend(of_rules(prometheus, known)?);
    let there_are = prometheus.label_values("__name__", None)?;
    let left = known.leftovers(boards, there_are.iter().map(String::as_str));
    failures.extend(
        left.into_iter()
            .map(|name| format!("{name} is scraped, and on no dashboard, in no rule and in no alert")),
    );

    let missed = missed(prometheus)?;
    failures
        .extend(missed.into_iter().map(|place| format!("a panel that is broken on purpose passed: {place}")));
    Ok(failures)
}

/// What is wrong with rules.
fn of_rules(prometheus: Prometheus, known: &Known) -> Result<Vec<String>> {
    let loaded = prometheus.rules()?;
    let mut failures = Vec::new();
    for (name, trouble) in &loaded {
        failures.extend(trouble.as_ref().map(|trouble| format!("rule {name}: {trouble}")));
    }
    for name in known.rules() {
        if !loaded.iter().any(|(loaded, _)| loaded == name) {
            failures.push(format!("rule {name}: Prometheus does not have it"));
        }
    }
    for expr in known.wanted() {
        let answer = prometheus.ask(&expr, true)?;
        let question = Question { place: "a rule".to_owned(), expr, is_instant: true, says_empty: false };
        failures.extend(failure(&question, &answer));
    }
    Ok(failures)
}

/// The panels of the broken dashboard that pass nevertheless.
fn missed(prometheus: Prometheus) -> Result<Vec<String>> {
    let broken = [Board::parse("broken", BROKEN)?];
    let asked = questions(prometheus, &broken)?;
    if asked.len() < 4 {
        bail!("the broken dashboard lost its queries");
    }
    let answers = ask_all(prometheus, &asked)?;
    let passed = asked.iter().zip(&answers).filter(|(question, answer)| failure(question, answer).is_none());
    Ok(passed.map(|(question, _)| question.place.clone()).collect())
}

fn ask_all(prometheus: Prometheus, asked: &[Question]) -> Result<Vec<Answer>> {
    asked.iter().map(|question| prometheus.ask(&question.expr, question.is_instant)).collect()
}

/// What is wrong with an answer.
fn failure(question: &Question, answer: &Answer) -> Option<String> {
    let what = match answer {
        Answer::Data(_) | Answer::Words => return None,
        Answer::NotANumber => "only NaN",
        Answer::Nothing => "no data",
        Answer::Refused(why) => why,
    };
    Some(format!("{}: {what}: {}", question.place, question.expr))
}

/// Every query of every panel and variable, with the values that Grafana would put in when everything is chosen.
pub fn questions(prometheus: Prometheus, boards: &[Board]) -> Result<Vec<Question>> {
    let mut all = Vec::new();
    for board in boards {
        let mut values =
            vec![("__rate_interval".to_owned(), "5s".to_owned()), ("__range".to_owned(), "1m".to_owned())];
        for variable in &board.variables {
            let series = filled(&variable.series, &values);
            let found = prometheus.label_values(&variable.label, Some(&series)).unwrap_or_default();
            values.push((variable.name.clone(), one_of(&found)));
            // As a query of its own, so that it fails as one.
            all.push(Question {
                place: format!("{}/${}", board.name, variable.name),
                expr: format!("count by ({}) ({series})", variable.label),
                is_instant: false,
                says_empty: false,
            });
        }
        for panel in &board.panels {
            all.extend(panel.queries.iter().map(|query| Question {
                place: format!("{}/{}/{}", board.name, panel.title, query.legend),
                expr: filled(&query.expr, &values),
                is_instant: query.is_instant,
                says_empty: panel.says_empty,
            }));
        }
    }
    Ok(all)
}

/// An expression with values for its variables.
fn filled(expr: &str, values: &[(String, String)]) -> String {
    let mut filled = expr.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("${name}"), value);
    }
    filled
}

/// A regular expression that matches each of some values, inside the quotes of PromQL.
fn one_of(values: &[String]) -> String {
    let mut pattern = String::from("(");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            pattern.push('|');
        }
        for c in value.chars() {
            if c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '-' || !c.is_ascii() {
                pattern.push(c);
            } else {
                let _ = write!(pattern, "\\\\{c}");
            }
        }
    }
    pattern.push(')');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_get_every_value() {
        let values = [("job".to_owned(), one_of(&["tickgate".to_owned(), "127.0.0.1:90".to_owned()]))];
        assert_eq!(filled("a{job=~\"$job\"}", &values), r#"a{job=~"(tickgate|127\\.0\\.0\\.1:90)"}"#);
    }

    #[test]
    fn the_broken_dashboard_is_broken_in_its_form_too() {
        let broken = Board::parse("broken", BROKEN).unwrap();
        let findings = broken.findings().join("\n");
        for expected in [
            "no description",
            "no unit",
            "no title",
            "no query",
            "without a legend",
            "one screen",
            "lies over",
        ] {
            assert!(findings.contains(expected), "{expected}: {findings}");
        }
        let all = Known::read().unwrap().findings(&[broken]).unwrap().join("\n");
        assert!(all.contains("broken: tickgate_events_sent is no metric"), "{all}");
    }
}
