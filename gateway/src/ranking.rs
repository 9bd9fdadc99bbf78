//! The highest few of many, without sorting the many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Keeps the highest of what it is given, so many at the most.
#[derive(Debug)]
pub struct Highest<T> {
    kept: BinaryHeap<Reverse<T>>,
    most: usize,
}

impl<T: Ord> Highest<T> {
    /// Of `most` at the most.
    pub fn new(most: usize) -> Self {
        Self { kept: BinaryHeap::new(), most }
    }

    /// Keeps `one` if it is among the highest so far.
    pub fn offer(&mut self, one: T) {
        if self.kept.len() < self.most {
            self.kept.push(Reverse(one));
        } else if let Some(mut lowest) = self.kept.peek_mut()
            && lowest.0 < one
        {
            *lowest = Reverse(one);
        }
    }

    /// They, highest first.
    pub fn into_vec(self) -> Vec<T> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_what_a_sort_would_find(all in proptest::collection::vec(0u32..50, 0..100), most in 0usize..20) {
            let mut highest = Highest::new(most);
            all.iter().for_each(|one| highest.offer(*one));
            let mut sorted = all;
            sorted.sort_by_key(|one| Reverse(*one));
            sorted.truncate(most);
            prop_assert_eq!(highest.into_vec(), sorted);
        }
    }
}
