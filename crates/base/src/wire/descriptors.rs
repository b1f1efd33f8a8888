//! The descriptors of an order, by name. SCM_RIGHTS carries a list without names, so a mask in the order's payload names the
//! descriptors in the list.

/// An upper limit: no order has so many.
pub const DESCRIPTORS_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptors<Fd> {
    /// The keeper's end of its stream to the owner.
    pub stream: Fd,
    /// The write ends of the daemon's outputs.
    pub stdout: Fd,
    pub stderr: Fd,
    /// A copy of the plugin's lock.
    pub lock: Fd,
    /// The plugin's folder, which contains the record.
    pub folder: Fd,
    /// The read ends of both outputs. After the owner's death the keeper reads them, so that a daemon that prints in its
    /// grace period neither blocks nor gets SIGPIPE. With a log file the log process reads them from the start.
    pub stdout_reader: Option<Fd>,
    pub stderr_reader: Option<Fd>,
    /// The socket for the daemon's notifications. After the owner's death the keeper reads them, so that a daemon that notifies
    /// does not block.
    pub notify: Option<Fd>,
    /// With a log file ([`super::LogOrder`]), the next five: the file, opened and locked by the owner, unless a process of an
    /// earlier attempt still holds its lock.
    pub log_file: Option<Fd>,
    pub log_folder: Option<Fd>,
    /// The write ends of the pipes in which the owner gets a copy of both outputs.
    pub stdout_copy: Option<Fd>,
    pub stderr_copy: Option<Fd>,
    /// The write end of the pipe for [`super::LogNote`]s.
    pub log_notes: Option<Fd>,
    /// The listening socket that the leader gets as descriptor 3.
    pub listener: Option<Fd>,
}

/// The bit of `log_notes`.
const LOG_NOTES: u32 = 1 << 11;

/// Whether a mask has the descriptors of a log file.
pub(super) const fn has_log(mask: u32) -> bool {
    mask & LOG_NOTES != 0
}

impl<Fd> Descriptors<Fd> {
    /// The mask, with one bit per present descriptor, and the descriptors in the order of their bits.
    pub fn into_wire(self) -> (u32, Vec<Fd>) {
        let Self { stream, stdout, stderr, lock, folder, stdout_reader, stderr_reader, notify, listener, .. } = self;
        let log = [self.log_file, self.log_folder, self.stdout_copy, self.stderr_copy, self.log_notes];
        let slots = [Some(stream), Some(stdout), Some(stderr), Some(lock), Some(folder), stdout_reader, stderr_reader, notify]
            .into_iter()
            .chain(log)
            .chain([listener]);
        let slots: Vec<_> = slots.collect();
        let mask = slots.iter().zip(0..).filter(|(slot, _)| slot.is_some()).fold(0, |mask, (_, bit)| mask | 1 << bit);
        (mask, slots.into_iter().flatten().collect())
    }

    /// `None` if a required descriptor is missing, or if mask and list disagree.
    pub fn from_wire(mask: u32, list: Vec<Fd>) -> Option<Self> {
        let mut list = list.into_iter();
        let mut bit = 0;
        let mut slot = || {
            let present = mask & (1 << bit) != 0;
            bit += 1;
            if present { list.next().map(Some) } else { Some(None) }
        };
        let descriptors = Self {
            stream: slot()??,
            stdout: slot()??,
            stderr: slot()??,
            lock: slot()??,
            folder: slot()??,
            stdout_reader: slot()?,
            stderr_reader: slot()?,
            notify: slot()?,
            log_file: slot()?,
            log_folder: slot()?,
            stdout_copy: slot()?,
            stderr_copy: slot()?,
            log_notes: slot()?,
            listener: slot()?,
        };
        (mask >> bit == 0 && list.next().is_none()).then_some(descriptors)
    }
}
