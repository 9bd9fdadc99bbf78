//! Where connections wait that have not shown yet who they are.
//!
//! Such a connection is no session: it has its greeting, a few bytes of what it sends, and a deadline. Its first message
//! must be `auth`; what comes behind that is its session's. Pings are answered. There are only so many of them: for one
//! more the oldest leaves, as honest ones take milliseconds.

use super::door::{Door, Place};
use crate::access::Identity;
use crate::access::audit::{Cause, Line};
use crate::access::rights::Rights;
use crate::session;
use crate::session::guest::{Guest, Opening, Pass};
use crate::shard::Shard;
use crate::shard::panics;
use crate::shard::socket::{ClientSocket, Socket};
use crate::stats::{AuthFailure, RefuseReason};
use hyper::body::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use tickgate_protocol::Code;
use tickgate_protocol::code::{CLOSE_RESTART, CLOSE_TRY_LATER};
use tickgate_protocol::command::{Command, Id, Request};
use tickgate_protocol::control::{AUTH_REQUIRED, Control};
use tickgate_protocol::frame::{self, Decoder, Message, Opcode};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a connection holds that has not shown who it is: a message and a frame that are not whole, each with as much room
/// again, and its task.
pub(crate) const PENDING_BYTES: usize = 4 * MESSAGE_BYTES_MAX + 4 * READ_BYTES;
/// Bytes of a message before anybody is known: a token and what is around it.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a frame's head at most.
const HEAD_BYTES_MAX: usize = 14;
/// Frames before anybody is known: fragments of one message, and pings.
const FRAMES_MAX: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 4 << 10;
/// Time for a peer to take its last bytes.
const FAREWELL: Duration = Duration::from_secs(1);
/// What somebody is told for whom there is no data so late.
pub(super) const NO_DELAY: &str = "entitled to data of a delay that this gateway does not serve";
/// Close code of a policy that was not kept.
const CLOSE_POLICY: u16 = 1008;

/// Who waits at one shard's door, the oldest first.
pub(super) struct Lobby {
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Out>>>,
    next: Cell<u64>,
    most: usize,
    /// Connections that are here, those being sent away included.
    here: Cell<usize>,
    is_closed: Cell<bool>,
}

/// Why somebody who waits is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    /// Its place is another's.
    Displaced,
    /// The gateway drains.
    Drain,
}

impl Lobby {
    pub(super) fn new(most: usize) -> Self {
        Self {
            waiting: RefCell::default(),
            next: Cell::new(0),
            most: most.max(1),
            here: Cell::new(0),
            is_closed: Cell::new(false),
        }
    }

    /// Takes a place, of the oldest if there is no other; what is given fires when it is taken from this one.
    fn enter(&self) -> (u64, oneshot::Receiver<Out>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= self.most
            && let Some((_, oldest)) = waiting.pop_first()
        {
            // One that has just left needs not be told.
            let _ = oldest.send(Out::Displaced);
        }
        let number = self.next.replace(self.next.get() + 1);
        let (sender, receiver) = oneshot::channel();
        if self.is_closed.get() {
            let _ = sender.send(Out::Drain);
        } else {
            waiting.insert(number, sender);
        }
        (number, receiver)
    }

    /// Puts everybody out, and whoever comes.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        for (_, waiting) in self.waiting.take() {
            let _ = waiting.send(Out::Drain);
        }
    }

    /// Whether nobody is here.
    pub(super) fn is_left(&self) -> bool {
        self.here.get() == 0
    }

    fn len(&self) -> usize {
        self.waiting.borrow().len()
    }
}

/// A place in the lobby, which is given back however it ends.
struct Waiting {
    door: Rc<Door>,
    number: u64,
}

impl Waiting {
    fn tell(&self) {
        let waiting = self.door.lobby.len() as u64;
        self.door.shard.borrow_mut().auth_pending(waiting);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.door.lobby.waiting.borrow_mut().remove(&self.number);
        self.tell();
    }
}

/// A connection that is here until this is dropped.
struct Here(Rc<Door>);

impl Here {
    fn new(door: &Rc<Door>) -> Self {
        let here = &door.lobby.here;
        here.set(here.get() + 1);
        Self(door.clone())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let here = &self.0.lobby.here;
        here.set(here.get() - 1);
    }
}

