//! Loading: a TOML file, then the environment, then flags; later ones win, and every error is reported at once.
//!
//! | source | a key is written | a value is |
//! |---|---|---|
//! | file | `[outbox]` `bytes_max = "1MiB"` | TOML |
//! | environment | `TICKGATE_OUTBOX_BYTES_MAX=1MiB`: the path in capitals, dots as underscores | text |
//! | flags | `--set outbox.bytes_max=1MiB`, or a flag of its own such as `--listen` | text |
//!
//! A plain number is in the unit of the key (`_ms`, `_s`, `_bytes`); a text may name its own: `"64KiB"`, `"1MB"`,
//! `"500ms"`, `"2m"`. As text, lists are separated by commas; a list of tables or a table is inline TOML
//! (`TICKGATE_FEEDS='[{topic="ticks"}]'`) and replaces the whole. One librdkafka property is
//! `TICKGATE_KAFKA_PROPERTIES_SASL_PASSWORD` (underscores become dots) or `--set kafka.properties.sasl.password=…`,
//! and joins the others. `TICKGATE_TOPIC` and `--topic` name the topics to read, separated by commas: a feed of the
//! file with that topic keeps its settings, other feeds are not read.
//!
//! An unknown `TICKGATE_` variable is an error, as a typing error there would go unnoticed; [`OTHER_VARIABLES`] and
//! the addresses that Kubernetes gives for a Service of that name are not the configuration's.

mod file;

use super::check::{self, Origins};
use super::error::{ConfigError, ConfigErrors, Origin};
use super::keys::{self, KEYS, Key};
use super::suggest::nearest;
use super::value::{Kind, Raw, Value};
use super::{Config, FeedConfig};
use file::{Lines, is_inline, raw};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;
use toml::de::DeValue;

/// Variables that start with `TICKGATE_` and are no keys: the file, the broker's log, and (as a prefix) what tests use.
pub const OTHER_VARIABLES: [&str; 3] = ["TICKGATE_CONFIG", "TICKGATE_BROKER_LOG", "TICKGATE_TEST_"];

const PREFIX: &str = "TICKGATE_";
const PROPERTIES: &str = "kafka.properties";
/// How a `--set` without `=` is kept until it is reported.
const SET_WITHOUT_VALUE: &str = "--set without a value";
/// A configuration file of more bytes is not one.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Everything that a configuration is loaded from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<File>,
    environment: Vec<(OsString, OsString)>,
    settings: Vec<Setting>,
    topics: Vec<String>,
}

#[derive(Debug, Clone)]
enum File {
    Path(std::path::PathBuf),
    Text { name: String, text: String },
}

/// A value given by a flag.
#[derive(Debug, Clone)]
struct Setting {
    flag: String,
    key: String,
    value: String,
}

