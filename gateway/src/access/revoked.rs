//! Tokens and subjects that are no longer welcome: a list in a file, read again every few seconds, and one from a topic
//! (`ledger.rs`). Who stands on either is revoked.
//!
//! A line of the file is `jti:` and a token's id, `sub:` and a subject, or the same as JSON (`{"jti":"…"}`, `{"sub":"…"}`). What
//! cannot be read is left out and counted: a mistyped line must not make the others void. A file that is gone leaves the
//! last list in effect.

use super::rights::is_name;
use super::{Identity, Way};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// Entries of a list; further ones are left out and counted.
pub const ENTRIES_MAX: usize = 100_000;
/// Bytes of the file: as many entries of the greatest length would be more, and none are so long.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// What is no longer welcome.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    ids: HashSet<Arc<str>>,
    subjects: HashSet<Arc<str>>,
    /// Lines that are not understood.
    pub unread: usize,
    /// Entries that there was no room for.
    pub over: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    jti: Option<String>,
    sub: Option<String>,
}

impl List {
    /// Adds these.
    pub(super) fn add<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a Arc<str>>,
        subjects: impl Iterator<Item = &'a Arc<str>>,
    ) {
        self.ids.extend(ids.cloned());
        self.subjects.extend(subjects.cloned());
    }

    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            list.take(line);
        }
        list
    }

    fn take(&mut self, line: &str) {
        let (id, subject) = if line.starts_with('{') {
            match serde_json::from_str(line) {
                Ok(RawEntry { jti, sub }) => (jti, sub),
                Err(_) => (None, None),
            }
        } else if let Some(id) = line.strip_prefix("jti:") {
            (Some(id.trim().to_owned()), None)
        } else {
            (None, line.strip_prefix("sub:").map(|subject| subject.trim().to_owned()))
        };
        if self.len() >= ENTRIES_MAX {
            self.over += 1;
            return;
        }
        match (id, subject) {
            (Some(id), None) if is_name(&id) => _ = self.ids.insert(id.into()),
            (None, Some(subject)) if is_name(&subject) => _ = self.subjects.insert(subject.into()),
            _ => self.unread += 1,
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.ids.len() + self.subjects.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody is on it.
    pub fn names(&self, identity: &Identity) -> bool {
        let id = if let Way::Token { id: Some(id) } = &identity.way { Some(id) } else { None };
        self.subjects.contains(&*identity.subject) || id.is_some_and(|id| self.ids.contains(&**id))
    }
}

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `auth.revoked_file`.
    File,
    /// `auth.revocation_topic`.
    Topic,
}

/// The lists in effect. Everybody shares them.
#[derive(Debug, Default)]
pub struct Revoked {
    /// By [`Source`].
    lists: [RwLock<Arc<List>>; 2],
}

impl Revoked {
    /// The list of a source that is in effect now.
    pub fn now(&self, source: Source) -> Arc<List> {
        self.lists[source as usize].read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody is on one of them.
    pub fn names(&self, identity: &Identity) -> bool {
        [Source::File, Source::Topic].iter().any(|source| self.now(*source).names(identity))
    }

    /// Puts another list of a source in effect; says whether it is another.
    pub fn replace(&self, source: Source, list: List) -> bool {
        if *self.now(source) == list {
            return false;
        }
        *self.lists[source as usize].write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        true
    }

    /// How many entries they have.
    pub fn entries(&self) -> usize {
        [Source::File, Source::Topic].iter().map(|source| self.now(*source).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rights::Rights;

    fn identity(subject: &str, id: Option<&str>) -> Identity {
        Identity {
            subject: subject.into(),
            expires_s: None,
            way: Way::Token { id: id.map(Into::into) },
            rights: Arc::new(Rights::from_json(r#"{"symbols":[]}"#).unwrap()),
        }
    }

    #[test]
    fn who_is_named_is_on_it() {
        let list = List::parse(
            "# left the house\n\nsub: ann\r\njti:7f3a\n{\"sub\":\"a \\\"b\\\"\"}\n{\"jti\":\"88\"}\n\
             bob\nsub:\n{\"jti\":\"1\",\"sub\":\"2\"}\n{\"user\":\"x\"}\n{\njti:a\tb\n",
        );
        assert_eq!((list.len(), list.unread, list.over), (4, 6, 0));
        for (subject, id, is_on_it) in [
            ("ann", None, true),
            ("ann", Some("1"), true),
            ("eve", Some("7f3a"), true),
            ("eve", Some("88"), true),
            ("a \"b\"", None, true),
            ("eve", None, false),
            ("7f3a", Some("ann"), false),
            ("bob", None, false),
        ] {
            assert_eq!(list.names(&identity(subject, id)), is_on_it, "{subject} {id:?}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let text: String = (0..ENTRIES_MAX + 7).map(|i| format!("jti:{i}\n")).collect();
        let list = List::parse(&text);
        assert_eq!((list.len(), list.over), (ENTRIES_MAX, 7));
    }

    #[test]
    fn everybody_has_the_new_one() {
        let revoked = Revoked::default();
        let replace = |source, text| revoked.replace(source, List::parse(text));
        assert!(!replace(Source::File, ""));
        assert!(replace(Source::File, "sub:ann") && !replace(Source::File, "sub:ann"));
        assert_eq!(revoked.entries(), 1);
        assert!(revoked.names(&identity("ann", None)));
    }

    #[test]
    fn either_list_counts() {
        let revoked = Revoked::default();
        assert!(revoked.replace(Source::File, List::parse("sub:ann")));
        assert!(revoked.replace(Source::Topic, List::parse("sub:bob\njti:7")));
        assert_eq!(revoked.entries(), 3);
        let is_named = |subject, id| revoked.names(&identity(subject, id));
        assert!(is_named("ann", None) && is_named("bob", None) && is_named("eve", Some("7")));
        assert!(revoked.replace(Source::Topic, List::default()));
        assert!(is_named("ann", None) && !is_named("bob", None) && !is_named("eve", Some("7")));
    }
}
