//! Prometheus, asked over its HTTP API as Grafana does.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::background::{self, Program};
use crate::http;
use crate::shell::{self, Failure};

/// How long it may take until it is ready.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Disk that its samples may take: days of what is scraped here.
const RETENTION: &str = "1GB";

/// The stretch of time that is asked for, in seconds, and its resolution.
const RANGE_S: u64 = 20;
const STEP_S: u64 = 1;

/// What a query came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// So many series with a number among their samples.
    Data(usize),
    /// Samples, and none of them a number.
    NotANumber,
    /// No series at all.
    Nothing,
    /// The same, where that is said in words.
    Words,
    /// Prometheus does not understand the query.
    Refused(String),
}

/// A sample of now, with what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    pub name: String,
    /// `pending` or `firing`.
    pub state: String,
    /// What it is about: its labels but for the name and the severity.
    pub about: String,
}

/// A Prometheus that runs.
#[derive(Debug, Clone, Copy)]
pub struct Prometheus {
    pub address: SocketAddr,
}

impl Prometheus {
    /// Starts one that listens at `address`, by the `prometheus.yml` in `dir`, where its data and its log go as well.
    pub fn start(dir: &Path, address: SocketAddr) -> Result<(Self, Program)> {
        let mut command = background::bound(Path::new("prometheus"));
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--storage.tsdb.retention.size={RETENTION}"));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let mut program = Program::start("Prometheus", command, &dir.join("prometheus.log"))?;
        let (prometheus, end) = (Self { address }, Instant::now() + START_MAX);
        while !prometheus.is_ready() {
            program.check()?;
            if Instant::now() > end {
                return Err(Failure::error(1, format!("Prometheus is not ready:\n{}", program.log_tail(20))));
            }
            shell::pause(LOOK_EVERY)?;
        }
        Ok((prometheus, program))
    }

    pub fn is_ready(self) -> bool {
        http::get(self.address, "/-/ready").is_ok_and(|(status, _)| status == 200)
    }

    /// Asks for one moment, or for the last seconds.
    pub fn ask(self, expr: &str, is_instant: bool) -> Result<Answer> {
        let expr = encoded(expr);
        let path = if is_instant {
            format!("/api/v1/query?query={expr}")
        } else {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("this machine's clock is before 1970")?
                .as_secs();
            format!("/api/v1/query_range?query={expr}&start={}&end={now}&step={STEP_S}", now - RANGE_S)
        };
        let (status, body) =
            http::get(self.address, &path).with_context(|| format!("asking {}", self.address))?;
        answer(status, &body)
    }

    /// The samples that a query comes to now; none are left out but those that are no number.
    pub fn samples(self, expr: &str) -> Result<Vec<Sample>> {
        samples(&self.get(&format!("/api/v1/query?query={}", encoded(expr)))?)
    }

    /// The alerts that are pending or firing.
    pub fn alerts(self) -> Result<Vec<Alert>> {
        alerts(&self.get("/api/v1/alerts")?)
    }

