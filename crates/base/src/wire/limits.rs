//! The limits of a daemon, which are set between fork(2) and execve(2).

use super::frame::FieldReader;

/// A limit of setrlimit(2). The numbers are those of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    pub resource: i32,
    pub soft: u64,
    pub hard: u64,
}

/// What the owner has, and what the configuration asks for. What the owner has is set as far as the system allows. If the system
/// refuses what the configuration asks for, there is no daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of the configuration, or else the owner's. `None`: that of the guardian.
    pub umask: Option<u32>,
    /// Of the owner.
    pub resources: Vec<ResourceLimit>,
    /// Of the owner.
    pub niceness: Option<i32>,
    /// The next ones are of the configuration.
    pub wanted_niceness: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub open_files: Option<u32>,
    pub core_dumps: Option<bool>,
}

impl Limits {
    const UMASK_MAX: u32 = 0o777;
    /// The size of a resource limit in a payload.
    const RESOURCE_SIZE: usize = 20;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.umask, u32::to_ne_bytes);
        put(out, self.niceness, i32::to_ne_bytes);
        put(out, self.wanted_niceness, i32::to_ne_bytes);
        put(out, self.oom_score_adj, i32::to_ne_bytes);
        put(out, self.open_files, u32::to_ne_bytes);
        put(out, self.core_dumps, |on| [u8::from(on)]);
        out.push(u8::try_from(self.resources.len()).unwrap_or(u8::MAX));
        for ResourceLimit { resource, soft, hard } in self.resources.iter().take(u8::MAX.into()) {
            out.extend(resource.to_ne_bytes());
            out.extend(soft.to_ne_bytes());
            out.extend(hard.to_ne_bytes());
        }
    }

    pub(super) fn decode(fields: &mut FieldReader<'_>) -> Option<Self> {
        Some(Self {
            umask: take(fields, |fields| fields.u32().filter(|mask| *mask <= Self::UMASK_MAX))?,
            niceness: take(fields, FieldReader::i32)?,
            wanted_niceness: take(fields, FieldReader::i32)?,
            oom_score_adj: take(fields, FieldReader::i32)?,
            open_files: take(fields, FieldReader::u32)?,
            core_dumps: take(fields, FieldReader::flag)?,
            resources: {
                let count = usize::from(fields.byte()?);
                // Before memory is reserved.
                if count > fields.left() / Self::RESOURCE_SIZE {
                    return None;
                }
                let resource = |_| Some(ResourceLimit { resource: fields.i32()?, soft: fields.u64()?, hard: fields.u64()? });
                (0..count).map(resource).collect::<Option<_>>()?
            },
        })
    }
}

fn put<T, const N: usize>(out: &mut Vec<u8>, value: Option<T>, bytes: impl FnOnce(T) -> [u8; N]) {
    out.push(u8::from(value.is_some()));
    out.extend(value.map(bytes).into_iter().flatten());
}

#[expect(clippy::option_option, reason = "the outer one is a malformed field, the inner one an absent value")]
fn take<'a, T>(fields: &mut FieldReader<'a>, value: impl FnOnce(&mut FieldReader<'a>) -> Option<T>) -> Option<Option<T>> {
    if fields.flag()? { value(fields).map(Some) } else { Some(None) }
}
