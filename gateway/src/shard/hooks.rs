//! Panics on request, for tests of what becomes of them: in debug builds only, and only when the environment allows it.

use super::Shard;
use super::socket::Socket;
use crate::config::load::may_panic;
use crate::feed::request::SessionKey;

/// A step of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Before it is one.
    Insert,
    /// When it is.
    Greet,
}

/// Where to panic next.
#[derive(Debug)]
pub(super) struct Hooks {
    may_panic: bool,
    /// When this session is written to.
    pub(super) write_to: Option<u32>,
    /// When this session was written to, before that is noted.
    pub(super) sent_to: Option<u32>,
    /// When a session is opened next, in this step of it.
    pub(super) open_at: Option<Step>,
    /// When the feed's next batch is fanned out.
    is_in_pass: bool,
}

impl Hooks {
    pub(super) fn new() -> Self {
        Self { may_panic: may_panic(), write_to: None, sent_to: None, open_at: None, is_in_pass: false }
    }

    /// In the midst of a write.
    pub(super) fn write(&mut self, slot: u32) {
        assert!(self.write_to.take_if(|other| *other == slot).is_none(), "as was asked for, in a write");
    }

    /// Behind a write, of which nothing is noted.
    pub(super) fn sent(&mut self, slot: u32) {
        assert!(self.sent_to.take_if(|other| *other == slot).is_none(), "as was asked for, behind a write");
    }

    /// In the midst of opening a session.
    pub(super) fn open(&mut self, step: Step) {
        assert!(self.open_at.take_if(|at| *at == step).is_none(), "as was asked for, as a session opens");
    }

    /// In the midst of the fan-out.
    pub(super) fn pass(&mut self) {
        assert!(!std::mem::take(&mut self.is_in_pass), "as was asked for, in the fan-out");
    }
}

impl<S: Socket> Shard<S> {
    /// Panics if `text` asks for it, or takes note where to.
    pub(super) fn panic_on_request(&mut self, key: SessionKey, text: &str) {
        if !self.hooks.may_panic {
            return;
        }
        match text {
            r#"{"op":"panic","at":"request"}"# => panic!("as was asked for, in a request"),
            r#"{"op":"panic","at":"write"}"# => self.hooks.write_to = Some(key.slot),
            r#"{"op":"panic","at":"sent"}"# => self.hooks.sent_to = Some(key.slot),
            r#"{"op":"panic","at":"fan_out"}"# => self.hooks.is_in_pass = true,
            _ => {}
        }
    }
}
