//! A dashboard as Grafana reads it, as far as it is asked and looked at here.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{DIR, names_in};
use crate::shell;

/// Lines and columns of the grid that fit a screen of 1080 lines.
const LINES_MAX: u64 = 22;
const COLUMNS: u64 = 24;
/// A description says what is shown and what to do about it: shorter than this it does not.
const DESCRIPTION_CHARS_MIN: usize = 40;

/// One dashboard.
#[derive(Debug)]
pub struct Board {
    /// Its file, without the ending.
    pub name: String,
    /// As people see it, without the folder.
    pub title: String,
    pub variables: Vec<Variable>,
    pub panels: Vec<Panel>,
    uid: String,
}

/// What a person chooses at the top of a dashboard, from the answer to a query.
#[derive(Debug)]
pub struct Variable {
    pub name: String,
    /// What follows `label_values(`, taken apart: which series, and which label of them.
    pub series: String,
    pub label: String,
}

#[derive(Debug)]
pub struct Panel {
    pub title: String,
    pub queries: Vec<Query>,
    /// Whether it says in words of its own what it means that there is no data.
    pub says_empty: bool,
    description: String,
    unit: String,
    /// x, y, width, height.
    place: [u64; 4],
}

#[derive(Debug)]
pub struct Query {
    pub expr: String,
    pub legend: String,
    /// One moment is asked for, not a stretch of time.
    pub is_instant: bool,
}

/// Every dashboard of the repository.
pub fn all() -> Result<Vec<Board>> {
    let dir = shell::root().join(DIR);
    let read = |file: String| {
        let text = fs::read_to_string(dir.join(&file)).with_context(|| format!("reading {DIR}/{file}"))?;
        Board::parse(file.trim_end_matches(".json"), &text).with_context(|| format!("{DIR}/{file}"))
    };
    names_in(&dir)?.into_iter().map(read).collect()
}

impl Board {
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).context("it is no JSON")?;
        let panels = list(&json, "/panels").iter().map(Panel::parse).collect();
        let mut variables = Vec::new();
        for variable in list(&json, "/templating/list") {
            if text_at(variable, "/type") == "query" {
                variables.push(Variable::parse(variable)?);
            }
        }
        let title = text_at(&json, "/title").trim_start_matches("Tickgate / ").to_owned();
        Ok(Self { name: name.to_owned(), title, variables, panels, uid: text_at(&json, "/uid") })
    }

    /// Every expression, those of variables included.
    pub fn exprs(&self) -> impl Iterator<Item = &str> {
        let queries = self.panels.iter().flat_map(|panel| &panel.queries).map(|query| query.expr.as_str());
        queries.chain(self.variables.iter().map(|variable| variable.series.as_str()))
    }

    /// What is wrong with it, whatever its queries return.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let name = &self.name;
        if self.uid != format!("tickgate-{name}") {
            findings.push(format!("{name}: its uid is {:?}", self.uid));
        }
        if self.panels.is_empty() {
            findings.push(format!("{name}: no panels"));
        }
        for panel in &self.panels {
            findings
                .extend(panel.findings().into_iter().map(|what| format!("{name}/{}: {what}", panel.title)));
        }
        for (index, panel) in self.panels.iter().enumerate() {
            let mut others = self.panels[..index].iter();
            if let Some(other) = others.find(|other| overlap(other.place, panel.place)) {
                findings.push(format!("{name}/{}: it lies over {}", panel.title, other.title));
            }
        }
        findings
    }
}

impl Variable {
    fn parse(json: &Value) -> Result<Self> {
        let name = text_at(json, "/name");
        let query = text_at(json, "/query/query");
        let parts =
            query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once(','));
        let (series, label) =
            parts.with_context(|| format!("variable {name}: {query:?} is no label_values(series, label)"))?;
        Ok(Self { name, series: series.trim().to_owned(), label: label.trim().to_owned() })
    }
}

impl Panel {
    fn parse(json: &Value) -> Self {
        let query = |target: &Value| Query {
            expr: text_at(target, "/expr"),
            legend: text_at(target, "/legendFormat"),
            is_instant: target["instant"].as_bool().unwrap_or(false),
        };
        Self {
            title: text_at(json, "/title"),
            queries: list(json, "/targets").iter().map(query).collect(),
            says_empty: !text_at(json, "/fieldConfig/defaults/noValue").is_empty(),
            description: text_at(json, "/description"),
            unit: text_at(json, "/fieldConfig/defaults/unit"),
            place: ["x", "y", "w", "h"].map(|key| json["gridPos"][key].as_u64().unwrap_or(0)),
        }
    }

