//! What a client that comes back keeps from one session to the next.

use crate::clock::now_ns;
use crate::live::Recorder;
use crate::plan::{Plan, SYMBOLS_PER_REQUEST};
use crate::recovery::Found;
use crate::transport::ConnectError;
use crate::verify::SessionVerifier;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::str::FromStr;
use std::time::Duration;
use tickgate_client::backoff::Backoff;
use tickgate_protocol::Channel;
use tickgate_protocol::control::Control;
use tokio::time::Instant;

/// What ended the session of a client that dropped it.
pub(crate) const LEFT: &str = "left";

/// Whether clients that lose their session come back, and how they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// They don't: a session that ends is a failure of the run.
    #[default]
    Never,
    /// With the last cursor that they were sent.
    Cursor,
    /// With the last position of every symbol; with the cursor where they have none yet.
    Seq,
    /// One half so, the other half so.
    Mixed,
}

impl Resume {
    const ALL: [(&'static str, Self); 4] =
        [("never", Self::Never), ("cursor", Self::Cursor), ("seq", Self::Seq), ("mixed", Self::Mixed)];

    /// Whether sessions may end.
    pub fn comes_back(self) -> bool {
        self != Self::Never
    }
}

impl FromStr for Resume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, resume)| resume).ok_or_else(|| "expected never, cursor, seq or mixed".to_owned())
    }
}

/// A client that comes back.
#[derive(Debug)]
pub(crate) struct Returning {
    /// Whether it names the last position of each symbol.
    pub(crate) by_seq: bool,
    /// The last cursor that it was sent.
    pub(crate) cursor: Option<String>,
    backoff: Backoff,
    /// Whether it ever had a session.
    had_session: bool,
    /// The loss that it has not recovered from.
    loss: Option<Loss>,
    /// The second of its last loss, which what is found from there on counts with.
    second: Option<i64>,
}

#[derive(Debug)]
struct Loss {
    at: Instant,
    reason: String,
}

impl Returning {
    /// Client number `turn` of those that come back as `resume` says; `None` when they don't.
    pub(crate) fn new(resume: Resume, turn: usize, rng: ChaCha8Rng) -> Option<Box<Self>> {
        let by_seq = match resume {
            Resume::Never => return None,
            Resume::Cursor => false,
            Resume::Seq => true,
            Resume::Mixed => turn.is_multiple_of(2),
        };
        let backoff = Backoff::new(rng);
        Some(Box::new(Self { by_seq, cursor: None, backoff, had_session: false, loss: None, second: None }))
    }

    /// Whether there was a session that the next one goes on from.
    pub(crate) fn had_session(&self) -> bool {
        self.had_session
    }

    /// It has a session.
    pub(crate) fn has_session(&mut self) {
        self.had_session = true;
    }

    /// Keeps the cursor of a message that has one.
    pub(crate) fn keep_cursor(&mut self, control: &Control) {
        if let Control::Heartbeat { cursor, .. }
        | Control::Goaway { cursor, .. }
        | Control::Error { cursor: Some(cursor), .. } = control
        {
            self.cursor = Some(cursor.clone());
        }
    }

    /// The subscriptions with which its next session goes on, each with the cursor that is to stand beside it. They are
    /// its first requests: their ids count from 1. And they are few, for each of them is a replay of its own.
    pub(crate) fn requests(
        &self,
        plan: &Plan,
        pairs: &[(Channel, u32)],
        symbols: &[String],
        verifier: &mut SessionVerifier,
    ) -> Vec<(Value, Option<String>)> {
        // Without a cursor yet, positions are better than nothing.
        let by_seq = self.by_seq || self.cursor.is_none();
        let names =
            |(channel, symbol): &(Channel, u32)| Some((*channel, symbols.get(*symbol as usize)?.as_str()));
        let (known, others): (Vec<_>, Vec<_>) = pairs
            .iter()
            .filter_map(names)
            .partition(|(channel, name)| by_seq && verifier.last(*channel, name).is_some());
        let mut requests = Vec::new();
        for part in known.chunks(SYMBOLS_PER_REQUEST) {
            let id = requests.len() as i64 + 1;
            let subscriptions = part.iter().map(|(channel, name)| {
                let mut subscription = plan.subscription(*channel, &[*name]);
                subscription["from"] = json!({"seq": verifier.resume_from(id, *channel, name)});
                subscription
            });
            requests.push((subscriptions.collect(), None));
        }
        for part in others.chunks(SYMBOLS_PER_REQUEST) {
            let id = requests.len() as i64 + 1;
            let subscriptions = Channel::ALL.into_iter().filter_map(|channel| {
                let of_channel = part.iter().filter(|(c, _)| *c == channel);
                let names: Vec<&str> = of_channel.map(|(_, name)| *name).collect();
                if let Some(cursor) = &self.cursor {
                    verifier.resume_at(id, cursor, channel, names.iter().copied());
                }
                (!names.is_empty()).then(|| plan.subscription(channel, &names))
            });
            requests.push((subscriptions.collect(), self.cursor.clone()));
        }
        requests
    }

