//! The metrics of one plugin: counters that are always kept, and samples of its tree.
//!
//! - `counters`: fed with every notice of the machine;
//! - `durations`: histograms, and the last durations for quantiles.

mod counters;
mod durations;

pub use counters::{Counters, Counts, PluginMetrics, Resources};
pub use durations::Durations;
