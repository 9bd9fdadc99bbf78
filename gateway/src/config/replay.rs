//! What clients missed and are given again: the section `[replay]`, and the secret behind its cursors.

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
            .finish()
    }
}

impl ReplayConfig {
    /// The secret that cursors are signed with, from wherever it comes; empty when there is none.
    ///
    /// # Errors
    /// What is wrong with `cursor_key_file`, as the end of a sentence that starts with its name.
    pub fn secret(&self) -> Result<Vec<u8>, String> {
        if self.cursor_key_file.is_empty() {
            return Ok(self.cursor_key.clone().into_bytes());
        }
        if !self.cursor_key.is_empty() {
            return Err("is set beside replay.cursor_key: one of them is enough".to_owned());
        }
        let mut bytes = Vec::new();
        // A file that is not meant, such as a device without an end, is not read whole to find out.
        let longest = 2 * SECRET_BYTES_MAX as u64;
        let file = File::open(&self.cursor_key_file);
        file.and_then(|file| file.take(longest).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be read: {error}"))?;
        let secret = bytes.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(format!(
                "must hold a secret of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not of {}",
                secret.len()
            ));
        }
        Ok(secret.to_vec())
    }
}
