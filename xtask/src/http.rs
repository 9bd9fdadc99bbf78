//! Asking a program on this machine something over HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer is.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Asks for `path`: the status and the body of the answer.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // Version 1.0, so that the answer ends with the connection. In one piece: who has read enough may answer and close.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a whole answer of HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.strip_prefix("http/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    // Not meant for version 1.0, and yet some do it.
    let is_chunked = head.lines().any(|line| line.replace(' ', "") == "transfer-encoding:chunked");
    let body = if is_chunked { joined(body)? } else { body.to_vec() };
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The chunks of a body put together; `None` when it is cut.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(chunks.get(end + 2..)?.get(..size)?);
        chunks = chunks.get(end + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn answers_have_a_status_and_a_body() {
        let check = |answer: &str, expected: Option<(u16, &str)>| {
            let parsed = parse(answer.as_bytes());
            assert_eq!(
                parsed.as_ref().map(|(status, body)| (*status, body.as_str())),
                expected,
                "{answer:?}"
            );
        };
        check("HTTP/1.1 503 No\r\nA: b\r\n\r\nbody\r\n\r\n", Some((503, "body\r\n\r\n")));
        check("HTTP/1.0 200 OK\r\n\r\n", Some((200, "")));
        check("SSH-2.0\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\n", None);
    }

    #[test]
    fn bodies_in_chunks_are_put_together() {
        let whole =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n3;x=y\r\ntwo\r\n0\r\n\r\n";
        assert_eq!(parse(whole.as_bytes()), Some((200, "one\ntwo".to_owned())));
        let body = whole.find("4\r\n").unwrap();
        for length in body..whole.len() - 4 {
            assert_eq!(parse(&whole.as_bytes()[..length]), None, "cut to {length} bytes");
        }
    }

    #[test]
    fn somebody_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 256];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\nno").unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        assert_eq!(get(address, "/readyz").unwrap(), (404, "no".to_owned()));
        assert!(answering.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));
        assert!(get(address, "/").is_err(), "nobody listens any more");
    }
}
