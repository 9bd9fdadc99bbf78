//! The rows of the matrix, in the order they are run. Each is one function that makes its own world, strikes, and ends it.

mod broker;
mod clients;
mod clock;
mod cluster;
mod descriptors;
mod floods;
mod leaders;
mod logs;
mod memory;
mod messages;
mod packets;
mod panics;
mod process;
mod records;
mod reload;
mod resume;
mod soak;
mod strangers;
mod tokens;
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

/// Every row that there is: `cargo xtask faults --list` reads the same table, and builds nothing for it.
pub const ROWS: &[Row] = include!("rows/table.rs");