    fn findings(&self) -> Vec<&'static str> {
        let [x, y, width, height] = self.place;
        let complaints = [
            (self.title.trim().is_empty(), "no title"),
            (
                self.description.chars().count() < DESCRIPTION_CHARS_MIN,
                "no description that says what it means and what to do",
            ),
            (self.unit.is_empty(), "no unit"),
            (self.queries.is_empty(), "no query"),
            (self.queries.iter().any(|query| query.expr.trim().is_empty()), "an empty query"),
            (self.queries.iter().any(|query| query.legend.trim().is_empty()), "a query without a legend"),
            (width == 0 || height == 0, "no size"),
            (x + width > COLUMNS || y + height > LINES_MAX, "it does not fit on one screen"),
        ];
        complaints.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| what).collect()
    }
}

fn overlap([x, y, width, height]: [u64; 4], [other_x, other_y, other_width, other_height]: [u64; 4]) -> bool {
    x < other_x + other_width && other_x < x + width && y < other_y + other_height && other_y < y + height
}

fn list<'a>(json: &'a Value, pointer: &str) -> &'a [Value] {
    json.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text_at(json: &Value, pointer: &str) -> String {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn panel() -> Value {
        json!({
            "title": "Clients",
            "description": "Open sessions over all gateways. A sudden fall: look at why sessions ended.",
            "fieldConfig": {"defaults": {"unit": "none"}},
            "gridPos": {"x": 0, "y": 0, "w": 12, "h": 6},
            "targets": [{"expr": "sum (tickgate_sessions_open)", "legendFormat": "sessions", "instant": true}],
        })
    }

    fn findings(panels: &[Value]) -> Vec<String> {
        let text = json!({"uid": "tickgate-some", "panels": panels}).to_string();
        Board::parse("some", &text).unwrap().findings()
    }

    /// A panel with `pointer` set to `value`.
    fn with(pointer: &str, value: Value) -> Value {
        let mut panel = panel();
        *panel.pointer_mut(pointer).unwrap() = value;
        panel
    }

    #[test]
    fn a_panel_that_lacks_something_is_found() {
        assert_eq!(findings(&[panel()]), [""; 0]);
        for (pointer, value, expected) in [
            ("/title", json!(""), "some/: no title"),
            ("/description", json!("Clients."), "some/Clients: no description"),
            ("/fieldConfig/defaults/unit", json!(null), "some/Clients: no unit"),
            ("/targets", json!([]), "some/Clients: no query"),
            ("/targets/0/expr", json!(" "), "some/Clients: an empty query"),
            ("/targets/0/legendFormat", json!(""), "some/Clients: a query without a legend"),
            ("/gridPos/y", json!(17), "some/Clients: it does not fit on one screen"),
        ] {
            let found = findings(&[with(pointer, value)]);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn panels_do_not_lie_over_each_other() {
        for (pointer, beside) in [("/gridPos/x", json!(12)), ("/gridPos/y", json!(6))] {
            let other = with(pointer, beside);
            assert_eq!(findings(&[panel(), other.clone()]), [""; 0]);
            assert_eq!(findings(&[other, panel()]), [""; 0]);
        }
        assert_eq!(
            findings(&[panel(), with("/gridPos/x", json!(11))]),
            ["some/Clients: it lies over Clients"]
        );
    }

    #[test]
    fn variables_are_taken_apart() {
        let variable = |query: &str| {
            let list =
                json!([{"type": "query", "name": "feed", "query": {"query": query}}, {"type": "datasource"}]);
            Board::parse("some", &json!({"templating": {"list": list}}).to_string())
        };
        let board =
            variable("label_values(tickgate_feed_state{job=~\"$job\", instance=~\"a\"}, feed)").unwrap();
        let [variable_] = board.variables.as_slice() else { panic!("one variable: {board:?}") };
        assert_eq!(variable_.series, "tickgate_feed_state{job=~\"$job\", instance=~\"a\"}");
        assert_eq!(variable_.label, "feed");
        assert!(variable("query_result(up)").is_err());
    }

    #[test]
    fn the_dashboards_are_whole() {
        let boards = all().unwrap();
        assert_eq!(boards.len(), 7);
        for board in boards {
            assert_eq!(board.findings(), [""; 0]);
        }
    }
}
