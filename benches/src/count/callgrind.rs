//! Running ourselves under valgrind's callgrind, and reading what it wrote.
//!
//! The same program has to give the same counts on every machine. The C library chooses its `memcpy` and the like by what
//! the processor can do, so it is told to take what every processor of the architecture has.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Takes glibc's choice away. What it does not know it ignores.
const GLIBC_TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-SSE4_2,\
                              -SSE4_1,-SSSE3,-BMI2,-ERMS,-FSRM";

/// What counts as an allocation of memory. With a library's own prefix or a version behind it, it is the same.
const ALLOCATORS: [&str; 10] = [
    "malloc",
    "malloc_aligned",
    "calloc",
    "zalloc",
    "zalloc_aligned",
    "realloc",
    "realloc_aligned",
    "posix_memalign",
    "memalign",
    "aligned_alloc",
];
const ALLOCATOR_PREFIXES: [&str; 2] = ["__libc_", "mi_"];

/// Runs of callgrind, each with a folder for its files.
#[derive(Debug)]
pub struct Callgrind {
    dir: PathBuf,
}

/// What a run printed, and where it was written down.
#[derive(Debug)]
pub struct Run {
    pub printed: String,
    dir: PathBuf,
}

/// What one of callgrind's files says: of a thread, or of a part of a run.
#[derive(Debug, Default, PartialEq)]
pub struct Profile {
    pub instructions: u64,
    /// How often functions were called, and what was counted in them and in what they called.
    functions: BTreeMap<String, Calls>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Calls {
    count: u64,
    inclusive: u64,
}

impl Callgrind {
    pub fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tickgate-count-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Runs this program with `words` under callgrind with `options`.
    pub fn run(&self, name: &str, options: &[&str], words: &[&str]) -> anyhow::Result<Run> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let program = std::env::current_exe()?;
        let output = Command::new("valgrind")
            .args(["-q", "--tool=callgrind", "--vgdb=no"])
            .args(options)
            .arg(format!("--callgrind-out-file={}", dir.join("out").display()))
            .arg(program)
            .args(words)
            .env("GLIBC_TUNABLES", GLIBC_TUNABLES)
            .stdin(Stdio::null())
            .output()
            .context("starting valgrind, which Debian has in a package of that name")?;
        ensure!(
            output.status.success(),
            "`tickgate-bench {}` under valgrind: {}\n{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Run { printed: String::from_utf8_lossy(&output.stdout).into_owned(), dir })
    }
}

impl Drop for Callgrind {
    fn drop(&mut self) {
        // Left-overs in the folder for temporary files do no harm.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Run {
    /// What was dumped as the `number`th part of the run, from 1.
    pub fn part(&self, number: usize) -> anyhow::Result<Profile> {
        Profile::read(&self.dir.join(format!("out.{number}")))
    }

    /// What a thread did: they are numbered from 1 as they were started.
    pub fn thread(&self, number: u32) -> anyhow::Result<Profile> {
        Profile::read(&self.dir.join(format!("out-{number:02}")))
    }
}

impl Profile {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("callgrind has not written {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not as callgrind writes", path.display()))
    }

    /// Names are written out once, `(12) name`, and afterwards are `(12)`. A call is three lines: `cfn=` whom,
    /// `calls=` how often, and where from with what was counted in it.
    fn parse(text: &str) -> Option<Self> {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let mut calls: BTreeMap<&str, Calls> = BTreeMap::new();
        let mut instructions = None;
        let mut called = "";
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
                let (id, name) = name.split_once(')')?;
                if !name.is_empty() {
                    names.insert(id, name.trim());
                }
                called = id;
            } else if let Some(count) = line.strip_prefix("calls=") {
                let call = calls.entry(called).or_default();
                call.count += count.split(' ').next()?.parse::<u64>().ok()?;
                call.inclusive += lines.next()?.rsplit(' ').next()?.parse::<u64>().ok()?;
            } else if let Some(total) = line.strip_prefix("totals: ") {
                instructions = total.trim().parse().ok();
            }
        }
        let mut functions: BTreeMap<String, Calls> = BTreeMap::new();
        for (id, call) in calls {
            let sum = functions.entry((*names.get(id)?).to_owned()).or_default();
            sum.count += call.count;
            sum.inclusive += call.inclusive;
        }
        Some(Self { instructions: instructions?, functions })
    }

    /// What was counted in the functions whose name ends so, and in what they called; `None` when there is no such.
    pub fn within(&self, name: &str) -> Option<u64> {
        let found = self.functions.iter().filter(|(function, _)| function.ends_with(name));
        found.map(|(_, calls)| calls.inclusive).reduce(|a, b| a + b)
    }

    /// How often memory was asked for.
    pub fn allocations(&self) -> u64 {
        let is_one = |name: &str| {
            let name = name.split('@').next().unwrap_or(name);
            let bare = ALLOCATOR_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
            ALLOCATORS.contains(&bare.unwrap_or(name))
        };
        self.functions.iter().filter(|(name, _)| is_one(name)).map(|(_, calls)| calls.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let text = "version: 1\npart: 1\n\npositions: line\nevents: Ir\n\nfl=(1) a.rs\nfn=(1) gateway::pass\n10 7\n\
                    cfi=(2) m.c\ncfn=(2) malloc\ncalls=3 0\n12 90\n12 1\ncfn=(3) Shard::on_time\ncalls=1 0\n13 40\n\n\
                    fn=(3)\n20 30\ncfn=(2)\ncalls=2 0\n21 6\ncfn=(4) __libc_calloc@GLIBC_2.2.5\ncalls=1 0\n22 3\n\
                    cfn=(5) mi_malloc_aligned\ncalls=1 0\n22 1\n\ntotals: 138\n";
        let profile = Profile::parse(text).unwrap();
        assert_eq!(profile.instructions, 138);
        assert_eq!(profile.allocations(), 7);
        assert_eq!(profile.within("::on_time"), Some(40));
        assert_eq!(profile.within("::elsewhere"), None);
    }

    #[test]
    fn what_is_cut_short_is_no_profile() {
        assert_eq!(Profile::parse("fn=(1) main\n10 7\n"), None);
        assert_eq!(Profile::parse("fn=(1) main\ncfn=(2) f\ncalls=3 0\n"), None);
    }
}
