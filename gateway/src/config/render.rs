//! A configuration as text: as it is in effect, and as the annotated example.

use super::keys::{self, FEED_KEYS, KEYS, Key};
use super::value::{Kind, Value};
use super::{Config, FeedConfig};
use std::fmt::Write as _;

/// What stands for a secret.
pub(super) const MASK: &str = "********";
/// Parts of a property's name that speak of a secret.
const SECRET_PARTS: [&str; 9] =
    ["password", "passwd", "secret", "token", "key", "credential", "jaas", "oauthbearer.config", ".pem"];
/// Columns of a comment.
const WIDTH: usize = 110;

/// Whether the value of a librdkafka property is not to be shown.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

impl Config {
    /// A copy in which secrets are masked, to be shown.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Secret(_))) {
            if (key.get)(&masked) != Value::Text(String::new()) {
                (key.set)(&mut masked, Value::Text(MASK.to_owned()));
            }
        }
        for (name, value) in &mut masked.kafka.properties {
            if is_secret(name) {
                MASK.clone_into(value);
            }
        }
        masked
    }

    /// The whole configuration as TOML that loads as this configuration again. Mask it before it is shown.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        write_config(&mut out, self, false);
        out
    }

    /// The whole configuration as a table of its keys, numbers in the unit of the key. Mask it before it is shown.
    pub fn to_table(&self) -> toml::Table {
        let mut root = toml::Table::new();
        for key in KEYS {
            let value = (key.get)(self).to_toml();
            if key.section().is_empty() {
                root.insert(key.name().to_owned(), value);
            } else {
                let section = root.entry(key.section()).or_insert_with(|| toml::Table::new().into());
                section.as_table_mut().expect("sections are tables").insert(key.name().to_owned(), value);
            }
        }
        root.insert("feeds".to_owned(), Value::Feeds(self.feeds.clone()).to_toml());
        root
    }
}

/// The annotated example: every key once, with its unit, bounds, default and the reason for it.
pub fn example() -> String {
    let mut out = String::new();
    comment(
        &mut out,
        "Tickgate: every key with its default, as if there were no file at all. Keep what you change, delete the rest.",
    );
    out.push_str("#\n");
    comment(
        &mut out,
        "A plain number is in the unit of the key (_ms, _s, _bytes); a text may name its own: \"64KiB\", \"1MB\", \
         \"500ms\", \"2m\". The environment overrides this file (TICKGATE_OUTBOX_BYTES_MAX=1MiB: the path in capitals, \
         dots as underscores), flags override both (--set outbox.bytes_max=1MiB). Unknown keys are errors. `tickgate \
         run --config FILE --print-config` shows what is in effect.",
    );
    out.push('\n');
    write_config(&mut out, &Config::default(), true);
    while out.contains("\n\n\n") {
        out = out.replace("\n\n\n", "\n\n");
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// One feed as a table.
pub(super) fn feed_table(feed: &FeedConfig) -> toml::Table {
    FEED_KEYS.iter().map(|key| (key.path.to_owned(), (key.get)(feed).to_toml())).collect()
}

fn write_config(out: &mut String, config: &Config, annotated: bool) {
    write_section(out, config, "", annotated);
    for (section, about) in keys::SECTIONS {
        out.push('\n');
        if annotated {
            comment(out, about);
        }
        let _ = writeln!(out, "[{section}]");
        if annotated {
            out.push('\n');
        }
        write_section(out, config, section, annotated);
    }
    for (index, feed) in config.feeds.iter().enumerate() {
        out.push('\n');
        if annotated && index == 0 {
            comment(
                out,
                "The feeds, one `[[feeds]]` per topic. Each (channel, symbol) must come from one topic only.",
            );
        }
        out.push_str("[[feeds]]\n");
        for key in FEED_KEYS {
            write_key(out, key, (key.get)(feed), annotated);
        }
    }
}

fn write_section(out: &mut String, config: &Config, section: &str, annotated: bool) {
    let of_section = || KEYS.iter().filter(|key| key.section() == section);
    for key in of_section().filter(|key| !matches!(key.kind, Kind::Properties)) {
        write_key(out, key, (key.get)(config), annotated);
    }
    // Tables stand last in their section, or they would take in the keys that follow.
    for key in of_section() {
        let Value::Properties(map) = (key.get)(config) else { continue };
        if annotated {
            out.push('\n');
            comment(out, key.doc);
            comment(out, "Table of names and values; default: empty. For instance:");
            out.push_str("#   \"security.protocol\" = \"sasl_plaintext\"\n");
        } else {
            out.push('\n');
        }
        let _ = writeln!(out, "[{}]", key.path);
        for (name, value) in map {
            let _ = writeln!(out, "{} = {}", quoted(&name), quoted(&value));
        }
    }
}

fn write_key<T>(out: &mut String, key: &Key<T>, value: Value, annotated: bool) {
    let shown = show(key.kind, &value);
    if annotated {
        comment(out, key.doc);
        let about = key.kind.describe();
        let about = about[..1].to_uppercase() + &about[1..];
        comment(out, &format!("{about}; default {shown}."));
    }
    let _ = writeln!(out, "{} = {shown}", key.name());
    if annotated {
        out.push('\n');
    }
}

fn show(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        // A size reads better with its unit; the name of a time key has it already.
        (Kind::Number { unit: unit @ super::value::Unit::Bytes, .. }, Value::Number(number)) => {
            let shown = unit.show(*number);
            if shown.ends_with('B') { quoted(&shown) } else { shown }
        }
        (_, value) => value.to_toml().to_string(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Appends `text` as comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
