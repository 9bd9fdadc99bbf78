//! What must hold between values, and what a text must look like.

use super::error::{ConfigError, ConfigErrors, Origin};
use super::replay::SecretError;
use super::value::{Kind, Value};
use super::{Compression, Config, keys, render};
use crate::tls::Tls;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::collections::HashMap;

/// Where each value came from, by path; what is absent is a default.
pub(super) type Origins = HashMap<String, Origin>;

/// Feeds at most: their names are metric labels.
const FEEDS_MAX: usize = 64;
/// librdkafka properties that the gateway sets for its own correctness, with what to do instead.
const RESERVED_PROPERTIES: [(&str, &str); 6] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("auto.offset.reset", "the gateway decides where to read on, and counts what was lost"),
    ("enable.auto.commit", "the gateway commits nothing"),
    ("enable.auto.offset.store", "the gateway stores nothing"),
    ("statistics.interval.ms", "set kafka.statistics_ms"),
];

const MASKED: &str = "is masked, as in a configuration that was shown: set the secret itself";

/// How one number bounds another.
#[derive(Clone, Copy)]
enum Relation {
    /// Is at most the larger number.
    Whole,
    /// A larger number of 0 bounds nothing.
    UnlessZero,
    /// The larger number is divided by the shards.
    Share,
}

impl Config {
    /// Checks bounds and relations, however the configuration was made. [`Config::load`] has done so already.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        let bad = |key: &str, what| ConfigError { origin: Origin::Default, key: key.to_owned(), what };
        for key in keys::KEYS {
            errors.extend(check_value(key.kind, (key.get)(self)).err().map(|what| bad(key.path, what)));
        }
        for (index, feed) in self.feeds.iter().enumerate() {
            for key in keys::FEED_KEYS {
                let path = format!("feeds[{index}].{}", key.path);
                errors.extend(check_value(key.kind, (key.get)(feed)).err().map(|what| bad(&path, what)));
            }
        }
        errors.extend(relations(self, &Origins::new(), |_| true));
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }
}

fn check_value(kind: Kind, value: Value) -> Result<(), String> {
    match (kind, value) {
        (Kind::Text(check) | Kind::Secret(check), Value::Text(text)) => check(&text),
        (Kind::List(check), Value::List(texts)) => texts.iter().try_for_each(|text| check(text)),
        (kind @ Kind::Number { .. }, Value::Number(number)) => kind.bounded(number).map(drop),
        (kind @ Kind::Numbers { .. }, Value::Numbers(numbers)) => kind.listed(numbers).map(drop),
        _ => Ok(()),
    }
}

