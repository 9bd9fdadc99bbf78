//! Messages that were kept: what a [`crate::Live`] would have made of them.

use crate::event::Event;
use crate::session::Session;

/// Reads the messages of a session as it was recorded, without any connection: the same events come of them, in order, checked and
/// without duplicates.
///
/// ```
/// use tickgate_client::{Event, recorded::Recorded};
///
/// let mut session = Recorded::default();
/// let message = br#"[{"type":"trade","symbol":"A","price":"487.55","size":"100","seq":"1f3a:3:1","event_ns":"1","ingest_ns":"2"}]"#;
/// assert!(matches!(&session.message(message, 3)[..], [Event::Trade(trade)] if trade.price.to_string() == "487.55"));
/// ```
#[derive(Debug)]
pub struct Recorded {
    session: Session,
}

impl Default for Recorded {
    fn default() -> Self {
        Self { session: Session::new(false, None) }
    }
}

impl Recorded {
    /// The events of a text message that came at `received_ns`, nanoseconds since the Unix epoch.
    pub fn message(&mut self, text: &[u8], received_ns: i64) -> Vec<Event> {
        self.session.message(text, received_ns);
        // Nobody is there to be told.
        self.session.out.send.clear();
        std::mem::take(&mut self.session.out.events)
    }

    /// Events that came twice and were left out, those that could not be checked, and breaks that nobody had told.
    pub fn checked(&self) -> Checked {
        let counts = self.session.out.counts;
        Checked {
            duplicates: counts.duplicates,
            unverified: counts.unverified,
            unannounced: counts.unannounced,
            bad_frames: counts.bad_frames,
        }
    }
}

/// What was found beside events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Checked {
    pub duplicates: u64,
    pub unverified: u64,
    pub unannounced: u64,
    pub bad_frames: u64,
}
