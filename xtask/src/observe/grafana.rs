//! A Grafana of the user's, with our data source and dashboards provisioned: by the files that compose.yaml mounts, with the
//! addresses and paths of this machine.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{SCRAPE_S, read, write};
use crate::background;
use crate::setup;
use crate::shell::{self, EXIT_MISSING, Failure};

const SOURCE: &str = "deploy/compose/grafana/provisioning/datasources/prometheus.yml";
const PROVIDER: &str = "deploy/compose/grafana/provisioning/dashboards/tickgate.yml";
const DASHBOARDS: &str = "dashboards/grafana";
/// Where packages put what belongs to the program.
const HOME: &str = "/usr/share/grafana";

/// One that can be started.
#[derive(Debug, PartialEq, Eq)]
pub struct Grafana {
    program: PathBuf,
    /// Newer ones have one program for everything.
    has_commands: bool,
    home: PathBuf,
}

impl Grafana {
    /// The one in `GRAFANA_HOME`, else the one on `PATH`.
    ///
    /// # Errors
    /// When `GRAFANA_HOME` names a folder without one: somebody wanted it.
    pub fn find() -> Result<Option<Self>> {
        Self::among(std::env::var_os("GRAFANA_HOME"), setup::on_path)
    }

    fn among(home: Option<OsString>, on_path: impl Fn(&str) -> Option<PathBuf>) -> Result<Option<Self>> {
        let with = |program: PathBuf, home: PathBuf| {
            let has_commands = program.file_name().is_some_and(|name| name == "grafana");
            Self { program, has_commands, home }
        };
        let names = ["grafana", "grafana-server"];
        if let Some(home) = home.map(PathBuf::from) {
            let found = names.map(|name| home.join("bin").join(name)).into_iter().find(|path| path.is_file());
            let missing = || {
                let text = format!("GRAFANA_HOME is {}, which has no bin/grafana", home.display());
                Failure::error(EXIT_MISSING, text)
            };
            return Ok(Some(with(found.ok_or_else(missing)?, home)));
        }
        let Some(program) = names.into_iter().find_map(on_path) else { return Ok(None) };
        // Where an archive was unpacked it is beside the program.
        let unpacked =
            fs::canonicalize(&program).ok().and_then(|path| Some(path.parent()?.parent()?.to_owned()));
        let home = unpacked.filter(|home| home.join("conf/defaults.ini").is_file());
        Ok(Some(with(program, home.unwrap_or_else(|| HOME.into()))))
    }

    /// How it is started, with everything that it writes in `dir`.
    pub fn command(&self, dir: &Path, address: SocketAddr, prometheus: SocketAddr) -> Result<Command> {
        let dir = dir.join("grafana");
        provision(&dir.join("provisioning"), prometheus)?;
        let mut command = background::bound(&self.program);
        if self.has_commands {
            command.arg("server");
        }
        command.arg("--homepath").arg(&self.home);
        for (name, value) in [
            ("GF_SERVER_HTTP_ADDR", address.ip().to_string()),
            ("GF_SERVER_HTTP_PORT", address.port().to_string()),
            ("GF_AUTH_ANONYMOUS_ENABLED", "true".to_owned()),
            ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer".to_owned()),
            ("GF_ANALYTICS_REPORTING_ENABLED", "false".to_owned()),
            ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false".to_owned()),
        ] {
            command.env(name, value);
        }
        for (name, part) in [
            ("GF_PATHS_PROVISIONING", "provisioning"),
            ("GF_PATHS_DATA", "data"),
            ("GF_PATHS_LOGS", "logs"),
            ("GF_PATHS_PLUGINS", "plugins"),
        ] {
            command.env(name, dir.join(part));
        }
        Ok(command)
    }
}

/// Writes what Grafana reads at its start.
fn provision(dir: &Path, prometheus: SocketAddr) -> Result<()> {
    for (folder, name, text) in [
        ("datasources", "prometheus.yml", source(&read(SOURCE)?, prometheus)?),
        ("dashboards", "tickgate.yml", provider(&read(PROVIDER)?, &shell::root().join(DASHBOARDS))?),
    ] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        write(&folder.join(name), &text)?;
    }
    Ok(())
}

fn source(text: &str, prometheus: SocketAddr) -> Result<String> {
    let text = replaced(text, "url", &format!("http://{prometheus}"))?;
    replaced(&text, "timeInterval", &format!("{SCRAPE_S}s"))
}

fn provider(text: &str, dashboards: &Path) -> Result<String> {
    // A path may have anything in it: as JSON it is YAML, too.
    let path = serde_json::to_string(&dashboards.display().to_string()).context("a path as text")?;
    replaced(text, "path", &path)
}

