//! Python programs and libraries, each set of them in an environment of its own in the build folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lock::Lock;
use crate::shell::{self, step};

/// The folder with the programs of the environment `name`, which is made of the packages that `requirements` (a path in the
/// repository) lists, all of them, unless it is there.
pub fn bin(name: &str, requirements: &str) -> Result<PathBuf> {
    let wanted = fs::read_to_string(shell::root().join(requirements))
        .with_context(|| format!("reading {requirements}"))?;
    let tools = shell::target_dir().join("tools");
    let dir = tools.join(name);
    let bin = dir.join("bin");
    // Written last, so that a half-made folder is made anew.
    let mark = dir.join("requirements.txt");
    let is_there = || fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted);
    if is_there() {
        return Ok(bin);
    }
    let busy = format!("another command is installing Python packages into {}", dir.display());
    let _lock = Lock::take(&tools.join(format!("{name}.lock")), &busy)?;
    if is_there() {
        return Ok(bin);
    }
    step(format_args!("installing what {requirements} lists into {} (once)", dir.display()));
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
    // Nothing is built from source, which would run what a package brings.
    shell::run(
        Command::new(bin.join("python"))
            .args(pip)
            .arg(requirements)
            .args(["--only-binary", ":all:"])
            .current_dir(shell::root()),
    )?;
    fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))?;
    Ok(bin)
}
