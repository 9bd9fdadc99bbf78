//! The faults, and what must follow from each.

use anyhow::Result;

use super::ground::{Gateway, Ground};
use super::strike;

/// A fault, and what must follow.
#[derive(Debug)]
pub struct Drill {
    pub name: &'static str,
    /// What is done, as the runbook says it.
    pub fault: &'static str,
    pub gateway: Gateway,
    pub strike: fn(&mut Ground) -> Result<()>,
    /// What is done each second after that.
    pub again: fn(&mut Ground) -> Result<()>,
    /// What must come, and nothing beside it.
    pub alert: &'static str,
    pub panels: &'static [Panel],
}

/// A query of a panel, and where it must go.
#[derive(Debug, Clone, Copy)]
pub struct Panel {
    /// The dashboard's file, without the ending.
    pub board: &'static str,
    pub title: &'static str,
    /// The query's, as the dashboard has it.
    pub legend: &'static str,
    /// Which of its series: a label and its value; otherwise the largest counts.
    pub series: Option<(&'static str, &'static str)>,
    pub turn: Turn,
    pub unit: Unit,
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    PerSecond,
    Seconds,
    /// A part of one.
    Ratio,
    /// Of a feed: live, stale, down.
    State,
}

/// Where a value must be after the fault, and must not be before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    Above(f64),
    Below(f64),
    /// No data at all.
    Gone,
}

impl Panel {
    /// As a query is called when all are asked.
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.board, self.title, self.legend)
    }
}

const fn panel(
    board: &'static str,
    title: &'static str,
    legend: &'static str,
    turn: Turn,
    unit: Unit,
) -> Panel {
    Panel { board, title, legend, series: None, turn, unit }
}

const fn one_of(series: (&'static str, &'static str), panel: Panel) -> Panel {
    Panel { series: Some(series), ..panel }
}