    /// The values of a label among some series.
    pub fn label_values(self, label: &str, series: Option<&str>) -> Result<Vec<String>> {
        let only = series.map(|series| format!("?match[]={}", encoded(series))).unwrap_or_default();
        let json = self.get(&format!("/api/v1/label/{label}/values{only}"))?;
        let values = json["data"].as_array().context("no list of values")?;
        Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The name of every rule, and what is wrong with it.
    pub fn rules(self) -> Result<Vec<(String, Option<String>)>> {
        let json = self.get("/api/v1/rules")?;
        let groups = json["data"]["groups"].as_array().context("no groups of rules")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
        let verdict = |rule: &Value| {
            let name = rule["name"].as_str().unwrap_or_default().to_owned();
            let is_well = rule["health"].as_str() == Some("ok");
            (name, (!is_well).then(|| format!("{} {}", rule["health"], rule["lastError"])))
        };
        Ok(rules.map(verdict).collect())
    }

    fn get(self, path: &str) -> Result<Value> {
        let (status, body) =
            http::get(self.address, path).with_context(|| format!("asking {}", self.address))?;
        if status != 200 {
            bail!("Prometheus answers {path} with {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("Prometheus answers {path} with no JSON"))
    }
}

/// A list, as JSON and YAML both have it.
pub fn quoted(all: &[impl std::fmt::Display]) -> String {
    let all: Vec<_> = all.iter().map(|one| format!("\"{one}\"")).collect();
    format!("[{}]", all.join(", "))
}

fn answer(status: u16, body: &str) -> Result<Answer> {
    let json: Value =
        serde_json::from_str(body).with_context(|| format!("Prometheus answers {status} and no JSON"))?;
    if status != 200 {
        return Ok(Answer::Refused(json["error"].as_str().unwrap_or(body).to_owned()));
    }
    let data = &json["data"];
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        let is_number = is_number(&data["result"]);
        return Ok(if is_number { Answer::Data(1) } else { Answer::NotANumber });
    }
    let series = data["result"].as_array().context("an answer without a result")?;
    let has_number = |one: &&Value| {
        let many = one["values"].as_array().map_or(&[][..], Vec::as_slice);
        is_number(&one["value"]) || many.iter().any(is_number)
    };
    Ok(match (series.len(), series.iter().filter(has_number).count()) {
        (0, _) => Answer::Nothing,
        (_, 0) => Answer::NotANumber,
        (_, good) => Answer::Data(good),
    })
}

fn samples(json: &Value) -> Result<Vec<Sample>> {
    let data = &json["data"];
    if data["resultType"].as_str() == Some("scalar") {
        return Ok(sample(&Value::Null, &data["result"]).into_iter().collect());
    }
    let series = data["result"].as_array().context("an answer without a result")?;
    Ok(series.iter().filter_map(|one| sample(&one["metric"], &one["value"])).collect())
}

fn sample(metric: &Value, sample_: &Value) -> Option<Sample> {
    let value = sample_[1].as_str()?.parse::<f64>().ok().filter(|value| !value.is_nan())?;
    Some(Sample { labels: labels(metric), value })
}

fn labels(json: &Value) -> Vec<(String, String)> {
    let all = json.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn alerts(json: &Value) -> Result<Vec<Alert>> {
    let all = json["data"]["alerts"].as_array().context("no list of alerts")?;
    let alert = |json: &Value| {
        let labels = labels(&json["labels"]);
        let about = labels.iter().filter(|(name, _)| name != "alertname" && name != "severity");
        let about: Vec<_> = about.map(|(name, value)| format!("{name}={value}")).collect();
        Alert {
            name: json["labels"]["alertname"].as_str().unwrap_or_default().to_owned(),
            state: json["state"].as_str().unwrap_or_default().to_owned(),
            about: about.join(", "),
        }
    };
    Ok(all.iter().map(alert).collect())
}

/// Whether a sample, `[time, "value"]`, is a number that can be drawn.
fn is_number(sample: &Value) -> bool {
    let value = sample[1].as_str().and_then(|text| text.parse::<f64>().ok());
    value.is_some_and(|value| !value.is_nan())
}

/// A text as part of a query of a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result_type: &str, result: &str, expected: Answer) {
        let body = format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{result_type}\",\"result\":{result}}}}}"
        );
        assert_eq!(answer(200, &body).unwrap(), expected, "{body}");
    }

    #[test]
    fn only_a_number_is_data() {
        check(
            "matrix",
            r#"[{"metric":{},"values":[[1,"NaN"],[2,"0"]]},{"metric":{},"values":[[1,"NaN"]]}]"#,
            Answer::Data(1),
        );
        check("matrix", r#"[{"metric":{},"values":[[1,"NaN"]]}]"#, Answer::NotANumber);
        check("vector", r#"[{"metric":{},"value":[1,"-2.5"]}]"#, Answer::Data(1));
        check("vector", "[]", Answer::Nothing);
        check("scalar", r#"[1,"NaN"]"#, Answer::NotANumber);
        check("scalar", r#"[1,"3"]"#, Answer::Data(1));
    }

    #[test]
    fn a_query_that_is_not_understood_is_no_answer() {
        let body = r#"{"status":"error","errorType":"bad_data","error":"unexpected end of input"}"#;
        assert_eq!(answer(400, body).unwrap(), Answer::Refused("unexpected end of input".to_owned()));
        assert!(answer(502, "<html>").is_err());
    }

    #[test]
    fn samples_and_alerts_are_read() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let found = samples(&json(
            r#"{"data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]},{"metric":{},"value":[1,"NaN"]}]}}"#,
        ));
        let expected = Sample { labels: vec![("a".to_owned(), "b".to_owned())], value: 2.5 };
        assert_eq!(found.unwrap(), [expected]);
        let scalar = samples(&json(r#"{"data":{"resultType":"scalar","result":[1,"3"]}}"#)).unwrap();
        assert_eq!(scalar, [Sample { labels: vec![], value: 3.0 }]);
        assert!(samples(&json("{}")).is_err());
        let found = alerts(&json(
            r#"{"data":{"alerts":[{"labels":{"alertname":"A","severity":"page","feed":"f"},"state":"pending","value":"1"}]}}"#,
        ));
        let expected =
            Alert { name: "A".to_owned(), state: "pending".to_owned(), about: "feed=f".to_owned() };
        assert_eq!(found.unwrap(), [expected]);
        assert!(alerts(&json("{}")).is_err());
    }

    #[test]
    fn expressions_are_encoded() {
        assert_eq!(encoded("a{b=~\"c|d\"}[5s]"), "a%7Bb%3D~%22c%7Cd%22%7D%5B5s%5D");
        assert_eq!(encoded("1 + é"), "1%20%2B%20%C3%A9");
    }
}
