//! WebSocket clients that are not ours: libraries that people use, a browser, and curl, each against the real program.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::background::{self, Program, free_ports};
use crate::http;
use crate::setup::{self, Need, on_path};
use crate::shell::{self, Failure, step};
use crate::venv;

/// Events that each client takes before it is content.
const EVENTS: &str = "200";
/// How long a client may take for them.
const CLIENT_MAX: Duration = Duration::from_secs(90);
/// How long the gateway may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// The oldest Go that builds its client.
const GO_MIN: (u32, u32) = (1, 23);

/// Connects clients that are not ours to a gateway: Python `websockets` and `picows`, Node `ws`, Go `coder/websocket`, Chromium, curl.
///
/// Each subscribes, takes events, pings where it can, and closes, without compression and with it. A client whose language
/// is not on this machine is left out, and named; with --all that is a failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask clients\n  cargo xtask clients node-ws --all")]
pub struct Args {
    /// Only these clients
    #[arg(value_name = "CLIENT", value_parser = CLIENTS.map(|client| client.name))]
    clients: Vec<String>,

    /// Fail when one of them cannot be run here
    #[arg(long)]
    all: bool,
}

/// How a client is made ready: the command to run, without its arguments, or why it cannot be run here.
type Prepare = fn() -> Result<Result<Command, &'static str>>;

struct Client {
    name: &'static str,
    prepare: Prepare,
}

const CLIENTS: [Client; 6] = [
    Client { name: "websockets", prepare: || python("python_websockets.py") },
    Client { name: "picows", prepare: || python("python_picows.py") },
    Client { name: "node-ws", prepare: node },
    Client { name: "coder", prepare: go },
    Client { name: "chromium", prepare: chromium },
    Client { name: "curl", prepare: curl },
];

pub fn run(args: Args) -> Result<()> {
    setup::ensure(&[Need::Build])?;
    step("building the gateway, a broker and a market");
    let packages = ["gateway", "broker", "sim"].map(|name| format!("--package=tickgate-{name}"));
    shell::run(shell::cargo().args(["build", "--bins"]).args(packages))?;
    connect(&args)
}

/// All clients that this machine has, with what was built already, for continuous integration.
pub fn short() -> Result<()> {
    connect(&Args { clients: Vec::new(), all: false })
}

fn connect(args: &Args) -> Result<()> {
    let wanted =
        |client: &&Client| args.clients.is_empty() || args.clients.iter().any(|name| name == client.name);
    let mut ready = Vec::new();
    let mut left_out = Vec::new();
    for client in CLIENTS.iter().filter(wanted) {
        match (client.prepare)()? {
            Ok(command) => ready.push((client.name, command)),
            Err(why) => left_out.push(format!("{} ({why})", client.name)),
        }
    }
    if ready.is_empty() {
        return Err(Failure::error(69, format!("no client can be run here: {}", left_out.join(", "))));
    }
    let mut failed = Vec::new();
    for compression in ["off", "deflate"] {
        let served = Served::start(compression)?;
        for (name, command) in &ready {
            step(format_args!("{name}, compression {compression}"));
            if let Err(error) = served.try_client(command, compression) {
                shell::check_interrupt()?;
                eprintln!("xtask: {name}: {error:#}");
                failed.push(format!("{name} (compression {compression})"));
            }
        }
    }
    if !left_out.is_empty() {
        step(format_args!("LEFT OUT, as this machine cannot run them: {}", left_out.join(", ")));
    }
    if !failed.is_empty() {
        return Err(Failure::error(1, format!("not well served: {}", failed.join(", "))));
    }
    if args.all && !left_out.is_empty() {
        return Err(Failure::error(69, "--all: some were left out"));
    }
    Ok(())
}

/// A market, and a gateway that serves it.
struct Served {
    url: String,
    page_port: u16,
    dir: PathBuf,
    /// Dropped, they end: clients first would be kinder, but all of them have gone.
    _programs: [Program; 3],
}

