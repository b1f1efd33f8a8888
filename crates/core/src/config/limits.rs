//! `limits` and `umask`.

use std::time::Duration;

use super::fields::{Checked, Fields};
use crate::model::MemoryLimit;

/// The default of `limits.sustain`.
const SUSTAIN: Duration = Duration::from_millis(3_000);
/// The largest whole number that a JavaScript number holds exactly.
const SIZE_MAX: f64 = 9_007_199_254_740_991.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: Option<MemoryLimit>,
    pub open_files: Option<u32>,
    pub core_dumps: Option<bool>,
    pub niceness: Option<i32>,
    pub oom_score_adj: Option<i32>,
}

pub fn limits(fields: &mut Fields) -> Checked<Limits> {
    let sustain = fields.duration("sustain", 0.0)?.unwrap_or(SUSTAIN);
    let max = fields.number("maxMemory", 1.0, SIZE_MAX)?;
    let open_files = fields.integer("openFiles", 1, i32::MAX)?;
    Ok(Limits {
        memory: max.map(|max| MemoryLimit { max: max as u64, sustain }),
        open_files: open_files.map(i32::cast_unsigned),
        core_dumps: fields.boolean("coreDumps")?,
        niceness: fields.integer("niceness", -20, 19)?,
        oom_score_adj: fields.integer("oomScoreAdj", -1000, 1000)?,
    })
}

pub fn umask(top: &mut Fields) -> Checked<Option<u32>> {
    Ok(top.integer("umask", 0, 0o777)?.map(i32::cast_unsigned))
}
