//! The numbers of all symbols: given out once, by whoever meets a symbol first, the feed or a replay.

use super::activity::Activity;
use super::request::Target;
use crate::event::Symbol;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every symbol that a record has named, by its number. The feed asks once for each symbol, so nobody waits for the
/// lock.
#[derive(Debug)]
pub struct Directory {
    symbols_max: usize,
    symbols: Mutex<Symbols>,
    activity: Activity,
}

#[derive(Debug, Default)]
struct Symbols {
    /// In order, so that those with a prefix stand together.
    by_name: BTreeMap<Box<str>, u32>,
    all: Vec<Arc<Symbol>>,
}

impl Directory {
    /// A directory with room for `symbols_max` symbols.
    pub fn new(symbols_max: usize) -> Self {
        Self { symbols_max, symbols: Mutex::default(), activity: Activity::new(symbols_max) }
    }

    /// The symbol of this name, which gets a number if it has none; `None` when there is no room for another.
    pub fn meet(&self, name: &str) -> Option<Arc<Symbol>> {
        let mut symbols = self.lock();
        if let Some(id) = symbols.by_name.get(name) {
            return Some(symbols.all[*id as usize].clone());
        }
        if symbols.all.len() >= self.symbols_max {
            return None;
        }
        let symbol = Symbol::new(symbols.all.len() as u32, name);
        symbols.by_name.insert(name.into(), symbol.id);
        symbols.all.push(symbol.clone());
        Some(symbol)
    }

    /// The same for a replay, which leaves the last quarter of the room to what is traded now.
    pub fn meet_again(&self, name: &str) -> Option<Arc<Symbol>> {
        self.find(name).or_else(|| {
            let has_room = self.lock().all.len() < self.symbols_max - self.symbols_max / 4;
            has_room.then(|| self.meet(name)).flatten()
        })
    }

    /// The symbol of this name, if it has a number.
    fn find(&self, name: &str) -> Option<Arc<Symbol>> {
        let symbols = self.lock();
        symbols.by_name.get(name).map(|id| symbols.all[*id as usize].clone())
    }

    /// All symbols that a target means.
    pub fn matching(&self, target: &Target) -> Vec<Arc<Symbol>> {
        match target {
            Target::Symbol(name) => self.find(name).into_iter().collect(),
            Target::Prefix(prefix) => {
                let symbols = self.lock();
                let from = symbols.by_name.range::<str, _>((Bound::Included(&**prefix), Bound::Unbounded));
                let beginning = from.take_while(|(name, _)| target.matches(name));
                beginning.map(|(_, id)| symbols.all[*id as usize].clone()).collect()
            }
        }
    }

    /// All symbols.
    pub fn all(&self) -> Vec<Arc<Symbol>> {
        let all = self.lock().all.clone();
        #[cfg(test)]
        crate::replay::STEPS.with(|steps| steps.set(steps.get() + all.len()));
        all
    }

    /// The symbol of a number that was given out.
    pub fn get(&self, id: u32) -> Option<Arc<Symbol>> {
        self.lock().all.get(id as usize).cloned()
    }

    /// How many ticks came of each, live.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    fn lock(&self) -> MutexGuard<'_, Symbols> {
        self.symbols.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::STEPS;

    #[test]
    fn those_that_begin_so_are_found_without_a_look_at_the_others() {
        let directory = Directory::new(2_000);
        (0..1_000).rev().for_each(|n| _ = directory.meet(&format!("S{n:03}")));
        STEPS.set(0);
        let found = directory.matching(&Target::parse("S99*"));
        // And the one at which it ends.
        assert!(STEPS.get() <= 11, "{} looked at", STEPS.get());
        let names: Vec<&str> = found.iter().map(|symbol| &*symbol.name).collect();
        assert_eq!(names[..2], ["S990", "S991"]);
        assert_eq!((found.len(), directory.all().len()), (10, 1_000));
        assert!(directory.matching(&Target::parse("T*")).is_empty());
    }

    /// Clients asked for thousands of names that nobody trades, from times long gone. Each got a number, and when all were given
    /// out the feed refused new symbols.
    #[test]
    fn replays_leave_room_for_what_is_traded() {
        let directory = Directory::new(8);
        let met = (0..100).filter(|n| directory.meet_again(&format!("X{n}")).is_some()).count();
        assert_eq!(met, 6);
        assert_eq!(directory.meet_again("X3").map(|symbol| symbol.id), Some(3), "it has a number");
        assert_eq!(directory.meet("NEW").map(|symbol| symbol.id), Some(6));
        assert_eq!(directory.meet_again("NEW").map(|symbol| symbol.id), Some(6));
        assert!(directory.meet("NEWER").is_some() && directory.meet("NEWEST").is_none());
    }
}
