//! The rows of the matrix, in the order they are run. Each is one function that makes its own world, strikes, and ends it.

mod broker;
mod clients;
mod clock;
mod cluster;
mod descriptors;
mod logs;
mod memory;
mod packets;
mod panics;
mod process;
mod records;
mod reload;
mod resume;
mod topic;

use crate::report::Outcome;
use crate::world::Run;
use anyhow::Result;
use std::pin::Pin;

/// What a row does, to be awaited.
type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A row.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name in the matrix; one row of the catalogue may be several here, as `R24a`.
    pub id: &'static str,
    /// What is done.
    pub fault: &'static str,
    /// When it is run.
    pub form: Form,
    /// Does it.
    pub run: for<'a> fn(&'a Run, &'a mut Outcome) -> Running<'a>,
}

macro_rules! rows {
    ($($id:literal $form:ident $fault:literal => $run:path,)*) => {
        &[$(Row {
            id: $id,
            fault: $fault,
            form: Form::$form,
            run: |run, outcome| Box::pin($run(run, outcome)),
        },)*]
    };
}

/// When a row is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Always.
    Short,
    /// With `--full` only.
    Full,
    /// With `--full`, and an Apache Kafka of three nodes that can be killed.
    Cluster,
}

/// Every row that there is.
pub const ROWS: &[Row] = rows![
    "R9" Short "malformed records: 1 in 100, then all of them" => records::malformed,
    "R10" Short "records of 10 MiB where 1 MiB is allowed" => records::huge,
    "R1a" Short "broker gone and back" => broker::gone_and_back,
    "R2a" Short "broker frozen, connections open" => broker::frozen,
    "R8" Short "broker 200 ms away" => broker::far_away,
    "R7" Short "brokers answer with errors of every kind" => broker::errors,
    "R4a" Short "partitions added, half of the symbols move" => topic::partitions_added,
    "R5a" Short "topic deleted and made anew" => topic::made_anew,
    "R6a" Short "retention passes a gateway that was frozen" => topic::retention,
    "R18" Short "clients that never read" => clients::stuck,
    "R11a" Short "links of a tenth of the clients dead, then healed" => clients::dead_links,
    "R12a" Short "a tenth of the clients on slow, long lines" => clients::slow_lines,
    "R13" Short "all links stopped one by one, released in another order" => clients::swizzle_clog,
    "R14a" Short "wall clock jumps by an hour forth and back, and by ten years back" => clock::jumps,
    "R14b" Short "venue clock an hour ahead" => clock::venue_ahead,
    "R15a" Short "SIGTERM under load" => process::terminated,
    "R15b" Short "a second SIGTERM while it drains" => process::terminated_twice,
    "R19" Short "ten times the load, beside clients that never read, in 512 MiB" => memory::overload,
    "R20" Short "thousands of idle connections, closed again" => process::idle_memory,
    "R22" Short "SIGHUP a hundred times: as it was, changed, broken" => reload::reloads,
    "R23" Short "turns of ten sessions panic" => panics::of_sessions,
    "R24a" Short "file descriptors run out" => descriptors::exhausted,
    "R24b" Short "nobody reads the log" => logs::full_pipe,
    "R24c" Short "the disk of the log is full" => logs::full_disk,
    "R25a" Short "started before its broker" => process::started_before_broker,
    "R25b" Short "started with a wrong configuration" => process::wrong_configuration,
    "R4b" Short "partitions added while clients are away" => resume::moved_meanwhile,
    "R5b" Short "topic made anew while clients are away" => resume::made_anew_meanwhile,
    "R6b" Short "retention takes what clients missed" => resume::retention_meanwhile,
    "R12b" Short "all lines cut again and again" => resume::cut_again_and_again,
    "R16" Short "gateways killed one after the other, clients resume on another" => resume::killed,
    "R17" Short "thousands of clients come back at once" => resume::storm,
    "R1b" Cluster "one of three nodes killed and started again" => cluster::one_killed,
    "R1c" Cluster "all three nodes killed and started again" => cluster::all_killed,
    "R3" Cluster "leaders move, node after node" => cluster::leaders_move,
    "R2b" Full "no packet passes between gateway and Kafka" => packets::none_to_kafka,
    "R12c" Full "30 % of packets lost between a tenth of the clients and the gateway" => packets::to_clients,
    "R12d" Full "30 % of packets lost between gateway and Kafka" => packets::to_kafka,
    "R11b" Full "hosts of a tenth of the clients gone without a word" => packets::half_open,
    "R21" Full "the same load for a long time" => process::soak,
];
