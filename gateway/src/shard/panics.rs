//! A panic in the turn of one session: that session ends, and nobody else notices.
//!
//! A turn touches little but its own session: it reads, answers, and writes. What it may leave half done elsewhere is
//! put right before anything else is done: the buffers and the lists that it had taken for itself. When memory is short it
//! flushes other sessions too: one that it was at ends as well, as what was taken from its queue is gone. One whose socket
//! was handed bytes just then ends without a goodbye, as nobody knows where in a frame that would stand. What cannot be
//! put right, and a panic in anything that serves everybody (fan-out, timers, replays), ends the shard, and with it the
//! gateway: clients go on elsewhere with their cursors, while a gateway that limps would keep them waiting.

use super::socket::Socket;
use super::{READ_BYTES, Shard};
use crate::clock;
use crate::feed::request::SessionKey;
use crate::log_limit::Verdict;
use crate::session::Life;
use crate::session::guest::Opening;
use crate::spans::session_line;
use crate::stats::CloseReason;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tickgate_protocol::code::CLOSE_INTERNAL;

/// One client, from the end of its handshake to the end of its socket, whose panics are its own.
pub fn session<S: Socket>(
    shard: Rc<RefCell<Shard<S>>>,
    socket: S,
    opening: Opening,
) -> impl Future<Output = ()> + use<S> {
    let socket = Rc::new(socket);
    let key = shard.borrow_mut().open_guarded(socket.clone(), opening);
    std::future::poll_fn(move |cx| {
        let turn = shard.borrow_mut().turn(key, |shard| shard.poll_session(key, &socket, cx));
        turn.unwrap_or_else(|| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    })
}

impl<S: Socket> Shard<S> {
    /// Opens a session, and takes what came behind its request. There is none of that key when opening it panics.
    fn open_guarded(&mut self, socket: Rc<S>, opening: Opening) -> SessionKey {
        let early = opening.early.clone();
        let key = self.next_key();
        // As in a turn.
        let opened = catch_unwind(AssertUnwindSafe(|| self.open(socket, opening)));
        if opened.is_err() {
            if self.generation == key.generation {
                // It was none yet, so that its end cannot give its place back. Nobody else gets its key.
                self.generation = self.generation.wrapping_add(1);
                self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
            }
            // Nobody knows how much of the answer to its handshake is out: a goodbye would be no frame.
            self.recover(key, Self::end_after_panic);
        } else {
            // Without it the first turn has nothing of its client yet; the next begins anew.
            let _ = self.turn(key, |shard| shard.first_bytes(key, &early));
        }
        key
    }

    /// Does a session's `work`. When it panics, ends that session and gives nothing.
    fn turn<T>(&mut self, key: SessionKey, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        // What is seen of the shard after a panic is put in order first.
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        if done.is_err() {
            self.recover(key, Self::close_after_panic);
        }
        done.ok()
    }

    /// Puts in order what an unwound turn may have left, and ends its session. Another one that it was flushing ends too:
    /// what was taken from its queue is gone, and it would go on without.
    fn recover(&mut self, key: SessionKey, end: fn(&mut Self, SessionKey)) {
        let id = self.id;
        if let Verdict::Write { left_out } = self.panic_logs.admit(clock::mono_ms())
            && let Some(session) = self.session(key)
        {
            session_line!(ERROR, session, id, left_out, "its turn has panicked: the session ends");
        }
        let other = self.put_in_order().filter(|other| *other != key);
        let is_other_over = other.is_none_or(|other| self.is_ended(other, Self::close_after_panic));
        if !self.is_ended(key, end) || !is_other_over {
            tracing::error!("a session cannot be ended in order after a panic: the shard ends");
            self.broken.notify_one();
        }
    }

    /// Ends a session; says whether that was possible.
    fn is_ended(&mut self, key: SessionKey, end: fn(&mut Self, SessionKey)) -> bool {
        // Whatever is wrong with it may be so again when it is to say goodbye.
        for end in [end, Self::end_after_panic] {
            if catch_unwind(AssertUnwindSafe(|| end(self, key))).is_ok() {
                return self.session(key).is_some() || !self.table.has_session(key.slot);
            }
            if self.put_in_order().is_some_and(|other| other != key) {
                return false;
            }
        }
        false
    }

    /// Puts buffers and lists in order; gives the session that was being flushed, if one was.
    fn put_in_order(&mut self) -> Option<SessionKey> {
        if self.read_buffer.is_empty() {
            self.read_buffer = vec![0; READ_BYTES];
        }
        self.filled.clear();
        self.deflated.clear();
        // The lists were on the stack, and are gone with it: of those to flush, and of those whose window was to end.
        self.windows.take();
        self.touched.clear();
        for (slot, session) in &mut self.sessions {
            session.is_touched |= std::mem::take(&mut session.is_gathering) && session.outbox.has_work();
            if session.is_touched {
                self.touched.push(slot as u32);
            }
        }
        self.at_hand.take()
    }

    fn close_after_panic(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        // Nobody knows how much its socket took: a goodbye might stand in the midst of a frame, or be taken for the rest of
        // one. It is cut.
        if session.life != Life::Open || session.is_writing {
            return self.end_after_panic(key);
        }
        if !session.outbox.has_unsent() {
            // What was about to be written is lost, and counted as that. A frame that was begun has to be ended first.
            session.outbox.abandon();
        }
        self.close_session(key, CLOSE_INTERNAL, "internal error", None, CloseReason::Panic);
        self.flush_touched();
    }

    fn end_after_panic(&mut self, key: SessionKey) {
        self.end_session(key, CloseReason::Panic);
        self.flush_touched();
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shard::hooks::Step;
    use crate::shard::trial::{Task, connect, shard};
    use std::task::{Context, Waker};
    use tickgate_protocol::FlushMs;

    fn poll(task: &mut Task) -> Poll<()> {
        task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// When memory is short, one session's turn flushes the others too. What was taken from the queue of one of them was gone when
    /// that panicked, and it went on without; those behind it gathered what came next for ever.
    #[test]
    fn who_is_flushed_in_the_turn_of_another_does_not_go_on_without_what_was_taken() {
        let mut config = Config { shards: 1, ..Config::default() };
        config.outbox.total_bytes_max = 100_000;
        let shard = shard(config);
        let (slow, slow_key, mut slow_task) = connect(&shard);
        let (flushed, flushed_key, _flushed_task) = connect(&shard);
        let (behind, behind_key, _behind_task) = connect(&shard);
        for (key, text) in [(flushed_key, b"first".as_slice()), (behind_key, b"second")] {
            let mut shard = shard.borrow_mut();
            shard.windows.open(key, FlushMs::round_up(1_000).expect("a window"), 0);
            let session = shard.session(key).expect("it is open");
            session.is_gathering = true;
            session.outbox.control(text.to_vec());
        }
        slow.is_full.set(true);
        shard.borrow_mut().session(slow_key).expect("it is open").outbox.control(vec![b'x'; 200_000]);
        shard.borrow_mut().hooks.write_to = Some(flushed_key.slot);
        // A ping, with a mask of zeros.
        slow.given.borrow_mut().extend_from_slice(&[0x89, 0x80, 0, 0, 0, 0]);
        assert_eq!(poll(&mut slow_task), Poll::Pending);
        assert_eq!(poll(&mut slow_task), Poll::Ready(()), "whose turn it was has ended");

        let mut shard = shard.borrow_mut();
        assert_eq!(shard.hooks.write_to, None, "it has panicked");
        let life = shard.session(flushed_key).map(|session| session.life);
        assert_eq!(life, Some(Life::Closing(CloseReason::Panic)));
        let goodbye = [&[0x88, 16], CLOSE_INTERNAL.to_be_bytes().as_slice(), b"internal error"].concat();
        assert!(flushed.sent.borrow().ends_with(&goodbye), "{:?}", flushed.sent);
        let session = shard.session(behind_key).expect("it goes on");
        assert!(session.is_open() && !session.is_gathering);
        assert!(behind.sent.borrow().ends_with(b"second"));
        assert_eq!(shard.shared.sessions.load(Ordering::Relaxed), 2);
    }

    /// A goodbye was written behind bytes of which nobody knew any more that they were written: in the midst of a frame, of
    /// which a client makes another message, or, with TLS, in the place of what was to be presented again.
    #[test]
    fn who_was_being_written_to_is_cut_without_another_byte() {
        let shard = shard(Config { shards: 1, ..Config::default() });
        let (wire, key, mut task) = connect(&shard);
        let greeting = wire.sent.borrow().len();
        shard.borrow_mut().session(key).expect("it is open").outbox.control(vec![b'x'; 1_000]);
        wire.takes.set(Some(100));
        shard.borrow_mut().hooks.sent_to = Some(key.slot);
        assert_eq!(poll(&mut task), Poll::Pending);
        assert_eq!(shard.borrow().hooks.sent_to, None, "it has panicked");
        assert_eq!(poll(&mut task), Poll::Ready(()), "it is over");
        assert_eq!(wire.sent.borrow().len(), greeting + 100);
        let shard = shard.borrow();
        assert!(shard.is_empty());
        assert_eq!(shard.totals.sessions_closed[CloseReason::Panic as usize], 1);
    }

    /// Its place among all sessions was taken for ever, and so was its socket.
    #[test]
    fn a_panic_as_a_session_opens_gives_its_place_back() {
        let shard = shard(Config { shards: 1, ..Config::default() });
        let places = || shard.borrow().shared.sessions.load(Ordering::Relaxed);
        for (step, opened) in [(Step::Insert, 1), (Step::Greet, 3)] {
            shard.borrow_mut().hooks.open_at = Some(step);
            let (unlucky, _, mut unlucky_task) = connect(&shard);
            assert_eq!(shard.borrow().hooks.open_at, None, "it has panicked");
            assert_eq!((places(), shard.borrow().is_empty()), (0, true), "{step:?}");
            assert!(unlucky.sent.borrow().is_empty(), "there is no goodbye before an answer");
            // Whoever comes next is not taken for it.
            let (next, next_key, mut next_task) = connect(&shard);
            assert_eq!(poll(&mut unlucky_task), Poll::Ready(()));
            drop(unlucky_task);
            assert_eq!(Rc::strong_count(&unlucky.sent), 1, "its socket is dropped");
            assert_eq!(poll(&mut next_task), Poll::Pending);
            assert!(next.sent.borrow().starts_with(b"welcome"));
            assert_eq!(places(), 1);
            let mut shard = shard.borrow_mut();
            assert!(shard.session(next_key).is_some_and(|session| session.is_open()));
            shard.end_session(next_key, CloseReason::Client);
            assert_eq!((shard.totals.sessions, shard.totals.sessions_opened), (0, opened));
        }
    }
}
