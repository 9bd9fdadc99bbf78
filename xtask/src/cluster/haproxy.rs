//! HAProxy in front of the gateways: which of them are there, it learns from `/readyz`.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::gateway::Gateway;
use crate::background::{self, Program, free_ports};
use crate::{http, setup, shell};

/// How often each gateway is asked whether it is ready, in milliseconds; twice the same answer counts.
const CHECK_MS: u32 = 250;
/// How long HAProxy may take to start.
const START_MAX: Duration = Duration::from_secs(10);
/// A port was free when we chose it and may have been taken when HAProxy binds it: then others are chosen.
const ATTEMPTS: usize = 3;

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    program: Program,
    clients: SocketAddr,
    stats: SocketAddr,
}

impl Haproxy {
    /// Starts one in front of `gateways`, its files in `dir`.
    ///
    /// # Errors
    /// When it refuses its configuration or does not start.
    pub fn start(gateways: &[Gateway], connections_max: usize, dir: &Path) -> Result<Self> {
        let file = setup::haproxy().context("no haproxy was found")?;
        let config = dir.join("haproxy.cfg");
        for attempt in 1.. {
            let ports = free_ports(2)?;
            let [clients, stats] =
                [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            let text = configuration(gateways, connections_max, clients, stats);
            fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
            let mut check = Command::new(&file);
            check.args(["-c", "-f"]).arg(&config);
            let checked = check.output().with_context(|| format!("starting {}", file.display()))?;
            if !checked.status.success() {
                bail!("HAProxy refuses its configuration:\n{}", String::from_utf8_lossy(&checked.stderr));
            }
            match Self::try_start(&file, &config, clients, stats, dir) {
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => shell::check_interrupt()?,
                started => return started,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn try_start(
        file: &Path,
        config: &Path,
        clients: SocketAddr,
        stats: SocketAddr,
        dir: &Path,
    ) -> Result<Self> {
        let mut command = background::bound(file);
        // In the foreground, as one process.
        command.arg("-db").arg("-f").arg(config);
        let program = Program::start("HAProxy", command, &log(dir))?;
        let mut haproxy = Self { program, clients, stats };
        super::wait_until("HAProxy answers", START_MAX, || {
            haproxy.program.check()?;
            Ok(http::get(stats, "/").is_ok())
        })?;
        Ok(haproxy)
    }

    /// Where clients connect to.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/stream", self.clients)
    }

    /// A page about the gateways, for a browser.
    pub fn stats_url(&self) -> String {
        format!("http://{}/", self.stats)
    }

    /// How many gateways it sends clients to.
    pub fn gateways_up(&self) -> usize {
        http::get(self.stats, "/;csv").map_or(0, |(_, csv)| count_up(&csv))
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.program.check()
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("haproxy.log")
}

/// What HAProxy is told, with the reasons.
fn configuration(
    gateways: &[Gateway],
    connections_max: usize,
    clients: SocketAddr,
    stats: SocketAddr,
) -> String {
    let mut text = format!(
        "\
# Written by `cargo xtask cluster`. Any gateway serves any client: nothing here is sticky.
global
    maxconn {connections_max}

defaults
    mode http
    timeout connect 2s
    # Until the handshake is done; then the tunnel's counts.
    timeout client 10s
    timeout server 10s
    timeout http-request 5s
    # Gateways send heartbeats every five seconds, clients need not send anything: a minute of silence is the end.
    timeout tunnel 1m
    timeout client-fin 10s
    # A gateway that has just gone, or that drains and says 503, costs the client nothing: another one is asked.
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 503

frontend clients
    bind {clients}
    default_backend gateways

backend gateways
    # Sessions last for hours: the next one goes where there are fewest.
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    # A gateway that is not ready any more gets no new clients; those that it has, it sends away itself. One that is gone
    # has the fewest sessions of all: the first connection that it refuses takes it out, or it would get every client.
    default-server inter {CHECK_MS}ms fall 2 rise 2 observe layer4 error-limit 1 on-error mark-down
"
    );
    for gateway in gateways {
        writeln!(
            text,
            "    server gateway-{} {} check addr {} port {}",
            gateway.number(),
            gateway.listen(),
            gateway.admin().ip(),
            gateway.admin().port()
        )
        .expect("a String takes everything");
    }
    write!(
        text,
        "
frontend stats
    bind {stats}
    stats enable
    stats uri /
    stats refresh 1s
"
    )
    .expect("a String takes everything");
    text
}

/// How many servers of the gateways are up, by HAProxy's own table.
fn count_up(csv: &str) -> usize {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |name: &str| head.iter().position(|column| *column == name);
    let (Some(proxy), Some(server), Some(status)) = (column("pxname"), column("svname"), column("status"))
    else {
        return 0;
    };
    lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|line| {
            let has =
                |column: usize, is: &dyn Fn(&str) -> bool| line.get(column).is_some_and(|text| is(text));
            has(proxy, &|text| text == "gateways")
                && has(server, &|text| text.starts_with("gateway-"))
                && has(status, &|text| text.starts_with("UP") || text == "no check")
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_every_gateway_by_both_addresses() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let gateways: Vec<Gateway> =
            (1..=2).map(|n| Gateway::at(n, address(8000 + n as u16), address(9000 + n as u16))).collect();
        let text = configuration(&gateways, 500, address(7000), address(7001));
        assert!(
            text.contains("\n    server gateway-2 127.0.0.1:8002 check addr 127.0.0.1 port 9002\n"),
            "{text}"
        );
        assert!(text.contains("frontend clients\n    bind 127.0.0.1:7000\n"), "{text}");
        assert!(text.contains("maxconn 500\n"), "{text}");
    }

    #[test]
    fn only_gateways_that_are_up_are_counted() {
        let csv = "# pxname,svname,qcur,status,weight\n\
                   clients,FRONTEND,,OPEN,\n\
                   gateways,gateway-1,0,UP,1\n\
                   gateways,gateway-2,0,DOWN,1\n\
                   gateways,gateway-3,0,UP 1/2,1\n\
                   gateways,BACKEND,0,UP,2\n";
        assert_eq!(count_up(csv), 2);
        assert_eq!(count_up(""), 0);
    }
}
