//! The audit log: who came, what they were granted and refused, and why they left. A line of JSON each; never a token.
//!
//! Whoever writes a line waits for nobody: lines go the way of the log, through a bounded buffer and a thread that writes
//! it. Of each kind only so much is written; the next line says how many were left out, and so does the last one of all.
//! Those who have shown who they are have budgets of their own: no flood of strangers hides what becomes of them.

use crate::clock;
use crate::log_limit::{LogLimit, Verdict};
use crate::logs::LogWriter;
use crate::stats::{AuditOf, Board};
use serde::Serialize;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Lines of one kind within ten seconds, of those who have not shown who they are: it takes nothing but a connection.
const STRANGERS_PER_10_S: u32 = 100;
/// The same of those who have.
const KNOWN_PER_10_S: u32 = 10_000;
/// Symbols that a line about a request names at most.
pub const NAMES_MAX: usize = 20;
/// Bytes of a text of a client in a line, such as its subject.
const TEXT_BYTES_MAX: usize = 256;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A session was opened, by somebody who showed who it is.
    Connect,
    /// Nobody was let in.
    Refuse,
    /// A session showed a new token, which was taken.
    Auth,
    /// A session showed a new token, which was not.
    AuthRefuse,
    /// Something was subscribed to.
    Subscribe,
    /// Something was asked for that is not granted, or ended because it is no longer.
    Forbid,
    /// A session ended.
    Close,
    /// Lines of the kind that is its reason were left out, and none of that kind came behind them.
    LeftOut,
}

/// Those that are written of clients.
const CAUSES: [Cause; 7] = [
    Cause::Connect,
    Cause::Refuse,
    Cause::Auth,
    Cause::AuthRefuse,
    Cause::Subscribe,
    Cause::Forbid,
    Cause::Close,
];

/// A line.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// What it is about.
    pub cause: Cause,
    /// The address of the client.
    pub address: SocketAddr,
    /// Its session, if there is one.
    pub session: Option<&'a str>,
    /// Who it is, if that was shown.
    pub subject: Option<&'a str>,
    /// How it was shown, why it was refused, or why the session ended.
    pub reason: &'static str,
    /// What of, of requests: channels and symbols, separated by blanks.
    pub names: Option<&'a str>,
}

#[derive(Serialize)]
struct Written<'a> {
    time: String,
    event: Cause,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
    /// Of whom lines were left out, where that is all that it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'static str>,
    left_out: u32,
}

/// Where lines go.
#[derive(Debug)]
pub struct Audit {
    /// A file of its own, or else the log.
    file: Option<LogWriter>,
    /// Of strangers, and of those who are known.
    limits: Mutex<[[LogLimit; CAUSES.len()]; AuditOf::COUNT]>,
    /// Where what is left out is counted.
    board: Arc<Board>,
}

impl Audit {
    /// To a file, or to the log when there is none.
    pub fn new(file: Option<LogWriter>, board: Arc<Board>) -> Self {
        let limits = std::array::from_fn(|of| {
            let is_known = of == AuditOf::Known as usize;
            CAUSES.map(|_| LogLimit::new(if is_known { KNOWN_PER_10_S } else { STRANGERS_PER_10_S }))
        });
        Self { file, limits: Mutex::new(limits), board }
    }

    /// Writes a line, unless there were too many of its kind.
    pub fn write(&self, line: &Line<'_>) {
        let Line { cause, address, session, reason, names, .. } = *line;
        // Nobody has a subject who has not shown it.
        let of = if line.subject.is_some() { AuditOf::Known } else { AuditOf::Strangers };
        let verdict = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits[of as usize].get_mut(cause as usize).map(|limit| limit.admit(clock::mono_ms()))
        };
        let Some(Verdict::Write { left_out }) = verdict else {
            self.board.access.audit_left_out[of as usize].fetch_add(1, Ordering::Relaxed);
            return;
        };
        let subject = line.subject.map(cut);
        let Some(file) = &self.file else {
            let event = cause.name();
            tracing::info!(target: "audit", event, %address, session, subject, reason, names, left_out);
            return;
        };
        let (time, event, address, of) = (now(), cause, Some(address), None);
        Self::append(file, &Written { time, event, address, session, subject, reason, names, of, left_out });
    }

    fn append(file: &LogWriter, written: &Written<'_>) {
        if let Ok(mut json) = serde_json::to_vec(written) {
            json.push(b'\n');
            // What there is no room for is counted there.
            let _ = file.clone().write_all(&json);
        }
    }

    /// Says what was left out and not told yet.
    fn tell_left_out(&self) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        for (limits, of) in limits.iter_mut().zip(AuditOf::ALL) {
            for (limit, cause) in limits.iter_mut().zip(CAUSES) {
                let (left_out, event, reason) = (limit.take_left_out(), Cause::LeftOut, cause.name());
                if left_out == 0 {
                    continue;
                }
                let Some(file) = &self.file else {
                    tracing::info!(target: "audit", event = event.name(), of = of.label(), reason, left_out);
                    continue;
                };
                let (time, of) = (now(), Some(of.label()));
                let (address, session, subject, names) = (None, None, None, None);
                Self::append(
                    file,
                    &Written { time, event, address, session, subject, reason, names, of, left_out },
                );
            }
        }
    }

    /// Says what was left out, and waits for what was written to be in the file, but not for long.
    pub fn drain(&self) {
        self.tell_left_out();
        if let Some(file) = &self.file {
            file.drain();
        }
    }
}

