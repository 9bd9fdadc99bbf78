//! What Prometheus' own tool says of what is scraped.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::http;

/// A scrape with a name, a label and a help that `promtool` must complain of.
const BROKEN: &str =
    "# TYPE tickgate_broken_milliseconds gauge\ntickgate_broken_milliseconds{quantile=\"0.5\"} 1\n";

/// What is wrong with what some programs show: their names, and where they are scraped.
pub fn findings(scraped: &[(String, SocketAddr)]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (name, address) in scraped {
        let (status, text) =
            http::get(*address, "/metrics").with_context(|| format!("scraping the {name}"))?;
        if status != 200 || !text.contains("# TYPE ") {
            bail!("the {name} answers a scrape with {status}: {text}");
        }
        findings
            .extend(complaints(&text)?.into_iter().map(|line| format!("promtool, of the {name}: {line}")));
    }
    if complaints(BROKEN)?.len() < 3 {
        findings.push("promtool does not complain of metrics that are broken on purpose".to_owned());
    }
    Ok(findings)
}

/// All that `promtool check metrics` says; of what is well it says nothing.
fn complaints(text: &str) -> Result<Vec<String>> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().context("starting promtool")?;
    // It reads all before it says anything. One that has ended takes no more, and says why.
    let _ = promtool.stdin.take().context("promtool takes nothing")?.write_all(text.as_bytes());
    let output = promtool.wait_with_output().context("waiting for promtool")?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut lines: Vec<String> = said.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    if !output.status.success() && lines.is_empty() {
        lines.push(output.status.to_string());
    }
    Ok(lines)
}
