//! A whole cluster on this machine, which is then broken on purpose: what do its clients notice?
//!
//! Apache Kafka with three nodes, three gateways, HAProxy in front of them ([`haproxy`]), a simulated market and clients
//! that verify every event and come back when they lose their session ([`load`]). Gateways are killed and restarted
//! one after the other ([`gateway`]); what the clients say of it is set against what was done to them ([`report`]).

mod gateway;
mod haproxy;
mod load;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::background::Program;
use crate::kafka::TemporaryKafka;
use crate::setup::{self, Need};
use crate::shell::{self, Failure, human, step};
use gateway::{Gateway, Setting};
use haproxy::Haproxy;
pub use load::Programs;
use report::{Blow, Seen};

const TOPIC: &str = "ticks";
const GATEWAYS: usize = 3;
const KAFKA_NODES: usize = 3;
const BUSY: &str = "another `cargo xtask cluster` of this checkout is running; wait for it, or end it";
/// How long a gateway may take to be ready, and HAProxy to notice.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long clients may take to be back.
const BACK_MAX: Duration = Duration::from_secs(60);
/// From the end of the feed to the end of the clients: all that was sent has come by then.
const QUIET: Duration = Duration::from_secs(3);
/// How often it is said how things are going.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How often things are looked at that are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts Apache Kafka (3 nodes), 3 gateways and HAProxy, breaks them under load, and reports what clients noticed.
///
/// A simulated market feeds a topic of which every partition is on all three nodes. Clients connect through HAProxy,
/// which asks each gateway's /readyz and knows no stickiness. They verify every event, and when they lose their session they
/// come back to any gateway and go on from their last cursor or from the last position of each symbol.
///
/// Then every gateway in turn is killed with SIGKILL and started again, and after that every gateway is restarted with SIGTERM as
/// a deployment does. In the end the market stops, and all clients must stand at the same place.
///
/// The table has a row for each of these blows: clients that lost their session and those that came back, the mean and
/// the longest time from the loss to having caught up, attempts to connect in vain, events that were replayed, events that came
/// again because a cursor was older than the last event (the client discards them), and what must not be: events lost
/// without a word, announced gaps, and events that came twice.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Clients, all through HAProxy
    #[arg(long, default_value_t = 200, value_name = "N")]
    clients: usize,
    /// Symbols of the market
    #[arg(long, default_value_t = 200, value_name = "N")]
    symbols: usize,
    /// Ticks per second of the market
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    rate: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: i32,
    /// How clients go on: from their last cursor, from the last position of each symbol, or one half so and one half so
    #[arg(long, default_value = "mixed", value_name = "HOW", value_parser = ["cursor", "seq", "mixed"])]
    resume: String,
    /// How often every gateway is killed
    #[arg(long, default_value_t = 1, value_name = "N")]
    kills: u32,
    /// How often all gateways are restarted, one after the other
    #[arg(long, default_value_t = 1, value_name = "N")]
    restarts: u32,
    /// Time between two blows, in seconds, counted from when all clients are back
    #[arg(long, default_value_t = 5, value_name = "S")]
    pause_s: u64,
    /// Leave all of it running at the end, with the market going on, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Build for development: quicker to build, slower to run
    #[arg(long)]
    dev: bool,
}

const MANUAL: &str = "\
Logs, HAProxy's configuration and the clients' full report are in .local/cluster. Nothing but loopback is used. Ctrl-C ends \
all of it at any time.

Exit codes: 0 nothing was lost and nothing came twice; 1 something was, a client did not come back, or a gateway did not \
stop as it should; 69 a tool is missing that could not be installed; 130 interrupted.

Examples:
  cargo xtask cluster
  cargo xtask cluster --kills 20 --restarts 0 --clients 1000
  cargo xtask cluster --kills 0 --restarts 0 --keep";

pub fn run(args: Args) -> Result<()> {
    setup::ensure(&[Need::Build, Need::Java, Need::Maven, Need::Haproxy])?;
    let programs = Programs::build(args.dev)?;
    let mut cluster = Cluster::start(&args, programs)?;
    let verdict = cluster.trial(&args)?;
    if args.keep {
        cluster.keep(&args)?;
    }
    drop(cluster);
    verdict
}

/// Everything that runs. Dropped, the clients end first and Kafka last.
struct Cluster {
    clients: Option<Program>,
    feed: Program,
    haproxy: Haproxy,
    gateways: Vec<Gateway>,
    setting: Setting,
    kafka: TemporaryKafka,
    programs: Programs,
    blows: Vec<Blow>,
    /// What went wrong with the cluster itself.
    failures: Vec<String>,
    said: Instant,
}

