//! The client for everybody: events as a stream, whatever happens to connections and gateways meanwhile.

use crate::book::BookKeeper;
use crate::builder::Builder;
use crate::event::{Ack, Asked, Event, Fault, State, Symbol};
use crate::queue::{Batch, Queue};
use crate::session::UserRequest;
use crate::stats::{Stats, Tally};
use crate::subscription::{Subscription, in_parts};
use futures_core::Stream;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tickgate_protocol::{Channel, OnSlow};
use tokio::sync::{mpsc, watch};

/// Events of attempts that failed that [`Live::connected`] keeps.
const SEEN_MAX: usize = 64;

/// Why there is no client, or why it cannot do what it was asked.
#[derive(thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum LiveError {
    #[error(transparent)]
    BadUrl(#[from] crate::target::BadUrl),
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    #[error("{0}")]
    Token(String),
    #[error("no session: {0}")]
    Connect(String),
    #[error("too many requests wait for the gateway: ask for more symbols at once")]
    Busy,
    #[error("the client is closed")]
    Closed,
}

/// Events of a gateway, and of its successors.
///
/// A [`Stream`] of [`Event`]s: in order, without duplicates, each checked to follow the one before it. What is missing, replaced or
/// wrong is an event itself, and so is every change of the connection's [`State`]. A task reads ahead; when its queue is full it
/// stops, so that the gateway does what the subscriptions' `on_slow` says. Dropping a `Live` closes it.
#[derive(Debug)]
pub struct Live {
    pub(crate) queue: Arc<Queue>,
    pub(crate) requests: mpsc::Sender<UserRequest>,
    pub(crate) closing: watch::Sender<bool>,
    /// The events of a message that is being handed out, and where to go on behind them.
    pub(crate) begun: std::vec::IntoIter<Event>,
    pub(crate) begun_cursor: Option<Arc<str>>,
    /// The gateway's clock minus the one here as it was when that message came; `None` before it is known.
    pub(crate) begun_skew_ns: Option<i64>,
    /// Where to go on behind what was handed out.
    pub(crate) cursor: Option<Arc<str>>,
    pub(crate) tally: Tally,
    pub(crate) books: Option<HashMap<Symbol, BookKeeper>>,
    pub(crate) on_slow: Option<OnSlow>,
}

impl Live {
    /// A client of the gateway at `url`: `ws://HOST:PORT` or `wss://HOST`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Asks for `subscription`. The answer is an [`Event::Ack`] for every 500 names; it is asked again after each loss of the
    /// session, and goes on where it was.
    ///
    /// # Errors
    /// [`LiveError::Busy`] when a thousand requests wait already, [`LiveError::Closed`] at the end.
    pub fn subscribe(&mut self, subscription: Subscription) -> Result<(), LiveError> {
        self.subscribe_all([subscription])
    }

    /// Asks for many subscriptions at once: gateways bound how many requests they take in a second.
    ///
    /// # Errors
    /// As [`Live::subscribe`].
    pub fn subscribe_all(
        &mut self,
        subscriptions: impl IntoIterator<Item = Subscription>,
    ) -> Result<(), LiveError> {
        self.subscribe_behind(None, subscriptions)
    }

    /// Asks for many subscriptions, and for all that came of them since [`Live::cursor`] gave `cursor`, here or in another
    /// process. [`Event::ReplayDone`] says, of each symbol and pattern, that it is there.
    ///
    /// # Errors
    /// As [`Live::subscribe`].
    pub fn subscribe_from(
        &mut self,
        cursor: &str,
        subscriptions: impl IntoIterator<Item = Subscription>,
    ) -> Result<(), LiveError> {
        self.subscribe_behind(Some(cursor), subscriptions)
    }

    fn subscribe_behind(
        &mut self,
        cursor: Option<&str>,
        subscriptions: impl IntoIterator<Item = Subscription>,
    ) -> Result<(), LiveError> {
        let default = self.on_slow;
        let with_default = |mut subscription: Subscription| {
            let may = |on_slow: &OnSlow| subscription.channel.is_state() || *on_slow != OnSlow::Conflate;
            subscription.options.on_slow = subscription.options.on_slow.or(default.filter(may));
            subscription
        };
        self.ask(Asked::Subscribe, cursor.map(Into::into), subscriptions.into_iter().map(with_default))
    }

    /// Ends a subscription to these symbols and patterns. The answer is an [`Event::Ack`].
    ///
    /// # Errors
    /// As [`Live::subscribe`].
    pub fn unsubscribe<S: Into<String>>(
        &mut self,
        channel: Channel,
        symbols: impl IntoIterator<Item = S>,
    ) -> Result<(), LiveError> {
        self.ask(Asked::Unsubscribe, None, [Subscription::on(channel, symbols)])
    }

    /// Plays the past of `subscription` alone, in this session: see [`Subscription::past`]. An [`Event::Error`] in front of its
    /// [`Event::ReplayDone`] says that it is not whole. A live subscription to the same name of that channel ends by it: to keep
    /// that, play in another client.
    ///
    /// # Errors
    /// As [`Live::subscribe`].
    pub fn replay(
        &mut self,
        subscription: Subscription,
        from_ns: i64,
        until_ns: Option<i64>,
        speed: Option<f64>,
    ) -> Result<(), LiveError> {
        self.subscribe(subscription.past(from_ns, until_ns, speed))
    }