impl Sources {
    /// No source: every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a TOML file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(File::Path(path.as_ref().to_owned()));
        self
    }

    /// With the text of a TOML file; errors call it `name`.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.file = Some(File::Text { name: name.to_owned(), text: text.to_owned() });
        self
    }

    /// With the environment of this process, of which `TICKGATE_CONFIG` names the file unless one is set already.
    #[must_use]
    pub fn process_environment(self) -> Self {
        self.environment(std::env::vars_os())
    }

    /// With these environment variables; those that do not start with `TICKGATE_` are left out.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        for (name, value) in variables {
            if name.to_string_lossy().starts_with(PREFIX) {
                if name == "TICKGATE_CONFIG" && self.file.is_none() && !value.is_empty() {
                    self.file = Some(File::Path(value.clone().into()));
                }
                self.environment.push((name, value));
            }
        }
        // The order of an environment means nothing: errors come in one that does not change.
        self.environment.sort();
        self
    }

    /// With the value of a flag of its own: `flag` as typed, the path of its key.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: &str) -> Self {
        self.settings.push(Setting { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// With `--set key=value`.
    #[must_use]
    pub fn set(self, assignment: &str) -> Self {
        let (key, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        // Errors show the key, never the value, which may be a secret.
        let flag = if assignment.contains('=') { "--set" } else { SET_WITHOUT_VALUE };
        self.flag(flag, key.trim(), value)
    }

    /// With `--topic`: the topics to read.
    #[must_use]
    pub fn topic(mut self, topics: &str) -> Self {
        self.topics.push(topics.to_owned());
        self
    }
}

/// The filter of the demo's log lines, which has no other configuration: `TICKGATE_LOG`, else `default`.
pub fn log_filter(default: &str) -> String {
    std::env::var("TICKGATE_LOG")
        .ok()
        .filter(|filter| !filter.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// Whether clients may ask for panics, which tests do: `TICKGATE_TEST_PANICS` is set.
#[cfg(debug_assertions)]
pub(crate) fn may_panic() -> bool {
    std::env::var_os("TICKGATE_TEST_PANICS").is_some()
}

/// Whether clients are sent back what they send, and nothing else, as conformance tests want it: `TICKGATE_TEST_ECHO` is set.
#[cfg(debug_assertions)]
pub(crate) fn echoes() -> bool {
    std::env::var_os("TICKGATE_TEST_ECHO").is_some()
}

/// A configuration, and what of its file it does not say.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is to be in effect.
    pub config: Config,
    /// Whether there was a file.
    pub has_file: bool,
    /// Paths of which the file says something else, in order, each with what it is that counts.
    pub hidden: Vec<(String, Origin)>,
}

impl Config {
    /// Loads and checks the configuration as a whole.
    ///
    /// # Errors
    /// Everything that is wrong: unknown keys with the nearest known one, wrong types, values out of bounds,
    /// relations that do not hold.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Loaded::load(sources).map(|loaded| loaded.config)
    }
}

impl Loaded {
    /// Loads and checks the configuration as a whole, as [`Config::load`] does.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let mut loader = Loader {
            config: Config::default(),
            origins: Origins::new(),
            failed: HashSet::new(),
            errors: Vec::new(),
        };
        match &sources.file {
            Some(File::Path(path)) => loader.path(path),
            Some(File::Text { name, text }) => loader.text(name, text),
            None => {}
        }
        let (of_file, paths) = (loader.config.clone(), loader.origins.clone());
        loader.environment(&sources.environment);
        loader.flags(sources);
        let origins = loader.origins.clone();
        let config = loader.finish()?;
        let changed = of_file.differences(&config);
        let is_hidden = |path: &str| match path.strip_prefix("kafka.properties.") {
            Some(name) => of_file.kafka.properties.get(name) != config.kafka.properties.get(name),
            None => changed.contains(&path),
        };
        let origin = |path: String| origins.get(&path).cloned().map(|origin| (path, origin));
        let mut hidden: Vec<(String, Origin)> = paths
            .into_keys()
            .filter(|path| is_hidden(path))
            .filter_map(origin)
            .filter(|(_, origin)| !matches!(origin, Origin::File { .. }))
            .collect();
        hidden.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(Self { config, has_file: sources.file.is_some(), hidden })
    }
}

struct Loader {
    config: Config,
    origins: Origins,
    /// Keys with an error: they are not compared with others.
    failed: HashSet<String>,
    errors: Vec<ConfigError>,
}

impl Loader {
    fn finish(mut self) -> Result<Config, ConfigErrors> {
        let usable = |path: &str| !self.failed.contains(path);
        self.errors.extend(check::relations(&self.config, &self.origins, usable));
        if self.errors.is_empty() { Ok(self.config) } else { Err(ConfigErrors(self.errors)) }
    }

    fn error(&mut self, origin: &Origin, key: &str, what: impl Into<String>) {
        self.failed.insert(key.to_owned());
        self.errors.push(ConfigError { origin: origin.clone(), key: key.to_owned(), what: what.into() });
    }

