//! The days before: burn rates look at hours and days, and of a Prometheus that knows half a minute they would say anything.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::dashboards::fresh_dir;
use crate::shell::{self, step};

use super::ground::{CLIENTS, INSTANCE, JOB, TOPIC};

const DAYS: u64 = 3;
/// Events delivered a second, of a gateway with thousands of clients: more than a drill delivers while all is well, and half of
/// what it does in a burst. So a second of a drill weighs about as much as one of the past does.
const EVENTS_PER_S: u64 = 100_000;
/// One event in so many was late: a tenth of what the objective allows.
const LATE_ONE_IN: u64 = 10_000;
/// How far apart the samples are, long ago and in the last hour. What a rule records is a sample each time, and a share of
/// samples, so the last hour has it as often as a drill evaluates it.
const LONG_AGO_S: u64 = 60;
const LAST_HOUR_S: u64 = 15;
const RECORDED_LONG_AGO_S: u64 = 10;
const RECORDED_LAST_HOUR_S: u64 = 1;

/// Blocks of Prometheus with three healthy days of one gateway.
#[derive(Debug)]
pub struct History {
    blocks: PathBuf,
}

impl History {
    pub fn make() -> Result<Self> {
        step("writing three healthy days for Prometheus to look back on");
        let dir = fresh_dir("drill-history")?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
        let (text, blocks) = (dir.join("healthy.om"), dir.join("blocks"));
        fs::write(&text, healthy(now.as_secs())).with_context(|| format!("writing {}", text.display()))?;
        let mut command = Command::new("promtool");
        command.args(["tsdb", "create-blocks-from", "openmetrics", "-q"]).arg(&text).arg(&blocks);
        shell::run(&mut command)?;
        Ok(Self { blocks })
    }

    /// Puts a copy of it where a Prometheus keeps its data.
    pub fn copy_to(&self, data: &Path) -> Result<()> {
        copy(&self.blocks, data).with_context(|| format!("copying {}", self.blocks.display()))
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What the rules read, of three days up to `now_s`, as OpenMetrics.
fn healthy(now_s: u64) -> String {
    let start = now_s - DAYS * 86_400;
    let mut text = String::new();
    let mut series = |name: &str,
                      labels: &str,
                      [long_ago, last_hour]: [u64; 2],
                      value: &dyn Fn(u64) -> u64| {
        let turn = now_s - 3_600;
        let times = (start..turn).step_by(long_ago as usize).chain((turn..now_s).step_by(last_hour as usize));
        for time in times {
            let value = value(time - start);
            let _ = writeln!(text, "{name}{{job=\"{JOB}\",instance=\"{INSTANCE}\"{labels}}} {value} {time}");
        }
    };
    let scraped = [LONG_AGO_S, LAST_HOUR_S];
    series("up", "", scraped, &|_| 1);
    series("tickgate_build_info", "", scraped, &|_| 1);
    series("tickgate_latency_seconds_count", ",stage=\"ingest_to_written\"", scraped, &|s| s * EVENTS_PER_S);
    let in_time = |s| s * EVENTS_PER_S - s * EVENTS_PER_S / LATE_ONE_IN;
    series("tickgate_latency_seconds_bucket", ",stage=\"ingest_to_written\",le=\"0.01\"", scraped, &in_time);
    series("tickgate_sessions_open", ",shard=\"0\"", scraped, &|_| CLIENTS);
    // Somebody comes and goes every minute, and nobody had to.
    series("tickgate_sessions_opened_total", "", scraped, &|s| CLIENTS + s / 60);
    series("tickgate_sessions_closed_total", ",reason=\"client\"", scraped, &|s| s / 60);
    series("tickgate_sessions_closed_total", ",reason=\"slow_consumer\"", scraped, &|_| 0);
    let recorded = [RECORDED_LONG_AGO_S, RECORDED_LAST_HOUR_S];
    series("tickgate:feed_stale:flag", &format!(",feed=\"{TOPIC}\""), recorded, &|_| 0);
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_before_were_healthy_and_end_now() {
        let now_s = 1_800_000_000;
        let text = healthy(now_s);
        let last = |name: &str| {
            let line = text.lines().rfind(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').take(2).map(|word| word.parse::<u64>().unwrap()).collect::<Vec<_>>()
        };
        let [at, all] = last("tickgate_latency_seconds_count")[..] else { panic!("a time and a value") };
        let [_, in_time] = last("tickgate_latency_seconds_bucket")[..] else { panic!("a time and a value") };
        assert!(now_s - at <= LAST_HOUR_S, "the last sample is of now");
        assert_eq!((all - in_time) * LATE_ONE_IN, all, "{in_time} of {all}");
        assert_eq!(last("tickgate:feed_stale:flag"), [now_s - 1, 0]);
        assert!(text.ends_with("# EOF\n"));
    }
}
