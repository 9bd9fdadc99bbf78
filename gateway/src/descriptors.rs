//! The limit of open files: every session is one, and what a process is given at its start is often a mere 1,024.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// What is open beside sessions and handshakes: listeners, brokers, runtimes, health checks, refusals.
const OTHERS: u64 = 512;

/// Files that have to be open at once when every configured session and handshake is there.
pub fn needed(config: &Config) -> u64 {
    (config.limits.sessions_max as u64).saturating_add(config.limits.handshakes_max as u64) + OTHERS
}

/// Raises the limit as far as the system lets everybody raise it. Returns what it is from then on; none is no limit.
///
/// # Errors
/// When the system refuses after all.
pub fn raise() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}
