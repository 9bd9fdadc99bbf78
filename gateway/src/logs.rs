//! The log's way out of the process: a bounded buffer and a thread that writes it to standard error.
//!
//! Whoever logs must not wait for whoever reads the log. A pipe that nobody empties, a disk without room and a terminal
//! that was stopped all make a write wait or fail, and the threads that log are those that serve clients. What there is
//! no room for is left out, counted, and said once there is room again.

use crate::clock;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written: a burst of some thousand lines.
pub const WAITING_BYTES_MAX: usize = 512 << 10;
/// How long the end of the process waits for what is left.
const FLUSH_MS: u64 = 500;
/// Pause after a write that failed: a full disk is not filled by trying.
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Lines that were left out since the start.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that were left out since the start, because standard error took no more.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Whether something is being written that is not in `bytes` any more.
    is_writing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A line is added whole or not at all, so whatever panicked left it in order.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where log lines go. Clones share one buffer.
#[derive(Debug, Clone, Default)]
pub struct LogWriter(Arc<Shared>);

impl LogWriter {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stderr())
    }

    /// Starts a thread that writes to a file, and makes it anew when it was moved away.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread not be started.
    pub fn file(path: &Path) -> io::Result<Self> {
        Self::to(LogFile { file: LogFile::open(path)?, path: path.to_owned() })
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self::default();
        let shared = writer.0.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || run(&shared, out))?;
        Ok(writer)
    }

    /// Waits for what was logged to be written, but not for long.
    pub fn drain(&self) {
        let end_ms = clock::mono_ms() + FLUSH_MS;
        let mut waiting = self.0.lock();
        while waiting.is_writing || !waiting.bytes.is_empty() {
            let left_ms = end_ms.saturating_sub(clock::mono_ms());
            if left_ms == 0 {
                return;
            }
            let left = Duration::from_millis(left_ms);
            let (guard, _) =
                self.0.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
        }
    }
}

/// A file that is written to at its end.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<File> {
        File::options().create(true).append(true).mode(0o640).open(path)
    }

    /// Whether what stands under its name is another file, or nothing.
    fn is_moved(&self) -> bool {
        let id = |meta: io::Result<std::fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
        id(std::fs::metadata(&self.path)) != id(self.file.metadata())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_moved() {
            self.file = Self::open(&self.path)?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn run(shared: &Shared, mut out: impl Write) {
    let mut lost_told = 0;
    let mut bytes = Vec::new();
    loop {
        let mut waiting = shared.lock();
        while waiting.bytes.is_empty() {
            waiting = shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        bytes.clear();
        std::mem::swap(&mut bytes, &mut waiting.bytes);
        waiting.is_writing = true;
        drop(waiting);
        let result = out.write_all(&bytes).and_then(|()| out.flush());
        if result.is_ok() {
            let lost = lines_lost();
            if lost > lost_told {
                // Through the front door, so that it looks like every other line.
                tracing::warn!(
                    lines = lost - lost_told,
                    "log lines were left out: standard error took no more"
                );
                lost_told = lost;
            }
        } else {
            LOST.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
            std::thread::sleep(FAILED_PAUSE);
        }
        shared.lock().is_writing = false;
        shared.changed.notify_all();
    }
}

impl Write for LogWriter {
    /// Takes a whole line, which is what the formatter hands over at a time, or leaves it out.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            LOST.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.bytes.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Says what it is given, and takes nothing before it is allowed to.
    struct Pipe {
        given: SyncSender<usize>,
        allowed: Receiver<bool>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.given.send(bytes.len()).ok();
            match self.allowed.recv() {
                Ok(true) => Ok(bytes.len()),
                _ => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A gateway whose log nobody read stood still as soon as the pipe was full, and one whose disk was full panicked.
    #[test]
    fn whoever_logs_waits_for_nobody_and_what_is_left_out_is_counted() {
        let (given, is_given) = sync_channel(16);
        let (allow, allowed) = sync_channel(16);
        let mut writer = LogWriter::to(Pipe { given, allowed }).unwrap();
        let before = lines_lost();
        let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
        writer.write_all(&line).unwrap();
        assert_eq!(is_given.recv(), Ok(1_024), "it is being written, and stays so");
        // What one write still holds is not in the buffer.
        for _ in 0..WAITING_BYTES_MAX / 1_024 + 10 {
            writer.write_all(&line).unwrap();
        }
        assert_eq!(lines_lost() - before, 10);
        Write::flush(&mut writer).unwrap();
        allow.send(true).unwrap();
        assert_eq!(is_given.recv(), Ok(WAITING_BYTES_MAX));
        // A write that fails loses what it was given.
        allow.send(false).unwrap();
        let end_ms = clock::mono_ms() + 20_000;
        while lines_lost() - before != 10 + WAITING_BYTES_MAX as u64 / 1_024 {
            assert!(clock::mono_ms() < end_ms, "{}", lines_lost() - before);
            std::thread::yield_now();
        }
        writer.write_all(&line).unwrap();
        assert_eq!(is_given.recv(), Ok(1_024));
        allow.send(true).unwrap();
        writer.drain();
        assert!(writer.0.lock().bytes.is_empty());
    }
}
