//! Faults on command, for tests of clients.

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::server::Command;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The switches of a running [`Broker`].
///
/// Every method returns when the fault is in force.
#[derive(Debug, Clone, Copy)]
pub struct Faults<'a> {
    broker: &'a Broker,
}

impl<'a> Faults<'a> {
    pub(crate) fn of(broker: &'a Broker) -> Faults<'a> {
        Faults { broker }
    }

    /// Closes the port and every connection. Logs and topics are kept, the port stays reserved for
    /// [`restart`](Faults::restart), and connection attempts are refused meanwhile.
    ///
    /// # Errors
    /// [`BrokerError::Bind`] if the system would not keep the port, [`BrokerError::Ended`] after a shutdown.
    pub fn stop(&self) -> Result<(), BrokerError> {
        self.broker.command(Command::Stop)?
    }

    /// Listens again, on the same port with the same data. Does nothing if not stopped.
    ///
    /// # Errors
    /// [`BrokerError::Bind`] if the port cannot be listened on, [`BrokerError::Ended`] after a shutdown.
    pub fn restart(&self) -> Result<(), BrokerError> {
        self.broker.command(Command::Restart)?
    }

    /// Closes every connection, at whatever point it is, and returns how many there were. New ones are welcome.
    ///
    /// # Errors
    /// [`BrokerError::Ended`] after a shutdown.
    pub fn drop_connections(&self) -> Result<usize, BrokerError> {
        self.broker.command(Command::DropConnections)
    }

    /// Answers nothing until [`resume`](Faults::resume): connections stay open, requests wait.
    pub fn stall(&self) {
        self.state().stall.send_replace(Stall::UntilResumed);
    }

    /// Answers nothing for this long, or until [`resume`](Faults::resume).
    pub fn stall_for(&self, time: Duration) {
        self.state().stall.send_replace(Stall::Until(Instant::now() + time));
    }

    /// Ends a stall; what waited is answered now.
    pub fn resume(&self) {
        self.state().stall.send_replace(Stall::No);
    }

    /// Answers the next `times` requests of this kind with `code`, without doing what they ask. Replaces what was set for
    /// that kind before; `times` 0 takes it back. A fetch that waits already is not affected.
    pub fn fail_next(&self, api: ApiKey, code: ResponseError, times: usize) {
        self.state().failing().insert(api as i16, (code, times));
    }

    /// How many requests of this kind are still to fail.
    pub fn failures_left(&self, api: ApiKey) -> usize {
        self.state().failing().get(&(api as i16)).map_or(0, |&(_, times)| times)
    }

    /// Tells clients that connect from `peer` to come to `address`: that of a relay, which itself connects from there. For
    /// connections that are opened from now on.
    pub fn relayed(&self, peer: IpAddr, address: SocketAddr) {
        *self.state().relayed() = Some((peer, address));
    }

    fn state(&self) -> &'a FaultState {
        &self.broker.core().faults
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum Stall {
    #[default]
    No,
    UntilResumed,
    Until(Instant),
}

/// The faults in force, as the connections see them.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    stall: watch::Sender<Stall>,
    /// By API key: the code and how many times more. One entry per kind of request at most.
    failing: Mutex<HashMap<i16, (ResponseError, usize)>>,
    /// Who connects through a relay, and where that listens.
    relayed: Mutex<Option<(IpAddr, SocketAddr)>>,
}

impl FaultState {
    /// Returns when no stall is in force. Cancel safe.
    pub(crate) async fn ready(&self) {
        let mut stall = self.stall.subscribe();
        loop {
            let now = *stall.borrow_and_update();
            match now {
                Stall::No => return,
                Stall::UntilResumed => {
                    if stall.changed().await.is_err() {
                        return;
                    }
                }
                Stall::Until(end) => tokio::select! {
                    _ = tokio::time::sleep_until(end) => return,
                    _ = stall.changed() => {}
                },
            }
        }
    }

    /// The code this request has to fail with, if any; counts it.
    pub(crate) fn take_failure(&self, api: ApiKey) -> Option<ResponseError> {
        let mut failing = self.failing();
        let (code, times) = failing.get_mut(&(api as i16))?;
        *times = times.checked_sub(1)?;
        Some(*code)
    }

    /// Where a client that comes from `peer` is told that the broker is, if it is told anything but the truth.
    pub(crate) fn address_for(&self, peer: IpAddr) -> Option<SocketAddr> {
        self.relayed().filter(|(relayed, _)| *relayed == peer).map(|(_, address)| address)
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, HashMap<i16, (ResponseError, usize)>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relayed(&self) -> std::sync::MutexGuard<'_, Option<(IpAddr, SocketAddr)>> {
        self.relayed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