    fn unknown(&mut self, origin: &Origin, given: &str, what: &str, known: impl Iterator<Item = String>) {
        let known: Vec<String> = known.collect();
        let hint = nearest(given, known.iter().map(String::as_str));
        let hint = hint.map_or_else(String::new, |hint| format!("; did you mean `{hint}`?"));
        self.error(origin, given, format!("{what}{hint}"));
    }

    fn apply(&mut self, key: &Key<Config>, origin: &Origin, raw: Raw) {
        match key.kind.convert(raw) {
            Ok(value) => self.assign(key, origin, value),
            Err(what) => self.error(origin, key.path, what),
        }
    }

    fn assign(&mut self, key: &Key<Config>, origin: &Origin, value: Value) {
        (key.set)(&mut self.config, value);
        self.origins.insert(key.path.to_owned(), origin.clone());
    }

    fn feeds(&mut self, origin: &Origin, feeds: Vec<FeedConfig>) {
        self.config.feeds = feeds;
        self.origins.insert("feeds".to_owned(), origin.clone());
    }

    fn environment(&mut self, variables: &[(OsString, OsString)]) {
        let mut topic = None;
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            let origin = Origin::Environment(name.clone());
            let is_other = OTHER_VARIABLES
                .iter()
                .any(|other| name == *other || (other.ends_with('_') && name.starts_with(other)));
            // Set to nothing, it is not set, as ever.
            let is_unset = name == "TICKGATE_LOG" && value.is_empty();
            if is_other || is_unset || is_service_link(&name, value) {
                continue;
            }
            let Some(value) = value.to_str() else {
                self.error(&origin, "", "is not UTF-8");
                continue;
            };
            let path = match KEYS.iter().find(|key| key.variable() == name) {
                Some(key) => key.path.to_owned(),
                None if name == "TICKGATE_FEEDS" => "feeds".to_owned(),
                None if name == "TICKGATE_TOPIC" => {
                    topic = Some((origin, value));
                    continue;
                }
                None => match name.strip_prefix("TICKGATE_KAFKA_PROPERTIES_") {
                    Some(property) => format!("{PROPERTIES}.{}", property.to_lowercase().replace('_', ".")),
                    None => {
                        self.unknown_variable(&origin, &name);
                        continue;
                    }
                },
            };
            self.loose(&origin, &path, value);
        }
        if let Some((origin, topics)) = topic {
            self.topics(&origin, topics);
        }
    }

    fn unknown_variable(&mut self, origin: &Origin, name: &str) {
        let path = |name: &str| name.trim_start_matches(PREFIX).to_lowercase();
        let variables: Vec<String> = KEYS
            .iter()
            .map(Key::variable)
            .chain(["TICKGATE_FEEDS", "TICKGATE_TOPIC", "TICKGATE_CONFIG"].map(str::to_owned))
            .collect();
        // Compared as paths, where the right name in the wrong section is near.
        let paths: Vec<String> = known_paths().chain(["topic", "config"].map(str::to_owned)).collect();
        let flat: Vec<String> = paths.iter().map(|path| path.replace('.', "_")).collect();
        let attempt = path(name).replace("__", "_");
        let found = nearest(&attempt, flat.iter().map(String::as_str))
            .map(|flat| flat.to_uppercase())
            .or_else(|| {
                nearest(&path(name), paths.iter().map(String::as_str))
                    .map(|path| path.to_uppercase().replace('.', "_"))
            });
        let hint = found.map(|found| format!("{PREFIX}{found}")).filter(|found| variables.contains(found));
        let hint = hint.map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
        self.error(origin, "", format!("unknown variable{hint}"));
    }

    fn flags(&mut self, sources: &Sources) {
        for Setting { flag, key, value } in &sources.settings {
            let origin = Origin::Flag(flag.clone());
            if flag == SET_WITHOUT_VALUE {
                self.error(&Origin::Flag("--set".to_owned()), key, "must be key=value");
            } else {
                self.loose(&origin, key, value);
            }
        }
        if !sources.topics.is_empty() {
            self.topics(&Origin::Flag("--topic".to_owned()), &sources.topics.join(","));
        }
    }

    /// A value that came as text.
    fn loose(&mut self, origin: &Origin, path: &str, value: &str) {
        // In a file the name stands in quotes, for its dots.
        let property = path.strip_prefix("kafka.properties.").map(|property| property.trim_matches('"'));
        if let Some(property) = property.filter(|property| !property.is_empty()) {
            self.config.kafka.properties.insert(property.to_owned(), value.to_owned());
            self.origins.insert(format!("{PROPERTIES}.{property}"), origin.clone());
            return;
        }
        let key = keys::find(path);
        let is_list = |kind| matches!(kind, Kind::Properties | Kind::List(_) | Kind::Numbers { .. });
        let structured = path == "feeds" || key.is_some_and(|key| is_list(key.kind));
        if structured && (path == "feeds" || value.trim_start().starts_with(['[', '{'])) {
            return self.inline(origin, path, value);
        }
        match key {
            Some(key) => self.apply(key, origin, Raw::Loose(value.to_owned())),
            None => self.unknown(origin, path, "unknown key", known_paths()),
        }
    }

    /// A value that came as inline TOML.
    fn inline(&mut self, origin: &Origin, path: &str, value: &str) {
        let (parsed, errors) = DeValue::parse_recoverable(value);
        if let Some(error) = errors.first() {
            return self.error(origin, path, format!("must be inline TOML: {}", error.message()));
        }
        let key = keys::find(path);
        let lines = Lines { name: "", text: "" };
        let errors_before = self.errors.len();
        match (key, parsed.get_ref()) {
            (Some(key), DeValue::Table(table)) if matches!(key.kind, Kind::Properties) => {
                let mut map = BTreeMap::new();
                self.properties(&lines, "", table, &mut map);
                self.assign(key, origin, Value::Properties(map));
            }
            (Some(key), value) => self.apply(key, origin, raw(value)),
            (None, value) => {
                if let Some(feeds) = self.feed_list(&lines, origin, value) {
                    self.feeds(origin, feeds);
                }
            }
        }
        // There are no lines in it: everything came from one place.
        for error in &mut self.errors[errors_before..] {
            error.origin = origin.clone();
        }
        self.origins.values_mut().filter(|known| is_inline(known)).for_each(|known| *known = origin.clone());
    }

    fn topics(&mut self, origin: &Origin, topics: &str) {
        let mut feeds = Vec::new();
        for topic in topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()) {
            if let Err(what) = check::topic(topic) {
                self.error(origin, "feeds", what);
                continue;
            }
            let known = self.config.feeds.iter().find(|feed| feed.topic == topic).cloned();
            feeds.push(known.unwrap_or_else(|| FeedConfig::for_topic(topic)));
        }
        self.feeds(origin, feeds);
    }
}

fn known_paths() -> impl Iterator<Item = String> {
    let sections = keys::SECTIONS.iter().map(|(name, _)| (*name).to_owned());
    KEYS.iter().map(|key| key.path.to_owned()).chain(["feeds".to_owned()]).chain(sections)
}

/// Whether a variable is one that Kubernetes sets in every container beside a Service named `tickgate…`:
/// `TICKGATE_SERVICE_HOST`, `TICKGATE_SERVICE_PORT[_NAME]`, and `TICKGATE_PORT[_8080_TCP[_ADDR|_PORT|_PROTO]]`.
fn is_service_link(name: &str, value: &std::ffi::OsStr) -> bool {
    let is_address = || value.to_str().is_some_and(|v| v.starts_with("tcp://") || v.starts_with("udp://"));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP")))
        || (name.ends_with("_PORT") && is_address())
}
