//! What deploys the gateway, looked at by the tools that know such files: neither a container nor a cluster is needed.
//!
//! What no tool can know, that these files and the gateway mean the same, is in `gateway/tests/deploy.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Need};
use crate::shell;
use crate::venv;

/// The Python packages that are used, and all that they bring along, each in one version.
const REQUIREMENTS: &str = "deploy/check/requirements.txt";
/// Its Prometheus, and where it finds rules and a token that are elsewhere here.
const PROMETHEUS: &str = "deploy/compose/prometheus.yml";
const MOUNTED_RULES: &str = "/etc/prometheus/tickgate/";
const MOUNTED_TOKEN: &str = "/run/tickgate/token";
const MANIFESTS: &str = "deploy/kubernetes";
/// The oldest Kubernetes that the manifests are for, and the newest that there are schemas of.
const KUBERNETES_VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// Kinds that Kubernetes learns from somebody else, so that it has no schema of them; `gateway/tests/deploy.rs` knows
/// what they look like.
const FOREIGN_KINDS: [&str; 1] = ["podmonitor.yaml"];

/// Looks at every file. One that is wrong does not keep the others from being looked at.
///
/// # Errors
/// Which tools found something; they have said what.
pub fn check() -> Result<()> {
    setup::ensure(&[Need::Deploy, Need::Prometheus])?;
    let tools = venv::bin("deploy", REQUIREMENTS)?;
    let root = shell::root();
    let mut findings = Vec::new();
    let mut look = |command: &mut Command| -> Result<()> {
        let result = looked(command.current_dir(root));
        shell::check_interrupt()?;
        findings.extend(result.err().map(|error| format!("{error:#}")));
        Ok(())
    };

    let manifests = manifests(&root.join(MANIFESTS))?;
    for version in KUBERNETES_VERSIONS {
        let mut command = Command::new(tools.join("kubernetes-validate"));
        command.args(["--quiet", "--strict", "--kubernetes-version", version]);
        look(command.args(manifests.iter().map(|name| format!("{MANIFESTS}/{name}"))))?;
    }
    look(Command::new(tools.join("hadolint")).arg("Dockerfile"))?;
    let compose = setup::compose().context("docker compose is gone again")?;
    let mut command = Command::new(compose[0]);
    look(command.args(&compose[1..]).args(["--file", "compose.yaml", "config", "--quiet"]))?;
    let config = prometheus(root, &shell::target_dir().join("deploy"))?;
    look(Command::new("promtool").args(["check", "config"]).arg(config))?;
    let haproxy = setup::haproxy().context("haproxy is gone again")?;
    look(Command::new(haproxy).args(["-c", "-dW", "-f", "deploy/haproxy.cfg"]))?;

    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} of the tools found something\n{}", findings.len(), findings.join("\n"));
}

/// The configuration of Prometheus with the paths of this machine, in `dir`.
fn prometheus(root: &Path, dir: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(root.join(PROMETHEUS)).with_context(|| format!("reading {PROMETHEUS}"))?;
    if !text.contains(MOUNTED_RULES) || !text.contains(MOUNTED_TOKEN) {
        bail!("{PROMETHEUS} names neither rules in {MOUNTED_RULES} nor {MOUNTED_TOKEN}");
    }
    let writing = || format!("writing into {}", dir.display());
    fs::create_dir_all(dir).with_context(writing)?;
    let (config, token) = (dir.join("prometheus.yml"), dir.join("token"));
    let rules = format!("{}/", root.join("dashboards/prometheus").display());
    let text = text.replace(MOUNTED_RULES, &rules).replace(MOUNTED_TOKEN, &token.display().to_string());
    fs::write(&token, "none\n").and_then(|()| fs::write(&config, text)).with_context(writing)?;
    Ok(config)
}

/// Runs a tool. A warning counts as a failure: kubernetes-validate passes a manifest of a kind that it does not know.
fn looked(command: &mut Command) -> Result<()> {
    let mut warnings = 0;
    let status = shell::tee(command, |line| warnings += usize::from(is_warning(line)))?;
    shell::expect_success(command, status)?;
    if warnings > 0 {
        bail!("`{}` warned {warnings} time(s)", shell::shown(command));
    }
    Ok(())
}

fn is_warning(line: &str) -> bool {
    line.starts_with("WARN")
}

/// The manifests in `dir` that there are schemas for, sorted.
fn manifests(dir: &Path) -> Result<Vec<String>> {
    let reading = || format!("reading {}", dir.display());
    let mut manifests = Vec::new();
    for entry in fs::read_dir(dir).with_context(reading)? {
        let name = entry.with_context(reading)?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") {
            bail!("{}: {name}: a manifest ends with .yaml, and nothing else belongs here", dir.display());
        }
        if !FOREIGN_KINDS.contains(&name.as_str()) {
            manifests.push(name);
        }
    }
    if manifests.is_empty() {
        bail!("{}: no manifests", dir.display());
    }
    manifests.sort();
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_pass() {
        assert!(is_warning("WARN podmonitor.yaml Couldn't find schema for kind PodMonitor"));
        assert!(!is_warning(
            "INFO configmap.yaml passed for resource configmap/tickgate against version 1.37"
        ));
        let mut warns = Command::new("echo");
        assert!(looked(warns.arg("WARN something")).unwrap_err().to_string().contains("warned 1 time"));
        assert!(looked(Command::new("echo").arg("INFO passed")).is_ok());
        assert!(looked(&mut Command::new("false")).is_err());
    }

    #[test]
    fn prometheus_is_looked_at_with_the_rules_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(prometheus(shell::root(), dir.path()).unwrap()).unwrap();
        let rules: Vec<_> = config
            .lines()
            .filter_map(|line| line.strip_prefix("  - "))
            .filter(|l| l.ends_with(".yml"))
            .collect();
        assert_eq!(rules.len(), 2, "{config}");
        assert!(
            rules.iter().all(|file| Path::new(file).is_file()) && dir.path().join("token").is_file(),
            "{config}"
        );
    }

    #[test]
    fn every_manifest_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert!(manifests(dir.path()).is_err(), "none is a mistake");
        for name in ["b.yaml", "a.yaml", FOREIGN_KINDS[0]] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(manifests(dir.path()).unwrap(), ["a.yaml", "b.yaml"]);
        fs::write(dir.path().join("c.yml"), "").unwrap();
        assert!(manifests(dir.path()).is_err(), "one that would be passed over is a mistake");
    }

    #[test]
    fn the_demo_has_the_kafka_that_the_tests_have() {
        let compose = include_str!("../../compose.yaml");
        let image = format!("image: apache/kafka:{}\n", crate::kafka::VERSION);
        assert!(compose.contains(&image), "compose.yaml has another than {image}");
    }
}