/// What is wrong between values; keys of which `usable` says no are not compared, as they are wrong already.
pub(super) fn relations(
    config: &Config,
    origins: &Origins,
    usable: impl Fn(&str) -> bool,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut say = |key: &str, what: String| {
        let origin = origins.get(key).cloned().unwrap_or(Origin::Default);
        errors.push(ConfigError { origin, key: key.to_owned(), what });
    };
    let show = |path: &str| {
        let key = keys::find(path).expect("relations name keys of the table");
        let (Kind::Number { unit, .. }, Value::Number(number)) = (key.kind, (key.get)(config)) else {
            unreachable!("relations are between numbers")
        };
        (number, unit.show(number))
    };
    let shards = config.shard_count() as u64;
    for (small, large, kind, why) in [
        (
            "outbox.write_bytes_max",
            "outbox.bytes_max",
            Relation::Whole,
            "one write cannot take more than the queue holds",
        ),
        (
            "outbox.frame_bytes_max",
            "outbox.bytes_max",
            Relation::Whole,
            "a frame is built from what the queue holds",
        ),
        (
            "outbox.bytes_max",
            "outbox.total_bytes_max",
            Relation::Share,
            "one session could never fill its queue",
        ),
        (
            "limits.message_bytes_max",
            "limits.reading_bytes_total_max",
            Relation::Share,
            "one message of that size could never be read",
        ),
        (
            "limits.subscriptions_max",
            "limits.subscriptions_total_max",
            Relation::Whole,
            "one session could never hold so many",
        ),
        (
            "kafka.book_levels_max",
            "kafka.book_levels_total_max",
            Relation::Whole,
            "one book could never grow so deep",
        ),
        (
            "outbox.age_max_ms",
            "outbox.stall_timeout_ms",
            Relation::Whole,
            "`on_slow` would never act before the session ends",
        ),
        (
            "session.ping_ms",
            "session.silence_timeout_ms",
            Relation::UnlessZero,
            "no client would be asked before its session ends",
        ),
        (
            "outbox.notsent_lowat_bytes",
            "outbox.send_buffer_bytes",
            Relation::UnlessZero,
            "the kernel would count the socket as full only after its buffer is",
        ),
    ] {
        if !usable(small) || !usable(large) {
            continue;
        }
        let ((small_number, small_shown), (large_number, large_shown)) = (show(small), show(large));
        let (is_wrong, each) = match kind {
            Relation::Whole => (small_number > large_number, String::new()),
            Relation::UnlessZero => (small_number > large_number && large_number > 0, String::new()),
            Relation::Share => (small_number > large_number / shards, format!(" on each of {shards} shards")),
        };
        if is_wrong {
            // Blame the one that was set: the other may be a default.
            let key = if origins.contains_key(small) || !origins.contains_key(large) { small } else { large };
            let set_at = |path: &str| match origins.get(path) {
                Some(origin) if path != key => format!(", {origin}"),
                _ => String::new(),
            };
            say(
                key,
                format!(
                    "{small} ({small_shown}{}){each} must not exceed {large} ({large_shown}{}): {why}",
                    set_at(small),
                    set_at(large)
                ),
            );
        }
    }
    // The text of a secret beside its file may be where nobody looks, such as in the environment.
    let read_at = |key: &str, secret: Result<Vec<u8>, SecretError>| {
        secret.map_err(|wrong| match (wrong, origins.get(key)) {
            (SecretError::Twice(_), Some(origin)) => {
                format!("is set beside {key} ({origin}): one of them is enough")
            }
            (wrong, _) => wrong.to_string(),
        })
    };
    if config.listen == config.admin && config.listen.port() != 0 && usable("listen") && usable("admin") {
        let key = if origins.contains_key("admin") { "admin" } else { "listen" };
        say(key, format!("clients and admin cannot share {}", config.listen));
    }
    if usable("admin_token") && usable("admin_token_file") {
        match read_at("admin_token", config.admin_access.secret()) {
            Err(what) => say("admin_token_file", what),
            Ok(token) if token.is_empty() && usable("admin") && !config.admin.ip().is_loopback() => say(
                "admin",
                format!(
                    "{} is reached by others, and shows them clients and limits: set admin_token_file or admin_token, or \
                     stay on 127.0.0.1",
                    config.admin
                ),
            ),
            Ok(_) => {}
        }
    }
    if usable("proxies.protocol") && usable("proxies.trusted") {
        let is_asked = config.proxies.protocol != "none";
        if is_asked && config.proxies.trusted.is_empty() {
            say(
                "proxies.protocol",
                "is believed of nobody: name their networks in proxies.trusted".to_owned(),
            );
        } else if !is_asked && !config.proxies.trusted.is_empty() {
            say("proxies.trusted", "is not used: set proxies.protocol to what they speak".to_owned());
        }
    }
    let longest_s = config.delays.delayed_s.iter().copied().max().unwrap_or(0);
    if usable("delays.delayed_s") && usable("delays.default_s") && config.delays.default_s > longest_s {
        let default_s = config.delays.default_s;
        let what = format!("{default_s}s is longer than every delay of delays.delayed_s: name it there too");
        say("delays.default_s", what);
    }
    if usable("replay.cursor_key") && usable("replay.cursor_key_file") {
        let wrong = read_at("replay.cursor_key", config.replay.secret()).err();
        wrong.into_iter().for_each(|what| say("replay.cursor_key_file", what));
    }
    if usable("replay.cursor_key_also") && usable("replay.cursor_key_also_file") {
        let wrong = read_at("replay.cursor_key_also", config.replay.secret_also()).err();
        wrong.into_iter().for_each(|what| say("replay.cursor_key_also_file", what));
    }
    let secrets = ["replay.cursor_key", "replay.cursor_key_file"];
    let others = ["replay.cursor_key_also", "replay.cursor_key_also_file"];
    if secrets.iter().chain(&others).all(|key| usable(key)) && !config.replay.has_secret() {
        // Who holds only the other secret means to be protected by it, and would not be.
        let also = [&config.replay.cursor_key_also, &config.replay.cursor_key_also_file];
        if let Some((key, _)) = others.iter().zip(also).find(|(_, text)| !text.is_empty()) {
            say(
                key,
                format!(
                    "is set without {}: cursors would be signed with no secret, and forged ones accepted; set that, \
                     or take this one out",
                    secrets[0]
                ),
            );
        }
    }
    for (key, what) in config.auth.wrong(&usable) {
        say(key, what);
    }
    let (dead, revoked) = (&config.kafka.dead_letter_topic, &config.auth.revocation_topic);
    if !dead.is_empty() && dead == revoked {
        let what = format!("`{dead}` is auth.revocation_topic: bad records would say who is revoked");
        say("kafka.dead_letter_topic", what);
    }
    let tls = ["tls.certificate_file", "tls.key_file", "tls.client_ca_file", "tls.client_certificates"];
    if tls.iter().all(|key| usable(key)) {
        Tls::load(&config.tls).err().into_iter().for_each(|error| say(&error.key, error.what));
    }
    for (name, instead) in RESERVED_PROPERTIES {
        if config.kafka.properties.contains_key(name) {
            say(&format!("kafka.properties.{name}"), format!("is set by the gateway: {instead}"));
        }
    }
    for (name, value) in &config.kafka.properties {
        if !RESERVED_PROPERTIES.iter().any(|(reserved, _)| name == reserved) {
            property(name, value)
                .err()
                .into_iter()
                .for_each(|what| say(&format!("kafka.properties.{name}"), what));
        }
    }
    feeds(config, &usable, &mut say);
    errors
}

