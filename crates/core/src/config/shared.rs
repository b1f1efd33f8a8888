//! `shared`: one daemon for all sessions that start the plugin.

use std::time::Duration;

use super::Raw;
use super::fields::{Checked, Fields};
use super::keys::SHARED;
use crate::error::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// How long the daemon runs on after the last session has let go of it.
    pub linger: Duration,
}

impl Shared {
    /// A shared daemon outlives its sessions by `linger`, and its host by nothing. `is_kept`: by `onOwnerDeath`.
    ///
    /// # Errors
    /// `InvalidConfig` with `onOwnerDeath: 'keep'`.
    pub fn check(is_kept: bool) -> Result<(), Failure> {
        if is_kept {
            return Err(Failure::InvalidConfig {
                field: "shared".to_owned(),
                problem: "can't be kept by onOwnerDeath 'keep'; use linger, as in shared: { linger: 60000 }".to_owned(),
            });
        }
        Ok(())
    }
}

pub fn shared(top: &mut Fields) -> Checked<Option<Shared>> {
    match top.optional("shared") {
        Raw::Undefined | Raw::Bool(false) => Ok(None),
        Raw::Bool(true) => Ok(Some(Shared { linger: Duration::ZERO })),
        Raw::Object(_) | Raw::BuiltIn(_) => top.nested("shared", SHARED, |fields| {
            let linger = fields.duration("linger", 0.0)?.unwrap_or(Duration::ZERO);
            Ok(Shared { linger })
        }),
        _ => Err(top.mistyped("shared", "a boolean or an object with linger")),
    }
}