/// A file of YAML with another value for a key that it has once.
fn replaced(text: &str, key: &str, value: &str) -> Result<String> {
    let is_key = |line: &&str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(": "));
    ensure!(
        text.lines().filter(is_key).count() == 1,
        "`{key}` does not stand once in what compose.yaml mounts"
    );
    let line = |line: &str| match is_key(&line) {
        true => format!("{}{key}: {value}\n", &line[..line.len() - line.trim_start().len()]),
        false => format!("{line}\n"),
    };
    Ok(text.lines().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &Path, files: &[&str]) {
        for file in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn it_is_found_where_it_may_be() {
        let dir = tempfile::tempdir().unwrap();
        at(
            dir.path(),
            &["new/bin/grafana", "new/bin/grafana-server", "new/conf/defaults.ini", "old/bin/grafana-server"],
        );
        let path = |name: &str| dir.path().canonicalize().unwrap().join(name);
        let nowhere = |_: &str| None;
        assert_eq!(Grafana::among(None, nowhere).unwrap(), None);
        let of = |home: &str| Grafana::among(Some(path(home).into()), nowhere);
        let (program, home) = (path("new/bin/grafana"), path("new"));
        let new = Grafana { program, has_commands: true, home };
        assert_eq!(of("new").unwrap().unwrap(), new);
        let (program, home) = (path("old/bin/grafana-server"), path("old"));
        assert_eq!(of("old").unwrap().unwrap(), Grafana { program, has_commands: false, home });
        assert!(of("none").unwrap_err().to_string().contains("none, which has no bin/grafana"));
        // Unpacked somewhere, and from a package.
        let on_path =
            |dir: &'static str| move |name: &str| Some(path(dir).join(name)).filter(|path| path.is_file());
        let path = |name: &str| dir.path().canonicalize().unwrap().join(name);
        assert_eq!(Grafana::among(None, on_path("new/bin")).unwrap().unwrap(), new);
        let packaged =
            Grafana::among(None, |name| (name == "grafana-server").then(|| path("old/bin/grafana-server")));
        assert_eq!(packaged.unwrap().unwrap().home, Path::new(HOME));
    }

    /// The source by the uid that compose.yaml gives it, at the Prometheus that was started; the dashboards of the repository.
    #[test]
    fn what_it_is_given_is_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        provision(dir.path(), SocketAddr::from(([127, 0, 0, 1], 9_091))).unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let source = text("datasources/prometheus.yml");
        for line in [
            "    uid: prometheus",
            "    url: http://127.0.0.1:9091",
            "      timeInterval: 2s",
            "    isDefault: true",
        ] {
            assert!(source.lines().any(|l| l == line), "{line}\n{source}");
        }
        let provider = text("dashboards/tickgate.yml");
        let path = provider.lines().find_map(|line| line.strip_prefix("      path: ")).expect("a path");
        let path: String = serde_json::from_str(path).unwrap();
        let found = fs::read_dir(path)
            .unwrap()
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|e| e == "json"));
        assert_eq!(found.count(), 7);
        assert!(
            ![source, provider].concat().contains("prometheus:9090")
                && !text("dashboards/tickgate.yml").contains("/var/lib")
        );
    }

    #[test]
    fn it_writes_into_one_folder_and_listens_on_loopback() {
        let dir = tempfile::tempdir().unwrap();
        let grafana = Grafana { program: "/x/bin/grafana".into(), has_commands: true, home: "/x".into() };
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let command = grafana.command(dir.path(), loopback(3_000), loopback(9_091)).unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(words.ends_with(&["server", "--homepath", "/x"].map(str::to_owned)), "{words:?}");
        let envs: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
        assert!(envs.contains(&("GF_SERVER_HTTP_ADDR".into(), "127.0.0.1".into())));
        let paths: Vec<_> =
            envs.iter().filter(|(name, _)| name.to_string_lossy().starts_with("GF_PATHS_")).collect();
        assert_eq!(paths.len(), 4);
        assert!(paths.iter().all(|(_, path)| Path::new(path).starts_with(dir.path())), "{paths:?}");
    }

    #[test]
    fn a_file_that_is_laid_out_otherwise_is_refused() {
        assert_eq!(replaced("a:\n  url: x\n  b: 1\n", "url", "y").unwrap(), "a:\n  url: y\n  b: 1\n");
        assert!(replaced("a: 1\n", "url", "y").is_err() && replaced("url: 1\nurl: 2\n", "url", "y").is_err());
    }
}
