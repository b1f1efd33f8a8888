//! The native half of the iterator of `logs()`.

use std::sync::Arc;

use napi_derive::napi;

use super::types::count;
use ally_core::supervisor::{Batch, Follower, Line};

/// A follower ends when it is closed or garbage-collected.
#[napi]
pub struct NativeFollower {
    follower: Option<Arc<Follower>>,
}

#[napi(object, object_from_js = false)]
pub struct NativeLine {
    pub stream: &'static str,
    pub line: String,
    pub at: f64,
    pub pid: i32,
}

/// The oldest lines that were not taken yet.
#[napi(object, object_from_js = false)]
pub struct NativeLines {
    pub dropped: f64,
    pub lines: Vec<NativeLine>,
    pub ended: bool,
}

#[napi]
impl NativeFollower {
    pub(super) const fn new(follower: Arc<Follower>) -> Self {
        Self { follower: Some(follower) }
    }

    /// The number in the message `lines`.
    #[napi(getter)]
    pub fn id(&self) -> f64 {
        self.follower.as_ref().map_or(0.0, |follower| count(follower.id))
    }

    /// Asks for a message `lines` as soon as there is a line or the end.
    #[napi]
    pub fn want(&self) {
        if let Some(follower) = &self.follower {
            follower.want();
        }
    }

    #[napi]
    pub fn take(&self, most: u32) -> NativeLines {
        let Batch { dropped, lines, ended, .. } =
            self.follower.as_ref().map_or_else(Batch::default, |follower| follower.take(most as usize));
        NativeLines { dropped: count(dropped), lines: lines.into_iter().map(NativeLine::from).collect(), ended }
    }

    #[napi]
    pub fn close(&mut self) {
        self.follower = None;
    }
}

impl From<Line> for NativeLine {
    fn from(Line { stream, text, at, pid, .. }: Line) -> Self {
        Self { stream: stream.as_str(), line: text, at, pid: pid.unwrap_or_default() }
    }
}
