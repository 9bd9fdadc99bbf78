//! When the time of those who showed who they are ends: warned of before, and closed then.

use super::Shard;
use super::socket::Socket;
use crate::access::Identity;
use crate::clock;
use crate::feed::request::SessionKey;
use crate::stats::{AuthFailure, CloseReason};
use std::collections::BTreeSet;
use tickgate_protocol::Code;
use tickgate_protocol::control::Control;

/// How often the clock is looked at at the least: it may be set, and a pass is good until a time of day.
const LOOK_MS: u64 = 60_000;

/// Passes whose time ends, by when they are looked at next: one entry for each session that has one.
#[derive(Debug, Default)]
pub(super) struct Passes {
    queue: BTreeSet<(u64, u32, u32)>,
    /// What [`crate::access::Access::generation`] said when everybody was looked at last.
    generation: u64,
}

impl Passes {
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|(due_ms, ..)| *due_ms)
    }

    fn pop(&mut self, now_ms: u64) -> Option<SessionKey> {
        if self.next_ms()? > now_ms {
            return None;
        }
        let (_, slot, generation) = self.queue.pop_first()?;
        Some(SessionKey { slot, generation })
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> i64 {
    clock::wall_ns().div_euclid(1_000_000_000)
}

impl<S: Socket> Shard<S> {
    /// Sees to it that a session's pass is looked at when its time ends, and when its client is to be told of that.
    pub(super) fn watch_pass(&mut self, key: SessionKey) {
        let warn_s = i64::try_from(self.shared.config.auth.warn_s).unwrap_or(0);
        let (now_ms, now_ns) = (clock::mono_ms(), clock::wall_ns());
        self.unwatch_pass(key);
        let Self { sessions, passes, timers_changed, .. } = self;
        let session = sessions.get_mut(key.slot as usize).filter(|session| session.key == key);
        let Some(pass) = session.and_then(|session| session.guest.pass.as_deref_mut()) else { return };
        let Some(expires_s) = pass.identity.expires_s else { return };
        let next_s = if pass.is_warned { expires_s } else { expires_s.saturating_sub(warn_s) };
        let left_ms = next_s.saturating_mul(1_000).saturating_sub(now_ns / 1_000_000).max(0) as u64;
        let due_ms = now_ms + left_ms.min(LOOK_MS);
        pass.due_ms = Some(due_ms);
        let is_earliest = passes.next_ms().is_none_or(|next_ms| due_ms < next_ms);
        passes.queue.insert((due_ms, key.slot, key.generation));
        if is_earliest {
            timers_changed.notify_one();
        }
    }

    /// Forgets when a session's pass is looked at.
    pub(super) fn unwatch_pass(&mut self, key: SessionKey) {
        let Self { sessions, passes, .. } = self;
        let session = sessions.get_mut(key.slot as usize).filter(|session| session.key == key);
        if let Some(due_ms) =
            session.and_then(|session| session.guest.pass.as_deref_mut()).and_then(|pass| pass.due_ms.take())
        {
            passes.queue.remove(&(due_ms, key.slot, key.generation));
        }
    }

    /// Looks at the passes that are due, and at all of them when somebody may no longer be welcome.
    pub(super) fn look_at_passes(&mut self, now_ms: u64) {
        while let Some(key) = self.passes.pop(now_ms) {
            self.look_at_pass(key);
        }
        let Some(access) = self.shared.access.clone() else { return };
        let generation = access.generation();
        if std::mem::replace(&mut self.passes.generation, generation) == generation {
            return;
        }
        let is_unwelcome = |identity: &Identity| !access.is_welcome(identity);
        let unwelcome: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_open())
            .filter(|(_, session)| {
                session.guest.pass.as_ref().is_some_and(|pass| is_unwelcome(&pass.identity))
            })
            .map(|(_, session)| session.key)
            .collect();
        unwelcome.into_iter().for_each(|key| self.turn_out(key));
    }

    /// Ends a session that has just begun when it is not welcome any more. Its token was looked at before its handshake was
    /// through: what was replaced in between found no session yet.
    pub(super) fn look_at_newcomer(&mut self, key: SessionKey) {
        let Some(access) = self.shared.access.clone() else { return };
        let pass = self.open_session(key).and_then(|session| session.guest.pass.as_ref());
        if pass.is_some_and(|pass| !access.is_welcome(&pass.identity)) {
            self.turn_out(key);
        }
    }

    fn turn_out(&mut self, key: SessionKey) {
        self.totals.auth_refused[AuthFailure::Revoked as usize] += 1;
        let message = "no longer welcome: its token, its subject or its API key was revoked or changed";
        self.close_with(key, Code::Unauthenticated, message, CloseReason::Revoked);
    }

    fn look_at_pass(&mut self, key: SessionKey) {
        let warn_s = i64::try_from(self.shared.config.auth.warn_s).unwrap_or(0);
        let now_s = now_s();
        let Some(pass) = self.open_session(key).and_then(|session| session.guest.pass.as_deref_mut()) else {
            return;
        };
        pass.due_ms = None;
        let Some(expires_s) = pass.identity.expires_s else { return };
        if now_s >= expires_s {
            let message = "its time is over: connect with a new one, or send `auth` before it is";
            return self.close_with(key, Code::TokenExpired, message, CloseReason::TokenExpired);
        }
        if !pass.is_warned && now_s >= expires_s.saturating_sub(warn_s) {
            pass.is_warned = true;
            let left_s = expires_s - now_s;
            if warn_s > 0 {
                let message = format!("the token's time is over in {left_s} s: send `auth` with a new one");
                self.tell(key, &Control::error(None, Code::TokenExpiring, message, false));
            }
        }
        self.watch_pass(key);
    }

    /// Closes a session with an error that says why.
    fn close_with(&mut self, key: SessionKey, code: Code, message: &str, reason: CloseReason) {
        let cursor = self.cursor_of(key.slot);
        // One that is being closed has had its last cursor.
        let is_closing = self.open_session(key).is_none_or(|session| session.outbox.is_closing());
        let mut error = Control::error(None, code, message, true);
        if let Control::Error { cursor: last, .. } = &mut error {
            *last = Some(cursor.to_string()).filter(|_| !is_closing);
        }
        let words = Some(error.to_json().into_bytes());
        self.close_session(key, code.number(), code.name(), words, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::revoked::{List, Source};
    use crate::access::rights::Rights;
    use crate::access::seats::Seats;
    use crate::access::{Access, Files, Way};
    use crate::config::Config;
    use crate::session::Life;
    use crate::session::guest::{Guest, Opening, Pass};
    use crate::shard::Shared;
    use crate::shard::trial::{Sink, shared};
    use hyper::body::Bytes;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Shards looked through their sessions when the list of those revoked was replaced. Whoever's token had been looked at just
    /// before, and whose session began just behind, was found by neither, and stayed until the next change.
    #[test]
    fn who_is_revoked_between_its_check_and_its_session_does_not_stay() {
        let config = Config { shards: 1, ..Config::default() };
        let files = Files::read(&config.auth).expect("there are none");
        let access = Arc::new(Access::new(files, false));
        let shared = Shared { access: Some(access.clone()), ..shared(config) };
        let mut shard: Shard<Sink> = Shard::new(0, shared, Arc::default());
        let rights = Arc::new(Rights::from_json(r#"{ "symbols": ["*"] }"#).expect("they are right"));
        let seats = Seats::default();
        let open = |shard: &mut Shard<Sink>, subject: &str| {
            let (subject, way) = (Arc::from(subject), Way::Token { id: None });
            let seat = seats.take(&subject, None).expect("a seat");
            let identity = Identity { subject, expires_s: None, way, rights: rights.clone() };
            // Here it is believed. Then the list is replaced, and the shard looks at those whom it has.
            access.replace_revoked(Source::File, List::parse("sub:ann"));
            shard.look_at_passes(0);
            let pass = Some(Pass::new(identity, seat));
            let guest = Guest { pass, ..Guest::new(([127, 0, 0, 1], 1).into()) };
            let key = shard.next_key();
            let opening = Opening {
                answer: Vec::new(),
                early: Bytes::new(),
                guest,
                is_greeted: false,
                connect: tracing::Span::none(),
            };
            shard.open(Rc::new(Sink), opening);
            shard.session(key).expect("it is not over yet").life
        };
        assert_eq!(open(&mut shard, "ann"), Life::Closing(CloseReason::Revoked));
        assert_eq!(open(&mut shard, "bob"), Life::Open);
        assert_eq!(shard.totals.auth_refused[AuthFailure::Revoked as usize], 1);
    }
}
