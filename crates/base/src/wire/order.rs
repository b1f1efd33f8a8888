//! An order: the data to start a daemon, and to stop the daemon after its owner's death.

use super::frame::{self, FieldReader};
use super::limits::Limits;
use crate::stop::StopSignalTo;

/// The limit of execve(2) on Linux for argv and environ together is smaller, so a longer order is a fault.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// The kind of an order's frame.
pub const ORDER: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerDeath {
    Stop,
    Keep,
}

/// The strings are arguments of execve(2), without the terminating NUL. No string contains NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<'a> {
    /// The mask of the descriptors that come with the order: [`super::Descriptors`].
    pub descriptors: u32,
    pub group_only: bool,
    pub owner_death: OwnerDeath,
    pub stop_signal: i32,
    pub stop_signal_to: StopSignalTo,
    pub grace_ms: u32,
    pub folder: &'a [u8],
    /// Paths to try in turn, as execvp(3) does.
    pub programs: Vec<&'a [u8]>,
    pub args: Vec<&'a [u8]>,
    pub env: Vec<&'a [u8]>,
    pub limits: Limits,
    /// The file of the socket for notifications, which the keeper removes after the owner's death. Empty without one.
    pub notify_path: &'a [u8],
    pub log: Option<LogOrder<'a>>,
}

/// The log file of a daemon, beside the descriptors for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOrder<'a> {
    /// The path of the folder, for a folder that was removed and made anew.
    pub folder: &'a [u8],
    /// The name of the file in its folder.
    pub name: &'a [u8],
    pub max_size: u64,
    pub max_files: u32,
    pub compress: bool,
}

impl<'a> Order<'a> {
    /// The order as a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = frame::begin();
        out.reserve(4096);
        out.extend(self.descriptors.to_ne_bytes());
        out.push(u8::from(self.group_only));
        out.push(u8::from(self.owner_death == OwnerDeath::Keep));
        out.extend(self.stop_signal.to_ne_bytes());
        out.push(u8::from(self.stop_signal_to == StopSignalTo::Tree));
        out.extend(self.grace_ms.to_ne_bytes());
        frame::put_string(&mut out, self.folder);
        for list in [&self.programs, &self.args, &self.env] {
            frame::put_list(&mut out, list);
        }
        self.limits.encode(&mut out);
        frame::put_string(&mut out, self.notify_path);
        out.push(u8::from(self.log.is_some()));
        if let Some(log) = &self.log {
            frame::put_string(&mut out, log.folder);
            frame::put_string(&mut out, log.name);
            out.extend(log.max_size.to_ne_bytes());
            out.extend(log.max_files.to_ne_bytes());
            out.push(u8::from(log.compress));
        }
        frame::finish(out, ORDER)
    }

    /// Whether an order has a log file. An order without one is not decoded for that.
    pub fn has_log(payload: &[u8]) -> bool {
        let is_possible = FieldReader::of(payload).u32().is_some_and(super::descriptors::has_log);
        is_possible && Order::decode(payload).is_some_and(|order| order.log.is_some())
    }

    /// `None` if [`Self::encode`] can't produce this payload.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut fields = FieldReader::of(payload);
        let order = Self {
            descriptors: fields.u32()?,
            group_only: fields.flag()?,
            owner_death: if fields.flag()? { OwnerDeath::Keep } else { OwnerDeath::Stop },
            stop_signal: fields.i32().filter(|signal| *signal >= 0)?,
            stop_signal_to: if fields.flag()? { StopSignalTo::Tree } else { StopSignalTo::Leader },
            grace_ms: fields.u32()?,
            folder: fields.string()?,
            programs: fields.list()?,
            args: fields.list()?,
            env: fields.list()?,
            limits: Limits::decode(&mut fields)?,
            notify_path: fields.string()?,
            log: if fields.flag()? { Some(LogOrder::read(&mut fields)?) } else { None },
        };
        fields.end(order).filter(|order| !order.programs.is_empty())
    }
}

impl<'a> LogOrder<'a> {
    fn read(fields: &mut FieldReader<'a>) -> Option<Self> {
        Some(Self {
            folder: fields.string()?,
            name: fields.string().filter(|name| !name.is_empty() && !name.contains(&b'/'))?,
            max_size: fields.u64()?,
            max_files: fields.u32().filter(|files| *files > 0)?,
            compress: fields.flag()?,
        })
    }
}
