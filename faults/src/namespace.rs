//! A host of its own for a gateway: a network namespace, joined to this one by a virtual cable on which packets can be
//! lost. What loses them are rules inside the namespace; nothing of this machine's own network is touched, and all of it
//! goes with the namespace.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whose packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Those between the gateway and whoever connects from [`Namespace::far`].
    Far,
    /// Those between the gateway and what listens here on this port.
    Port(u16),
}

/// A namespace with its cable. Dropped, both are taken away.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its net, of which this is the third byte: in 198.18.0.0/15, which is set aside for measuring.
    net: u8,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Why this cannot be done here: no right to, or no tools for it.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for tool in ["ip", "nft"] {
            if let Err(error) = Command::new(tool).arg("-V").stdin(Stdio::null()).output() {
                return Err(format!("`{tool}` cannot be run ({error}): install iproute2 and nftables"));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return Err("needs root, for a network namespace".to_owned());
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let namespace =
            Self { name: format!("tgf{pid}-{number}"), net: (pid.wrapping_add(number) % 256) as u8 };
        match namespace.connect().and_then(|()| namespace.rules("")) {
            Ok(()) => Ok(namespace),
            Err(error) => Err(format!("no network namespace can be made here: {error:#}")),
        }
    }

    fn connect(&self) -> Result<()> {
        // Names of interfaces have 15 bytes at most, and a number of a process 7.
        let (near, away) = (format!("{}h", self.name), format!("{}g", self.name));
        let (here, far, there) = (self.here(), self.far(), self.there());
        ip(&["netns", "add", &self.name])?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &away, "netns", &self.name])?;
        for address in [here, far] {
            ip(&["address", "add", &format!("{address}/24"), "dev", &near])?;
        }
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", &self.name, "address", "add", &format!("{there}/24"), "dev", &away])?;
        for device in [away.as_str(), "lo"] {
            ip(&["-n", &self.name, "link", "set", device, "up"])?;
        }
        Ok(())
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.net, host)
    }

    /// Our end of the cable.
    pub fn here(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Where the gateway is.
    pub fn there(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// Another address of our end, for those whose packets are lost.
    pub fn far(&self) -> Ipv4Addr {
        self.address(3)
    }

    /// A command that runs `program` in there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Loses so many of a hundred packets, in both directions; nothing else is lost from now on.
    pub fn lose(&self, percent: u8, between: Between) -> Result<()> {
        let [from, to] = match between {
            Between::Far => ["saddr", "daddr"].map(|what| format!("ip {what} {}", self.far())),
            Between::Port(port) => ["sport", "dport"].map(|what| format!("tcp {what} {port}")),
        };
        let lost = match percent {
            ..100 => format!("numgen random mod 100 < {percent} counter drop"),
            100.. => "counter drop".to_owned(),
        };
        self.rules(&format!(
            "table inet faults {{\n\
             chain in {{ type filter hook input priority 0; {from} {lost}; }}\n\
             chain out {{ type filter hook output priority 0; {to} {lost}; }}\n}}\n"
        ))
    }

    /// Loses nothing more. Says how many packets were lost.
    pub fn heal(&self) -> Result<u64> {
        let listed = self.command("nft").args(["list", "ruleset"]).output().context("nft")?;
        let text = String::from_utf8_lossy(&listed.stdout);
        let lost = text.split("counter packets ").skip(1);
        let lost = lost.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum();
        self.rules("")?;
        Ok(lost)
    }

    /// These rules and no others.
    fn rules(&self, rules: &str) -> Result<()> {
        let mut nft = self.command("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = nft.spawn().context("starting nft")?;
        let text = format!("flush ruleset\n{rules}");
        nft.stdin.take().context("it is piped")?.write_all(text.as_bytes()).context("telling nft")?;
        succeeded("nft", &nft.wait_with_output()?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with it once nothing runs in there any more; what fails here was never made.
        let _ = ip(&["link", "delete", &format!("{}h", self.name)]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output().context("starting ip")?;
    succeeded(&format!("ip {}", words.join(" ")), &output)
}

fn succeeded(what: &str, output: &Output) -> Result<()> {
    ensure!(output.status.success(), "`{what}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
