//! Memory that a gateway may take at the most, held to by the kernel: a control group, in which a process that needs more
//! is killed. The group goes when the last gateway in it has ended.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where the groups of memory are, by version.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// How long the kernel may take to notice that the last process has ended.
const GONE: Duration = Duration::from_secs(2);

/// What a version calls its files, and the words in them.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    /// The limit of memory and swap together (v1), or of swap alone (v2).
    swap: &'static str,
    peak: &'static str,
    /// How often the limit was met: a file, and a word in it unless there is but a number.
    met: (&'static str, &'static str),
    killed: (&'static str, &'static str),
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    met: ("memory.failcnt", ""),
    killed: ("memory.oom_control", "oom_kill"),
};

const V2: Names = Names {
    limit: "memory.max",
    swap: "memory.swap.max",
    peak: "memory.peak",
    met: ("memory.events", "max"),
    killed: ("memory.events", "oom_kill"),
};

/// A group. Dropped, it is taken away.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    names: &'static Names,
}

impl MemoryGroup {
    /// Makes one for so many bytes.
    ///
    /// # Errors
    /// Why this cannot be done here: no right to, or no such groups.
    pub fn new(bytes: u64) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tgf{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let [v1, v2] = ROOTS.map(Path::new);
        let (root, names) = if v1.is_dir() { (v1, &V1) } else { (v2, &V2) };
        let path = root.join(name);
        fs::create_dir(&path).map_err(|error| format!("no memory cgroup in {}: {error}", root.display()))?;
        let group = Self { path, names };
        let limit = |file: &str, bytes: u64| fs::write(group.path.join(file), bytes.to_string());
        limit(names.limit, bytes).map_err(|error| {
            let limit = names.limit;
            format!("{limit} of a cgroup in {} cannot be set ({error})", root.display())
        })?;
        // Where there is no swap there is nothing to limit.
        let _ = limit(names.swap, if group.names.limit == V1.limit { bytes } else { 0 });
        Ok(group)
    }

    /// A command that runs `program` in there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        // The shell enters, and becomes the program.
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.path.join("cgroup.procs")).arg(program);
        command
    }

    /// The most bytes that ever were charged to it, which older kernels do not count.
    pub fn peak(&self) -> Result<u64> {
        self.number(self.names.peak, "")
    }

    /// How often it met its limit, and had to find room first.
    pub fn met(&self) -> Result<u64> {
        self.number(self.names.met.0, self.names.met.1)
    }

    /// Processes that were killed in there for want of memory.
    pub fn killed(&self) -> Result<u64> {
        self.number(self.names.killed.0, self.names.killed.1)
    }

    fn number(&self, file: &str, word: &str) -> Result<u64> {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        number_behind(&text, word).with_context(|| format!("{} has no number `{word}`", path.display()))
    }
}

/// The number in the line that begins with `word`, or the only one when there is no word.
fn number_behind(text: &str, word: &str) -> Option<u64> {
    let mut fields = text.lines().map(|line| line.rsplit_once(' ').unwrap_or(("", line)));
    fields.find(|(name, _)| *name == word)?.1.trim().parse().ok()
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes have been waited for; that they are gone shows a moment later.
        let started = Instant::now();
        while let Err(error) = fs::remove_dir(&self.path) {
            if error.kind() == std::io::ErrorKind::NotFound {
                return;
            }
            if started.elapsed() > GONE {
                eprintln!("tickgate-faults: {} is left behind: {error}", self.path.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_word() {
        let events = "low 0\nhigh 3\nmax 7\noom 1\noom_kill 2\n";
        assert_eq!(number_behind(events, "max"), Some(7));
        assert_eq!(number_behind(events, "oom_kill"), Some(2));
        assert_eq!(number_behind("4096\n", ""), Some(4096));
        assert_eq!((number_behind(events, "oom_group_kill"), number_behind("max\n", "")), (None, None));
    }
}
