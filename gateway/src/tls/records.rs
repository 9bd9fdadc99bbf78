//! One TLS connection as bytes: what came from the network goes in, plain bytes and what is to be sent come out.
//!
//! rustls' interface without buffers of its own is used, so that a connection which is quiet holds keys and nothing
//! else: what it reads and writes in is lent by its thread.

use rustls::HandshakeKind;
use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Plain bytes of one record at the most.
pub const RECORD_BYTES_MAX: usize = 16 << 10;
/// Bytes of a record's head, of which the last two say how many follow.
pub const HEAD_BYTES: usize = 5;
/// What a record has beside its plain bytes at the most: head, nonce, type, tag.
pub const OVERHEAD_BYTES: usize = 64;
/// Bytes that are kept because more has to come: a record, or a message of the handshake. Chains of client certificates
/// are the longest, and of a few KiB.
pub const HELD_BYTES_MAX: usize = 32 << 10;

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum Broken {
    /// What the peer did.
    Tls(rustls::Error),
    /// It sent an unfinished message of more than [`HELD_BYTES_MAX`].
    TooLong,
    /// So much was sent that its keys are used up, as can happen with TLS 1.2.
    KeysUsedUp,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::TooLong => f.write_str("TLS: a message of the handshake is too long"),
            Self::KeysUsedUp => f.write_str("TLS: more was sent than its keys allow"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<rustls::Error> for Broken {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// Bytes to be sent, in memory that is lent and keeps its length: only the first `end` count.
#[derive(Debug)]
pub struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    end: usize,
}

impl<'a> Out<'a> {
    /// None yet.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, end: 0 }
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.end
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Adds some.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let needed = self.end + bytes;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds what `write` writes, which asks for more room when it needs it.
    fn add<E>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
        needs: impl Fn(&E) -> Option<usize>,
    ) -> Result<(), E> {
        loop {
            match write(&mut self.bytes[self.end..]) {
                Ok(written) => {
                    self.end += written;
                    return Ok(());
                }
                Err(error) => match needs(&error) {
                    Some(bytes) if bytes > self.bytes.len() - self.end => _ = self.room(bytes),
                    _ => return Err(error),
                },
            }
        }
    }
}

/// One connection.
pub struct Records {
    connection: UnbufferedServerConnection,
    /// What came and is not whole yet.
    held: Vec<u8>,
    /// Whether the peer has said that nothing more comes.
    is_ended: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// What is wanted of a connection that may be written to.
enum Wish<'a> {
    Nothing,
    Say(&'a [u8]),
    Goodbye,
}

impl Records {
    /// A connection of which nothing has come yet.
    ///
    /// # Errors
    /// When `config` cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Broken> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, held: Vec::new(), is_ended: false })
    }

    /// What came and is not whole yet: it goes before what comes next.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Whether hands are not shaken yet.
    pub fn is_shaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer has said that nothing more comes.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// How hands were shaken, once they are.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes what came, with [`Records::held`] before it. Gives plain bytes to `plain`, and to `out` what has to be
    /// sent because of it, also when it breaks: that tells the peer why.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn take(
        &mut self,
        came: &mut [u8],
        out: &mut Out<'_>,
        mut plain: impl FnMut(&[u8]),
    ) -> Result<(), Broken> {
        let taken = self.drive(came, out, &mut plain, &Wish::Nothing)?;
        let rest = if self.is_ended { &[] } else { &came[taken..] };
        if rest.len() > HELD_BYTES_MAX {
            return Err(Broken::TooLong);
        }
        self.held = rest.to_vec();
        Ok(())
    }

    /// Makes records of `bytes`, all but the last of [`RECORD_BYTES_MAX`], and adds them to `out`.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn seal(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<(), Broken> {
        out.room(bytes.len() + (bytes.len() / RECORD_BYTES_MAX + 1) * OVERHEAD_BYTES);
        self.say(&Wish::Say(bytes), out)
    }

    /// Adds the goodbye to `out` that says that nothing more comes.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn goodbye(&mut self, out: &mut Out<'_>) -> Result<(), Broken> {
        self.say(&Wish::Goodbye, out)
    }

    fn say(&mut self, wish: &Wish<'_>, out: &mut Out<'_>) -> Result<(), Broken> {
        // It is taken as far as it is whole, so that there is nothing to read in it.
        let mut held: Vec<u8> = std::mem::take(&mut self.held);
        let taken = self.drive(&mut held, out, &mut |_| {}, wish)?;
        held.drain(..taken);
        self.held = held;
        Ok(())
    }

    /// Goes on until more has to come, and does what is wished if that is possible then. Returns how much was taken.
    fn drive(
        &mut self,
        came: &mut [u8],
        out: &mut Out<'_>,
        plain: &mut dyn FnMut(&[u8]),
        wish: &Wish<'_>,
    ) -> Result<usize, Broken> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut came[taken..]);
            let mut discard = discard;
            let next = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain(record.payload);
                    }
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(out, |room| data.encode(room))?;
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    ControlFlow::Continue(())
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match wish {
                        Wish::Nothing => {}
                        Wish::Say(bytes) => encrypt(out, |room| traffic.encrypt(bytes, room))?,
                        Wish::Goodbye => encrypt(out, |room| traffic.queue_close_notify(room))?,
                    }
                    ControlFlow::Break(())
                }
                // Hands are not shaken, or both have said goodbye. Early data is not allowed, so there is none.
                Ok(_) if matches!(wish, Wish::Nothing) => ControlFlow::Break(()),
                Ok(_) => return Err(rustls::Error::HandshakeNotComplete.into()),
                Err(error) => {
                    taken += discard;
                    self.last_words(&mut came[taken..], out);
                    return Err(error.into());
                }
            };
            taken += discard;
            if next.is_break() {
                return Ok(taken);
            }
        }
    }

    /// What rustls wants the peer to hear when it breaks off.
    fn last_words(&mut self, came: &mut [u8], out: &mut Out<'_>) {
        // Only as long as there are some: behind them it would look at what came again.
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(came).state
        {
            if encode(out, |room| data.encode(room)).is_err() {
                return;
            }
        }
    }
}

