//! Those who read Kafka again: a few threads with a consumer each, and the questions that wait for one.

use super::reader::Reader;
use super::{Ask, Chunk, Reach, Replayed};
use crate::clock;
use crate::config::Config;
use crate::feed::directory::Directory;
use crate::feed::topics::Topics;
use crate::stats::{Board, Indispensable, PartEnd};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// Parts that one replay gets one after the other while others wait.
const TURNS_MAX: usize = 64;
/// How long a stop waits for the threads: one may be in the midst of a question to a broker that does not answer, which takes
/// seconds to give up.
const STOP_WAIT: Duration = Duration::from_millis(500);
/// How long a consumer without a question goes on fetching for the last one who asked.
const LINGER: Duration = Duration::from_millis(500);

/// What reads Kafka again, part by part: a consumer, and where it stands.
pub trait Read {
    /// Whether a question goes on where it stands.
    fn goes_on(&self, ask: &Ask) -> bool;
    /// Whether it fetches.
    fn is_assigned(&self) -> bool;
    /// Stops fetching.
    fn rest(&mut self);
    /// Reads the next part of what is asked for.
    fn read(&mut self, ask: &mut Ask, events: &mut Vec<Replayed>, is_stopped: &dyn Fn() -> bool) -> Reach;
}

/// The threads that read Kafka again.
#[derive(Debug)]
pub struct Pool {
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when all of them have ended.
    ended: Receiver<()>,
}

/// Questions that wait for a consumer.
#[derive(Debug)]
pub struct Waiting {
    queue: Mutex<VecDeque<Box<Ask>>>,
    came: Condvar,
    is_stopped: AtomicBool,
    queue_max: usize,
    board: Arc<Board>,
    /// To each shard. Whoever reads waits for one that is behind: what it is to be given would be memory.
    answers: Vec<mpsc::Sender<Chunk>>,
}

