//! What every process of an experiment does about itself: its processor, its file limit, its counts, its end.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Puts the calling thread, and those it starts from now on, on one processor; on every one with `None`.
pub fn pin(cpu: Option<usize>) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    match cpu {
        Some(cpu) => set.set(cpu),
        None => (0..CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu)),
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Allows as many open files as the system lets us.
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised shows in the number returned.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// What a server of ours has done so far.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Messages handed to the kernel for clients.
    pub sent: u64,
    /// Messages given up, because a client did not read.
    pub dropped: u64,
    /// Messages of which only the newest state was sent.
    pub conflated: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// From reading a record to the write that delivered it, as the server measured itself since the last question:
    /// median and 99th percentile.
    pub ingest_to_written_ns: Option<[u64; 2]>,
}

/// Counts that a serving thread keeps and another reads.
#[derive(Debug, Default)]
pub struct SharedCounts {
    records: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    writes: AtomicU64,
}

impl SharedCounts {
    /// Copies what the serving thread counted.
    pub fn publish(&self, counts: &Counts) {
        self.records.store(counts.records, Ordering::Relaxed);
        self.sent.store(counts.sent, Ordering::Relaxed);
        self.dropped.store(counts.dropped, Ordering::Relaxed);
        self.writes.store(counts.writes, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        Counts {
            records: self.records.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            conflated: 0,
            writes: self.writes.load(Ordering::Relaxed),
            ingest_to_written_ns: None,
        }
    }
}

/// Answers each line of the standard input with `counts`, on a thread of its own, and ends the process with it: nothing
/// outlives whoever started it.
pub fn answer_questions(mut counts: impl FnMut() -> Counts + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("questions".to_owned()).spawn(move || {
        let mut out = std::io::stdout().lock();
        for line in std::io::stdin().lock().lines() {
            let answer = serde_json::to_string(&counts()).unwrap_or_default();
            if line.is_err() || writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    })?;
    Ok(())
}

/// [`answer_questions`] from counts that are shared.
pub fn answer_with(counts: Arc<SharedCounts>) -> std::io::Result<()> {
    answer_questions(move || counts.read())
}
