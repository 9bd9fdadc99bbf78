//! Another configuration while the gateway runs: read again as a whole, and taken over or refused as a whole.
//!
//! What can change without a restart is a [`Part`] each: it names its keys, looks at what they say now, and gives back
//! how to put that in force. Only when the whole configuration was found right and every part is prepared does any of
//! them come into force, so a configuration that is wrong anywhere changes nothing. Keys of no part that were changed
//! are named: they need a restart.

use crate::access::{Access, Files};
use crate::config::load::Loaded;
use crate::config::{Config, ConfigError, ConfigErrors, Origin};
use crate::cursor_keys::CursorKeys;
use crate::stats::{Board, Reload};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Puts in force what a part has prepared; it cannot fail.
pub type Commit = Box<dyn FnOnce() + Send>;
type Prepare = Box<dyn Fn(&Config) -> Result<Option<Commit>, ConfigError> + Send>;

/// Something that takes other settings over while the gateway runs.
#[allow(missing_debug_implementations)]
pub struct Part {
    keys: &'static [&'static str],
    prepare: Prepare,
}

impl Part {
    /// The part behind `keys`. `prepare` changes nothing yet: it gives what puts a configuration in force, nothing when
    /// that already is, or what is wrong with it.
    pub fn new(
        keys: &'static [&'static str],
        prepare: impl Fn(&Config) -> Result<Option<Commit>, ConfigError> + Send + 'static,
    ) -> Self {
        Self { keys, prepare: Box::new(prepare) }
    }

    /// What says who may connect, as far as it stands in files and in the configuration.
    pub fn access(access: Arc<Access>) -> Self {
        let names = &[
            "auth.issuers",
            "auth.audiences",
            "auth.algorithms",
            "auth.key_files",
            "auth.jwks_file",
            "auth.claim",
            "auth.leeway_s",
            "auth.api_keys_file",
        ];
        Self::new(names, move |config| {
            let new = Files::read(&config.auth).map_err(|wrong| {
                let mut wrong = wrong.into_iter();
                let (key, what) = wrong.next().unwrap_or(("auth", "cannot be read".to_owned()));
                ConfigError { origin: Origin::Default, key: key.to_owned(), what }
            })?;
            let access = access.clone();
            Ok((*access.files() != new).then(|| Box::new(move || access.replace_files(new)) as Commit))
        })
    }

    /// The keys of cursors.
    pub fn cursor_keys(keys: CursorKeys) -> Self {
        let names = &[
            "replay.cursor_key",
            "replay.cursor_key_file",
            "replay.cursor_key_also",
            "replay.cursor_key_also_file",
        ];
        Self::new(names, move |config| {
            let new = config.replay.keys()?;
            let keys = keys.clone();
            Ok((*keys.now() != new).then(|| Box::new(move || keys.replace(new)) as Commit))
        })
    }
}

/// The configuration in effect. Clones share it.
#[derive(Debug, Clone)]
pub struct InEffect(Arc<Mutex<Arc<Config>>>);

impl InEffect {
    /// This one, until it is changed.
    pub fn new(config: Arc<Config>) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    /// The one in effect now.
    pub fn now(&self) -> Arc<Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, config: &Config, keys: &[&str]) {
        let mut now = Config::clone(&self.now());
        now.take(config, keys);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
    }
}

/// Takes other configurations over.
#[allow(missing_debug_implementations)]
pub struct Reloader {
    /// As it was loaded: what the system made of it (fewer sessions, say) is no change by anybody.
    loaded: Config,
    in_effect: InEffect,
    parts: Vec<Part>,
    board: Arc<Board>,
}

impl Reloader {
    /// For a gateway that was started with `loaded`.
    pub fn new(loaded: Config, in_effect: InEffect, board: Arc<Board>) -> Self {
        Self { loaded, in_effect, parts: Vec::new(), board }
    }

