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

use std::path::PathBuf;
use tickgate_protocol::Decimal;
use tickgate_sim::TimedTick;
use tickgate_sim::replay::{self, Format, ReplayError};

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
