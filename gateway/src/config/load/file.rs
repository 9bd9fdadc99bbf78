//! The TOML half of loading: every value keeps the line it stands on.

use super::{FILE_BYTES_MAX, Loader, PROPERTIES, known_paths};
use crate::config::FeedConfig;
use crate::config::error::Origin;
use crate::config::keys::{self, FEED_KEYS};
use crate::config::value::{Kind, Raw, Value};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl Loader {
    pub(super) fn path(&mut self, path: &Path) {
        let name = path.display().to_string();
        let read = std::fs::metadata(path).and_then(|meta| {
            if meta.len() > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!("{} bytes are too many", meta.len())));
            }
            std::fs::read_to_string(path)
        });
        match read {
            Ok(text) => self.text(&name, &text),
            Err(error) => self.error(&Origin::Flag(name), "", format!("cannot be read: {error}")),
        }
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        let lines = Lines { name, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let origin = lines.origin(error.span().map_or(0, |span| span.start));
            self.error(&origin, "", error.message());
        }
        // A broken file would only give follow-up errors.
        if errors.is_empty() {
            self.table(&lines, "", table.get_ref());
        }
        // The parser's tables are sorted by name.
        self.errors.sort_by_key(|error| match &error.origin {
            Origin::File { line, .. } => *line,
            _ => 0,
        });
    }

    fn table(&mut self, lines: &Lines<'_>, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let origin = lines.origin(name.span().start);
            let path = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            match (keys::find(&path), value.get_ref()) {
                (Some(key), DeValue::Table(properties)) if matches!(key.kind, Kind::Properties) => {
                    let mut map = BTreeMap::new();
                    self.properties(lines, "", properties, &mut map);
                    self.assign(key, &origin, Value::Properties(map));
                }
                (Some(key), value) => self.apply(key, &origin, raw(value)),
                (None, value) if path == "feeds" => {
                    if let Some(feeds) = self.feed_list(lines, &origin, value) {
                        self.feeds(&origin, feeds);
                    }
                }
                (None, DeValue::Table(inner)) if keys::SECTIONS.iter().any(|(name, _)| *name == path) => {
                    self.table(lines, &path, inner);
                }
                (None, _) if keys::SECTIONS.iter().any(|(name, _)| *name == path) => {
                    self.error(&origin, &path, format!("must be a section, `[{path}]`"));
                }
                (None, _) => self.unknown(&origin, &path, "unknown key", known_paths()),
            }
        }
    }

    /// Dotted names make nested tables in TOML; librdkafka's names have dots.
    pub(super) fn properties(
        &mut self,
        lines: &Lines<'_>,
        prefix: &str,
        table: &DeTable<'_>,
        map: &mut BTreeMap<String, String>,
    ) {
        for (name, value) in table {
            let full = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            self.origins.insert(format!("{PROPERTIES}.{full}"), lines.origin(name.span().start));
            let text = match raw(value.get_ref()) {
                Raw::Text(text) => text,
                Raw::Integer(number) => number.to_string(),
                Raw::Flag(flag) => flag.to_string(),
                _ => {
                    if let DeValue::Table(inner) = value.get_ref() {
                        self.properties(lines, &full, inner, map);
                    } else {
                        let path = format!("{PROPERTIES}.{full}");
                        self.error(
                            &lines.origin(name.span().start),
                            &path,
                            "must be a text, a whole number or a flag",
                        );
                    }
                    continue;
                }
            };
            map.insert(full, text);
        }
    }

    pub(super) fn feed_list(
        &mut self,
        lines: &Lines<'_>,
        origin: &Origin,
        value: &DeValue<'_>,
    ) -> Option<Vec<FeedConfig>> {
        let DeValue::Array(entries) = value else {
            self.error(origin, "feeds", "must be a list of tables, each `[[feeds]]`");
            return None;
        };
        let mut feeds = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let DeValue::Table(table) = entry.get_ref() else {
                self.error(
                    &lines.origin(entry.span().start),
                    "feeds",
                    "must be a list of tables, each `[[feeds]]`",
                );
                continue;
            };
            let mut feed = FeedConfig::for_topic("");
            let (mut topic, mut named) = (false, false);
            for (name, value) in table {
                let origin = lines.origin(name.span().start);
                let path = format!("feeds[{index}].{}", name.get_ref());
                let Some(key) = FEED_KEYS.iter().find(|key| key.path == name.get_ref()) else {
                    let known = FEED_KEYS.iter().map(|key| format!("feeds[{index}].{}", key.path));
                    self.unknown(&origin, &path, "unknown key", known);
                    continue;
                };
                topic |= key.path == "topic";
                named |= key.path == "name";
                match key.kind.convert(raw(value.get_ref())) {
                    Ok(value) => (key.set)(&mut feed, value),
                    Err(what) => self.error(&origin, &path, what),
                }
            }
            if !topic {
                let origin = lines.origin(entry.span().start);
                self.error(&origin, &format!("feeds[{index}].topic"), "is missing: a feed reads one");
            }
            if !named {
                feed.name.clone_from(&feed.topic);
            }
            self.origins.insert(format!("feeds[{index}].topic"), lines.origin(entry.span().start));
            self.origins.insert(format!("feeds[{index}].name"), lines.origin(entry.span().start));
            feeds.push(feed);
        }
        Some(feeds)
    }
}

/// The place of a byte in a file.
pub(super) struct Lines<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Lines<'_> {
    fn origin(&self, byte: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(byte);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File { name: self.name.to_owned(), line }
    }
}

pub(super) fn is_inline(origin: &Origin) -> bool {
    matches!(origin, Origin::File { name, .. } if name.is_empty())
}

pub(super) fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix())
                .map_or(Raw::Other("number out of range"), Raw::Integer)
        }
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Array(items) => Raw::List(items.iter().map(Spanned::get_ref).map(raw).collect()),
        DeValue::Float(_) => Raw::Other("fraction"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Table(_) => Raw::Other("table"),
    }
}
