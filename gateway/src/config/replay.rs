//! What clients missed and are given again: the section `[replay]`, and the secret behind its cursors.

use super::{ConfigError, Origin};
use crate::cursor_keys::Keys;
use std::fmt;
use std::fs::File;
use std::io::Read;

/// Fewer bytes could be guessed.
pub(super) const SECRET_BYTES_MIN: usize = 16;
/// More bytes make no better secret.
pub(super) const SECRET_BYTES_MAX: usize = 1_024;

/// What clients missed and are given again.
#[derive(Clone, PartialEq)]
pub struct ReplayConfig {
    /// Bytes of the last records of all partitions that are kept; 0 keeps none.
    pub memory_bytes_max: usize,
    /// How long a record is kept there, in seconds.
    pub memory_s: u64,
    /// How far back a client may ask, in seconds; 0 is as far as retention reaches.
    pub window_s: u64,
    /// Consumers that read again what is no longer in memory; with 0 nothing is.
    pub consumers_max: usize,
    /// Replays that wait for a consumer.
    pub queue_max: usize,
    /// Records that each consumer reads in a second.
    pub records_per_s: u64,
    /// Replays of one session at once.
    pub per_session_max: usize,
    /// Secret that cursors are signed with; empty for none. [`ReplayConfig::secret`] knows of the file, too.
    pub cursor_key: String,
    /// File with the secret; empty for none.
    pub cursor_key_file: String,
    /// Another secret by which cursors are accepted; empty for none.
    pub cursor_key_also: String,
    /// File with that; empty for none.
    pub cursor_key_also_file: String,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            memory_s: 300,
            window_s: 0,
            consumers_max: 2,
            queue_max: 10_000,
            records_per_s: 100_000,
            per_session_max: 4,
            cursor_key: String::new(),
            cursor_key_file: String::new(),
            cursor_key_also: String::new(),
            cursor_key_also_file: String::new(),
        }
    }
}

impl fmt::Debug for ReplayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayConfig")
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("memory_s", &self.memory_s)
            .field("window_s", &self.window_s)
            .field("consumers_max", &self.consumers_max)
            .field("queue_max", &self.queue_max)
            .field("records_per_s", &self.records_per_s)
            .field("per_session_max", &self.per_session_max)
            .field("has_cursor_key", &!self.cursor_key.is_empty())
            .field("cursor_key_file", &self.cursor_key_file)
            .field("has_cursor_key_also", &!self.cursor_key_also.is_empty())
            .field("cursor_key_also_file", &self.cursor_key_also_file)
            .finish()
    }
}

impl ReplayConfig {
    /// The secret that cursors are signed with, from wherever it comes; empty when there is none.
    ///
    /// # Errors
    /// What is wrong with `cursor_key_file`, as the end of a sentence that starts with its name.
    pub fn secret(&self) -> Result<Vec<u8>, SecretError> {
        secret("replay.cursor_key", &self.cursor_key, &self.cursor_key_file)
    }

    /// Whether cursors are signed with a secret, from wherever it comes.
    pub(super) fn has_secret(&self) -> bool {
        !self.cursor_key.is_empty() || !self.cursor_key_file.is_empty()
    }

    /// The secret by which cursors are accepted as well; empty when there is none.
    ///
    /// # Errors
    /// What is wrong with `cursor_key_also_file`, likewise.
    pub fn secret_also(&self) -> Result<Vec<u8>, SecretError> {
        secret("replay.cursor_key_also", &self.cursor_key_also, &self.cursor_key_also_file)
    }

    /// The keys made of both.
    ///
    /// # Errors
    /// What is wrong with either file.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let wrong = |key: &str, what: SecretError| ConfigError {
            origin: Origin::Default,
            key: key.to_owned(),
            what: what.to_string(),
        };
        let secret = self.secret().map_err(|what| wrong("replay.cursor_key_file", what))?;
        let also = self.secret_also().map_err(|what| wrong("replay.cursor_key_also_file", what))?;
        Ok(Keys::new(&secret, Some(also.as_slice()).filter(|also| !also.is_empty())))
    }
}

/// What is wrong with a secret's file, as the end of a sentence that starts with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// The secret is there as a text, too, under this key.
    Twice(&'static str),
    /// It is not what a secret is, or cannot be read.
    File(String),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(key) => write!(f, "is set beside {key}: one of them is enough"),
            Self::File(what) => f.write_str(what),
        }
    }
}

/// The secret that is given as a text under `key`, or in `file`.
pub(super) fn secret(key: &'static str, text: &str, file: &str) -> Result<Vec<u8>, SecretError> {
    if file.is_empty() {
        return Ok(text.as_bytes().to_vec());
    }
    if !text.is_empty() {
        return Err(SecretError::Twice(key));
    }
    let mut bytes = Vec::new();
    // A file that is not meant, such as a device without an end, is not read whole to find out.
    let longest = 2 * SECRET_BYTES_MAX as u64;
    File::open(file)
        .and_then(|file| file.take(longest).read_to_end(&mut bytes))
        .map_err(|error| SecretError::File(format!("cannot be read: {error}")))?;
    let secret = bytes.trim_ascii();
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(SecretError::File(format!(
            "must hold a secret of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not of {}",
            secret.len()
        )));
    }
    Ok(secret.to_vec())
}
