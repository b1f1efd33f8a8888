//! The metrics of one plugin: counters that are always kept, and samples of its tree.
//!
//! - `counters`: fed with every notice of the machine;
//! - `durations`: histograms, and the last durations for quantiles;
//! - `memory_limit`: the watch of `limits.maxMemory`;
//! - `sample`: one sample of a tree;
//! - `sampler`: when samples are taken;
//! - `text`: OpenMetrics and Prometheus.

mod counters;
mod durations;
mod memory_limit;
mod sample;
mod sampler;
mod text;

pub use counters::{Counters, Counts, PluginMetrics, Resources, TreeId};
pub use durations::Durations;
pub use memory_limit::exceeds;
pub use sample::{quick_memory, sample_at_ready};
pub use sampler::Sampler;
pub use text::{TextFormat, text};
