//! The stream below a connection: TCP, or TLS on it.

use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// How TLS is begun.
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// With servers at `host` whose certificate leads to the one in the PEM file `root`.
    pub fn new(root: &Path, host: std::net::IpAddr) -> anyhow::Result<Self> {
        let root = CertificateDer::from_pem_file(root).with_context(|| root.display().to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every connection is a stranger's: one that goes on with an earlier session's keys costs a server less.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name: ServerName::IpAddress(host.into()) })
    }
}

/// One socket that does not block.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<ClientConnection>, TcpStream),
}

impl Stream {
    /// On `socket`; hands are shaken by writing and reading.
    pub fn new(socket: TcpStream, tls: Option<&Tls>) -> anyhow::Result<Self> {
        Ok(match tls {
            None => Self::Plain(socket),
            Some(tls) => {
                let connection = ClientConnection::new(tls.config.clone(), tls.name.clone())?;
                Self::Tls(Box::new(connection), socket)
            }
        })
    }
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(room),
            Self::Tls(connection, socket) => read_all(connection, socket, room),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(connection, socket) => {
                // Until hands are shaken it waits in the connection.
                let written = connection.writer().write(bytes)?;
                send(connection, socket)?;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) | Self::Tls(_, socket) => socket.as_fd(),
        }
    }
}

/// Sends the records that wait. They are few and small: a socket that does not take them is an error.
fn send(connection: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    Ok(())
}

/// Reads all that is there, as far as it fits: of what TLS keeps back, the socket would not tell.
fn read_all(connection: &mut ClientConnection, socket: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        match connection.reader().read(&mut room[filled..]) {
            Ok(0) => return Ok(filled),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return if filled > 0 { Ok(filled) } else { Err(error) },
        }
        match connection.read_tls(socket) {
            Ok(0) => return Ok(filled),
            Ok(_) => {
                connection.process_new_packets().map_err(io::Error::other)?;
                send(connection, socket)?;
            }
            Err(error) if filled > 0 && error.kind() == ErrorKind::WouldBlock => return Ok(filled),
            Err(error) => return Err(error),
        }
    }
}