impl Served {
    fn start(compression: &str) -> Result<Self> {
        let dir = shell::target_dir().join("clients");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let ports = free_ports(4)?;
        let [broker, listen, admin, page_port] = ports[..] else { unreachable!("four were asked for") };
        let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let bin = |name: &str| background::bound(&shell::target_dir().join("debug").join(name));
        let start = |name: &str, command: Command| {
            let log = dir.join(format!("{name}.log"));
            if log.exists() {
                fs::remove_file(&log).with_context(|| format!("removing {}", log.display()))?;
            }
            Program::start(name, command, &log)
        };
        let mut command = bin("tickgate-broker");
        command.args(["--listen", &address(broker)]);
        let broker_program = start("broker", command)?;
        let mut command = bin("tickgate-sim");
        command.args(["run", "--model", "us-equities", "--symbols", "50", "--rate", "500", "--seed", "1"]);
        command.args(["--brokers", &address(broker), "--topic", "ticks"]);
        let market = start("market", command)?;
        let mut command = bin("tickgate");
        command.args(["run", "--brokers", &address(broker), "--topic", "ticks"]);
        command.args(["--listen", &address(listen), "--admin", &address(admin)]);
        if compression != "off" {
            command.args(["--set", &format!("session.compression={compression}")]);
        }
        command.args(["--set", &format!("session.allowed_origins=http://{}", address(page_port))]);
        let mut gateway = start("gateway", command)?;
        let deadline = Instant::now() + READY_MAX;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
        while !http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
            gateway.check()?;
            if Instant::now() > deadline {
                return Err(Failure::error(
                    1,
                    format!("the gateway is not ready:\n{}", gateway.log_tail(20)),
                ));
            }
            shell::pause(Duration::from_millis(50))?;
        }
        let url = format!("ws://{}/v1/stream", address(listen));
        Ok(Self { url, page_port, dir, _programs: [broker_program, market, gateway] })
    }

    fn try_client(&self, command: &Command, compression: &str) -> Result<()> {
        let mut whole = Command::new(command.get_program());
        whole.args(command.get_args().map(|arg| match arg.to_str() {
            Some("URL") => self.url.clone().into(),
            Some("COMPRESSION") => compression.to_owned().into(),
            Some("PORT") => self.page_port.to_string().into(),
            _ => arg.to_owned(),
        }));
        let log = self.dir.join("client.log");
        let _ = fs::remove_file(&log);
        let mut program = Program::start("client", whole, &log)?;
        let status = program.wait(CLIENT_MAX)?;
        let said = program.last_line();
        match status {
            Some(status) if status.success() && said.starts_with("ok ") => {
                println!("{said}");
                Ok(())
            }
            Some(status) => Err(Failure::error(1, format!("{status}\n{}", program.log_tail(20)))),
            None => Err(Failure::error(1, format!("still runs\n{}", program.log_tail(20)))),
        }
    }
}

fn dir() -> PathBuf {
    shell::root().join("xtask/clients")
}

/// With the arguments that every client takes.
fn with_arguments(mut command: Command) -> Command {
    command.args(["URL", "COMPRESSION", EVENTS]);
    command
}

fn python(script: &str) -> Result<Result<Command, &'static str>> {
    if shell::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_none() {
        return Ok(Err("python3 with venv is missing"));
    }
    let mut command = Command::new(venv::bin("clients", "xtask/clients/requirements.txt")?.join("python"));
    command.arg(dir().join(script));
    Ok(Ok(with_arguments(command)))
}

fn node() -> Result<Result<Command, &'static str>> {
    let (Some(node), Some(npm)) = (on_path("node"), on_path("npm")) else {
        return Ok(Err("node or npm is missing"));
    };
    // Modules are looked for beside the script, so it is run from there.
    let tools = shell::target_dir().join("tools/clients-node");
    copy(&["node_ws.mjs", "package.json", "package-lock.json"], &dir(), &tools)?;
    if !tools.join("node_modules/ws").is_dir() {
        step("installing ws for Node (once)");
        let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        shell::run(Command::new(npm).args(words).current_dir(&tools))?;
    }
    let mut command = Command::new(node);
    command.arg(tools.join("node_ws.mjs"));
    Ok(Ok(with_arguments(command)))
}

fn go() -> Result<Result<Command, &'static str>> {
    let Some(go) = on_path("go") else { return Ok(Err("go is missing")) };
    let version = shell::output(Command::new(&go).arg("version")).unwrap_or_default();
    if go_version(&version).is_none_or(|version| version < GO_MIN) {
        return Ok(Err("go is older than 1.23"));
    }
    let program = shell::target_dir().join("tools/clients-go/client");
    let build = ["build", "-trimpath", "-o"];
    shell::run(Command::new(go).args(build).arg(&program).arg(".").current_dir(dir().join("go")))?;
    Ok(Ok(with_arguments(Command::new(program))))
}

/// Reads `go version go1.26.8 linux/amd64`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(' ').nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn chromium() -> Result<Result<Command, &'static str>> {
    let (Some(python), Some(browser)) = (on_path("python3"), on_path("chromium")) else {
        return Ok(Err("chromium or python3 is missing"));
    };
    let mut command = Command::new(python);
    command.arg(dir().join("browser.py"));
    let mut command = with_arguments(command);
    command.arg("PORT").arg(browser);
    Ok(Ok(command))
}

fn curl() -> Result<Result<Command, &'static str>> {
    if on_path("curl").is_none() {
        return Ok(Err("curl is missing"));
    }
    let mut command = Command::new("bash");
    command.arg(dir().join("curl.sh"));
    Ok(Ok(with_arguments(command)))
}

fn copy(names: &[&str], from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for name in names {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("copying {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(go_version("go version devel +abc"), None);
    }
}