/// What librdkafka says of a property. Its own words can repeat the value, which may be a secret under a mistyped name.
fn property(name: &str, value: &str) -> Result<(), String> {
    if render::is_secret(name) && value == render::MASK {
        return Err(MASKED.to_owned());
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err("is no property of librdkafka".to_owned())
        }
        Err(_) => Err("is not set to a value that librdkafka takes for it".to_owned()),
    }
}

fn feeds(config: &Config, usable: &impl Fn(&str) -> bool, say: &mut impl FnMut(&str, String)) {
    if !usable("feeds") {
        return;
    }
    if config.feeds.is_empty() {
        say("feeds", "there must be one at least".to_owned());
    }
    if config.feeds.len() > FEEDS_MAX {
        say("feeds", format!("must be at most {FEEDS_MAX}, not {}", config.feeds.len()));
    }
    let mut symbols = 0;
    for (index, feed) in config.feeds.iter().enumerate() {
        let before = &config.feeds[..index];
        if !usable(&format!("feeds[{index}].topic")) || !usable(&format!("feeds[{index}].name")) {
            continue;
        }
        if let Some(first) = before.iter().position(|other| other.topic == feed.topic) {
            say(
                &format!("feeds[{index}].topic"),
                format!("`{}` is read by feeds[{first}] already", feed.topic),
            );
        } else if let Some(first) = before.iter().position(|other| other.name == feed.name) {
            say(
                &format!("feeds[{index}].name"),
                format!("`{}` is the name of feeds[{first}] already", feed.name),
            );
        }
        if feed.topic == config.kafka.dead_letter_topic {
            say(
                "kafka.dead_letter_topic",
                format!("`{}` is read by feeds[{index}]: bad records would circle", feed.topic),
            );
        }
        if feed.topic == config.auth.revocation_topic {
            say(
                "auth.revocation_topic",
                format!("`{}` is read by feeds[{index}]: it holds market data", feed.topic),
            );
        }
        symbols += feed.symbols.len();
    }
    if symbols > config.kafka.symbols_max && usable("kafka.symbols_max") {
        let most = config.kafka.symbols_max;
        say("kafka.symbols_max", format!("the feeds list {symbols} symbols, but only {most} are tracked"));
    }
}

pub(super) fn brokers(text: &str) -> Result<(), String> {
    let bad = text.split(',').map(str::trim).find(|broker| {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        let host_ok =
            !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        !host_ok || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err()
    });
    bad.map_or(Ok(()), |bad| {
        Err(format!("must be host:port separated by commas; `{}` is not", bad.escape_debug()))
    })
}

