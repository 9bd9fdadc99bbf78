//! Asking an admin listener, over plain HTTP as it speaks it.

use super::ROWS;
use super::metrics::Scrape;
use super::sample::{Feeds, Sample, Sessions, Symbols};
use crate::http;
use anyhow::Context;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;
use tickgate_gateway::clock;
use tokio::net::TcpStream;

/// Time for all the answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Who asks.
pub(super) struct Asker {
    address: String,
    token: Option<String>,
}

/// Why there is no answer, and what can be done about it.
#[derive(Debug)]
pub(super) struct Refused {
    pub what: String,
    pub hint: &'static str,
}

const HINT_GONE: &str =
    "Is it running, and is this the address of its admin listener (its key `admin`; --admin here)?";
const HINT_TOKEN: &str = "It asks for its admin token: --token-file FILE, with what its admin_token says.";
const HINT_OTHER: &str = "Is this the admin listener of a tickgate of this version?";

impl Asker {
    /// One for an address, with or without `http://`.
    ///
    /// # Errors
    /// When the file with the token cannot be read.
    pub fn new(address: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = token_file
            .map(|path| {
                std::fs::read_to_string(path).with_context(|| format!("--token-file {}", path.display()))
            })
            .transpose()?;
        let token = token.map(|token| token.trim().to_owned());
        let address = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Self { address, token })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// All that is shown, as of now.
    ///
    /// # Errors
    /// When anything of it cannot be had.
    pub async fn sample(&self) -> Result<Sample, Refused> {
        let (sessions, symbols) = (format!("/sessions?top={ROWS}"), format!("/symbols?top={ROWS}"));
        let all = async {
            tokio::try_join!(
                async { Ok(Scrape::new(&self.get("/metrics").await?)) },
                self.json::<Feeds>("/feeds"),
                self.json::<Sessions>(&sessions),
                self.json::<Symbols>(&symbols),
            )
        };
        let late = || Refused { what: format!("no answer within {} s", PATIENCE.as_secs()), hint: HINT_GONE };
        let (metrics, feeds, sessions, symbols) =
            tokio::time::timeout(PATIENCE, all).await.map_err(|_| late())??;
        Ok(Sample {
            taken_ns: clock::mono_ns(),
            metrics,
            feeds: feeds.feeds,
            sessions: sessions.sessions,
            symbols,
        })
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        let text = self.get(path).await?;
        serde_json::from_str(&text).map_err(|error| Refused {
            what: format!("{path} is not what was expected: {error}"),
            hint: HINT_OTHER,
        })
    }

    async fn get(&self, path: &str) -> Result<String, Refused> {
        let socket = TcpStream::connect(&self.address)
            .await
            .map_err(|error| Refused { what: error.to_string(), hint: HINT_GONE })?;
        let (status, body) = self
            .exchange(socket, path)
            .await
            .map_err(|error| Refused { what: format!("{path}: {error:#}"), hint: HINT_OTHER })?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED => Err(Refused { what: format!("{path}: {status}"), hint: HINT_TOKEN }),
            _ => Err(Refused { what: format!("{path}: {status}"), hint: HINT_OTHER }),
        }
    }

    async fn exchange(&self, socket: TcpStream, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let mut request =
            Request::get(format!("http://{}{path}", self.address)).header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = http::exchange(socket, request.body(Full::default())?, ANSWER_BYTES_MAX).await?;
        let status = answer.status();
        Ok((status, String::from_utf8(answer.into_body().into()).context("the answer is no text")?))
    }
}