    /// With another part.
    #[must_use]
    pub fn with(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Takes over what was loaded now, or says why not; the log has all of it.
    pub fn reload(&mut self, loaded: Result<Loaded, ConfigErrors>) -> Reload {
        let result = match loaded.and_then(|loaded| self.take(&loaded)) {
            Ok(result) => result,
            Err(errors) => {
                tracing::error!("reload refused, everything stays as it is: {errors}");
                Reload::Refused
            }
        };
        self.board.reloads[result as usize].fetch_add(1, Ordering::Relaxed);
        result
    }

    fn take(&mut self, loaded: &Loaded) -> Result<Reload, ConfigErrors> {
        let Loaded { config, has_file, hidden } = loaded;
        let mut errors = Vec::new();
        let mut commits = Vec::new();
        for part in &self.parts {
            match (part.prepare)(config) {
                Ok(commit) => commits.extend(commit.map(|commit| (part.keys, commit))),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let mut taken = Vec::new();
        for (keys, commit) in commits {
            commit();
            taken.push(keys.join(" or "));
        }
        let live: Vec<&str> = self.parts.iter().flat_map(|part| part.keys).copied().collect();
        self.in_effect.take(config, &live);
        self.loaded.take(config, &live);
        let left = self.loaded.differences(config);
        self.board.keys_waiting.store(left.len() as u64, Ordering::Relaxed);
        let is_nothing = taken.is_empty();
        if is_nothing && !has_file {
            tracing::warn!("there is no configuration file to read again: started without --config");
        } else if is_nothing {
            tracing::info!("configuration read again: nothing to take over");
        } else {
            tracing::info!(taken = taken.join(", "), "configuration read again, and taken over");
        }
        if !hidden.is_empty() {
            let keys: Vec<String> = hidden.iter().map(|(key, by)| format!("{key} ({by})")).collect();
            let keys = keys.join(", ");
            tracing::info!(keys, "not as the file says, as something else sets them");
        }
        if !left.is_empty() {
            tracing::warn!(keys = left.join(", "), "changed, and stay as they are until a restart");
        }
        Ok(if is_nothing && !has_file { Reload::NoFile } else { Reload::Ok })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Sources;
    use crate::cursor_keys::Keys;

    fn load(text: &str) -> Result<Loaded, ConfigErrors> {
        Loaded::load(&Sources::new().text("gate.toml", text))
    }

    /// A reloader with the keys of cursors and a part that refuses three shards, and how often that was put in force.
    fn reloader(text: &str) -> (Reloader, CursorKeys, Arc<Mutex<usize>>) {
        let loaded = load(text).expect("it is right").config;
        let keys = CursorKeys::new(loaded.replay.keys().expect("it was checked"));
        let commits = Arc::new(Mutex::new(0));
        let count = commits.clone();
        let odd = Part::new(&["shards"], move |config| {
            let what = "cannot be three".to_owned();
            let (key, origin) = ("shards".to_owned(), crate::config::Origin::Default);
            let count = count.clone();
            match config.shards {
                3 => Err(ConfigError { origin, key, what }),
                _ => Ok(Some(Box::new(move || *count.lock().expect("no panic") += 1) as Commit)),
            }
        });
        let in_effect = InEffect::new(Arc::new(loaded.clone()));
        let reloader = Reloader::new(loaded, in_effect, Arc::new(Board::new(1)));
        (reloader.with(Part::cursor_keys(keys.clone())).with(odd), keys, commits)
    }

    fn counts(reloader: &Reloader) -> [u64; 3] {
        let Board { reloads: [ok, refused, _], keys_waiting, .. } = &*reloader.board;
        [ok, refused, keys_waiting].map(|count| count.load(Ordering::Relaxed))
    }

    #[test]
    fn what_can_change_changes_and_the_rest_waits_for_a_restart() {
        let (mut reloader, keys, commits) = reloader("");
        let secret = "a secret of these tests";
        let text = format!(
            "shards = 2\n[replay]\ncursor_key = '{secret}'\n[limits]\nsessions_max = 7\n[[feeds]]\ntopic = 'x'\n"
        );
        assert_eq!(reloader.reload(load(&text)), Reload::Ok);
        assert!(*keys.now() == Keys::new(secret.as_bytes(), None));
        assert_eq!(counts(&reloader), [1, 0, 2], "limits.sessions_max and feeds wait");
        let now = reloader.in_effect.now();
        assert_eq!((now.shards, now.replay.cursor_key.as_str()), (2, secret));
        assert_eq!((now.limits.sessions_max, now.feeds[0].topic.as_str()), (10_000, "ticks"));
        // Taken back, nothing waits; and what has not changed is not put in force again.
        assert_eq!(reloader.reload(load(&format!("[replay]\ncursor_key = '{secret}'\n"))), Reload::Ok);
        assert_eq!((counts(&reloader), *commits.lock().expect("no panic")), ([2, 0, 0], 2));
    }

    #[test]
    fn without_a_file_nothing_is_read_again_but_the_files_of_secrets() {
        let (mut reloader, keys, _) = reloader("");
        let secret = tempfile::NamedTempFile::new().expect("a file");
        let loaded = |set: &str| Loaded::load(&Sources::new().set("shards=3").set(set));
        // Of the parts only the secrets': the odd one takes everything.
        reloader.parts.truncate(1);
        assert_eq!(reloader.reload(loaded("shards=2")), Reload::NoFile);
        std::fs::write(secret.path(), "a secret of these tests").expect("it is written");
        let set = format!("replay.cursor_key_file={}", secret.path().display());
        assert_eq!(reloader.reload(loaded(&set)), Reload::Ok);
        assert!(*keys.now() == Keys::new(b"a secret of these tests", None));
        assert_eq!(reloader.board.reloads[Reload::NoFile as usize].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_wrong_anywhere_changes_nothing() {
        let (mut reloader, keys, commits) = reloader("[replay]\ncursor_key = 'a secret of these tests'\n");
        let before = (reloader.in_effect.now(), keys.now());
        for wrong in [
            "nonsense = 1\n[replay]\ncursor_key = 'another secret of these'\n",
            // Right by itself, and one part does not take it.
            "shards = 3\n[replay]\ncursor_key = 'another secret of these'\n",
            "[replay]\ncursor_key_also_file = '/no such file'\n",
            // With no secret of its own it would vouch for nothing.
            "[replay]\ncursor_key_also = 'another secret of these'\n",
        ] {
            assert_eq!(reloader.reload(load(wrong)), Reload::Refused, "{wrong}");
        }
        assert_eq!((counts(&reloader), *commits.lock().expect("no panic")), ([0, 4, 0], 0));
        assert!(Arc::ptr_eq(&before.0, &reloader.in_effect.now()) && Arc::ptr_eq(&before.1, &keys.now()));
    }
}
