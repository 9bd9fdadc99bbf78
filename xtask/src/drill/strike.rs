//! How each fault is injected.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::background;
use crate::kafka;
use crate::shell;

use super::ground::{CLIENTS, Gateway, Ground, Role, TOPIC};

/// Records that nobody can read.
const UNREADABLE: [&[u8]; 3] =
    [b"certainly not JSON", b"{\"type\":\"trade\"}", b"{\"type\":\"weather\",\"symbol\":\"SUN\"}"];
/// How far the clock of a producer is ahead.
const AHEAD_MS: i64 = 1_000;
/// More than shards can take with a thirtieth of a processor, and what leaves them no more than that.
const BURST_TICKS_PER_S: u64 = 10_000;
const BESIDE_NEIGHBOUR: &str = "15";

pub fn nothing(_: &mut Ground) -> Result<()> {
    Ok(())
}

/// Clients that want every quote, by way of buffers that are soon full.
const WANTING: [&str; 8] =
    ["--symbols", "*", "--symbols-per-client", "1", "--channels", "quotes=1", "--slow-recv-buffer", "4096"];

pub fn stalled_clients(ground: &mut Ground) -> Result<()> {
    let more = [&WANTING[..], &["--on-slow", "disconnect", "--personas", "stalled=100%"]].concat();
    let clients = ground.clients(CLIENTS / 50, &more, Gateway::Plain);
    ground.start(Role::Fault, "stalled clients", clients)
}

pub fn slow_clients(ground: &mut Ground) -> Result<()> {
    let more = [&WANTING[..], &["--on-slow", "conflate", "--personas", "slow=100%@2000"]].concat();
    let clients = ground.clients(CLIENTS, &more, Gateway::Plain);
    ground.start(Role::Fault, "slow clients", clients)
}

pub fn paused_feed(ground: &mut Ground) -> Result<()> {
    ground.signal(Role::Market, Signal::STOP);
    Ok(())
}

pub fn broker_down(ground: &mut Ground) -> Result<()> {
    ground.kill(Role::Broker);
    Ok(())
}

pub fn broker_frozen(ground: &mut Ground) -> Result<()> {
    ground.signal(Role::Broker, Signal::STOP);
    Ok(())
}

pub fn bad_records(ground: &mut Ground) -> Result<()> {
    kafka::produce(ground.broker, TOPIC, 0, &UNREADABLE)
}

pub fn clock_skew(ground: &mut Ground) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    let at_ms = i64::try_from(now.as_millis())? + AHEAD_MS;
    let trade = format!(
        "{{\"type\":\"trade\",\"symbol\":\"FAST\",\"price\":\"1\",\"size\":\"1\",\"event_ns\":{}}}",
        now.as_nanos()
    );
    kafka::produce_at(ground.broker, TOPIC, 0, at_ms, &[trade.as_bytes()])
}

pub fn certificate(ground: &mut Ground) -> Result<()> {
    ground.certify(5)
}

pub fn refused_reload(ground: &mut Ground) -> Result<()> {
    let file = ground.gateway_file();
    let mut text = fs::OpenOptions::new().append(true).open(&file).context("opening a configuration")?;
    writeln!(text, "no_such_key = 1").context("writing a configuration")?;
    ground.signal(Role::Gateway, Signal::HUP);
    Ok(())
}

pub fn gateway_down(ground: &mut Ground) -> Result<()> {
    ground.kill(Role::Gateway);
    Ok(())
}

/// The shards are put on one processor, beside a program that takes all but a thirtieth of it, and then comes a burst.
pub fn overload(ground: &mut Ground) -> Result<()> {
    let cpu = last_processor()?;
    let gateway = ground.pid(Role::Gateway).context("there is no gateway")?;
    let shards = threads(gateway, "shard-")?;
    if shards.is_empty() {
        bail!("the gateway has no threads called shard-N");
    }
    for thread in shards {
        let thread = thread.to_string();
        run("taskset", &["--pid", "--cpu-list", &cpu, &thread])?;
        run("renice", &["-n", BESIDE_NEIGHBOUR, "-p", &thread])?;
    }
    let mut neighbour = background::bound(Path::new("taskset"));
    neighbour.args(["--cpu-list", &cpu, "sh", "-c", "while :; do :; done"]);
    ground.start(Role::Fault, "neighbour", neighbour)?;
    let burst = ground.market(BURST_TICKS_PER_S, 2);
    ground.start(Role::Fault, "burst", burst)
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let done = shell::output(Command::new(program).args(words));
    done.map(drop).with_context(|| format!("{program} {} fails", words.join(" ")))
}

/// The last processor that this process may use, as `taskset` calls it.
fn last_processor() -> Result<String> {
    let text = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = list.and_then(|list| list.trim().rsplit([',', '-']).next());
    Ok(last.context("no list of processors in /proc/self/status")?.to_owned())
}

/// The threads of a process whose names begin so.
fn threads(pid: u32, prefix: &str) -> Result<Vec<u32>> {
    let dir = format!("/proc/{pid}/task");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("reading {dir}"))? {
        let path = entry?.path();
        // It may end while we look.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            found.extend(path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        }
    }
    Ok(found)
}
