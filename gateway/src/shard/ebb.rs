//! Gives memory back to the system once many sessions have gone: the shard keeps their places, and the allocator their
//! pages, for the next ones.

use super::Shard;
use super::socket::Socket;
use std::sync::OnceLock;

/// Sessions fewer than there were before it is worth the while.
const LEAST: u64 = 256;

/// What gives back what the calling thread has freed. The allocator is the program's choice, so it is named there.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Names what gives back what the calling thread has freed; the first one counts.
pub fn give_back_by(how: fn()) {
    let _ = GIVE_BACK.set(how);
}

/// How many sessions there were.
#[derive(Debug, Default)]
pub(super) struct Ebb {
    /// At most, since memory was given back.
    most: u64,
    /// At the last look.
    last: u64,
}

impl Ebb {
    /// Whether memory is to be given back now: half of the sessions or more have gone, and none has come or gone since the
    /// last look.
    fn is_out(&mut self, sessions: u64) -> bool {
        let is_quiet = std::mem::replace(&mut self.last, sessions) == sessions;
        self.most = self.most.max(sessions);
        let is_out = is_quiet && self.most - sessions >= LEAST.max(self.most / 2);
        if is_out {
            self.most = sessions;
        }
        is_out
    }
}

impl<S: Socket> Shard<S> {
    /// Looks whether memory is to be given back, and does it: the places of sessions behind the last that is taken, then what
    /// the allocator keeps. Not again before as many came and went.
    pub(super) fn look_at_ebb(&mut self) {
        if !self.ebb.is_out(self.totals.sessions) {
            return;
        }
        self.sessions.shrink_to_fit();
        if let Some(give_back) = GIVE_BACK.get() {
            give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(sessions: &[u64]) -> Vec<bool> {
        let mut ebb = Ebb::default();
        sessions.iter().map(|count| ebb.is_out(*count)).collect()
    }

    #[test]
    fn memory_is_given_back_once_half_are_gone_and_it_is_quiet() {
        assert_eq!(looks(&[0, 1000, 1000, 501, 501]), [false; 5]);
        assert_eq!(looks(&[1000, 400, 300, 300, 300]), [false, false, false, true, false]);
        assert_eq!(looks(&[1000, 0, 0, 900, 0, 0]), [false, false, true, false, false, true]);
        assert_eq!(looks(&[200, 0, 0]), [false; 3], "too few");
    }
}