    fn ask(
        &mut self,
        asked: Asked,
        cursor: Option<Arc<str>>,
        subscriptions: impl IntoIterator<Item = Subscription>,
    ) -> Result<(), LiveError> {
        if *self.closing.borrow() {
            return Err(LiveError::Closed);
        }
        for subscriptions in in_parts(subscriptions) {
            let request = UserRequest { asked, cursor: cursor.clone(), subscriptions };
            self.requests.try_send(request).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => LiveError::Busy,
                mpsc::error::TrySendError::Closed(_) => LiveError::Closed,
            })?;
        }
        Ok(())
    }

    /// The next event; `None` behind [`State::Closed`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Where a client goes on, of this process or another, who has what was handed out so far: for [`Live::subscribe_from`]. It holds
    /// for what was acknowledged before it came, a moment behind each [`Event::Ack`], and may be a little behind. `None` as long
    /// as the gateway has given none.
    pub fn cursor(&self) -> Option<&str> {
        let newest = self.begun_cursor.as_ref().filter(|_| self.begun.len() == 0);
        newest.or(self.cursor.as_ref()).map(|cursor| &**cursor)
    }

    /// The book of a symbol as of the last event handed out, if it is subscribed to and something came. What a gap has spoilt is
    /// empty, and not complete, until the next snapshot.
    pub fn book(&self, symbol: &str) -> Option<&BookKeeper> {
        self.books.as_ref()?.get(symbol)
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let told = self.queue.told();
        let (queued_events, queued_bytes) = self.queue.held();
        Stats {
            duplicates: told.counts.duplicates,
            unverified: told.counts.unverified,
            unannounced: told.counts.unannounced,
            reconnects: told.counts.reconnects,
            bad_frames: told.counts.bad_frames,
            skew_ns: told.skew.map(|skew| skew.skew_ns),
            round_trip_ns: told.skew.map(|skew| skew.round_trip_ns),
            queued_events: queued_events + self.begun.len(),
            queued_bytes,
            ..self.tally.stats()
        }
    }

    /// Closes the session. What was read before still comes, and [`State::Closed`] as the last event.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Until there is a session at one of so many addresses, or it is clear that there is none: after as many attempts, or with `waits`
    /// only when no more will be made. What is seen is not taken; of attempts that failed the last ones are kept.
    pub(crate) async fn connected(&mut self, addresses: usize, waits: bool) -> Result<(), LiveError> {
        let mut seen = Vec::new();
        let mut fault = None;
        loop {
            let Some(Batch { events: batch, cursor, .. }) = poll_fn(|cx| self.queue.poll_pop(cx)).await
            else {
                return Err(LiveError::Closed);
            };
            self.begun_cursor = cursor.or(self.begun_cursor.take());
            let mut ended = None;
            for event in &batch {
                match event {
                    Event::State(State::Live) => ended = Some(Ok(())),
                    Event::State(State::Reconnecting { attempt, .. })
                        if waits || (*attempt as usize) < addresses =>
                    {
                        fault = None;
                    }
                    Event::State(State::Reconnecting { reason, .. } | State::Closed { reason }) => {
                        ended = Some(Err(LiveError::Connect(reason.clone())));
                    }
                    Event::Error(error) => fault = Some(error.to_string()),
                    _ => {}
                }
            }
            seen.extend(batch);
            seen.drain(..seen.len().saturating_sub(SEEN_MAX));
            match ended {
                None => {}
                Some(Ok(())) => {
                    self.begun = seen.into_iter();
                    return Ok(());
                }
                Some(Err(error)) => return Err(fault.map_or(error, LiveError::Connect)),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.begun.next() {
                self.tally.count(&event, self.begun_skew_ns);
                self.keep_book(&event);
                return Poll::Ready(Some(event));
            }
            if let Some(cursor) = self.begun_cursor.take() {
                self.cursor = Some(cursor);
            }
            match ready!(self.queue.poll_pop(cx)) {
                Some(Batch { events, cursor, skew, .. }) => {
                    (self.begun, self.begun_cursor) = (events.into_iter(), cursor);
                    self.begun_skew_ns = skew.map(|skew| skew.skew_ns);
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn keep_book(&mut self, event: &Event) {
        let Some(books) = &mut self.books else { return };
        match event {
            Event::Book(update) => {
                if !books.contains_key(&update.symbol) {
                    books.insert(update.symbol.clone(), BookKeeper::new(update.depth));
                }
                let Some(book) = books.get_mut(&update.symbol) else { return };
                if update.meta.snapshot && book.depth() != update.depth {
                    *book = BookKeeper::new(update.depth);
                }
                book.apply_levels(&update.bids, &update.asks, update.meta.snapshot);
            }
            Event::Gap(gap) if gap.channel == Channel::Book => {
                for symbol in gap.spoilt.iter().chain([&gap.symbol]) {
                    if let Some(book) = books.get_mut(symbol) {
                        book.clear();
                    }
                }
            }
            Event::Ack(Ack { ended, .. }) | Event::Error(Fault { ended, .. }) => {
                ended.iter().for_each(|symbol| _ = books.remove(symbol));
            }
            _ => {}
        }
    }
}

impl Stream for Live {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_event(cx)
    }
}
