//! Those who read Kafka again: a few threads with a consumer each, and the questions that wait for one.

use super::reader::Reader;
use super::{Ask, Chunk, Reach};
use crate::config::Config;
use crate::feed::directory::Directory;
use crate::feed::topics::Topics;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// Parts that one replay gets one after the other while others wait.
const TURNS_MAX: usize = 64;
/// How long a consumer without a question goes on fetching for the last one who asked.
const LINGER: Duration = Duration::from_millis(500);

/// The threads that read Kafka again.
#[derive(Debug)]
pub struct Pool {
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
}

/// Questions that wait for a consumer.
#[derive(Debug)]
pub struct Waiting {
    queue: Mutex<VecDeque<Box<Ask>>>,
    came: Condvar,
    is_stopped: AtomicBool,
    queue_max: usize,
    /// To each shard. A replay has one question or answer under way, so these have room for all there can be.
    answers: Vec<mpsc::Sender<Chunk>>,
}

impl Waiting {
    /// An empty queue, as the configuration bounds it.
    pub fn new(config: &Config, answers: Vec<mpsc::Sender<Chunk>>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            came: Condvar::new(),
            is_stopped: AtomicBool::new(false),
            queue_max: config.replay.queue_max,
            answers,
        })
    }

    /// Adds a question, or answers at once that there is no room. Never waits.
    pub fn ask(&self, ask: Box<Ask>) {
        let mut queue = self.lock();
        if queue.len() < self.queue_max {
            queue.push_back(ask);
            drop(queue);
            self.came.notify_one();
        } else {
            drop(queue);
            self.answer(Chunk { ask, events: Vec::new(), reach: Reach::Refused("too many replays wait") });
        }
    }

    fn answer(&self, chunk: Chunk) {
        let shard = chunk.ask.shard;
        if self.answers.get(shard).is_none_or(|answers| answers.try_send(chunk).is_err())
            && !self.is_stopped()
        {
            tracing::error!(shard, "an answer of a replay found no room");
        }
    }

    /// The next question, and best the one that goes on where `reader` stands.
    fn next(&self, reader: &mut Reader, turns: usize) -> Option<Box<Ask>> {
        let mut queue = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            // Whoever has had his turns waits behind the others.
            let own = if turns < TURNS_MAX { queue.iter().position(|ask| reader.goes_on(ask)) } else { None };
            if let Some(ask) = queue.remove(own.unwrap_or(0)) {
                if ask.is_wanted.load(Ordering::Relaxed) {
                    return Some(ask);
                }
                continue;
            }
            let (again, timeout) =
                self.came.wait_timeout(queue, LINGER).unwrap_or_else(PoisonError::into_inner);
            queue = again;
            if timeout.timed_out() && queue.is_empty() && reader.is_assigned() {
                drop(queue);
                reader.rest();
                queue = self.lock();
            }
        }
    }

    /// Whether the gateway stops.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<Ask>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts as many consumers as are configured.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or a thread cannot be started.
    pub fn start(
        config: &Arc<Config>,
        waiting: Arc<Waiting>,
        directory: &Arc<Directory>,
        topics: &Arc<Topics>,
    ) -> anyhow::Result<Self> {
        let mut pool = Self { waiting, threads: Vec::new() };
        for number in 0..config.replay.consumers_max {
            let mut reader = Reader::new(config, directory.clone(), topics.clone())?;
            let waiting = pool.waiting.clone();
            let work = move || {
                let mut turns = 0;
                while let Some(ask) = waiting.next(&mut reader, turns) {
                    turns = if reader.goes_on(&ask) { (turns + 1) % (TURNS_MAX + 1) } else { 0 };
                    let chunk = reader.read(ask, || waiting.is_stopped());
                    waiting.answer(chunk);
                }
            };
            pool.threads.push(std::thread::Builder::new().name(format!("replay-{number}")).spawn(work)?);
        }
        Ok(pool)
    }

    /// Ends every thread, in the midst of what it reads.
    pub fn stop(self) {
        self.waiting.is_stopped.store(true, Ordering::Relaxed);
        self.waiting.came.notify_all();
        for thread in self.threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