fn encode(
    out: &mut Out<'_>,
    write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Broken> {
    let needs = |error: &EncodeError| match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
        EncodeError::AlreadyEncoded => None,
    };
    out.add(write, needs).map_err(|error| rustls::Error::General(error.to_string()).into())
}

fn encrypt(
    out: &mut Out<'_>,
    write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Broken> {
    let needs = |error: &EncryptError| match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
        EncryptError::EncryptExhausted => None,
    };
    out.add(write, needs).map_err(|_| Broken::KeysUsedUp)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
    use std::io::{Read, Write};
    use std::sync::LazyLock;

    type Configs = (Arc<ServerConfig>, RootCertStore);

    /// A server, and the roots that its clients trust.
    pub(in crate::tls) static CONFIGS: LazyLock<Configs> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they fit");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        (Arc::new(server), roots)
    });

    /// Both ends of a connection, without a network.
    struct Ends {
        server: Records,
        client: ClientConnection,
        /// What the server was told.
        heard: Vec<u8>,
        out: Vec<u8>,
    }

    impl Ends {
        fn new(version: &'static SupportedProtocolVersion) -> Self {
            let (server, roots) = &*CONFIGS;
            let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let name = "localhost".try_into().expect("a name");
            Self {
                server: Records::new(server.clone()).expect("a server"),
                client: ClientConnection::new(Arc::new(client), name).expect("a client"),
                heard: Vec::new(),
                out: Vec::new(),
            }
        }

        /// What the client has to send now.
        fn said(&mut self) -> Vec<u8> {
            let mut said = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut said).expect("memory");
            }
            said
        }

        /// Lets the server read this, in pieces of such sizes, and gives what it answers.
        fn read(&mut self, bytes: &[u8], pieces: &[usize]) -> Result<Vec<u8>, Broken> {
            let mut answer = Vec::new();
            let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*pieces.next().expect("some")));
                rest = behind;
                let mut came = [self.server.held(), piece].concat();
                let mut out = Out::new(&mut self.out);
                let taken = self.server.take(&mut came, &mut out, |bytes| self.heard.extend(bytes));
                answer.extend_from_slice(out.bytes());
                taken?;
            }
            Ok(answer)
        }

        fn shake(&mut self, pieces: &[usize]) {
            while self.client.is_handshaking() || self.server.is_shaking() {
                let said = self.said();
                let answer = self.read(&said, pieces).expect("a good client");
                self.hear(&answer);
            }
        }

        /// Lets the client read this, and gives what it was told.
        fn hear(&mut self, mut bytes: &[u8]) -> Vec<u8> {
            let mut told = Vec::new();
            while !bytes.is_empty() {
                self.client.read_tls(&mut bytes).expect("memory");
                self.client.process_new_packets().expect("a good server");
                let _ = self.client.reader().read_to_end(&mut told);
            }
            told
        }

        fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut out = Out::new(&mut self.out);
            self.server.seal(bytes, &mut out).expect("it may");
            out.bytes().to_vec()
        }
    }

    fn version() -> impl Strategy<Value = &'static SupportedProtocolVersion> {
        prop_oneof![Just(&TLS12), Just(&TLS13)]
    }

    #[test]
    fn the_room_that_is_kept_is_no_part_of_what_is_sent() {
        let mut memory = vec![9; 100];
        let mut out = Out::new(&mut memory);
        out.extend(b"abc");
        assert_eq!((out.bytes(), out.len(), out.is_empty()), (b"abc".as_slice(), 3, false));
        let written = out.add(|room| if room.len() < 300 { Err(300) } else { Ok(2) }, |need| Some(*need));
        assert_eq!((written, out.len()), (Ok(()), 5));
        assert_eq!(out.add(|_| Err(7), |_| None), Err(7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bytes_survive_any_pieces_in_both_directions(
            version in version(),
            pieces in prop::collection::vec(1_usize..3_000, 1..20),
            sizes in prop::collection::vec(0_usize..50_000, 1..8),
        ) {
            let mut ends = Ends::new(version);
            ends.shake(&pieces);
            for (n, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + n) as u8).collect();
                let sealed = ends.seal(&bytes);
                prop_assert_eq!(&ends.hear(&sealed), &bytes);
                let mut rest = bytes.as_slice();
                ends.heard.clear();
                while !rest.is_empty() {
                    let taken = ends.client.writer().write(rest).expect("memory");
                    rest = &rest[taken..];
                    let said = ends.said();
                    ends.read(&said, &pieces).expect("a good client");
                }
                prop_assert_eq!(&ends.heard, &bytes);
                prop_assert!(ends.server.held().is_empty());
            }
            ends.client.send_close_notify();
            let said = ends.said();
            ends.read(&said, &pieces).expect("a good client");
            prop_assert!(ends.server.is_ended());
        }

        /// Whatever is changed on the way ends a connection, and never more than that.
        #[test]
        fn what_is_changed_on_the_way_breaks_it(
            version in version(),
            at in any::<prop::sample::Index>(),
            change in 1_u8..,
            turn in 0_usize..4,
            pieces in prop::collection::vec(1_usize..3_000, 1..4),
        ) {
            let mut ends = Ends::new(version);
            for now in 0..4 {
                if !ends.client.is_handshaking() {
                    let _ = ends.client.writer().write_all(b"some words");
                }
                let mut said = ends.said();
                if now == turn && !said.is_empty() {
                    let at = at.index(said.len());
                    said[at] ^= change;
                }
                let Ok(answer) = ends.read(&said, &pieces) else { return Ok(()) };
                let mut answer = answer.as_slice();
                while !answer.is_empty() {
                    ends.client.read_tls(&mut answer).expect("memory");
                    // What it makes of it is its own affair.
                    if ends.client.process_new_packets().is_err() {
                        return Ok(());
                    }
                }
            }
            prop_assert!(ends.heard.is_empty() || b"some words".repeat(4).starts_with(&ends.heard));
        }
    }
}
