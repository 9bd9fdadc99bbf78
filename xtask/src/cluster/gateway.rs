//! A gateway of the cluster: started, asked, killed, stopped, and started again at the same place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::background::{self, Program, free_ports};
use crate::http;

/// What the gateways are set to, beside their addresses and the feed.
const SETTINGS: [&str; 5] = [
    // HAProxy needs half a second to notice.
    "drain.accept_ms=1000",
    "drain.spread_ms=2000",
    "drain.grace_ms=3000",
    // A gateway that was just started knows the present state of the market.
    "kafka.warm_up_s=30",
    // What one of them signs, all of them take. A real one is a secret.
    "replay.cursor_key=of the cluster on this machine",
];
/// How long a gateway may take to stop: all of the above and a second.
pub const STOP_MAX: Duration = Duration::from_secs(7);

/// A gateway, running or not.
#[derive(Debug)]
pub struct Gateway {
    number: usize,
    listen: SocketAddr,
    admin: SocketAddr,
    program: Option<Program>,
}

/// What all gateways of the cluster are started with.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The `tickgate` to run.
    pub program: PathBuf,
    pub brokers: String,
    pub topic: String,
    /// Where their logs go.
    pub dir: PathBuf,
}

impl Gateway {
    /// `count` gateways on free ports, none of them started.
    pub fn choose(count: usize) -> Result<Vec<Self>> {
        let ports = free_ports(2 * count)?;
        let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pairs = (1..).zip(ports.chunks_exact(2));
        Ok(pairs.map(|(number, pair)| Self::at(number, address(pair[0]), address(pair[1]))).collect())
    }

    /// Gateway `number` at these addresses, not started.
    pub fn at(number: usize, listen: SocketAddr, admin: SocketAddr) -> Self {
        Self { number, listen, admin, program: None }
    }

    /// From 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where clients connect to.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process, when it runs.
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    pub fn start(&mut self, setting: &Setting) -> Result<()> {
        let mut command = background::bound(&setting.program);
        command.args(["run", "--brokers", &setting.brokers, "--topic", &setting.topic]);
        command.args(["--listen", &self.listen.to_string(), "--admin", &self.admin.to_string()]);
        command.args(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        let name = format!("gateway {}", self.number);
        self.program = Some(Program::start(name, command, &self.log(&setting.dir))?);
        Ok(())
    }

    pub fn log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("gateway-{}.log", self.number))
    }

    /// Fails when it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.program.as_mut().map_or(Ok(()), Program::check)
    }

    /// Whether clients should come.
    pub fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz").is_ok_and(|(status, _)| status == 200)
    }

    /// Its open sessions; none when it does not answer.
    pub fn sessions(&self) -> u64 {
        let Some(_) = &self.program else { return 0 };
        http::get(self.admin, "/metrics").map_or(0, |(_, text)| sum(&text, "tickgate_sessions_open") as u64)
    }

    /// Kills it, as a machine does that loses its power.
    pub fn kill(&mut self) {
        // Dropped, it is killed.
        self.program = None;
    }

    /// Stops it as a deployment does, and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or runs on after [`STOP_MAX`].
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let program = self.program.as_mut().context("it does not run")?;
        program.signal(Signal::TERM);
        let Some(status) = program.wait(STOP_MAX)? else {
            bail!("gateway {} runs on {STOP_MAX:?} after SIGTERM:\n{}", self.number, program.log_tail(20));
        };
        self.program = None;
        Ok(status)
    }
}

/// A metric, summed over its labels.
fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with([' ', '{']));
    values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# TYPE open gauge\nopen{shard=\"0\"} 12\nopen{shard=\"1\"} 30\nopened_total 99\n";
        assert_eq!((sum(text, "open"), sum(text, "opened_total"), sum(text, "none")), (42.0, 99.0, 0.0));
    }

    #[test]
    fn every_gateway_has_addresses_of_its_own() {
        let gateways = Gateway::choose(3).unwrap();
        let mut all: Vec<_> = gateways.iter().flat_map(|gateway| [gateway.listen, gateway.admin]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert_eq!(gateways.iter().map(Gateway::number).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