/// Why a connection does not become a session: a close code and its text, an error before that if there is one, and as what
/// it is counted.
struct Refused {
    code: u16,
    text: &'static str,
    error: Option<Box<Control>>,
    reason: RefuseReason,
    label: &'static str,
}

impl Refused {
    fn with(id: Option<Id>, code: Code, message: &str, reason: RefuseReason, label: &'static str) -> Self {
        let error = Some(Box::new(Control::error(id, code, message, true)));
        Self { code: code.number(), text: code.name(), error, reason, label }
    }

    fn bare(code: u16, text: &'static str, reason: RefuseReason) -> Self {
        Self { code, text, error: None, reason, label: reason.label() }
    }
}

/// Lets a connection wait for its token, and makes a session of it then.
pub(super) fn wait(
    door: Rc<Door>,
    socket: ClientSocket,
    opening: Opening,
    place: Place,
    deadline: Instant,
) -> impl Future<Output = ()> {
    // From the moment on at which its visit is over.
    let here = Here::new(&door);
    wait_here(door, here, socket, opening, place, deadline)
}

async fn wait_here(
    door: Rc<Door>,
    here: Here,
    socket: ClientSocket,
    mut opening: Opening,
    place: Place,
    deadline: Instant,
) {
    let (shard, number) = door.shard.borrow_mut().name_ahead();
    let name = session::name(shard, number);
    let address = opening.guest.peer;
    let hello = door.shard.borrow().hello(&name, AUTH_REQUIRED, None);
    let mut greeting = std::mem::take(&mut opening.answer);
    append(&mut greeting, &hello);
    let mut caller = Caller {
        socket,
        received: opening.early.to_vec(),
        decoder: Decoder::default(),
        expands: opening.guest.is_deflated.then(|| door.clone()),
        frames: 0,
        is_torn: false,
    };
    let (ticket, mut is_put_out) = door.lobby.enter();
    let waiting = Waiting { door: door.clone(), number: ticket };
    waiting.tell();
    let shown = async {
        // It is the first that is sent: there is room for all of it.
        if !caller.send(&greeting) {
            return Err(left());
        }
        let (id, token) = caller.token().await?;
        Ok((id, door.believe(&token).await))
    };
    let shown = tokio::select! {
        biased;
        shown = tokio::time::timeout_at(deadline, shown) => shown.unwrap_or_else(|_| Err(late())),
        out = &mut is_put_out => Err(match out {
            Ok(Out::Drain) => Refused::bare(CLOSE_RESTART, "drain", RefuseReason::Draining),
            _ => Refused::bare(CLOSE_TRY_LATER, "too many wait", RefuseReason::AuthPending),
        }),
    };
    drop(waiting);
    let mut subject = None;
    let entered = shown.and_then(|(id, believed)| {
        let identity = believed.map_err(|failure| {
            let message = "not a token or key that is taken here";
            let reason = RefuseReason::Unauthenticated;
            Refused::with(id.clone(), Code::Unauthenticated, message, reason, failure.label())
        })?;
        subject = Some(identity.subject.clone());
        let pass = door.seat(identity).map_err(|reason| {
            let (code, message) = match reason {
                RefuseReason::NoDelay => (Code::Forbidden, NO_DELAY),
                _ => (Code::ConnectionLimit, "as many connections as it may have: close another one first"),
            };
            Refused::with(id.clone(), code, message, reason, reason.label())
        })?;
        let guest = Guest { pass: Some(pass), name: Some((shard, number)), ..opening.guest };
        let shard = door.shard_for(&guest).ok_or_else(left)?;
        Ok((id, guest, shard))
    });
    match entered {
        Ok((id, guest, shard)) => {
            let mut answer = Vec::new();
            let limits = Some(shard.borrow().limits(guest.rights()));
            append(
                &mut answer,
                Control::Ack { id, ok: true, results: Vec::new(), limits }.to_json().as_bytes(),
            );
            let early = Bytes::from(caller.received);
            let opening = Opening { answer, early, guest, is_greeted: true, connect: opening.connect };
            // From here on the session's end gives the place back.
            place.keep();
            let session = panics::session(shard, caller.socket, opening);
            drop(here);
            session.await;
        }
        Err(refused) => {
            opening.connect.record("refused", refused.label);
            drop(opening.connect);
            tracing::debug!(session = name, peer = %address, reason = refused.label, "not let in");
            door.shard.borrow_mut().refused(refused.reason);
            door.audit(&Line {
                cause: Cause::Refuse,
                address,
                session: Some(&name),
                subject: subject.as_deref(),
                reason: refused.label,
                names: None,
            });
            caller.say_goodbye(&refused).await;
        }
    }
}