/// The time of a line.
fn now() -> String {
    let since = Duration::from_nanos(u64::try_from(clock::wall_ns()).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

impl Cause {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refuse => "refuse",
            Self::Auth => "auth",
            Self::AuthRefuse => "auth_refuse",
            Self::Subscribe => "subscribe",
            Self::Forbid => "forbid",
            Self::Close => "close",
            Self::LeftOut => "left_out",
        }
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn line<'a>(cause: Cause, subject: &'a str) -> Line<'a> {
        let address = ([127, 0, 0, 1], 9).into();
        Line { cause, address, session: Some("s-1"), subject: Some(subject), reason: "token", names: None }
    }

    #[test]
    fn every_line_is_json_whatever_is_in_it_and_floods_are_a_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let board = Arc::new(Board::new(1));
        let audit = Audit::new(Some(LogWriter::file(file.path()).unwrap()), board.clone());
        let odd = "a\"b\\ \u{2028} é\u{1b}[31m";
        audit.write(&line(Cause::Connect, odd));
        audit.write(&line(Cause::Close, &"x".repeat(1_000)));
        for _ in 0..1_000 {
            audit.write(&Line { subject: None, ..line(Cause::Refuse, "") });
        }
        // They share nothing with who is known.
        audit.write(&line(Cause::Refuse, "ann"));
        audit.write(&line(Cause::AuthRefuse, "ann"));
        audit.drain();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let strangers = STRANGERS_PER_10_S as usize;
        assert_eq!(lines.len(), 2 + strangers + 3);
        let last = lines[2 + strangers..].iter().map(|line| (&line["event"], &line["left_out"]));
        let expected = [("refuse", 0), ("auth_refuse", 0), ("left_out", 1_000 - strangers)];
        let expected = expected.map(|(event, left_out)| (Value::from(event), Value::from(left_out)));
        assert_eq!(
            last.collect::<Vec<_>>(),
            expected.iter().map(|(event, n)| (event, n)).collect::<Vec<_>>()
        );
        // In the same words as in the log.
        let told = &lines[4 + strangers];
        assert_eq!((&told["reason"], &told["of"]), (&"refuse".into(), &"strangers".into()));
        assert!(told.get("names").is_none() && lines[0].get("of").is_none());
        let counted = board.access.audit_left_out.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counted, [1_000 - strangers as u64, 0]);
        assert_eq!((&lines[0]["event"], &lines[0]["subject"]), (&"connect".into(), &odd.into()));
        assert_eq!((&lines[0]["session"], &lines[0]["address"]), (&"s-1".into(), &"127.0.0.1:9".into()));
        assert_eq!(lines[1]["subject"].as_str().unwrap().len(), TEXT_BYTES_MAX);
        assert_eq!(lines[2]["event"], Cause::Refuse.name());
    }

    /// What rotates logs moves the file away and expects a new one.
    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let audit = Audit::new(Some(LogWriter::file(&path).unwrap()), Arc::new(Board::new(1)));
        audit.write(&line(Cause::Connect, "ann"));
        audit.drain();
        std::fs::rename(&path, &old).unwrap();
        audit.write(&line(Cause::Connect, "bob"));
        audit.drain();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&old).contains("ann") && !read(&old).contains("bob"));
        assert!(read(&path).contains("bob"));
    }
}