pub(super) fn topic(text: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 249 || !text.chars().all(legal) || text == "." || text == ".." {
        let text = text.escape_debug();
        return Err(format!(
            "must be a Kafka topic (1 to 249 of letters, digits, `.`, `_`, `-`), not `{text}`"
        ));
    }
    Ok(())
}

pub(super) fn topic_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { topic(text) }
}

pub(super) fn feed_name(text: &str) -> Result<(), String> {
    // As long as a topic, for it is the topic's name unless set.
    if text.is_empty() || text.len() > 249 || text.contains(char::is_control) {
        return Err(format!(
            "must be 1 to 249 bytes without control characters, not `{}`",
            text.escape_debug()
        ));
    }
    Ok(())
}

pub(super) fn hours(text: &str) -> Result<(), String> {
    super::calendar::Calendar::new(&[text.to_owned()], &[]).map(|_| ())
}

pub(super) fn day(text: &str) -> Result<(), String> {
    super::calendar::Calendar::new(&[], &[text.to_owned()]).map(|_| ())
}

pub(super) fn symbol(text: &str) -> Result<(), String> {
    if tickgate_protocol::is_symbol(text) {
        return Ok(());
    }
    let most = tickgate_protocol::SYMBOL_BYTES_MAX;
    let text = text.escape_debug();
    Err(format!("a symbol is 1 to {most} bytes without `*` and control characters, `{text}` is not"))
}

pub(super) fn cursor_key(text: &str) -> Result<(), String> {
    let (least, most) = (super::replay::SECRET_BYTES_MIN, super::replay::SECRET_BYTES_MAX);
    if text == render::MASK {
        return Err(MASKED.to_owned());
    }
    if !text.is_empty() && !(least..=most).contains(&text.len()) {
        return Err(format!("must be empty or of {least} to {most} bytes, not of {}", text.len()));
    }
    Ok(())
}

pub(crate) fn log(text: &str) -> Result<(), String> {
    // A bare word that is no level would be taken for a module: mistyped, it would silence everything else.
    let is_level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let is_mistyped = |part: &str| !part.contains(['=', '[']) && !is_level(part.trim());
    let is_wrong = !text.contains('[') && text.split(',').any(is_mistyped);
    if !is_wrong && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
        return Ok(());
    }
    Err(format!(
        "must be a level (error, warn, info, debug, trace), or levels by module as `info,tickgate_gateway=debug`, not `{}`",
        text.escape_debug()
    ))
}

pub(super) fn otlp_endpoint(text: &str) -> Result<(), String> {
    let is_right = |uri: &hyper::Uri| {
        uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && !text.contains('@')
    };
    if text.is_empty() || text.parse::<hyper::Uri>().is_ok_and(|uri| is_right(&uri)) {
        return Ok(());
    }
    Err("must be a URL as http://127.0.0.1:4318/v1/traces, without TLS, or empty".to_owned())
}

pub(super) fn path_or_empty(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("must be a path, which has no zero bytes".to_owned()) } else { Ok(()) }
}

pub(super) fn compression(text: &str) -> Result<(), String> {
    if Compression::from_name(text).is_some() {
        return Ok(());
    }
    let names = Compression::ALL.map(|compression| format!("\"{}\"", compression.name()));
    Err(format!("must be {}, not `{}`", names.join(" or "), text.escape_debug()))
}

pub(super) fn network(text: &str) -> Result<(), String> {
    crate::network::Network::parse(text).map(drop)
}

pub(super) fn proxy_protocol(text: &str) -> Result<(), String> {
    if matches!(text, "none" | "x-forwarded-for" | "v2") {
        return Ok(());
    }
    Err(format!("must be \"none\", \"x-forwarded-for\" or \"v2\", not `{}`", text.escape_debug()))
}

pub(super) fn origin(text: &str) -> Result<(), String> {
    let legal = text.split_once("://").is_some_and(|(scheme, host)| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '@' | '*');
        scheme.bytes().all(|byte| byte.is_ascii_lowercase())
            && !scheme.is_empty()
            && !host.is_empty()
            && !host.contains(odd)
    });
    // Browsers write the host in lower case: otherwise no page would ever have this origin.
    let legal = legal && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if legal || text == "null" || text == "*" {
        return Ok(());
    }
    let text = text.escape_debug();
    Err(format!(
        "an origin is scheme://host[:port] in lower case without a path, as \"https://example.com\", or \"*\" for all; \
         `{text}` is not"
    ))
}
