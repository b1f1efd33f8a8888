//! The priority of a thread.

/// Gives the calling thread the lowest priority: Linux keeps a nice value per thread.
pub fn lower_thread_priority() {
    // SAFETY: integers only. 0 is the calling thread. A failure leaves the priority as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}
