//! A client made by hand, for what a well-behaved library never sends.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes of an answer's head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
/// First byte of a frame: that it is compressed.
const RSV1: u8 = 0x40;

/// A session, of which nothing was read but the answer to its handshake.
#[derive(Debug)]
pub struct Raw {
    pub reader: RawReader,
    pub writer: OwnedWriteHalf,
}

/// Its reading half.
#[derive(Debug)]
pub struct RawReader(BufReader<OwnedReadHalf>);

impl Raw {
    /// Shakes hands; `more` are further header lines, each with its line end, and `wanted` is what the answer must hold, in
    /// lower case.
    pub async fn open(address: SocketAddr, more: &str, wanted: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let request = format!(
            "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        );
        writer.write_all(request.as_bytes()).await?;
        let (mut reader, mut head) = (BufReader::with_capacity(4 << 10, reader), Vec::new());
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(head.len() < HEAD_BYTES_MAX, "an answer without an end");
            head.push(reader.read_u8().await.context("an answer")?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        ensure!(head.starts_with("http/1.1 101 ") && head.contains(wanted), "refused: {head}");
        Ok(Self { reader: RawReader(reader), writer })
    }
}

impl RawReader {
    /// Reads until the other side closes: the code that it says, if it says one.
    pub async fn closed(&mut self) -> Option<u16> {
        // However it ends without a close frame is the same.
        self.until_close().await.ok().flatten()
    }

    async fn until_close(&mut self) -> Result<Option<u16>> {
        let Self(reader) = self;
        loop {
            let (first, second) = (reader.read_u8().await?, reader.read_u8().await?);
            let bytes = match second {
                126 => u64::from(reader.read_u16().await?),
                127 => reader.read_u64().await?,
                0..126 => u64::from(second),
                _ => bail!("a gateway masks nothing"),
            };
            if first & 0x0f == CLOSE {
                return Ok(if bytes < 2 { None } else { Some(reader.read_u16().await?) });
            }
            let mut payload = (&mut *reader).take(bytes);
            let read = tokio::io::copy(&mut payload, &mut tokio::io::sink()).await?;
            ensure!(read == bytes, "the connection ended within a frame");
        }
    }
}

/// A text message of one frame, masked with zeros.
pub fn message(payload: &[u8], is_deflated: bool) -> Vec<u8> {
    let mut out = vec![0x80 | TEXT | if is_deflated { RSV1 } else { 0 }];
    match payload.len() {
        bytes @ 0..=125 => out.push(0x80 | bytes as u8),
        bytes @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        bytes => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}