fn left() -> Refused {
    Refused::bare(1000, "", RefuseReason::AuthLeft)
}

fn late() -> Refused {
    let reason = RefuseReason::AuthTimeout;
    Refused::with(None, Code::AuthTimeout, "no `auth` in time", reason, reason.label())
}

/// Appends a text frame.
fn append(out: &mut Vec<u8>, text: &[u8]) {
    frame::write_header(out, Opcode::Text, text.len());
    out.extend_from_slice(text);
}

/// A connection that is no session yet.
struct Caller<S> {
    socket: S,
    /// What came and was not read as a frame yet, masked as it is.
    received: Vec<u8>,
    decoder: Decoder,
    /// What has what its messages are expanded with, if they may be compressed.
    expands: Option<Rc<Door>>,
    frames: usize,
    /// Whether something was taken in part: nothing can follow it.
    is_torn: bool,
}

/// What a frame brought.
enum Came {
    Nothing,
    Pong(Vec<u8>),
    Auth(Option<Id>, String),
    Refused(Refused),
}

impl<S: Socket> Caller<S> {
    /// The token of the first message, which must be `auth`.
    async fn token(&mut self) -> Result<(Option<Id>, String), Refused> {
        loop {
            while let Some(mut frame) = self.take_frame()? {
                match self.read_frame(&mut frame) {
                    Came::Nothing => {}
                    Came::Pong(pong) if self.send(&pong) => {}
                    Came::Pong(_) => return Err(left()),
                    Came::Auth(id, token) => return Ok((id, token)),
                    Came::Refused(refused) => return Err(refused),
                }
            }
            self.read().await?;
        }
    }

    /// One whole frame, once it has come: what stands behind it is left as it is.
    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, Refused> {
        let Some((head_bytes, payload_bytes)) = frame_bytes(&self.received) else { return Ok(None) };
        let is_too_long = payload_bytes > MESSAGE_BYTES_MAX as u64;
        let frame_bytes = head_bytes.saturating_add(payload_bytes);
        if !is_too_long && frame_bytes > self.received.len() as u64 {
            return Ok(None);
        }
        self.frames += 1;
        if self.frames > FRAMES_MAX {
            return Err(Refused::bare(
                CLOSE_POLICY,
                "too many frames before `auth`",
                RefuseReason::Unauthenticated,
            ));
        }
        // One that is too long is refused by its head, whatever has come of it.
        let end = if is_too_long { self.received.len() } else { frame_bytes as usize };
        let behind = self.received.split_off(end);
        Ok(Some(std::mem::replace(&mut self.received, behind)))
    }

    fn read_frame(&mut self, frame: &mut [u8]) -> Came {
        let mut came = Came::Nothing;
        let bounds =
            frame::Bounds { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max: frame::FRAGMENTS_MAX };
        // That of the shard's sessions: some tens of KiB are not made anew for each frame of a stranger.
        let mut inflater = self.expands.as_ref().map(|door| door.shard.borrow_mut().lend_inflater());
        let read = self.decoder.feed(frame, &bounds, inflater.as_deref_mut(), |message| {
            came = match message {
                Message::Text(text) => first_request(text),
                Message::Ping(payload) => {
                    let mut pong = Vec::with_capacity(HEAD_BYTES_MAX + payload.len());
                    frame::write_header(&mut pong, Opcode::Pong, payload.len());
                    pong.extend_from_slice(payload);
                    Came::Pong(pong)
                }
                Message::Pong(_) => Came::Nothing,
                Message::Binary(_) => Came::Refused(unauthenticated(None)),
                Message::Close(code) => {
                    Came::Refused(Refused::bare(code.unwrap_or(1000), "", RefuseReason::AuthLeft))
                }
            };
        });
        if let (Some(door), Some(inflater)) = (&self.expands, inflater) {
            door.shard.borrow_mut().return_inflater(inflater);
        }
        match read {
            Ok(()) => came,
            Err(violation) => Came::Refused(Refused::bare(
                violation.close_code(),
                "the WebSocket protocol was not kept",
                RefuseReason::Unauthenticated,
            )),
        }
    }

