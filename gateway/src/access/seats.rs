//! How many connections each subject has, over all shards: entries last as long as connections, which are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Taken = Mutex<HashMap<Arc<str>, u32>>;

/// Who has how many connections.
#[derive(Debug, Default)]
pub struct Seats(Arc<Taken>);

/// A connection of a subject, which counts until it is dropped.
pub struct Seat {
    taken: Arc<Taken>,
    subject: Arc<str>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Seat").field(&self.subject).finish()
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
    // A count is changed in one step.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seats {
    /// Counts another connection of a subject, unless it has `most` already.
    pub fn take(&self, subject: &Arc<str>, most: Option<u32>) -> Option<Seat> {
        let mut taken = lock(&self.0);
        let count = taken.get(subject).copied().unwrap_or_default();
        // Nothing is kept of a subject that has none.
        if most.is_some_and(|most| count >= most) {
            return None;
        }
        taken.insert(subject.clone(), count + 1);
        Some(Seat { taken: self.0.clone(), subject: subject.clone() })
    }

    /// How many subjects have connections.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// Whether nobody has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_counts_until_it_is_dropped() {
        let (seats, ann, bob) = (Seats::default(), Arc::from("ann"), Arc::from("bob"));
        let first = seats.take(&ann, Some(2)).expect("the first of two");
        let second = seats.take(&ann, Some(2)).expect("the second");
        assert!(seats.take(&ann, Some(2)).is_none());
        assert!(seats.take(&bob, Some(1)).is_some(), "another subject, whose seat is free again");
        assert!(seats.take(&bob, Some(0)).is_none() && seats.len() == 1, "of whom nothing is kept");
        drop(first);
        assert!(seats.take(&ann, Some(2)).is_some());
        drop(second);
        assert!(seats.is_empty(), "nothing is kept of who is gone");
    }
}
