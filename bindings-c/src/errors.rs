//! Error codes, their names and texts, and `rd_kafka_error_t`.

use crate::{
    abi::{ErrDesc, RespErr},
    border::{fail, last_error, public_code, text, write_text},
    instance::Instance,
};
use core::ffi::{c_char, c_int};
use ottla::{ErrCode, KafkaError};
use std::{cell::RefCell, ffi::CString, ptr, sync::OnceLock};

/// `rd_kafka_error_t`.
pub struct Error {
    error: KafkaError,
    text: CString,
    name: CString,
}

/// An error for the application; it frees it with `rd_kafka_error_destroy`.
pub fn give(error: KafkaError) -> *mut Error {
    fail(public_code(&error));
    Box::into_raw(Box::new(new_error(error)))
}

/// The same, for those that keep it.
pub(crate) fn new_error(error: KafkaError) -> Error {
    Error {
        text: c_string(&error.message),
        name: c_string(&error.code.to_string()),
        error,
    }
}

/// Null for success.
pub fn give_result(result: Result<(), KafkaError>) -> *mut Error {
    result.map_or_else(give, |()| ptr::null_mut())
}

/// A C string; zero bytes inside are left out.
pub fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

struct Known {
    descriptions: Vec<ErrDesc>,
    /// What the descriptions point into.
    _texts: Vec<CString>,
}

// SAFETY: the pointers lead to the strings beside them, which nobody changes.
unsafe impl Send for Known {}
// SAFETY: as above.
unsafe impl Sync for Known {}

fn known() -> &'static [ErrDesc] {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    &KNOWN
        .get_or_init(|| {
            let (mut descriptions, mut texts) = (Vec::new(), Vec::new());
            for (code, name, meaning) in ErrCode::all() {
                let (name, meaning) = (c_string(name), c_string(meaning));
                descriptions.push(ErrDesc {
                    code: code.into(),
                    name: name.as_ptr(),
                    desc: meaning.as_ptr(),
                });
                texts.extend([name, meaning]);
            }
            Known {
                descriptions,
                _texts: texts,
            }
        })
        .descriptions
}

fn describe(err: RespErr) -> Option<&'static ErrDesc> {
    let known = known();
    known
        .binary_search_by_key(&err.0, |d| d.code.0)
        .ok()
        .map(|i| &known[i])
}

/// A text for a number that nobody knows; valid until the thread asks for another.
fn unknown(text: String) -> *const c_char {
    thread_local! {
        static TEXT: RefCell<CString> = RefCell::default();
    }
    TEXT.with(|place| {
        *place.borrow_mut() = c_string(&text);
        place.borrow().as_ptr()
    })
}

/// All errors: an array of `*cntp` descriptions in ascending order of their codes, valid for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_get_err_descs(errdescs: *mut *const ErrDesc, cntp: *mut usize) {
    guard!((), {
        let known = known();
        // SAFETY: null or the caller's to be written.
        unsafe {
            if let Some(errdescs) = errdescs.as_mut() {
                *errdescs = known.as_ptr();
            }
            if let Some(cntp) = cntp.as_mut() {
                *cntp = known.len();
            }
        }
    })
}

/// What an error means, for people. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_err2str(err: RespErr) -> *const c_char {
    guard!(
        c"Unknown error".as_ptr(),
        describe(err).map_or_else(|| unknown(format!("Err-{}?", err.0)), |d| d.desc)
    )
}

/// An error's name without `RD_KAFKA_RESP_ERR_`. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_err2name(err: RespErr) -> *const c_char {
    guard!(
        c"ERR_UNKNOWN?".as_ptr(),
        describe(err).map_or_else(|| unknown(format!("ERR_{}?", err.0)), |d| d.name)
    )
}

/// Why the last call of this thread failed, of those that say only that they failed (-1 or null).
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_last_error() -> RespErr {
    last_error()
}

/// The error code nearest to one of the system's.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_errno2err(errnox: c_int) -> RespErr {
    match errnox {
        0 => ErrCode::NO_ERROR,
        libc::EINVAL => ErrCode::INVALID_ARG,
        libc::EBUSY => ErrCode::CONFLICT,
        libc::ENOENT => ErrCode::UNKNOWN_TOPIC,
        libc::ESRCH => ErrCode::UNKNOWN_PARTITION,
        libc::ETIMEDOUT => ErrCode::TIMED_OUT,
        libc::EMSGSIZE => ErrCode::MSG_SIZE_TOO_LARGE,
        libc::ENOBUFS => ErrCode::QUEUE_FULL,
        libc::ECANCELED => ErrCode::FATAL,
        _ => ErrCode::FAIL,
    }
    .into()
}

/// The thread's `errno`, for languages that can't read it.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_errno() -> c_int {
    // SAFETY: errno is the thread's own.
    unsafe { *libc::__errno_location() }
}

/// The error that made the handle useless, with its text, or `RD_KAFKA_RESP_ERR_NO_ERROR`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_fatal_error(
    rk: *mut Instance,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or a handle of this library; the buffer has the size that the caller names.
        unsafe {
            let fatal = rk.as_ref().and_then(|rk| rk.handle().ok()?.fatal_error());
            match fatal {
                Some(error) => {
                    write_text(&error.message, errstr, errstr_size);
                    error.code.into()
                }
                None => RespErr::NO_ERROR,
            }
        }
    })
}

/// The error's code; `RD_KAFKA_RESP_ERR_NO_ERROR` for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_code(error: *const Error) -> RespErr {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(RespErr::NO_ERROR, |e| e.error.code.into())
}

/// The error's name, like that of `rd_kafka_err2name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_name(error: *const Error) -> *const c_char {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(c"NO_ERROR".as_ptr(), |e| e.name.as_ptr())
}

/// The error's text, for people; as long as the error lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_string(error: *const Error) -> *const c_char {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(c"Success".as_ptr(), |e| e.text.as_ptr())
}

/// 1 if the handle is of no use any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_is_fatal(error: *const Error) -> c_int {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(0, |e| e.error.fatal.into())
}

/// 1 if the same call may succeed later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_is_retriable(error: *const Error) -> c_int {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(0, |e| e.error.retriable.into())
}

/// 1 if the transaction can only be aborted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_txn_requires_abort(error: *const Error) -> c_int {
    // SAFETY: null or an error of this library.
    unsafe { error.as_ref() }.map_or(0, |e| e.error.txn_requires_abort.into())
}

/// Frees an error; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_error_destroy(error: *mut Error) {
    if !error.is_null() {
        // SAFETY: the caller gives the error up.
        drop(unsafe { Box::from_raw(error) });
    }
}

/// For `rd_kafka_error_new`, which is variadic and so written in C. Not part of the API.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_new(code: RespErr, message: *const c_char) -> *mut Error {
    guard!(ptr::null_mut(), {
        let code = ErrCode(code.0);
        // SAFETY: null or a C string.
        let error = match unsafe { text(message) } {
            Some(text) => KafkaError::new(code, text.to_owned()),
            None => KafkaError::from(code),
        };
        Box::into_raw(Box::new(new_error(error)))
    })
}
