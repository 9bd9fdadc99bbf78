//! The live page: built by Node, from where the next build of the gateway takes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::node;
use crate::shell::{self, EXIT_MISSING, Failure, step};

pub const DIR: &str = "dashboards/web";

/// Builds the live page into dashboards/web/dist, from where the next build of the gateway takes it.
///
/// Needs Node 20.19 or later, with npm, which fetches what dashboards/web/package-lock.json lists; where it may, it installs the
/// distribution's, if that is new enough. A gateway that is built without it has no page, and everything else. What comes out as it
/// was keeps its times, so that nothing is built again for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Try it in Chromium as well, against gateways: needs the programs, `cargo build --bins`. As a gateway serves it, it is
    /// tried by `cargo xtask sdk page`
    #[arg(long)]
    test: bool,
}

pub fn run(args: Args) -> Result<()> {
    if let Err(why) = node::ensure() {
        return Err(Failure::error(EXIT_MISSING, format!("{why}; https://nodejs.org has it")));
    }
    if args.test { keeping_times(|| shell::run(&mut npm_test("test", "debug")?)) } else { build() }
}

/// Builds it, with a Node that is there.
pub fn build() -> Result<()> {
    node::install(DIR)?;
    keeping_times(|| shell::run(node::npm(DIR).args(["run", "--silent", "build"])))
}

/// Builds it unless it is there, or says why there is none.
pub fn build_where_possible() -> Result<()> {
    if dist().join("index.html").exists() {
        return Ok(());
    }
    if let Err(why) = node::look() {
        step(format_args!("the gateway is built without its live page: {why}"));
        return Ok(());
    }
    step("building the live page (once; `cargo xtask page` builds it again)");
    build()
}

/// The command that tries it in Chromium as it was built and as the gateway of the debug profile has it: nothing is written where a
/// compiler may be reading.
pub fn test_built() -> Result<Command> {
    let mut command = npm_test("test:built", "debug")?;
    command.env("TICKGATE_PAGE_EMBEDDED", "1");
    Ok(command)
}

/// A script that tries it in Chromium, against the programs of a profile.
fn npm_test(script: &str, profile: &str) -> Result<Command> {
    node::install(DIR)?;
    let mut command = node::npm(DIR);
    command.args(["run", script, "--silent"]).env("TICKGATE_BIN_DIR", shell::target_dir().join(profile));
    if let Some(chromium) = node::chromium() {
        command.env("CHROMIUM", chromium);
    }
    Ok(command)
}

fn dist() -> PathBuf {
    shell::root().join(DIR).join("dist")
}

/// Does `work`, which may write the built files again. If they are as before then, so are their times: cargo goes by these, and
/// would build the gateway anew.
pub fn keeping_times(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = Built::read(&dist()).context("reading the built page")?;
    let result = work();
    let after = Built::read(&dist()).context("reading the built page")?;
    if before.is_as(&after) {
        before.put_back_times(&dist()).context("setting times of the built page")?;
    }
    result
}

/// A folder: what is in it, and since when. Folders have no content.
#[derive(Debug, Default)]
struct Built {
    entries: BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)>,
}

impl Built {
    fn read(dir: &Path) -> io::Result<Self> {
        let mut built = Self::default();
        if dir.is_dir() {
            built.add(dir, Path::new(""))?;
        }
        Ok(built)
    }

    fn add(&mut self, dir: &Path, name: &Path) -> io::Result<()> {
        let path = dir.join(name);
        let content = if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                self.add(dir, &name.join(entry?.file_name()))?;
            }
            None
        } else {
            Some(fs::read(&path)?)
        };
        self.entries.insert(name.to_owned(), (content, fs::metadata(&path)?.modified()?));
        Ok(())
    }

    fn is_as(&self, other: &Self) -> bool {
        let contents = |built: &Self| {
            built
                .entries
                .iter()
                .map(|(name, (content, _))| (name.clone(), content.clone()))
                .collect::<Vec<_>>()
        };
        contents(self) == contents(other)
    }

    fn put_back_times(&self, dir: &Path) -> io::Result<()> {
        self.entries.iter().try_for_each(|(name, (_, time))| File::open(dir.join(name))?.set_modified(*time))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn write(dir: &Path, content: &str) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("assets")).unwrap();
        fs::write(dir.join("index.html"), "page").unwrap();
        fs::write(dir.join("assets/a.js"), content).unwrap();
    }

    /// Every build wrote all files anew, and the gateway was compiled again for nothing.
    #[test]
    fn what_is_as_it_was_keeps_its_times() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("dist");
        assert!(Built::read(&dir).unwrap().entries.is_empty());
        write(&dir, "one");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for name in ["", "index.html", "assets", "assets/a.js"] {
            File::open(dir.join(name)).unwrap().set_modified(old).unwrap();
        }
        let before = Built::read(&dir).unwrap();
        assert_eq!(before.entries.len(), 4);
        write(&dir, "two");
        assert!(!before.is_as(&Built::read(&dir).unwrap()));
        write(&dir, "one");
        let after = Built::read(&dir).unwrap();
        assert!(before.is_as(&after) && after.entries.values().any(|(_, time)| *time != old));
        before.put_back_times(&dir).unwrap();
        assert!(Built::read(&dir).unwrap().entries.values().all(|(_, time)| *time == old));
    }
}