    async fn read(&mut self) -> Result<(), Refused> {
        poll_fn(|cx| self.socket.poll_readable(cx)).await.map_err(|_| left())?;
        let mut room = [0; READ_BYTES];
        match self.socket.read(&mut room) {
            Ok(0) => Err(left()),
            Ok(count) => {
                self.received.extend_from_slice(&room[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(left()),
        }
    }

    /// Whether all of it was taken: it is little, and whoever takes nothing is not waited for.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let is_sent = matches!(self.socket.send(bytes), Ok(taken) if taken == bytes.len());
        self.is_torn |= !is_sent;
        is_sent
    }

    /// Says why, and waits a moment for the peer to have read it: to close with something unread would take it back.
    async fn say_goodbye(mut self, refused: &Refused) {
        let mut words = Vec::new();
        if let Some(error) = &refused.error {
            append(&mut words, error.to_json().as_bytes());
        }
        frame::write_close(&mut words, refused.code, refused.text);
        if self.is_torn || !self.send(&words) {
            return;
        }
        self.socket.shut();
        let end = async {
            while self.read().await.is_ok() {
                self.received.clear();
            }
        };
        // Whether it has read it or not, its time is over.
        let _ = tokio::time::timeout(FAREWELL, end).await;
    }
}

fn unauthenticated(id: Option<Id>) -> Refused {
    let (code, reason) = (Code::Unauthenticated, RefuseReason::Unauthenticated);
    Refused::with(id, code, "the first message must be `auth`", reason, AuthFailure::Missing.label())
}

fn first_request(text: &str) -> Came {
    match Request::parse(text) {
        Ok(Request { id, command: Command::Auth { token } }) => Came::Auth(id, token.0),
        Ok(Request { id, .. }) => Came::Refused(unauthenticated(id)),
        Err(bad) => Came::Refused(unauthenticated(bad.id)),
    }
}

/// How long the head and the payload of the frame are that these bytes begin with, once it says so.
fn frame_bytes(bytes: &[u8]) -> Option<(u64, u64)> {
    let [_, second, rest @ ..] = bytes else { return None };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    let (head_bytes, payload_bytes) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    Some((head_bytes + mask_bytes, payload_bytes))
}

impl Door {
    /// Who somebody is that shows this. A key that is not known may be fetched meanwhile, which takes its time.
    pub(super) async fn believe(&self, credential: &str) -> Result<Identity, AuthFailure> {
        let Some(access) = &self.access else { return Err(AuthFailure::Missing) };
        let now_s = || crate::clock::wall_ns().div_euclid(1_000_000_000);
        let mut believed = access.check(credential, now_s());
        if believed.as_ref().err() == Some(&AuthFailure::UnknownKey) && access.await_keys().await {
            believed = access.check(credential, now_s());
        }
        self.shard.borrow_mut().believed(&believed);
        believed
    }

    /// A place among the connections of its subject, and a shard with what it may see; or why there is none.
    pub(super) fn seat(&self, identity: Identity) -> Result<Box<Pass>, RefuseReason> {
        let rights = &identity.rights;
        self.shard_of(self.delay_s(rights)).ok_or(RefuseReason::NoDelay)?;
        let seats = self.access.as_ref().map(|access| access.seats());
        let seat = seats.and_then(|seats| seats.take(&identity.subject, rights.max_connections));
        Ok(Pass::new(identity, seat.ok_or(RefuseReason::SubjectConnections)?))
    }

    fn delay_s(&self, rights: &Rights) -> u64 {
        rights.delay_s.map_or(self.config.delays.default_s, u64::from)
    }

    /// The shard of a guest: of as late as it may see data.
    pub(super) fn shard_for(&self, guest: &Guest) -> Option<Rc<RefCell<Shard>>> {
        self.shard_of(guest.rights().map_or(self.config.delays.default_s, |rights| self.delay_s(rights)))
    }

    /// Writes down what happened at the door.
    pub(super) fn audit(&self, line: &Line<'_>) {
        if let Some(audit) = self.shard.borrow().shared().audit.clone() {
            audit.write(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::task::{Context, Poll};

    #[test]
    fn frames_are_as_long_as_their_heads_say() {
        for payload_bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            let mut frame = Vec::new();
            frame::write_header(&mut frame, Opcode::Text, payload_bytes);
            let head_bytes = frame.len();
            assert_eq!(frame_bytes(&frame), Some((head_bytes as u64, payload_bytes as u64)));
            frame[1] |= 0x80;
            assert_eq!(frame_bytes(&frame), Some((head_bytes as u64 + 4, payload_bytes as u64)));
            (0..head_bytes).for_each(|cut| assert_eq!(frame_bytes(&frame[..cut]), None, "{cut}"));
        }
        assert_eq!(frame_bytes(&[[0x81, 0xff].as_slice(), &[255; 8]].concat()), Some((14, u64::MAX)));
    }

    #[test]
    fn the_oldest_leaves_for_the_next() {
        let lobby = Lobby::new(2);
        let mut tickets: Vec<_> = (0..4).map(|_| lobby.enter().1).collect();
        let mut out = |lobby: &Lobby| {
            let out: Vec<Option<Out>> = tickets.iter_mut().map(|ticket| ticket.try_recv().ok()).collect();
            (out, lobby.len())
        };
        let displaced = Some(Out::Displaced);
        assert_eq!(out(&lobby), (vec![displaced, displaced, None, None], 2));
        lobby.close();
        assert_eq!(out(&lobby), (vec![None, None, Some(Out::Drain), Some(Out::Drain)], 0));
        assert_eq!(lobby.enter().1.try_recv(), Ok(Out::Drain));
    }

    /// A socket that takes so many bytes of each send, and whose peer says nothing more.
    struct Narrow {
        takes: usize,
        sent: RefCell<Vec<Vec<u8>>>,
        is_shut: Cell<bool>,
    }

    impl Socket for Rc<Narrow> {
        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn send(&self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.takes);
            if taken == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.sent.borrow_mut().push(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn shut(&self) {
            self.is_shut.set(true);
        }
    }

    fn caller(takes: usize, received: &[u8]) -> Caller<Rc<Narrow>> {
        let socket = Rc::new(Narrow { takes, sent: RefCell::default(), is_shut: Cell::new(false) });
        Caller {
            socket,
            received: received.to_vec(),
            decoder: Decoder::default(),
            expands: None,
            frames: 0,
            is_torn: false,
        }
    }

    /// A goodbye was written behind half a frame: the client took its bytes for the rest of that one.
    #[tokio::test]
    async fn nothing_follows_what_was_taken_in_part() {
        // An empty ping, whose pong has two bytes.
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        for (takes, sends, is_shut) in [(1, vec![vec![0x8a]], false), (0, vec![], false)] {
            let mut caller = caller(takes, &ping);
            let socket = caller.socket.clone();
            let refused = caller.token().await.expect_err("its pong has no room");
            assert_eq!(refused.reason, RefuseReason::AuthLeft);
            caller.say_goodbye(&late()).await;
            assert_eq!((&*socket.sent.borrow(), socket.is_shut.get()), (&sends, is_shut));
        }
        // Whoever takes all of it gets both, and the end.
        let mut caller = caller(1_000, &ping);
        let socket = caller.socket.clone();
        assert_eq!(caller.token().await.expect_err("it has left").reason, RefuseReason::AuthLeft);
        caller.say_goodbye(&late()).await;
        let sent = socket.sent.borrow();
        assert_eq!((sent.len(), &sent[0][..], socket.is_shut.get()), (2, &[0x8a, 0][..], true));
        assert!(sent[1].ends_with(b"auth_timeout"), "{}", String::from_utf8_lossy(&sent[1]));
    }
}
