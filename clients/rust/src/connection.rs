//! One session as it comes: requests answered by name, messages taken one by one, nothing judged and nothing repeated.
//!
//! Made for tests and tools that look at the protocol itself; [`crate::Live`] is for everybody else.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tickgate_client::{Connection, ConnectOptions, Incoming};
//!
//! let mut connection = Connection::connect("ws://127.0.0.1:8080/v1/stream", &ConnectOptions::default()).await?;
//! connection.subscribe(&[serde_json::json!({"channel": "trades", "symbols": ["AAPL"]})]).await?;
//! while let Incoming::Events(frame) | Incoming::Control { frame, .. } = connection.next().await {
//!     println!("{}", frame.as_str());
//! }
//! # Ok(())
//! # }
//! ```

use crate::clock::now_ns;
use crate::target::{BadUrl, Target};
use crate::transport::{ConnectError, Message, Reader, Text, TransportOptions, open};
use fastwebsockets::WebSocketError;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tickgate_protocol::Code;
use tickgate_protocol::command::Id;
use tickgate_protocol::control::{AckResult, Control};
use tickgate_protocol::event::EventView;
use tokio::time::timeout;

/// How a [`Connection`] is made.
pub type ConnectOptions = TransportOptions;

/// Most messages that are held back while an answer is awaited.
const HELD_MAX: usize = 100_000;
/// Longest wait for the answer to a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What came over a [`Connection`].
#[derive(Debug)]
pub enum Incoming {
    /// A control message.
    Control {
        /// The message; `None` for one this version does not know.
        control: Option<Control>,
        /// The message as it came.
        frame: Frame,
    },
    /// A data frame.
    Events(Frame),
    /// The end: every later call says the same.
    Closed {
        /// The close code; `None` when the connection ended without a close frame.
        code: Option<u16>,
        /// The close frame's text, or what went wrong.
        reason: String,
    },
}

/// A text message and when it came.
#[derive(Debug)]
pub struct Frame {
    text: Text,
    /// When it was read, in nanoseconds since the Unix epoch.
    pub received_ns: i64,
}

impl Frame {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The text as bytes, for whoever reads it in another way.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The events of a data frame.
    ///
    /// # Errors
    /// When the frame is no array of events.
    pub fn events(&self) -> serde_json::Result<Vec<EventView<'_>>> {
        serde_json::from_slice(self.text.as_bytes())
    }
}

