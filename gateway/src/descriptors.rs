//! How many files the process may open, and how many clients that leaves room for.
//!
//! A gateway that runs out of descriptors cannot refuse anybody: a connection that is not accepted hangs until its client
//! gives up. So there are never more sessions than fit, and whoever comes beyond them hears 503 at once.

use crate::config::LimitsConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but clients: some forty for two Kafka clients, listeners and runtimes, the rest for
/// further brokers and whoever asks the admin listener.
const RESERVE: u64 = 64;

/// Raises the limit of open files to what `limits` need, as far as the system allows it, and cuts down what does not fit.
pub fn make_room(limits: &mut LimitsConfig) {
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    let raised = needed(limits).min(limit.maximum.unwrap_or(u64::MAX)).max(now);
    let is_raised = raised > now
        && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).is_ok();
    let open_files_max = if is_raised { raised } else { now };
    let wanted = limits.sessions_max;
    cut(limits, open_files_max);
    if limits.sessions_max < wanted {
        tracing::warn!(
            open_files_max,
            wanted,
            sessions_max = limits.sessions_max,
            "the limit of open files has no room for limits.sessions_max: raise it (ulimit -n, LimitNOFILE)"
        );
    }
}

fn needed(limits: &LimitsConfig) -> u64 {
    (limits.sessions_max as u64).saturating_add(limits.handshakes_max as u64).saturating_add(RESERVE)
}

/// Cuts down what does not fit: a fifth of the room is for handshakes, so that those who are refused are answered.
fn cut(limits: &mut LimitsConfig, open_files_max: u64) {
    if needed(limits) <= open_files_max {
        return;
    }
    let room = usize::try_from(open_files_max.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
    limits.handshakes_max = limits.handshakes_max.min(room / 5).max(1);
    limits.sessions_max = limits.sessions_max.min(room.saturating_sub(limits.handshakes_max)).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut_to(open_files_max: u64, sessions_max: usize, handshakes_max: usize) -> (usize, usize) {
        let mut limits =
            LimitsConfig { sessions_max, handshakes_max, ..crate::config::Config::default().limits };
        cut(&mut limits, open_files_max);
        (limits.sessions_max, limits.handshakes_max)
    }

    #[test]
    fn only_what_does_not_fit_is_cut() {
        assert_eq!(cut_to(10_000 + 1_024 + 64, 10_000, 1_024), (10_000, 1_024));
        assert_eq!(cut_to(20_000, 50_000, 1_024), (20_000 - 64 - 1_024, 1_024));
        assert_eq!(cut_to(256, 10_000, 1_024), (154, 38));
        assert_eq!(cut_to(0, 10, 10), (1, 1));
    }

    proptest! {
        #[test]
        fn what_is_left_fits(limit in 80u64..100_000, sessions in 1usize..200_000, handshakes in 1usize..5_000) {
            let (sessions, handshakes) = cut_to(limit, sessions, handshakes);
            prop_assert!((sessions + handshakes) as u64 + RESERVE <= limit);
        }
    }
}