impl Cluster {
    fn start(args: &Args, programs: Programs) -> Result<Self> {
        let kafka = TemporaryKafka::start("cluster", KAFKA_NODES, BUSY)?;
        let dir = fresh_dir()?;
        kafka.create_topic(TOPIC, args.partitions)?;
        step(format_args!("topic {TOPIC}: {} partitions, each on {KAFKA_NODES} nodes", args.partitions));
        let setting = Setting {
            program: programs.gateway(),
            brokers: kafka.bootstrap(),
            topic: TOPIC.to_owned(),
            dir: dir.clone(),
        };
        let feed = programs.start_feed(args, &setting)?;
        let mut gateways = Gateway::choose(GATEWAYS)?;
        for gateway in &mut gateways {
            gateway.start(&setting)?;
        }
        wait_until("the gateways are ready", READY_MAX, || {
            gateways.iter_mut().try_for_each(Gateway::check)?;
            Ok(gateways.iter().all(Gateway::is_ready))
        })?;
        step(format_args!("{GATEWAYS} gateways are ready"));
        // Each client has a connection on either side, and a few are about to come or to go.
        let haproxy = Haproxy::start(&gateways, 2 * args.clients + 1_000, &dir)?;
        step(format_args!(
            "HAProxy is in front of them: {} (its page: {})",
            haproxy.url(),
            haproxy.stats_url()
        ));
        Ok(Self {
            clients: None,
            feed,
            haproxy,
            gateways,
            setting,
            kafka,
            programs,
            blows: Vec::new(),
            failures: Vec::new(),
            said: Instant::now(),
        })
    }

    /// Clients come, the cluster is broken, clients go. The outer error is that this could not be done, the inner one
    /// that the cluster did not stand it.
    fn trial(&mut self, args: &Args) -> Result<Result<()>> {
        let dir = self.setting.dir.clone();
        self.clients = Some(self.programs.start_clients(args, &self.haproxy.url(), &dir)?);
        self.wait("all clients have a session", BACK_MAX, |cluster| {
            cluster.sessions() >= args.clients as u64
        })?;
        step(format_args!("{} clients have a session", args.clients));
        let kills = (0..args.kills).flat_map(|_| (0..GATEWAYS).map(|index| (index, Signal::KILL)));
        let restarts = (0..args.restarts).flat_map(|_| (0..GATEWAYS).map(|index| (index, Signal::TERM)));
        for (index, signal) in kills.chain(restarts) {
            self.rest(args.pause_s)?;
            match signal {
                Signal::KILL => self.kill(index, args)?,
                _ => self.restart(index, args)?,
            }
            if !self.failures.is_empty() {
                // What comes after it would say nothing new.
                break;
            }
        }
        self.rest(args.pause_s)?;
        self.end_trial(&dir)
    }

    /// Kills a gateway, waits for its clients to be elsewhere, and starts it again.
    fn kill(&mut self, index: usize, args: &Args) -> Result<()> {
        let number = self.gateways[index].number();
        let sessions = self.gateways[index].sessions();
        step(format_args!("SIGKILL to gateway {number}, which has {sessions} sessions"));
        self.blows.push(Blow::now(format!("SIGKILL gateway {number}")));
        self.gateways[index].kill();
        self.wait_for_clients(args)?;
        self.start_again(index)
    }

    /// Restarts a gateway as a deployment does.
    fn restart(&mut self, index: usize, args: &Args) -> Result<()> {
        let number = self.gateways[index].number();
        let sessions = self.gateways[index].sessions();
        step(format_args!("SIGTERM to gateway {number}, which has {sessions} sessions"));
        self.blows.push(Blow::now(format!("SIGTERM gateway {number}")));
        let started = Instant::now();
        match self.gateways[index].stop() {
            Ok(status) => {
                self.note(format!("{status} after {}", human(started.elapsed())));
                if !status.success() {
                    self.failures.push(format!("gateway {number} did not stop well: {status}"));
                }
            }
            Err(error) => {
                shell::check_interrupt()?;
                self.failures.push(format!("{error:#}"));
                self.gateways[index].kill();
            }
        }
        self.start_again(index)?;
        self.wait_for_clients(args)
    }

    fn start_again(&mut self, index: usize) -> Result<()> {
        self.gateways[index].start(&self.setting)?;
        self.wait("HAProxy sends clients to all gateways", READY_MAX, |cluster| {
            cluster.gateways[index].is_ready() && cluster.haproxy.gateways_up() == GATEWAYS
        })
    }

