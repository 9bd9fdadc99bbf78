//! A panic in the turn of one session: that session ends, and nobody else notices.
//!
//! A turn touches little but its own session: it reads, answers, and writes. What it may leave half done elsewhere is
//! put right before anything else is done: the buffers and the list that it had taken for itself. What cannot be put
//! right, and a panic in anything that serves everybody (fan-out, timers, replays), ends the shard, and with it the
//! gateway: clients go on elsewhere with their cursors, while a gateway that limps would keep them waiting.

use super::socket::Socket;
use super::{READ_BYTES, Shard};
use crate::feed::request::SessionKey;
use crate::session::Life;
use crate::stats::CloseReason;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use tickgate_protocol::code::CLOSE_INTERNAL;

/// One client, from the end of its handshake to the end of its socket, whose panics are its own. `answer` is what its
/// handshake is still owed, and `early` what came behind its request.
pub fn session<S: Socket>(
    shard: Rc<RefCell<Shard<S>>>,
    socket: S,
    answer: &[u8],
    early: &[u8],
) -> impl Future<Output = ()> + use<S> {
    let socket = Rc::new(socket);
    let key = {
        let mut shard = shard.borrow_mut();
        let key = shard.open(socket.clone(), answer);
        // Without it the first turn has nothing of its client yet; the next begins anew.
        let _ = shard.turn(key, |shard| shard.first_bytes(key, early));
        key
    };
    std::future::poll_fn(move |cx| {
        let turn = shard.borrow_mut().turn(key, |shard| shard.poll_session(key, &socket, cx));
        turn.unwrap_or_else(|| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    })
}

impl<S: Socket> Shard<S> {
    /// Does a session's `work`. When it panics, ends that session and gives nothing.
    fn turn<T>(&mut self, key: SessionKey, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        // What is seen of the shard after a panic is put in order first.
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        if done.is_err() {
            self.recover(key);
        }
        done.ok()
    }

    /// Puts in order what an unwound turn may have left, and ends its session.
    fn recover(&mut self, key: SessionKey) {
        if self.read_buffer.is_empty() {
            self.read_buffer = vec![0; READ_BYTES];
        }
        self.filled.clear();
        // The list was on the stack, and is gone with it.
        let touched = self.sessions.iter().filter(|(_, session)| session.is_touched);
        self.touched = touched.map(|(slot, _)| slot as u32).collect();
        let says_so = catch_unwind(AssertUnwindSafe(|| self.close_after_panic(key)));
        // Whatever is wrong with it may be so again when it is to say goodbye.
        let is_over = says_so.is_ok() || catch_unwind(AssertUnwindSafe(|| self.end_after_panic(key))).is_ok();
        let is_left = self.session(key).is_none() && self.table.has_session(key.slot);
        if !is_over || is_left {
            tracing::error!("a session cannot be ended in order after a panic: the shard ends");
            self.broken.notify_one();
        }
    }

    fn close_after_panic(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        if session.life != Life::Open {
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
