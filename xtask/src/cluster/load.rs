//! What makes the load: a simulator that feeds Kafka, and clients that come in through HAProxy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::Args;
use super::gateway::Setting;
use crate::background::{self, Program};
use crate::setup::{self, Need};
use crate::shell;

/// How long the simulator may take to deliver what it has, and the clients to close.
const END_MAX: Duration = Duration::from_secs(60);

/// The programs of the product.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Builds them.
    pub fn build(is_dev: bool) -> Result<Self> {
        setup::ensure(&[Need::Build])?;
        let how = if is_dev { "for development" } else { "in release mode" };
        shell::step(format_args!(
            "building gateway, simulator and clients {how} (the first time takes some minutes, librdkafka included)"
        ));
        let mut command = shell::cargo();
        command.args(["build", "--bins", "--package", "tickgate-gateway"]);
        command.args(["--package", "tickgate-sim", "--package", "tickgate-load"]);
        if !is_dev {
            command.arg("--release");
        }
        shell::run(&mut command)?;
        Ok(Self { dir: shell::target_dir().join(if is_dev { "debug" } else { "release" }) })
    }

    pub fn gateway(&self) -> PathBuf {
        self.dir.join("tickgate")
    }

    pub fn clients(&self) -> PathBuf {
        self.dir.join("tickgate-load")
    }

    pub fn simulator(&self) -> PathBuf {
        self.dir.join("tickgate-sim")
    }

    /// Starts a market that goes on until it is ended.
    pub fn start_feed(&self, args: &Args, setting: &Setting) -> Result<Program> {
        let mut command = background::bound(&self.simulator());
        command.args([
            "run",
            "--model",
            "us-equities",
            "--brokers",
            &setting.brokers,
            "--topic",
            &setting.topic,
        ]);
        command.args(["--symbols", &args.symbols.to_string(), "--rate", &args.rate.to_string()]);
        // The topic was made, but a node may not have heard of it yet. Nor may another program take all of the machine.
        command.args(["--partitions", &args.partitions.to_string(), "--connect-timeout", "60s"]);
        Program::start("the simulator", command, &setting.dir.join("simulator.log"))
    }

    /// Starts clients that come back and verify what they are sent, until they are ended.
    pub fn start_clients(&self, args: &Args, url: &str, dir: &Path) -> Result<Program> {
        let mut command = background::bound(&self.clients());
        command.args(["run", "--url", url, "--connections", &args.clients.to_string()]);
        command.args(["--resume", &args.resume, "--until-stopped", "--feed-ends"]);
        command.args(["--ramp", "2s", "--warmup", "1s", "--discover", "3s"]);
        // All of this shares one machine: its lateness is no failure here.
        command.args(["--lag-max", "1h"]);
        for held in ["gaps==0", "resynced==0"] {
            command.args(["--assert", held]);
        }
        command.arg("--report").arg(report(dir));
        Program::start("the load generator", command, &dir.join("clients.log"))
    }
}

/// Where the clients leave their report.
pub fn report(dir: &Path) -> PathBuf {
    dir.join("report.json")
}

/// Ends a program as Ctrl-C does and waits for it; says whether it ended well.
pub fn end(program: &mut Program) -> Result<bool> {
    program.signal(Signal::INT);
    match program.wait(END_MAX)? {
        Some(status) => Ok(status.success()),
        None => bail!("it runs on {END_MAX:?} after it was told to end:\n{}", program.log_tail(20)),
    }
}
