//! Making a topic, in Kafka's own protocol, with the few bytes that takes written by hand.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use super::probe::{Cursor, ask};

const CREATE_TOPICS: i16 = 19;
/// The oldest version that Kafka 4 answers.
const CREATE_TOPICS_VERSION: i16 = 2;
/// How long the brokers may take to agree on it, below what [`ask`] waits.
const AGREE_MS: i32 = 1_500;

/// A topic to be made.
#[derive(Debug, Clone, Copy)]
pub struct Topic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    /// Copies of each partition.
    pub replicas: i16,
    /// Copies that must have a record before it counts as written.
    pub in_sync_min: usize,
}

impl Topic<'_> {
    /// Makes it, by any broker of the cluster.
    ///
    /// # Errors
    /// What the broker says against it.
    pub fn create(&self, broker: SocketAddr) -> Result<()> {
        let answer = ask(broker, CREATE_TOPICS, CREATE_TOPICS_VERSION, &self.request())
            .with_context(|| format!("making topic {}", self.name))?;
        match parse(&answer) {
            Some((0, _)) => Ok(()),
            Some((code, message)) => {
                bail!(
                    "the broker does not make topic {}: error {code} {}",
                    self.name,
                    message.unwrap_or_default()
                )
            }
            None => bail!("the broker's answer about topic {} cannot be understood", self.name),
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(1_i32.to_be_bytes()); // one topic
        string(&mut body, self.name);
        body.extend(self.partitions.to_be_bytes());
        body.extend(self.replicas.to_be_bytes());
        body.extend(0_i32.to_be_bytes()); // the brokers choose where its copies are
        body.extend(1_i32.to_be_bytes()); // one setting
        string(&mut body, "min.insync.replicas");
        string(&mut body, &self.in_sync_min.to_string());
        body.extend(AGREE_MS.to_be_bytes());
        body.push(0); // not only to be checked
        body
    }
}

fn string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as i16).to_be_bytes());
    body.extend(text.as_bytes());
}

/// The error code for the one topic asked for, and what is said about it. `None` when the answer is cut or not one.
fn parse(answer: &[u8]) -> Option<(i16, Option<String>)> {
    let mut cursor = Cursor(answer);
    cursor.i32()?; // for how long we are asked to be quiet
    let (1, Some(_name)) = (cursor.i32()?, cursor.string()?) else { return None };
    Some((cursor.i16()?, cursor.string()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_what_kafka_expects() {
        let topic = Topic { name: "ab", partitions: 12, replicas: 3, in_sync_min: 2 };
        assert_eq!(
            topic.request(),
            b"\0\0\0\x01\0\x02ab\0\0\0\x0c\0\x03\0\0\0\0\0\0\0\x01\0\x13min.insync.replicas\0\x012\0\0\x05\xdc\0"
        );
    }

    #[test]
    fn answers_are_read() {
        let made = b"\0\0\0\0\0\0\0\x01\0\x02ab\0\0\xff\xff";
        assert_eq!(parse(made), Some((0, None)));
        let exists = b"\0\0\0\0\0\0\0\x01\0\x02ab\0\x24\0\x03why";
        assert_eq!(parse(exists), Some((36, Some("why".to_owned()))));
        for length in 0..made.len() {
            assert_eq!(parse(&made[..length]), None, "cut to {length} bytes");
        }
    }
}