    /// Waits until all clients have a session again. That they don't is for the report.
    fn wait_for_clients(&mut self, args: &Args) -> Result<()> {
        let all = args.clients as u64;
        let waited =
            self.wait("all clients have a session again", BACK_MAX, |cluster| cluster.sessions() >= all);
        shell::check_interrupt()?;
        if let Err(error) = waited {
            self.failures.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// The market stops, and then the clients.
    fn end_trial(&mut self, dir: &Path) -> Result<Result<()>> {
        step("the market stops, and then the clients");
        if !load::end(&mut self.feed)? {
            self.failures.push(format!("the simulator failed:\n{}", self.feed.log_tail(5)));
        }
        shell::pause(QUIET)?;
        let Some(mut clients) = self.clients.take() else { return Ok(Ok(())) };
        load::end(&mut clients)?;
        let seen = Seen::read(&load::report(dir)).with_context(|| clients.log_tail(10))?;
        println!("\n{}", seen.table(&self.blows));
        let mut failures = std::mem::take(&mut self.failures);
        failures.extend(seen.failures());
        step(format_args!("everything the clients say is in {}", dir.display()));
        if failures.is_empty() {
            println!("PASSED: nothing was lost, and nothing came twice");
            return Ok(Ok(()));
        }
        println!("FAILED: {}", failures.join("; "));
        Ok(Err(Failure::error(1, "the cluster did not stand it")))
    }

    /// Goes on until somebody has played enough.
    fn keep(&mut self, args: &Args) -> Result<()> {
        self.feed = self.programs.start_feed(args, &self.setting)?;
        println!("\nLeft running until Ctrl-C:\n");
        println!("  clients    {}   HAProxy's page: {}", self.haproxy.url(), self.haproxy.stats_url());
        for gateway in &self.gateways {
            let (number, pid) = (gateway.number(), gateway.pid().unwrap_or(0));
            println!(
                "  gateway {number}  ws://{}/v1/stream   http://{}/   pid {pid}",
                gateway.listen(),
                gateway.admin()
            );
        }
        println!("  Kafka      {}, topic {TOPIC}", self.kafka.bootstrap());
        let (clients, url) = (self.programs.clients(), self.haproxy.url());
        println!("  watch      {} watch --url {url} --symbols '*'", clients.display());
        println!("  load       {} run --url {url} --resume mixed --until-stopped\n", clients.display());
        loop {
            // Whoever plays may kill what he likes: only the signal ends this.
            if shell::pause(SAY_EVERY).is_err() {
                return Ok(());
            }
        }
    }

    fn sessions(&self) -> u64 {
        self.gateways.iter().map(Gateway::sessions).sum()
    }

    /// Adds to what is said of the last blow.
    fn note(&mut self, text: String) {
        if let Some(blow) = self.blows.last_mut() {
            blow.note = text;
        }
    }

    /// Lets `seconds` pass.
    fn rest(&mut self, seconds: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            self.look()?;
            shell::pause(LOOK_EVERY)?;
        }
        Ok(())
    }

    fn wait(&mut self, what: &str, at_most: Duration, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !holds(self) {
            self.look()?;
            if started.elapsed() > at_most {
                return Err(late(what, at_most));
            }
            shell::pause(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Sees that everything runs that should, and says now and then how the clients are.
    fn look(&mut self) -> Result<()> {
        self.feed.check()?;
        self.haproxy.check()?;
        self.gateways.iter_mut().try_for_each(Gateway::check)?;
        let Some(clients) = &mut self.clients else { return Ok(()) };
        clients.check()?;
        if self.said.elapsed() > SAY_EVERY {
            self.said = Instant::now();
            step(format_args!("clients {}", clients.last_line()));
        }
        Ok(())
    }
}

/// Waits until something holds that is not worth a word unless it takes long.
fn wait_until(what: &str, at_most: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    let mut said = started;
    while !holds()? {
        if started.elapsed() > at_most {
            return Err(late(what, at_most));
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            step(format_args!("waiting until {what}: {} so far", human(started.elapsed())));
        }
        shell::pause(LOOK_EVERY)?;
    }
    Ok(())
}

fn late(what: &str, at_most: Duration) -> anyhow::Error {
    Failure::error(1, format!("not within {}: {what}", human(at_most)))
}

/// A folder for the files of this run, empty.
fn fresh_dir() -> Result<PathBuf> {
    let dir = shell::root().join(".local/cluster");
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", dir.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}
