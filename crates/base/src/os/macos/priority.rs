//! The priority of a thread.

/// Gives the calling thread the lowest priority.
pub fn lower_thread_priority() {
    // SAFETY: acts on the calling thread alone. A failure leaves the priority as it is.
    unsafe { libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_BACKGROUND, 0) };
}
