//! Several files as one stream: always the message that is earliest, ties in the order of the files.

use super::{Decode, ReplayError, Skipped, Stamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tickgate_protocol::record::Tick;

/// Holds one message of each file, never more.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    started: bool,
}

struct Source {
    reader: Box<dyn Decode + Send>,
    ticks: Vec<Tick<'static>>,
    /// The newest time read: within a file time never goes back.
    time_ns: i64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("time_ns", &self.time_ns).finish_non_exhaustive()
    }
}

impl Merge {
    pub(crate) fn new(readers: Vec<Box<dyn Decode + Send>>) -> Self {
        let sources = readers
            .into_iter()
            .map(|reader| Source { reader, ticks: Vec::new(), time_ns: i64::MIN })
            .collect();
        Self { sources, heads: BinaryHeap::new(), started: false }
    }

    /// The next message: its ticks are appended to `ticks`.
    pub(crate) fn next(&mut self, ticks: &mut Vec<Tick<'static>>) -> Result<Option<Stamp>, ReplayError> {
        if !self.started {
            self.started = true;
            for index in 0..self.sources.len() {
                self.refill(index)?;
            }
        }
        let Some(Reverse((time_ns, index))) = self.heads.pop() else {
            return Ok(None);
        };
        ticks.append(&mut self.sources[index].ticks);
        self.refill(index)?;
        Ok(Some(Stamp { time_ns }))
    }

    /// What was skipped, by file.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.sources.iter().map(|source| source.reader.skipped())
    }

    fn refill(&mut self, index: usize) -> Result<(), ReplayError> {
        let source = &mut self.sources[index];
        if let Some(stamp) = source.reader.read(&mut source.ticks)? {
            source.time_ns = source.time_ns.max(stamp.time_ns);
            self.heads.push(Reverse((source.time_ns, index)));
        }
        Ok(())
    }
}
