//! Queues between two sessions.

use super::Entry;
use std::collections::VecDeque;

/// Empty queues that quiet sessions gave back. A session that gets something takes one, so that in a steady state no
/// delivery allocates, and yet no quiet session holds a buffer.
#[derive(Debug, Default)]
pub struct Spares {
    queues: Vec<VecDeque<Entry>>,
    entries: usize,
}

impl Spares {
    /// Entries that all spare queues have room for together: as many as a shard queues between two flushes.
    pub const ENTRIES_MAX: usize = 131_072;
    /// Bytes that a pool holds at the most; a queue has room for four entries at least.
    pub const BYTES_MAX: usize =
        Self::ENTRIES_MAX * size_of::<Entry>() + Self::ENTRIES_MAX / 4 * 2 * size_of::<VecDeque<Entry>>();

    /// A queue without entries, with room for some if there is a spare one.
    pub(super) fn take(&mut self) -> VecDeque<Entry> {
        let queue = self.queues.pop().unwrap_or_default();
        self.entries -= queue.capacity();
        queue
    }

    /// Keeps a queue without entries, or drops it when there are enough.
    pub(super) fn keep(&mut self, queue: VecDeque<Entry>) {
        debug_assert!(queue.is_empty());
        if self.entries + queue.capacity() <= Self::ENTRIES_MAX {
            self.entries += queue.capacity();
            self.queues.push(queue);
        }
    }

    /// Entries that all spare queues have room for together.
    pub fn entries(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut spares = Spares::default();
        for _ in 0..100 {
            spares.keep(VecDeque::with_capacity(10_000));
            assert!(spares.entries() <= Spares::ENTRIES_MAX);
        }
        assert_eq!(spares.entries(), 130_000);
        assert_eq!(spares.take().capacity(), 10_000);
        assert_eq!(spares.entries(), 120_000);
        while spares.entries() > 0 {
            spares.take();
        }
        assert_eq!(spares.take().capacity(), 0);
    }
}
