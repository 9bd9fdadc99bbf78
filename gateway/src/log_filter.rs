//! What is logged, and how to log something else for a while: by a reload, or by the admin listener.
//!
//! What the configuration says is what counts in the end: a reload puts it back, and so does the end of a time that was
//! asked for.

use crate::clock;
use crate::config::{self, ConfigError, Origin};
use crate::reload::{Commit, Part};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

type Apply = Box<dyn Fn(EnvFilter) + Send>;

/// The filter of log lines. Clones share it.
#[derive(Clone)]
pub struct LogFilter(Arc<Mutex<Inner>>);

struct Inner {
    apply: Apply,
    configured: String,
    now: String,
    /// When the configured one comes back, monotonic milliseconds.
    back_ms: Option<u64>,
}

/// What is in effect.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InForce {
    /// The filter.
    pub log: String,
    /// What the configuration says.
    pub configured: String,
    /// Seconds after which that comes back, if it does so by itself.
    pub back_in_s: Option<u64>,
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.now()).finish()
    }
}

impl LogFilter {
    /// The configured one is in effect; `apply` puts another in force.
    pub fn new(configured: &str, apply: impl Fn(EnvFilter) + Send + 'static) -> Self {
        let (configured, now) = (configured.to_owned(), configured.to_owned());
        Self(Arc::new(Mutex::new(Inner { apply: Box::new(apply), configured, now, back_ms: None })))
    }

    /// What is in effect now.
    pub fn now(&self) -> InForce {
        let inner = self.lock();
        let left_ms = inner.back_ms.map(|back_ms| back_ms.saturating_sub(clock::mono_ms()));
        let back_in_s = left_ms.map(|left_ms| left_ms.div_ceil(1_000));
        InForce { log: inner.now.clone(), configured: inner.configured.clone(), back_in_s }
    }

    /// Puts another filter in force, for so many milliseconds if that is said, and logs that.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn set(&self, text: &str, for_ms: Option<u64>) -> Result<(), String> {
        if text.is_empty() {
            // It would be read as one that lets errors through.
            return Err("is empty".to_owned());
        }
        let filter = parse(text)?;
        let mut inner = self.lock();
        let for_s = for_ms.map(|for_ms| for_ms / 1_000);
        let old = inner.now.clone();
        // Under the filter that lets it through, if one does.
        let is_heard = parse(&old).is_ok_and(|old| old.max_level_hint() >= Some(LevelFilter::WARN));
        let tell = || tracing::warn!(?old, new = ?text, for_s, "what is logged is changed through the admin listener");
        if is_heard {
            tell();
        }
        inner.back_ms = for_ms.map(|for_ms| clock::mono_ms() + for_ms);
        inner.put(text, filter);
        if !is_heard {
            tell();
        }
        Ok(())
    }

    /// Puts the configured one back if the time of the other one is over.
    pub fn look(&self) {
        let mut inner = self.lock();
        if inner.back_ms.is_none_or(|back_ms| clock::mono_ms() < back_ms) {
            return;
        }
        inner.back_ms = None;
        let configured = inner.configured.clone();
        let Ok(filter) = parse(&configured) else { return };
        let old = inner.put(&configured, filter);
        drop(inner);
        tracing::warn!(?old, new = ?configured, "the time of another log filter is over");
    }

    /// What takes another configuration over.
    pub fn part(&self) -> Part {
        let shared = self.clone();
        Part::new(&["log"], move |config| {
            let filter = parse(&config.log).map_err(|what| ConfigError {
                origin: Origin::Default,
                key: "log".to_owned(),
                what,
            })?;
            let (shared, log) = (shared.clone(), config.log.clone());
            let inner = shared.lock();
            let is_other = inner.now != log || inner.configured != log || inner.back_ms.is_some();
            drop(inner);
            Ok(is_other.then(|| {
                Box::new(move || {
                    let mut inner = shared.lock();
                    inner.back_ms = None;
                    inner.put(&log, filter);
                    inner.configured = log;
                }) as Commit
            }))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, text: &str, filter: EnvFilter) -> String {
        (self.apply)(filter);
        std::mem::replace(&mut self.now, text.to_owned())
    }
}

fn parse(text: &str) -> Result<EnvFilter, String> {
    config::check_log(text)?;
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::reload::{InEffect, Reloader};
    use crate::stats::{Board, Reload};
    use std::sync::mpsc::sync_channel;

    #[test]
    fn another_filter_counts_until_its_time_is_over_or_a_reload() {
        let (applied, is_applied) = sync_channel(16);
        let filter = LogFilter::new("info", move |filter| applied.send(filter.to_string()).expect("read"));
        assert!(filter.set("nonsense", None).is_err() && filter.set("", None).is_err());
        assert!(is_applied.try_recv().is_err(), "nothing has changed");
        assert_eq!(filter.set("debug", Some(600_000)), Ok(()));
        filter.look();
        let now = filter.now();
        assert_eq!((now.log.as_str(), now.configured.as_str(), now.back_in_s), ("debug", "info", Some(600)));
        assert_eq!(filter.set("warn", Some(0)), Ok(()));
        filter.look();
        let InForce { log, back_in_s, .. } = filter.now();
        assert_eq!((log.as_str(), back_in_s), ("info", None));
        assert_eq!(is_applied.try_iter().collect::<Vec<_>>(), ["debug", "warn", "info"]);

        let config = Config::default();
        let in_effect = InEffect::new(Arc::new(config.clone()));
        let mut reloader = Reloader::new(config, in_effect, Arc::new(Board::new(1))).with(filter.part());
        let reload = |reloader: &mut Reloader, log: &str| {
            let sources = crate::config::load::Sources::new().text("gate.toml", &format!("log = '{log}'\n"));
            assert_eq!(reloader.reload(crate::config::load::Loaded::load(&sources)), Reload::Ok);
        };
        filter.set("debug", None).expect("it is right");
        reload(&mut reloader, "info");
        assert_eq!(filter.now().log, "info", "what the configuration says is put back");
        reload(&mut reloader, "error");
        assert_eq!(filter.now().configured, "error");
        reload(&mut reloader, "error");
        assert_eq!(is_applied.try_iter().collect::<Vec<_>>(), ["debug", "info", "error"]);
    }
}
