//! The suite itself: CPython 2.7, its packages, and its runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::background::{self, Program};
use crate::lock::Lock;
use crate::setup;
use crate::shell::{self, Failure, human, step};

/// What to do without the only Python that runs it.
pub const NO_PYTHON: &str = "the Autobahn test suite needs CPython 2.7 with pip, and there is none: \
                             `pyenv install 2.7.18`, or set PYTHON27 to one that you have";
/// Its packages, pinned.
const PACKAGES: &str = include_str!("../../autobahn/requirements.txt");
/// The longest run.
const RUN_MAX: Duration = Duration::from_secs(3_600);
/// How often runs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A CPython 2.7 with pip, if there is one.
pub fn python() -> Option<PathBuf> {
    let named = std::env::var_os("PYTHON27").map(PathBuf::from);
    let candidates = named.into_iter().chain(setup::on_path("python2.7")).chain(of_pyenv());
    let is_good = |python: &PathBuf| {
        let question = "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))";
        shell::output(Command::new(python).args(["-c", question])).is_some()
    };
    candidates.into_iter().find(is_good)
}

/// Those that pyenv has installed, whether or not it would run one here.
fn of_pyenv() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let folders = versions.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("bin/python2.7")).filter(|python| python.exists()).collect()
}

/// The suite, installed.
pub struct Suite {
    python: PathBuf,
    packages: PathBuf,
}

impl Suite {
    /// Installs its packages into the build folder, unless these are there already.
    pub fn install(python: &Path) -> Result<Self> {
        let tools = shell::target_dir().join("tools");
        fs::create_dir_all(&tools).with_context(|| format!("making {}", tools.display()))?;
        let _lock =
            Lock::take(&tools.join("autobahn.lock"), "another command is installing the Autobahn suite")?;
        let packages = tools.join("autobahn");
        // Written last, and of no worth with another Python or other versions.
        let (stamp, expected) = (packages.join("stamp"), format!("{}\n{PACKAGES}", python.display()));
        if fs::read_to_string(&stamp).is_ok_and(|text| text == expected) {
            return Ok(Self { python: python.to_owned(), packages });
        }
        step(format_args!(
            "installing the Autobahn suite into {} (once, some 2 minutes)",
            packages.display()
        ));
        let _ = fs::remove_dir_all(&packages);
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-warn-script-location",
            "--disable-pip-version-check",
        ]);
        pip.arg("--target").arg(&packages).arg("--requirement").arg(files().join("requirements.txt"));
        shell::run(&mut pip)?;
        fs::write(&stamp, expected).with_context(|| format!("writing {}", stamp.display()))?;
        Ok(Self { python: python.to_owned(), packages })
    }

    /// Runs `cases` against the server at `url`, dealt to so many runs at once; `look` is asked meanwhile whether to go on. Gives the
    /// reports.
    pub fn run(
        &self,
        cases: &[String],
        shards: usize,
        url: &str,
        out: &Path,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<Vec<PathBuf>> {
        let mut runs = Vec::new();
        for shard in 0..shards {
            // Slow cases stand together: so each run gets its part of them.
            let cases: Vec<_> = cases.iter().skip(shard).step_by(shards).collect();
            let folder = out.join(format!("part{shard}"));
            let spec = out.join(format!("part{shard}.json"));
            let what = json!({
                "outdir": folder,
                "servers": [{"agent": "tickgate", "url": url, "options": {"version": 18}}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            });
            fs::write(&spec, what.to_string()).with_context(|| format!("writing {}", spec.display()))?;
            let mut command = background::bound(&self.python);
            command.arg(files().join("wstest.py")).arg(&self.packages);
            command.args(["--mode", "fuzzingclient", "--spec"]).arg(&spec);
            let log = out.join(format!("part{shard}.log"));
            runs.push((Program::start("the Autobahn suite", command, &log)?, folder.join("index.json")));
        }
        let deadline = Instant::now() + RUN_MAX;
        for (program, _) in &mut runs {
            while program.wait(LOOK_EVERY)?.is_none() {
                look()?;
                if Instant::now() > deadline {
                    let text = format!("the Autobahn suite runs for more than {}", human(RUN_MAX));
                    return Err(Failure::error(1, text));
                }
            }
        }
        for (program, report) in &runs {
            if !report.exists() {
                let text = format!("the Autobahn suite left no report:\n{}", program.log_tail(20));
                return Err(Failure::error(1, text));
            }
        }
        Ok(runs.into_iter().map(|(_, report)| report).collect())
    }
}

fn files() -> PathBuf {
    shell::root().join("xtask/autobahn")
}
