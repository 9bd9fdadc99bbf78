//! The thread that keeps what comes from elsewhere up to date: the list of those revoked, and keys from their URL; and one
//! beside it for the topic of those revoked, as Kafka is asked in ways that block. Nobody waits for them: what they found
//! last counts until they find something else.

use super::revoked::{FILE_BYTES_MAX, List, Source};
use super::topic::Topic;
use super::{Access, jwks, keys};
use crate::clock;
use crate::config::{AuthConfig, Config};
use crate::log_limit::{LogLimit, Verdict};
use crate::stats::{Board, Indispensable};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Lines about a list that cannot be read, within ten seconds.
const LOGS_PER_10_S: u32 = 1;
/// A file that was changed in so many seconds before it was read may be changed again within what its time can tell.
const FRESH_S: i64 = 5;

/// The running thread.
#[allow(missing_debug_implementations)]
pub struct Watch {
    stop: oneshot::Sender<()>,
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Reads the list of those revoked once, and starts the threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started, librdkafka refuses the configuration, or the certificates for the
    /// URL of keys cannot be read.
    pub fn start(config: &Config, access: Arc<Access>, board: Arc<Board>) -> anyhow::Result<Self> {
        let mut revocations = Revocations::new(&config.auth, access.clone(), board.clone());
        revocations.look();
        let topic = Topic::new(config, access.clone(), board.clone())?;
        let fetcher = jwks::Fetcher::new(&config.auth, access, board.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = revocations.run() => {}
                    () = run_fetcher(fetcher) => {}
                }
            });
        };
        let mut threads = vec![std::thread::Builder::new().name("access".to_owned()).spawn(work)?];
        let is_stopped = Arc::new(AtomicBool::new(false));
        if let Some(topic) = topic {
            let is_stopped = is_stopped.clone();
            let work = move || {
                // Without it nobody would ever be revoked again, and nobody would notice.
                let _indispensable = Indispensable(board);
                topic.run(&is_stopped);
            };
            threads.push(std::thread::Builder::new().name("access-topic".to_owned()).spawn(work)?);
        }
        Ok(Self { stop, is_stopped, threads })
    }

    /// Ends the threads.
    pub fn stop(self) {
        let _ = self.stop.send(());
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread that looks after access had panicked");
            }
        }
    }
}

/// Reads the list of those revoked before anybody is let in. One in a file that is not there yet may come later; for one in
/// a topic the door stays closed until it was read, unless the configuration says otherwise.
///
/// # Errors
/// When the file is there and cannot be read: better no gateway than one that lets in who is revoked.
pub fn first_look(config: &AuthConfig, access: &Arc<Access>, board: &Arc<Board>) -> anyhow::Result<()> {
    let is_awaited = !config.revocation_topic.is_empty() && !config.revocation_fail_open;
    board.access.is_topic_awaited.store(is_awaited, Ordering::Release);
    let path = &config.revoked_file;
    if path.is_empty() || std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    keys::read(path, FILE_BYTES_MAX).map_err(|what| anyhow::anyhow!("auth.revoked_file {path}: {what}"))?;
    Revocations::new(config, access.clone(), board.clone()).look();
    Ok(())
}

async fn run_fetcher(fetcher: Option<jwks::Fetcher>) {
    match fetcher {
        Some(fetcher) => fetcher.run().await,
        None => std::future::pending().await,
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

/// Reads the list of those revoked again when it has changed.
struct Revocations {
    path: String,
    refresh: Duration,
    access: Arc<Access>,
    board: Arc<Board>,
    read: Option<Stamp>,
    logs: LogLimit,
}

impl Revocations {
    fn new(config: &AuthConfig, access: Arc<Access>, board: Arc<Board>) -> Self {
        Self {
            path: config.revoked_file.clone(),
            refresh: Duration::from_millis(config.revoked_refresh_ms),
            access,
            board,
            read: None,
            logs: LogLimit::new(LOGS_PER_10_S),
        }
    }

    async fn run(mut self) {
        if self.path.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.refresh).await;
            self.look();
        }
    }

    fn look(&mut self) {
        if self.path.is_empty() {
            return;
        }
        let stamp = std::fs::metadata(&self.path).ok().map(|meta| Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            changed_s: meta.mtime(),
            changed_ns: meta.mtime_nsec(),
        });
        if stamp.is_some() && stamp == self.read {
            return;
        }
        let now_s = clock::wall_ns().div_euclid(1_000_000_000);
        let is_settled = |stamp: &Stamp| (now_s - stamp.changed_s).abs() > FRESH_S;
        let text =
            keys::read(&self.path, FILE_BYTES_MAX).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let list = match text {
            Ok(text) => List::parse(&text),
            Err(error) => {
                self.read = None;
                if let Verdict::Write { left_out } = self.logs.admit(clock::mono_ms()) {
                    let path = &self.path;
                    tracing::warn!(
                        path,
                        error,
                        left_out,
                        "the list of those revoked: what was read last counts"
                    );
                }
                return;
            }
        };
        self.read = stamp.filter(is_settled);
        let (entries, unread, over) = (list.len() as u64, list.unread as u64, list.over as u64);
        let counts = &self.board.access;
        counts.revoked_entries.store(entries, Ordering::Relaxed);
        counts.revoked_unread.store(unread + over, Ordering::Relaxed);
        if !self.access.replace_revoked(Source::File, list) {
            return;
        }
        tracing::info!(entries, "read who is revoked");
        if unread + over > 0 {
            tracing::warn!(
                unread,
                over,
                "lines of the list of those revoked do not count: not understood, or too many"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Files;
    use crate::config::Config;

    /// Who was revoked was welcome after every restart until the first look, and for good when the list could not be read.
    #[test]
    fn the_list_counts_before_anybody_comes_and_after_it_has_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("revoked");
        let revoked_file = path.to_str().expect("a path").to_owned();
        let config = AuthConfig { revoked_file, ..Config::default().auth };
        let access = Arc::new(Access::new(Files::read(&config).expect("no files"), false));
        let board = Arc::new(Board::new(1));
        first_look(&config, &access, &board).expect("it may come later");
        assert_eq!(access.revoked().entries(), 0);
        std::fs::write(&path, "sub:ann\n").expect("it is written");
        first_look(&config, &access, &board).expect("it is read");
        assert_eq!(access.revoked().entries(), 1);
        std::fs::remove_file(&path).expect("it is there");
        Revocations::new(&config, access.clone(), board.clone()).look();
        assert_eq!(access.revoked().entries(), 1, "a list that has gone is no pardon");
        std::fs::create_dir(&path).expect("a folder");
        assert!(first_look(&config, &access, &board).is_err(), "it cannot be read");
    }
}
