//! Recorded markets through Kafka and gateways: what a client rebuilds from its session is compared with facts that
//! were measured in the files by other means.
//!
//! The files are not part of the repository: `TICKGATE_TEST_DATA` names the folder. Without it each test says that it
//! was left out.

#[path = "../harness/mod.rs"]
mod harness;

mod captures;
mod crypto;
mod equities;
mod full_speed;
mod reader;

use harness::Kafka;
use std::path::PathBuf;
use tickgate_gateway::config::Config;
use tickgate_protocol::Decimal;
use tickgate_sim::TimedTick;
use tickgate_sim::replay::{self, Format, ReplayError};
use tokio::sync::{Mutex, MutexGuard};

/// Held by one test at a time: each keeps all cores busy, and what one measures is not how the others crowd it out.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A gateway whose queues have room for all of a recording, so that a client loses nothing however late it reads.
fn roomy(kafka: &Kafka, topic: &str) -> Config {
    let mut config = kafka.config(topic);
    config.outbox.bytes_max = 128 << 20;
    config.outbox.total_bytes_max = 256 << 20;
    config.outbox.entries_max = 1_000_000;
    config.outbox.age_max_ms = 60_000;
    config.session.inbox_bytes_max = 128 << 20;
    config.session.inbox_batches = 10_000;
    config
}

/// The recording `file`, if the recordings are there.
fn data(file: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("TICKGATE_TEST_DATA") else {
        eprintln!("left out: TICKGATE_TEST_DATA does not name the folder with the recordings");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    assert!(path.exists(), "{} is missing", path.display());
    Some(path)
}

/// Recordings merged by time.
fn ticks(
    files: &[PathBuf],
    format: Format,
) -> Box<dyn Iterator<Item = Result<TimedTick, ReplayError>> + Send> {
    Box::new(replay::open(files, format).expect("the files can be opened"))
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a number")
}
