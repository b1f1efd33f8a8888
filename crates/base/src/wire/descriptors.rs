//! The descriptors that travel with an order, by name. Which of them are there is told by a mask in the order's payload: the
//! message itself carries a plain list.

/// More than any order has.
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
    /// The plugin's folder, where the record is.
    pub folder: Fd,
    /// The read ends of both outputs: after the owner's death the keeper reads what a daemon prints in its grace period.
    pub stdout_reader: Option<Fd>,
    pub stderr_reader: Option<Fd>,
}

impl<Fd> Descriptors<Fd> {
    /// One bit for each descriptor that is there, and the descriptors in the order of their bits.
    pub fn into_wire(self) -> (u32, Vec<Fd>) {
        let Self { stream, stdout, stderr, lock, folder, stdout_reader, stderr_reader } = self;
        let slots = [Some(stream), Some(stdout), Some(stderr), Some(lock), Some(folder), stdout_reader, stderr_reader];
        let mask = slots.iter().zip(0..).filter(|(slot, _)| slot.is_some()).fold(0, |mask, (_, bit)| mask | 1 << bit);
        (mask, slots.into_iter().flatten().collect())
    }

    /// `None` if a required descriptor is missing, or if mask and list disagree.
    pub fn from_wire(mask: u32, list: Vec<Fd>) -> Option<Self> {
        let mut list = list.into_iter();
        let mut bit = 0;
        let mut slot = || {
            let there = mask & (1 << bit) != 0;
            bit += 1;
            if there { list.next().map(Some) } else { Some(None) }
        };
        let descriptors = Self {
            stream: slot()??,
            stdout: slot()??,
            stderr: slot()??,
            lock: slot()??,
            folder: slot()??,
            stdout_reader: slot()?,
            stderr_reader: slot()?,
        };
        (mask >> bit == 0 && list.next().is_none()).then_some(descriptors)
    }
}
