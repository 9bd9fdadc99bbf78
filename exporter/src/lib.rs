//! What `tickgate-load` and `tickgate-sim` have in common to say how they are while they run.
//!
//! A program has a [`catalog`] of its metrics, the one place of their names. When somebody scrapes, the [`listener`] asks
//! it for a [`page::Page`], which it fills from totals that it counts anyway: whoever counts knows nothing of metrics.
//! Quantiles are over a [`window::Window`] of the last seconds. [`manual`] makes the documentation out of catalogs.
//!
//! The gateway does not use it: it has more to say, and another listener to say it on.
#![deny(missing_docs, rustdoc::broken_intra_doc_links)]

pub mod catalog;
pub mod listener;
pub mod manual;
pub mod page;
pub mod window;

pub use catalog::{Label, Metric, QUANTILE, counter, gauge, histogram};
pub use listener::{Listener, Serving};
pub use page::Page;
pub use window::Window;