/// Why a client could not do what it was asked.
#[derive(thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ClientError {
    #[error(transparent)]
    BadUrl(#[from] BadUrl),
    #[error("cannot find the host")]
    Resolve(#[source] std::io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot send")]
    Send(#[source] std::io::Error),
    #[error("no answer within {ANSWER_TIMEOUT:?}")]
    Timeout,
    #[error("the session was closed {}: {reason}", code.map_or("without a code".to_owned(), |c| format!("with {c}")))]
    Closed { code: Option<u16>, reason: String },
    #[error("{code}: {message}")]
    Refused { code: Code, message: String },
    #[error("{HELD_MAX} messages came and none of them was the answer")]
    TooMuchHeld,
}

type Reading = Pin<Box<dyn Future<Output = (Reader, Result<Message, WebSocketError>)> + Send>>;

/// One session.
pub struct Connection {
    /// The read in progress. It owns the reader, so that dropping [`Connection::next`] never drops it.
    reading: Option<Reading>,
    writer: crate::transport::Writer,
    held: VecDeque<Incoming>,
    closed: Option<(Option<u16>, String)>,
    next_id: i64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("held", &self.held.len()).field("closed", &self.closed).finish()
    }
}

impl Connection {
    /// Connects to `url`.
    ///
    /// # Errors
    /// [`ClientError`] when the URL, the host, the connection or the handshake fails.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Self, ClientError> {
        let target = Target::parse(url)?;
        let address = target.resolve().await.map_err(ClientError::Resolve)?;
        let (reader, writer) = open(&target, address, options).await?;
        let reading = Some(read(reader));
        Ok(Self { reading, writer, held: VecDeque::new(), closed: None, next_id: 1 })
    }

    /// The next message, in the order of arrival. Pings are answered on the way. Cancel-safe.
    pub async fn next(&mut self) -> Incoming {
        match self.held.pop_front() {
            Some(held) => held,
            None => self.receive().await,
        }
    }

    /// The next message, or `None` when none comes within `wait`. Cancel-safe.
    pub async fn next_within(&mut self, wait: Duration) -> Option<Incoming> {
        timeout(wait, self.next()).await.ok()
    }

    /// Sends `text` as it is.
    ///
    /// # Errors
    /// [`ClientError::Send`] when the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.writer.text(text);
        self.writer.flush().await.map_err(ClientError::Send)
    }

    /// Sends `message` as JSON.
    ///
    /// # Errors
    /// [`ClientError::Send`] when the connection is gone.
    pub async fn send(&mut self, message: &Value) -> Result<(), ClientError> {
        self.send_text(&message.to_string()).await
    }

    /// Sends `request` with an `id` of its own and waits for the answer to it. What comes before the answer is held
    /// for [`Connection::next`], in order; the answer itself is taken.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an `error` answer, else what kept the answer from coming.
    pub async fn request(&mut self, mut request: Value) -> Result<Control, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        request["id"] = json!(id);
        self.send(&request).await?;
        match timeout(ANSWER_TIMEOUT, self.answer(id)).await {
            Err(_) => Err(ClientError::Timeout),
            Ok(Ok(Control::Error { code, message, .. })) => Err(ClientError::Refused { code, message }),
            Ok(answer) => answer,
        }
    }

    /// Subscribes and gives the verdicts of the `ack`.
    ///
    /// # Errors
    /// As [`Connection::request`]; a refusal of single symbols is no error, it stands in its verdict.
    pub async fn subscribe(&mut self, subscriptions: &[Value]) -> Result<Vec<AckResult>, ClientError> {
        self.acked(json!({"op": "subscribe", "subscriptions": subscriptions})).await
    }

    /// Unsubscribes and gives the verdicts of the `ack`.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn unsubscribe(&mut self, subscriptions: &[Value]) -> Result<Vec<AckResult>, ClientError> {
        self.acked(json!({"op": "unsubscribe", "subscriptions": subscriptions})).await
    }

    /// Closes the session: sends a close frame and reads until the other side has closed too, at most a second.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.writer.close(code, reason);
        if self.writer.flush().await.is_ok() {
            let end = async { while !matches!(self.receive().await, Incoming::Closed { .. }) {} };
            // Whether it answers or not, the connection ends here.
            let _ = timeout(Duration::from_secs(1), end).await;
        }
    }

    async fn acked(&mut self, request: Value) -> Result<Vec<AckResult>, ClientError> {
        match self.request(request).await? {
            Control::Ack { results, .. } => Ok(results),
            _ => Ok(Vec::new()),
        }
    }

    async fn answer(&mut self, id: i64) -> Result<Control, ClientError> {
        // What is held already came before the request was sent.
        loop {
            let incoming = self.receive().await;
            match incoming {
                Incoming::Control { control: Some(control), .. } if answers(&control, id) => {
                    return Ok(control);
                }
                Incoming::Closed { code, reason } => return Err(ClientError::Closed { code, reason }),
                other if self.held.len() < HELD_MAX => self.held.push_back(other),
                _ => return Err(ClientError::TooMuchHeld),
            }
        }
    }

    async fn receive(&mut self) -> Incoming {
        loop {
            let Some(reading) = &mut self.reading else {
                let (code, reason) = self.closed.clone().unwrap_or_default();
                return Incoming::Closed { code, reason };
            };
            let (reader, message) = reading.await;
            // From here to the next await nothing can be cut off.
            match message {
                Ok(Message::Close { code, reason }) => self.end(code, reason),
                Err(error) => self.end(None, error.to_string()),
                Ok(message) => {
                    self.reading = Some(read(reader));
                    match message {
                        Message::Text(text) => return incoming(text),
                        Message::Ping(payload) => {
                            self.writer.pong(payload);
                            // A connection that cannot be written to will say so when it is read.
                            let _ = self.writer.flush().await;
                        }
                        Message::Close { .. } | Message::Binary | Message::Other => {}
                    }
                }
            }
        }
    }

    fn end(&mut self, code: Option<u16>, reason: String) {
        self.reading = None;
        self.closed = Some((code, reason));
    }
}

fn read(mut reader: Reader) -> Reading {
    Box::pin(async move {
        let message = reader.message().await;
        (reader, message)
    })
}

fn incoming(text: Text) -> Incoming {
    let frame = Frame { text, received_ns: now_ns() };
    if frame.as_bytes().first() == Some(&b'{') {
        let control = serde_json::from_slice(frame.as_bytes()).ok();
        Incoming::Control { control, frame }
    } else {
        Incoming::Events(frame)
    }
}

fn answers(control: &Control, asked: i64) -> bool {
    let id = match control {
        Control::Ack { id, .. }
        | Control::Error { id, .. }
        | Control::Pong { id, .. }
        | Control::List { id, .. } => id,
        _ => return false,
    };
    *id == Some(Id::Number(asked))
}