    /// Its session has ended. One that ends before it had caught up was an attempt that failed.
    pub(crate) fn lost(&mut self, reason: &str, recorder: &mut Recorder) {
        if self.is_away() {
            return self.failed(recorder);
        }
        let second = now_ns().div_euclid(1_000_000_000);
        recorder.recovery.at(second).clients += 1;
        self.second = Some(second);
        self.loss = Some(Loss { at: Instant::now(), reason: reason.to_owned() });
    }

    /// An attempt to connect has failed, or its session ended before it began.
    pub(crate) fn failed(&self, recorder: &mut Recorder) {
        recorder.sessions.retries += 1;
        if let Some(second) = self.second {
            recorder.recovery.at(second).retries += 1;
        }
    }

    /// Counts what was found in a message with the last loss.
    pub(crate) fn found(&self, found: &Found, recorder: &mut Recorder) {
        if let Some(second) = self.second {
            recorder.recovery.found(second, found);
        }
    }

    /// Whether it has lost a session and not caught up yet.
    pub(crate) fn is_away(&self) -> bool {
        self.loss.is_some()
    }

    /// Whether it should be there and is not. Who dropped its session itself may just be on its way.
    pub(crate) fn is_missing(&self) -> bool {
        !self.had_session || self.loss.as_ref().is_some_and(|loss| loss.reason != LEFT)
    }

    /// It has caught up with everybody else.
    pub(crate) fn caught_up(&mut self, recorder: &mut Recorder) {
        self.backoff.reset();
        let (Some(loss), Some(second)) = (self.loss.take(), self.second) else { return };
        recorder.sessions.resumed += 1;
        let took_ns = u64::try_from(loss.at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        recorder.recovery.back(&loss.reason, second, took_ns);
    }

    /// How long to wait before the next attempt.
    pub(crate) fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        self.backoff.next(retry_after)
    }
}

/// When an answer that refuses a connection says to come again.
pub(crate) fn retry_after(error: &ConnectError) -> Option<Duration> {
    match error {
        ConnectError::Refused { retry_after: Some(seconds), .. } => {
            seconds.trim().parse().ok().map(Duration::from_secs)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn returning(resume: Resume, turn: usize) -> Option<Box<Returning>> {
        Returning::new(resume, turn, ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn who_goes_on_how() {
        let by_seq = |resume| [0, 1, 2].map(|turn| returning(resume, turn).map(|client| client.by_seq));
        assert_eq!(by_seq(Resume::Never), [None; 3]);
        assert_eq!(by_seq(Resume::Cursor), [Some(false); 3]);
        assert_eq!(by_seq(Resume::Seq), [Some(true); 3]);
        assert_eq!(by_seq(Resume::Mixed), [Some(true), Some(false), Some(true)]);
        assert_eq!("mixed".parse(), Ok(Resume::Mixed));
        assert!("always".parse::<Resume>().is_err());
    }

    /// A session that ends before it has caught up changes nothing about the absence.
    #[test]
    fn an_absence_ends_when_it_has_caught_up() {
        let mut client = returning(Resume::Cursor, 0).unwrap();
        let mut recorder = Recorder::default();
        client.lost("none", &mut recorder);
        client.failed(&mut recorder);
        client.lost("1012", &mut recorder);
        assert!(client.is_away());
        let began = Instant::now() - Duration::from_secs(3);
        client.loss = client.loss.map(|loss| Loss { at: began, ..loss });
        client.caught_up(&mut recorder);
        client.caught_up(&mut recorder);
        assert!(!client.is_away());
        let took = recorder.recovery.by_reason["none"].quantiles();
        assert_eq!((took.count, recorder.recovery.by_reason.len()), (1, 1));
        let outages = recorder.recovery.outages();
        let [(_, outage)] = &outages[..] else { panic!("{outages:?}") };
        assert_eq!((outage.clients, outage.back, outage.retries), (1, 1, 2));
        assert!((3_000..30_000).contains(&outage.took_max_ms), "{outage:?}");
        assert_eq!((recorder.sessions.resumed, recorder.sessions.retries), (1, 2));
    }

    #[test]
    fn cursors_come_with_several_messages() {
        let mut client = returning(Resume::Cursor, 0).unwrap();
        let goaway =
            |cursor: &str| Control::Goaway { reason: String::new(), close_in_ms: 0, cursor: cursor.into() };
        client.keep_cursor(&goaway("a"));
        client.keep_cursor(&Control::Pong { id: None, now_ns: 0 });
        assert_eq!(client.cursor.as_deref(), Some("a"));
        let mut error = Control::error(None, tickgate_protocol::Code::SlowConsumer, "", true);
        client.keep_cursor(&error);
        assert_eq!(client.cursor.as_deref(), Some("a"), "one without changes nothing");
        if let Control::Error { cursor, .. } = &mut error {
            *cursor = Some("b".to_owned());
        }
        client.keep_cursor(&error);
        assert_eq!(client.cursor.as_deref(), Some("b"));
    }

    #[test]
    fn refusals_say_when_to_come_again() {
        let refused = |retry_after: Option<&str>| ConnectError::Refused {
            status: 503,
            retry_after: retry_after.map(str::to_owned),
            body: String::new(),
        };
        assert_eq!(retry_after(&refused(Some("7"))), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&refused(Some("Fri, 07 Nov 2025 10:00:00 GMT"))), None);
        assert_eq!(retry_after(&refused(None)), None);
    }
}
