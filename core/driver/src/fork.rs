//! Forked children: locks and threads of the parent are not theirs.
//!
//! A child inherits the descriptors of the directory locks, so that a killed parent's lock would live on in it, and it inherits
//! mutexes whose holders don't exist in it. A fork handler closes the former and counts, so that handles notice.

#![allow(unsafe_code)]

use std::{
    os::fd::RawFd,
    sync::{
        Once,
        atomic::{AtomicI32, AtomicU32, Ordering::Relaxed},
    },
};

/// How often this process is a child of the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Descriptors to close in children: a lock-free list, since a fork handler may not wait for anybody. -1 is a free place.
static INHERITED: [AtomicI32; 64] = [const { AtomicI32::new(-1) }; 64];
static REGISTER: Once = Once::new();

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Relaxed);
    for place in &INHERITED {
        let fd = place.swap(-1, Relaxed);
        if fd >= 0 {
            // SAFETY: closing a descriptor is allowed between fork and exec; whoever owned it in the parent is never run here,
            // since handles of the parent refuse to work in a child.
            unsafe { libc::close(fd) };
        }
    }
}

/// The generation now; keep it with whatever must not be used in a child.
pub fn generation() -> u32 {
    REGISTER.call_once(|| {
        // SAFETY: the handler only touches atomics and closes descriptors.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    GENERATION.load(Relaxed)
}

/// Whether this process was forked from the one in which `generation()` was `then`.
#[inline]
pub fn is_forked_since(then: u32) -> bool {
    GENERATION.load(Relaxed) != then
}

/// Closes this descriptor in children. False if there are too many already: the lock then lives on in a child.
pub fn close_in_children(fd: RawFd) -> bool {
    generation();
    INHERITED
        .iter()
        .any(|place| place.compare_exchange(-1, fd, Relaxed, Relaxed).is_ok())
}

/// The descriptor is closed here, too.
pub fn forget_descriptor(fd: RawFd) {
    for place in &INHERITED {
        let _ = place.compare_exchange(fd, -1, Relaxed, Relaxed);
    }
}
