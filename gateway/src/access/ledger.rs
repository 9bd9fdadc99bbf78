//! What a topic says of who is no longer welcome, record by record: data in and an answer out.
//!
//! A key is `jti:` and a token's id, or `sub:` and a subject, just so: to Kafka every other key is somebody else. The last
//! record of a key in a partition counts. Between partitions there is no order, so whoever is revoked by one of them is
//! revoked. A record revokes whatever its value is, and takes that back when it has none. Of the value only `exp`
//! is wanted, the second in which the token ends, and with it the entry. One that is not understood revokes without an end:
//! what a key says is not lost by a mistake behind it, and what compaction has left means the same as all that there was.

use super::revoked::List;
use super::rights::is_name;
use crate::stats::RevocationRecord as Said;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes of a value that is read: an entry is some hundred at the most.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// Until when, in seconds since the Unix epoch; for ever.
type Until = Option<i64>;

/// What one partition says.
#[derive(Debug, Default)]
struct Entries {
    ids: HashMap<Arc<str>, Until>,
    subjects: HashMap<Arc<str>, Until>,
}

/// Who is no longer welcome, by what was read so far.
#[derive(Debug)]
pub(super) struct Ledger {
    parts: BTreeMap<i32, Entries>,
    /// Entries of all partitions, and the most that there may be.
    len: usize,
    entries_max: usize,
    /// Entries that there was no room for.
    over: u64,
    /// When the first entry ends.
    next_end_s: i64,
}

/// Whom a key names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who<'a> {
    Id(&'a str),
    Subject(&'a str),
}

/// What is wanted of a value. Further fields are for whoever writes it.
#[derive(Deserialize)]
struct RawValue {
    exp: Option<i64>,
    jti: Option<String>,
    sub: Option<String>,
}

impl Ledger {
    /// An empty one, for at most so many entries.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { parts: BTreeMap::new(), len: 0, entries_max, over: 0, next_end_s: i64::MAX }
    }

    /// Takes a record of a partition. `now_s` is the time of a clock that is as late as clocks may be: an entry must not end
    /// before a token.
    pub(super) fn take(
        &mut self,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        now_s: i64,
    ) -> Said {
        let Some(who) = key.and_then(who) else { return Said::Malformed };
        let (entries, name) = self.parts.entry(partition).or_default().of(who);
        let (until, said) = match value.map(|value| until(value, who)) {
            None => {
                self.len -= usize::from(entries.remove(name).is_some());
                return Said::Restored;
            }
            Some(Ok(Some(until_s))) if until_s < now_s => {
                self.len -= usize::from(entries.remove(name).is_some());
                return Said::Expired;
            }
            Some(Ok(until)) => (until, Said::Revoked),
            Some(Err(())) => (None, Said::Malformed),
        };
        match entries.get_mut(name) {
            Some(known) => *known = until,
            None if self.len >= self.entries_max => {
                self.over += 1;
                return Said::NoRoom;
            }
            None => {
                entries.insert(name.into(), until);
                self.len += 1;
            }
        }
        self.next_end_s = self.next_end_s.min(until.unwrap_or(i64::MAX));
        said
    }

    /// Leaves out whose time was over at `now_s`, which is as late as in [`Ledger::take`]; says whether there was anybody.
    pub(super) fn expire(&mut self, now_s: i64) -> bool {
        if now_s <= self.next_end_s {
            return false;
        }
        let before = self.len;
        let mut next_end_s = i64::MAX;
        for entries in self.parts.values_mut().flat_map(|part| [&mut part.ids, &mut part.subjects]) {
            let held = entries.len();
            entries.retain(|_, until| {
                let until_s = until.unwrap_or(i64::MAX);
                let is_kept = until_s >= now_s;
                if is_kept {
                    next_end_s = next_end_s.min(until_s);
                }
                is_kept
            });
            self.len -= held - entries.len();
        }
        self.next_end_s = next_end_s;
        self.len < before
    }

    /// Whether there is room for what there was none for: a tenth, so that it is not looked for with every entry that goes.
    pub(super) fn has_room_again(&self) -> bool {
        self.over > 0 && self.len <= self.entries_max - self.entries_max / 10
    }

    /// Entries that there was no room for.
    pub(super) fn over(&self) -> u64 {
        self.over
    }

    /// Puts those on a list whom one of the wanted partitions revokes.
    pub(super) fn put_on(&self, list: &mut List, is_wanted: impl Fn(i32) -> bool) {
        for (_, part) in self.parts.iter().filter(|(partition, _)| is_wanted(**partition)) {
            list.add(part.ids.keys(), part.subjects.keys());
        }
    }
}

impl Entries {
    fn of<'a>(&mut self, who: Who<'a>) -> (&mut HashMap<Arc<str>, Until>, &'a str) {
        match who {
            Who::Id(name) => (&mut self.ids, name),
            Who::Subject(name) => (&mut self.subjects, name),
        }
    }
}

fn who(key: &[u8]) -> Option<Who<'_>> {
    let key = std::str::from_utf8(key).ok()?;
    match key.split_once(':')? {
        ("jti", id) if is_name(id) => Some(Who::Id(id)),
        ("sub", subject) if is_name(subject) => Some(Who::Subject(subject)),
        _ => None,
    }
}

