//! Clients that say nothing, that do not come to an end, or that ping without one.
//!
//! Sessions have no timer for their silence: all of them are looked at every second or so, some at a time, whenever the
//! shard is awake for something else. An idle client costs neither memory nor a wake-up for it.

use super::Shard;
use super::socket::Socket;
use super::timers::Due;
use crate::clock;
use crate::feed::request::SessionKey;
use crate::stats::CloseReason;
use tickgate_protocol::code::CLOSE_POLICY;

/// Most sessions that are looked at in one turn: each may have to be written to.
const LOOKS_PER_TURN: usize = 256;
/// Longest time between two rounds, in milliseconds.
const ROUND_MS_MAX: u64 = 1_250;
/// Shortest time between them.
const ROUND_MS_MIN: u64 = 50;
/// How soon a round goes on that has not come to its end.
const GOES_ON_MS: u64 = 5;
/// The time in which pings and pongs are counted.
const PINGS_SPAN_MS: u64 = 10_000;

/// How far the shard is in its round.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Who is looked at next; 0 between two rounds.
    slot: usize,
    /// When this round began, or the last one.
    began_ms: u64,
    /// When the one before it did.
    before_ms: u64,
}

/// What a client's silence asks for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Ping,
    End,
}

/// What to do about a client that was last heard at `heard_ms`, in a round that began at `now_ms`, after one at
/// `before_ms`: a ping is due once for each `ping_ms` that it has been silent.
fn verdict(heard_ms: u64, before_ms: u64, now_ms: u64, ping_ms: u64, timeout_ms: u64) -> Verdict {
    let (silent_ms, before_ms) = (now_ms.saturating_sub(heard_ms), before_ms.saturating_sub(heard_ms));
    if timeout_ms > 0 && silent_ms >= timeout_ms {
        return Verdict::End;
    }
    if ping_ms > 0 && silent_ms / ping_ms > before_ms / ping_ms { Verdict::Ping } else { Verdict::Nothing }
}

impl<S: Socket> Shard<S> {
    /// Goes on with the round, or begins another when it is time; says when to go on if it is not at its end.
    pub(super) fn look_for_silence(&mut self, now_ms: u64) -> Option<u64> {
        let (ping_ms, timeout_ms) =
            (self.shared.config.session.ping_ms, self.shared.config.session.silence_timeout_ms);
        let shortest_ms = [ping_ms, timeout_ms].into_iter().filter(|ms| *ms > 0).min()?;
        if self.silence.slot == 0 {
            let round_ms = (shortest_ms / 16).clamp(ROUND_MS_MIN, ROUND_MS_MAX);
            if now_ms < self.silence.began_ms + round_ms {
                return None;
            }
            self.silence.before_ms = self.silence.began_ms;
            self.silence.began_ms = now_ms;
        }
        let Silence { slot, began_ms, before_ms } = self.silence;
        let end = self.sessions.capacity().min(slot + LOOKS_PER_TURN);
        for slot in slot..end {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            if !session.is_open() || session.outbox.is_closing() {
                continue;
            }
            if !session.may_read() {
                // What it says is not read now: that it is silent cannot be known.
                session.heard_ms = began_ms;
                continue;
            }
            let key = session.key;
            match verdict(session.heard_ms, before_ms, began_ms, ping_ms, timeout_ms) {
                Verdict::Nothing => {}
                Verdict::Ping => {
                    session.outbox.ping();
                    self.touch(key.slot);
                }
                Verdict::End => self.close_session(
                    key,
                    CLOSE_POLICY,
                    "nothing was heard of you for too long, pings included",
                    None,
                    CloseReason::Silent,
                ),
            }
        }
        self.silence.slot = if end < self.sessions.capacity() { end } else { 0 };
        (self.silence.slot > 0).then_some(now_ms + GOES_ON_MS)
    }

    /// Sets how long a message may still take, of which not all has come yet. `is_another` says that one has come to its end
    /// meanwhile.
    pub(super) fn time_message(&mut self, key: SessionKey, now_ms: u64, is_idle: bool, is_another: bool) {
        let timeout_ms = self.shared.config.limits.message_timeout_ms;
        let Self { sessions, timers, .. } = self;
        let Some(session) = sessions.get_mut(key.slot as usize).filter(|session| session.key == key) else {
            return;
        };
        let is_timed = session.timers[Due::Message as usize].is_some();
        if is_idle && is_timed {
            timers.clear(&mut session.timers, key, Due::Message);
        } else if !is_idle && (is_another || !is_timed) {
            self.set_timer(now_ms + timeout_ms, key, Due::Message);
        }
    }

    /// The time of a message is over.
    pub(super) fn message_overdue(&mut self, key: SessionKey, now_ms: u64) {
        let timeout_ms = self.shared.config.limits.message_timeout_ms;
        let Some(session) = self.open_session(key).filter(|session| session.decoder.is_some()) else {
            return;
        };
        if !session.may_read() {
            // The rest may have come long ago.
            return self.set_timer(now_ms + timeout_ms, key, Due::Message);
        }
        let text = format!("a message that was begun must end within {timeout_ms} ms");
        self.close_session(key, CLOSE_POLICY, &text, None, CloseReason::Unfinished);
    }

    /// Whether a ping or pong is one that a client may send; ends the session if not.
    pub(super) fn admit_ping(&mut self, key: SessionKey) -> bool {
        let most = self.shared.config.limits.pings_per_10_s;
        let Some(session) = self.open_session(key) else { return false };
        if session.pings.admit(clock::mono_ms(), most, PINGS_SPAN_MS) {
            return true;
        }
        let text = format!("more than {most} pings and pongs within ten seconds");
        self.close_session(key, CLOSE_POLICY, &text, None, CloseReason::Pings);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_of_silence_is_a_ping_and_then_it_ends() {
        let heard_ms = 1_000;
        let mut before_ms = 0;
        let mut found = Vec::new();
        for now_ms in (0..70_000).step_by(1_250) {
            match verdict(heard_ms, before_ms, now_ms, 20_000, 60_000) {
                Verdict::Nothing => {}
                verdict => found.push((now_ms, verdict)),
            }
            before_ms = now_ms;
        }
        assert_eq!(found[..2], [(21_250, Verdict::Ping), (41_250, Verdict::Ping)]);
        assert_eq!(found[2], (61_250, Verdict::End));
        assert_eq!(
            verdict(heard_ms, 0, 500, 20_000, 60_000),
            Verdict::Nothing,
            "heard since the round began"
        );
        assert_eq!(verdict(0, 0, 1 << 40, 0, 0), Verdict::Nothing);
        assert_eq!(verdict(0, 0, 60_000, 0, 60_000), Verdict::End, "also without pings");
    }
}
