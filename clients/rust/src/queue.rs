//! What was read and not handed out yet. It has a bound: beyond it nothing more is read, so that the gateway sees a slow client and
//! does what was asked for with `on_slow`.

use crate::event::Event;
use crate::session::{Counts, Skew};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bounds of a queue. The last frame may reach beyond them, since it is pushed whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

#[derive(Debug)]
pub(crate) struct Queue {
    bounds: QueueBounds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Batch>,
    events: usize,
    bytes: usize,
    has_ended: bool,
    told: Told,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The events of one message, how long it was, and where a client goes on who was handed out all of them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    bytes: usize,
    pub(crate) cursor: Option<Arc<str>>,
    /// How far the gateway's clock was from the one here when it came.
    pub(crate) skew: Option<Skew>,
}

/// What is said beside events.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) counts: Counts,
    pub(crate) skew: Option<Skew>,
}

impl Queue {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self { bounds, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when there is room.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner();
        if inner.events < self.bounds.events_max && inner.bytes < self.bounds.bytes_max {
            return Poll::Ready(());
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Adds the events of a message of so many bytes, whether there is room or not.
    pub(crate) fn push(&self, events: Vec<Event>, bytes: usize, cursor: Option<Arc<str>>) {
        let mut inner = self.inner();
        inner.events += events.len();
        inner.bytes += bytes;
        let skew = inner.told.skew;
        inner.batches.push_back(Batch { events, bytes, cursor, skew });
        let reader = inner.reader.take();
        drop(inner);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Says where a client goes on who was handed out all that was added: with the last of it, so that nothing piles up where
    /// nobody reads.
    pub(crate) fn mark(&self, cursor: Arc<str>) {
        let mut inner = self.inner();
        match inner.batches.back_mut() {
            Some(last) => last.cursor = Some(cursor),
            None => inner.batches.push_back(Batch { cursor: Some(cursor), ..Batch::default() }),
        }
        let reader = inner.reader.take();
        drop(inner);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Says what is counted.
    pub(crate) fn tell(&self, told: Told) {
        self.inner().told = told;
    }

    /// What was said last.
    pub(crate) fn told(&self) -> Told {
        self.inner().told
    }

    /// Events and bytes that wait.
    pub(crate) fn held(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.events, inner.bytes)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        let mut inner = self.inner();
        inner.has_ended = true;
        let reader = inner.reader.take();
        drop(inner);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The next message; `None` at the end.
    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let mut inner = self.inner();
        let Some(batch) = inner.batches.pop_front() else {
            if inner.has_ended {
                return Poll::Ready(None);
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        inner.events -= batch.events.len();
        inner.bytes -= batch.bytes;
        let writer = inner.writer.take();
        drop(inner);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::State;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn events(count: usize) -> Vec<Event> {
        vec![Event::State(State::Live); count]
    }

    #[test]
    fn it_is_full_by_events_and_by_bytes_and_wakes_who_waits() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = &mut Context::from_waker(&waker);
        for (count, bytes) in [(3, 10), (1, 100)] {
            let queue = Queue::new(QueueBounds { events_max: 4, bytes_max: 150 });
            assert!(queue.poll_pop(cx).is_pending());
            queue.push(events(count), bytes, None);
            let before = woken.0.load(Ordering::Relaxed);
            assert_eq!(before % 2, 1, "the reader is woken");
            assert!(queue.poll_room(cx).is_ready());
            queue.push(events(count), bytes, None);
            assert!(queue.poll_room(cx).is_pending(), "{count} {bytes}");
            assert_eq!(queue.held(), (2 * count, 2 * bytes));
            assert!(matches!(queue.poll_pop(cx), Poll::Ready(Some(batch)) if batch.events.len() == count));
            assert_eq!(woken.0.load(Ordering::Relaxed), before + 1, "the writer is woken");
            assert!(queue.poll_room(cx).is_ready());
            queue.end();
            assert!(matches!(queue.poll_pop(cx), Poll::Ready(Some(_))), "what is left comes before the end");
            assert!(matches!(queue.poll_pop(cx), Poll::Ready(None)));
            assert_eq!(queue.held(), (0, 0));
        }
    }

    /// Cursors keep their place among the events, and take none up.
    #[test]
    fn cursors_stand_behind_what_they_cover() {
        let cx = &mut Context::from_waker(Waker::noop());
        let queue = Queue::new(QueueBounds { events_max: 4, bytes_max: 150 });
        let mut pop = |queue: &Queue| match queue.poll_pop(cx) {
            Poll::Ready(Some(Batch { events, cursor, .. })) => Some((events.len(), cursor)),
            _ => None,
        };
        (0..1_000).for_each(|number| queue.mark(number.to_string().into()));
        queue.push(events(1), 10, None);
        queue.push(events(2), 10, Some("a".into()));
        (0..1_000).for_each(|number| queue.mark(number.to_string().into()));
        assert_eq!(pop(&queue), Some((0, Some("999".into()))));
        assert_eq!(pop(&queue), Some((1, None)));
        assert_eq!(pop(&queue), Some((2, Some("999".into()))));
        assert_eq!(pop(&queue), None);
    }
}