/// Until when a value says that its key is revoked.
fn until(value: &[u8], who: Who<'_>) -> Result<Until, ()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(());
    }
    let RawValue { exp, jti, sub } = serde_json::from_slice(value).map_err(drop)?;
    let is_of_key = match who {
        Who::Id(id) => jti.is_none_or(|jti| jti == id),
        // A token has both.
        Who::Subject(subject) => jti.is_none() && sub.as_deref().is_none_or(|sub| sub == subject),
    };
    if is_of_key { Ok(exp) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ledger: &mut Ledger, key: &str, value: Option<&str>, now_s: i64) -> Said {
        take_of(ledger, 0, key, value, now_s)
    }

    fn take_of(ledger: &mut Ledger, partition: i32, key: &str, value: Option<&str>, now_s: i64) -> Said {
        ledger.take(partition, Some(key.as_bytes()), value.map(str::as_bytes), now_s)
    }

    fn listed(ledger: &Ledger) -> List {
        let mut list = List::default();
        ledger.put_on(&mut list, |_| true);
        list
    }

    fn list(text: &str) -> List {
        List::parse(text)
    }

    #[test]
    fn the_last_record_of_a_key_counts() {
        let mut ledger = Ledger::new(10);
        for (key, value, said) in [
            ("sub:ann", Some("{}"), Said::Revoked),
            ("jti:7", Some(r#"{"jti":"7","sub":"ann","exp":100,"by":"ops"}"#), Said::Revoked),
            ("sub:bob", Some(r#"{"exp":99}"#), Said::Revoked),
            ("sub:bob", Some(r#"{"exp":9}"#), Said::Expired),
            ("sub: a: b", Some(r#"{"sub":" a: b"}"#), Said::Revoked),
            ("sub:eve", None, Said::Restored),
            ("jti:8", Some("{}"), Said::Revoked),
            ("jti:8", None, Said::Restored),
        ] {
            assert_eq!(take(&mut ledger, key, value, 10), said, "{key}");
        }
        let mut expected = list("sub:ann\njti:7\n{\"sub\":\" a: b\"}");
        assert_eq!(listed(&ledger), expected);
        assert!(!ledger.expire(100), "to the end of its second");
        assert!(ledger.expire(101) && !ledger.expire(101));
        expected = list("sub:ann\n{\"sub\":\" a: b\"}");
        assert_eq!(listed(&ledger), expected);
    }

    /// Records of all partitions were taken as if they had an order. `sub:ann` had an old tombstone in one, as there had been
    /// fewer or another tool had written it, and was revoked by another: after a restart it depended on which was fetched
    /// first whether she came in.
    #[test]
    fn whom_one_partition_revokes_is_revoked_in_whatever_order_they_come() {
        let records =
            [(0, "sub:ann", None), (1, "sub:ann", Some("{}")), (2, "sub:ann", Some(r#"{"exp":9}"#))];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut ledger = Ledger::new(10);
            for (partition, key, value) in order.map(|index| records[index]) {
                take_of(&mut ledger, partition, key, value, 10);
            }
            assert_eq!(listed(&ledger), list("sub:ann"), "{order:?}");
            take_of(&mut ledger, 2, "sub:ann", Some("{}"), 10);
            take_of(&mut ledger, 1, "sub:ann", None, 10);
            assert_eq!(listed(&ledger), list("sub:ann"), "{order:?}");
            take_of(&mut ledger, 2, "sub:ann", None, 10);
            assert_eq!((listed(&ledger), ledger.len), (List::default(), 0), "{order:?}");
        }
    }

    #[test]
    fn what_is_not_understood_pardons_nobody() {
        let mut ledger = Ledger::new(10);
        let long = format!(r#"{{"exp":5,"why":"{}"}}"#, "x".repeat(VALUE_BYTES_MAX));
        let values = ["", "{", "[]", "null", r#"{"exp":"5"}"#, r#"{"exp":5.5}"#, r#"{"sub":"b"}"#, &long];
        for value in values {
            assert_eq!(take(&mut ledger, "sub:a", Some(r#"{"exp":20}"#), 10), Said::Revoked);
            assert_eq!(take(&mut ledger, "sub:a", Some(value), 10), Said::Malformed, "{value}");
            assert!(!ledger.expire(1_000), "{value}");
            assert_eq!(listed(&ledger), list("sub:a"), "{value}");
        }
        assert_eq!(take(&mut ledger, "sub:a", None, 10), Said::Restored);
        for key in ["", "a", "sub", "sub:", "SUB:a", "jti:a\nb", &format!("sub:{}", "x".repeat(257))] {
            for value in [Some("{}"), None] {
                assert_eq!(take(&mut ledger, key, value, 10), Said::Malformed, "{key}");
            }
        }
        assert_eq!(ledger.take(0, None, Some(b"{}"), 10), Said::Malformed);
        assert_eq!(ledger.take(0, Some(b"sub:\xff"), Some(b"{}"), 10), Said::Malformed);
        assert_eq!(ledger.len, 0);
    }

    #[test]
    fn it_is_bounded_and_knows_what_it_left_out() {
        let mut ledger = Ledger::new(20);
        for number in 0..23 {
            let said =
                take_of(&mut ledger, number % 2, &format!("jti:{}", number / 2), Some(r#"{"exp":50}"#), 10);
            assert_eq!(said, if number < 20 { Said::Revoked } else { Said::NoRoom });
        }
        // One that is there needs no more room.
        assert_eq!(take(&mut ledger, "jti:3", Some("{}"), 10), Said::Revoked);
        assert_eq!((ledger.len, ledger.over(), listed(&ledger).len()), (20, 3, 10));
        assert_eq!((ledger.len, ledger.has_room_again()), (20, false));
        assert_eq!(take(&mut ledger, "jti:4", None, 10), Said::Restored);
        assert!(!ledger.has_room_again());
        assert!(ledger.expire(51) && ledger.has_room_again());
        assert_eq!(ledger.len, 1);
        assert!(!Ledger::new(20).has_room_again());
    }
}