pub const DRILLS: &[Drill] = &[
    Drill {
        name: "stalled-clients",
        fault: "2 % more clients come, ask for every quote, and stop reading (*outbox.stall_timeout_ms* 5 s)",
        gateway: Gateway::QuickStall,
        strike: strike::stalled_clients,
        again: strike::nothing,
        alert: "TickgateSlowConsumers",
        panels: &[
            panel("overview", "Slow ended", "ended", Turn::Above(0.5), Unit::Count),
            panel("delivery", "Queue of a session, age", "oldest", Turn::Above(1.0), Unit::Seconds),
            one_of(
                ("reason", "stalled"),
                panel("sessions", "Ended, by reason", "{{reason}}", Turn::Above(0.0), Unit::PerSecond),
            ),
        ],
    },
    Drill {
        name: "paused-feed",
        fault: "producers fall silent",
        gateway: Gateway::Plain,
        strike: strike::paused_feed,
        again: strike::nothing,
        alert: "TickgateFeedStale",
        panels: &[
            panel("overview", "Worst staleness", "age", Turn::Above(5.0), Unit::Seconds),
            panel("feeds", "State of each feed", "{{feed}}", Turn::Above(0.5), Unit::State),
            panel("feeds", "Records read", "records", Turn::Below(1.0), Unit::PerSecond),
        ],
    },
    Drill {
        name: "broker-down",
        fault: "the broker is killed",
        gateway: Gateway::Plain,
        strike: strike::broker_down,
        again: strike::nothing,
        alert: "TickgateFeedDown",
        panels: &[
            panel("feeds", "State of each feed", "{{feed}}", Turn::Above(1.5), Unit::State),
            panel("feeds", "Incidents", "broker errors", Turn::Above(0.0), Unit::PerSecond),
            panel("overview", "Feeds", "not live", Turn::Above(0.5), Unit::Count),
        ],
    },
    Drill {
        name: "broker-frozen",
        fault: "the broker's connections stay, and it answers nothing",
        gateway: Gateway::Plain,
        strike: strike::broker_frozen,
        again: strike::nothing,
        alert: "TickgateFeedDown",
        panels: &[
            panel("overview", "Worst staleness", "age", Turn::Above(5.0), Unit::Seconds),
            panel("feeds", "State of each feed", "{{feed}}", Turn::Above(1.5), Unit::State),
        ],
    },
    Drill {
        name: "bad-records",
        fault: "three records a second that nobody can read",
        gateway: Gateway::Plain,
        strike: strike::bad_records,
        again: strike::bad_records,
        alert: "TickgateRecordsUnreadable",
        panels: &[
            panel("feeds", "Unreadable", "records", Turn::Above(0.5), Unit::Count),
            one_of(
                ("reason", "not_json"),
                panel("feeds", "Unreadable, by reason", "{{reason}}", Turn::Above(0.0), Unit::PerSecond),
            ),
        ],
    },
    Drill {
        name: "overload",
        fault: "ticks at 50 times the rate, while a neighbour leaves the shards little of their processor (*session.inbox_batches* 128)",
        gateway: Gateway::SmallInbox,
        strike: strike::overload,
        again: strike::nothing,
        alert: "TickgateOverload",
        panels: &[
            panel("delivery", "What was not sent as it was", "overload", Turn::Above(0.0), Unit::PerSecond),
            panel("overview", "p99 delivery", "p99", Turn::Above(0.3), Unit::Seconds),
        ],
    },
    Drill {
        name: "slow-clients",
        fault: "as many clients again come, and read a tenth of what they asked for",
        gateway: Gateway::Plain,
        strike: strike::slow_clients,
        again: strike::nothing,
        alert: "TickgateConflation",
        panels: &[
            panel("overview", "Conflated", "conflated", Turn::Above(0.2), Unit::Ratio),
            panel("delivery", "Memory of slow sessions", "held", Turn::Above(0.001), Unit::Ratio),
        ],
    },
    Drill {
        name: "clock-skew",
        fault: "a producer whose clock is a second fast",
        gateway: Gateway::Plain,
        strike: strike::clock_skew,
        again: strike::clock_skew,
        alert: "TickgateClockSkew",
        panels: &[one_of(
            ("stage", "append_to_ingest"),
            panel("delivery", "Clock skew", "{{stage}}", Turn::Above(0.5), Unit::Seconds),
        )],
    },
    Drill {
        name: "certificate",
        fault: "a certificate that is good for five days takes the place of one for thirty",
        gateway: Gateway::Tls,
        strike: strike::certificate,
        again: strike::nothing,
        alert: "TickgateCertificateExpires",
        panels: &[panel("sessions", "Certificate", "left", Turn::Below(14.0 * 86_400.0), Unit::Seconds)],
    },
    Drill {
        name: "refused-reload",
        fault: "a reload of a configuration with an error",
        gateway: Gateway::Plain,
        strike: strike::refused_reload,
        again: strike::nothing,
        alert: "TickgateReloadRefused",
        panels: &[one_of(
            ("result", "refused"),
            panel("runtime", "Configuration", "{{result}}", Turn::Above(0.5), Unit::Count),
        )],
    },
    Drill {
        name: "gateway-down",
        fault: "the gateway is killed",
        gateway: Gateway::Plain,
        strike: strike::gateway_down,
        again: strike::nothing,
        alert: "TickgateDown",
        panels: &[
            panel("runtime", "Ready", "running", Turn::Gone, Unit::Count),
            panel("overview", "Clients", "sessions", Turn::Gone, Unit::Count),
        ],
    },
];

#[cfg(test)]
pub fn by_name(name: &str) -> &'static Drill {
    DRILLS.iter().find(|drill| drill.name == name).expect("there is such a drill")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboards::board;
    use crate::shell;

    #[test]
    fn every_alert_and_panel_is_one() {
        let path = shell::root().join("dashboards/prometheus/alerts.yml");
        let alerts = std::fs::read_to_string(path).unwrap();
        let boards = board::all().unwrap();
        for drill in DRILLS {
            assert!(
                alerts.contains(&format!("- alert: {}\n", drill.alert)),
                "{}: {}",
                drill.name,
                drill.alert
            );
            assert!(!drill.panels.is_empty(), "{}", drill.name);
            for panel in drill.panels {
                let board = boards.iter().find(|board| board.name == panel.board);
                let found = board.into_iter().flat_map(|board| &board.panels).any(|one| {
                    one.title == panel.title && one.queries.iter().any(|query| query.legend == panel.legend)
                });
                assert!(found, "{}: {}", drill.name, panel.place());
            }
        }
    }
}