impl Waiting {
    /// An empty queue, as the configuration bounds it.
    pub fn new(config: &Config, board: Arc<Board>, answers: Vec<mpsc::Sender<Chunk>>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            came: Condvar::new(),
            is_stopped: AtomicBool::new(false),
            queue_max: config.replay.queue_max,
            board,
            answers,
        })
    }

    /// Adds a question, or gives it back when there is no room. Never waits.
    ///
    /// # Errors
    /// The question, when as many wait as may.
    pub fn ask(&self, ask: Box<Ask>) -> Result<(), Box<Ask>> {
        let mut queue = self.lock();
        if queue.len() >= self.queue_max {
            return Err(ask);
        }
        queue.push_back(ask);
        self.board.readers().waiting = queue.len() as u64;
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    /// Waits until the shard has taken what was found before.
    fn answer(&self, chunk: Chunk) {
        let shard = chunk.ask.shard;
        if self.answers.get(shard).is_none_or(|answers| answers.blocking_send(chunk).is_err())
            && !self.is_stopped()
        {
            tracing::error!(shard, "nobody takes the answer of a replay");
        }
    }

    /// The next question, and best the one that goes on where `reader` stands.
    fn next(&self, reader: &mut impl Read, turns: usize) -> Option<Box<Ask>> {
        let mut queue = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            // Whoever has had his turns waits behind the others.
            let own = if turns < TURNS_MAX { queue.iter().position(|ask| reader.goes_on(ask)) } else { None };
            if let Some(ask) = queue.remove(own.unwrap_or(0)) {
                self.board.readers().waiting = queue.len() as u64;
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

    /// Answers questions until the gateway stops.
    fn work(&self, reader: &mut impl Read) {
        let mut turns = 0;
        while let Some(mut ask) = self.next(reader, turns) {
            turns = if reader.goes_on(&ask) { (turns + 1) % (TURNS_MAX + 1) } else { 0 };
            let mut events = Vec::new();
            let began_ns = clock::mono_ns();
            self.board.readers().reading += 1;
            let read = AssertUnwindSafe(|| reader.read(&mut ask, &mut events, &|| self.is_stopped()));
            let read = catch_unwind(read);
            let end = match &read {
                Ok(Reach::More) => PartEnd::More,
                Ok(Reach::End) => PartEnd::End,
                Ok(Reach::Refused) => PartEnd::NoAnswer,
                Err(_) => PartEnd::Failed,
            };
            self.count(end, clock::mono_ns().saturating_sub(began_ns));
            let reach = read.unwrap_or_else(|_| {
                // It told why as it fell, and would again. Memory gives what it has, and the client is told what is lost.
                ask.is_memory_only = true;
                let _ = catch_unwind(AssertUnwindSafe(|| reader.rest()));
                Reach::End
            });
            self.answer(Chunk { ask, events, reach });
        }
    }

    /// A part was read.
    fn count(&self, end: PartEnd, took_ns: u64) {
        let mut readers = self.board.readers();
        readers.reading -= 1;
        readers.parts[end as usize] += 1;
        readers.reading_ns += took_ns;
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
    /// Starts as many consumers as are configured, for what is read by each tier.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or a thread cannot be started.
    pub fn start(
        config: &Arc<Config>,
        waiting: Arc<Waiting>,
        directory: &Arc<Directory>,
        topics: &[Arc<Topics>],
        board: &Arc<Board>,
    ) -> anyhow::Result<Self> {
        let (running, ended) = sync_channel(1);
        let mut pool = Self { waiting, threads: Vec::new(), ended };
        for number in 0..config.replay.consumers_max {
            let mut reader = Reader::new(config, board.clone(), directory.clone(), topics.into())?;
            let waiting = pool.waiting.clone();
            let running = running.clone();
            let indispensable = Indispensable(board.clone());
            let work = move || {
                let _indispensable = indispensable;
                waiting.work(&mut reader);
                drop(running);
            };
            pool.threads.push(std::thread::Builder::new().name(format!("replay-{number}")).spawn(work)?);
        }
        Ok(pool)
    }

    /// Ends every thread, in the midst of what it reads; one that a broker keeps waiting ends by itself a little later, and
    /// holds up nobody.
    pub fn stop(self) {
        self.waiting.is_stopped.store(true, Ordering::Relaxed);
        self.waiting.came.notify_all();
        if self.ended.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("a replay still waits for an answer of Kafka: left behind");
            return;
        }
        for thread in self.threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::request::SessionKey;

    /// A reader that does what a test says, and stands where the replay of a number goes on.
    struct Scripted<F>(F, Option<u32>);

    impl<F: FnMut(&mut Ask) -> Reach> Read for Scripted<F> {
        fn goes_on(&self, ask: &Ask) -> bool {
            self.1 == Some(ask.replay)
        }

        fn is_assigned(&self) -> bool {
            false
        }

        fn rest(&mut self) {}

        fn read(&mut self, ask: &mut Ask, _: &mut Vec<Replayed>, _: &dyn Fn() -> bool) -> Reach {
            (self.0)(ask)
        }
    }

    fn board() -> Arc<Board> {
        Arc::new(Board::new(1))
    }

    fn ask(replay: u32) -> Box<Ask> {
        let key = SessionKey { slot: 0, generation: 0 };
        Box::new(Ask { bytes_max: 1, ..Ask::new(0, key, replay, Arc::from([])) })
    }

    /// Whoever a reader stands ready for keeps it for a while, since another would have to seek, and not for as long as it likes.
    #[test]
    fn a_long_replay_does_not_keep_its_reader() {
        let (answers, _chunks) = mpsc::channel(1_000);
        let waiting = Waiting::new(&Config::default(), board(), vec![answers]);
        waiting.ask(ask(1)).expect("there is room");
        waiting.ask(ask(2)).expect("there is room");
        let mut read = Vec::new();
        let script = |asked: &mut Ask| {
            read.push(asked.replay);
            if read.len() < 200 {
                waiting.ask(ask(1)).expect("there is room");
            } else {
                waiting.is_stopped.store(true, Ordering::Relaxed);
            }
            Reach::More
        };
        waiting.work(&mut Scripted(script, Some(1)));
        assert_eq!(read.iter().position(|replay| *replay == 2), Some(TURNS_MAX));
    }

    /// What does not fit into the queue goes back to who asked, and does not hold up anybody.
    #[test]
    fn a_full_queue_gives_questions_back() {
        let mut config = Config::default();
        config.replay.queue_max = 2;
        let waiting = Waiting::new(&config, board(), Vec::new());
        assert!(waiting.ask(ask(1)).is_ok() && waiting.ask(ask(2)).is_ok());
        assert_eq!(waiting.ask(ask(3)).map_err(|ask| ask.replay), Err(3));
    }

    /// A reader that waited for a broker, three seconds for each of its questions, held up the end of the gateway.
    #[test]
    fn a_broker_that_does_not_answer_holds_up_no_stop() {
        let (answers, _chunks) = mpsc::channel(4);
        let waiting = Waiting::new(&Config::default(), board(), vec![answers]);
        let (asked_in, asked) = sync_channel(1);
        let (answer, answered) = sync_channel::<()>(0);
        let (running, ended) = sync_channel(1);
        let work = {
            let waiting = waiting.clone();
            move || {
                let script = |_: &mut Ask| {
                    asked_in.send(()).expect("the test listens");
                    let _ = answered.recv();
                    Reach::End
                };
                waiting.work(&mut Scripted(script, None));
                drop(running);
            }
        };
        let pool = Pool { threads: vec![std::thread::spawn(work)], waiting: waiting.clone(), ended };
        waiting.ask(ask(1)).expect("there is room");
        asked.recv().expect("it asks");
        pool.stop();
        // Only now does the broker answer.
        answer.send(()).expect("it still waited");
    }

    /// A reader that panicked took its thread and the question with it: the replay hung for ever, and when all threads were
    /// gone, every replay did.
    #[test]
    fn a_panic_costs_one_replay_what_memory_does_not_have() {
        let (answers, mut chunks) = mpsc::channel(4);
        let waiting = Waiting::new(&Config::default(), board(), vec![answers]);
        waiting.ask(ask(1)).expect("there is room");
        waiting.ask(ask(2)).expect("there is room");
        let script = |ask: &mut Ask| match ask.replay {
            1 => panic!("as a test wants it"),
            _ => {
                waiting.is_stopped.store(true, Ordering::Relaxed);
                Reach::More
            }
        };
        let mut reader = Scripted(script, None);
        waiting.work(&mut reader);
        let first = chunks.try_recv().expect("an answer");
        assert!(first.ask.is_memory_only && first.reach == Reach::End && first.ask.replay == 1);
        let second = chunks.try_recv().expect("another");
        assert!(!second.ask.is_memory_only && second.reach == Reach::More && second.ask.replay == 2);
    }
}
