//! What every function at the border needs: panics that end here, the thread's last error, text and time in C's forms.

use crate::abi::RespErr;
use core::ffi::{CStr, c_char, c_int};
use ottla::{ErrCode, KafkaError};
use std::{
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Runs the body; a panic in it becomes the other value.
macro_rules! guard {
    ($otherwise:expr, $body:expr) => {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| $body)) {
            Ok(value) => value,
            Err(_) => {
                $crate::border::set_last_error($crate::abi::RespErr::FAIL);
                $otherwise
            }
        }
    };
}

thread_local! {
    static LAST_ERROR: Cell<RespErr> = const { Cell::new(RespErr::NO_ERROR) };
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// What `rd_kafka_last_error` tells in this thread.
#[inline]
pub fn last_error() -> RespErr {
    LAST_ERROR.get()
}

/// The call of this thread went so.
#[inline]
pub fn set_last_error(error: RespErr) {
    LAST_ERROR.set(error);
}

/// The call of this thread failed: besides the last error, `errno` gets the nearest of the system's errors.
#[cold]
pub fn fail(error: RespErr) {
    set_last_error(error);
    let number = match ErrCode(error.0) {
        ErrCode::UNKNOWN_PARTITION => libc::ESRCH,
        ErrCode::UNKNOWN_TOPIC => libc::ENOENT,
        ErrCode::QUEUE_FULL => libc::ENOBUFS,
        ErrCode::MSG_SIZE_TOO_LARGE => libc::EMSGSIZE,
        ErrCode::TIMED_OUT => libc::ETIMEDOUT,
        ErrCode::FATAL => libc::ECANCELED,
        _ => libc::EINVAL,
    };
    // SAFETY: errno is the thread's own.
    unsafe { *libc::__errno_location() = number };
}

/// A callback asked that the poll that called it should return.
pub fn set_yielded(yielded: bool) {
    YIELDED.set(yielded);
}

/// Whether a callback asked for that since the poll began.
pub fn yielded() -> bool {
    YIELDED.get()
}

/// A lock that outlives panics.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A timeout in milliseconds; negative means for ever.
#[inline]
pub fn timeout(ms: c_int) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

/// The text behind a pointer; `None` for null and for what is not UTF-8.
///
/// # Safety
/// `text` is null or a C string that lives as long as the result is used.
pub unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// Writes `text` into a caller's buffer, cut if need be, with a zero at the end.
///
/// # Safety
/// `to` is null or has room for `size` bytes.
pub unsafe fn write_text(text: &str, to: *mut c_char, size: usize) {
    if to.is_null() || size == 0 {
        return;
    }
    let mut len = text.len().min(size - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    // SAFETY: `len` bytes and the zero fit, by the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), len);
        *to.add(len) = 0;
    }
}

/// A copy of a text in libc memory, for the application to free.
pub fn allocate_text(text: &str) -> *mut c_char {
    // SAFETY: the block has room for the text and its zero.
    unsafe {
        let copy: *mut c_char = libc::malloc(text.len() + 1).cast();
        if !copy.is_null() {
            write_text(text, copy, text.len() + 1);
        }
        copy
    }
}

/// The code of a result, which also becomes the thread's last error if it is one.
pub fn code(result: Result<(), KafkaError>) -> RespErr {
    match result {
        Ok(()) => RespErr::NO_ERROR,
        Err(error) => {
            let code = public_code(&error);
            fail(code);
            code
        }
    }
}

/// The code that the application sees: fatal errors are `_FATAL`; `rd_kafka_fatal_error` tells the cause.
pub fn public_code(error: &KafkaError) -> RespErr {
    if error.fatal && error.code != ErrCode::STATE {
        RespErr::FATAL
    } else {
        error.code.into()
    }
}
