//! `rd_kafka_headers_t`: an ordered list of names and values; names may repeat.
//!
//! Names and values that are handed out stay valid until the list changes or is destroyed. A value is followed by a zero
//! byte that doesn't count, so that C programs may print it.

use crate::abi::RespErr;
use core::ffi::{CStr, c_char, c_void};
use std::{ptr, slice};

/// A header list.
#[derive(Clone, Default)]
pub struct Headers {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    /// With a zero byte at the end.
    name: Box<[u8]>,
    /// With a zero byte at the end; `None` is Kafka's null value.
    value: Option<Box<[u8]>>,
}

fn with_zero(bytes: &[u8]) -> Box<[u8]> {
    let mut copy = Vec::with_capacity(bytes.len() + 1);
    copy.extend_from_slice(bytes);
    copy.push(0);
    copy.into_boxed_slice()
}

impl Headers {
    /// Appends a header.
    pub fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.entries.push(Entry {
            name: with_zero(name),
            value: value.map(with_zero),
        });
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries
            .iter()
            .map(|entry| (entry.name(), entry.value()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn name(&self) -> &[u8] {
        &self.name[..self.name.len() - 1]
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.as_deref().map(|value| &value[..value.len() - 1])
    }
}

/// An empty list.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_headers_new(initial_count: usize) -> *mut Headers {
    Box::into_raw(Box::new(Headers {
        entries: Vec::with_capacity(initial_count.min(1 << 16)),
    }))
}

/// Frees a list; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_headers_destroy(hdrs: *mut Headers) {
    if !hdrs.is_null() {
        // SAFETY: the caller gives the list up.
        drop(unsafe { Box::from_raw(hdrs) });
    }
}

/// A copy; null for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_headers_copy(src: *const Headers) -> *mut Headers {
    // SAFETY: null or a list of this library.
    unsafe { src.as_ref() }.map_or(ptr::null_mut(), |headers| {
        Box::into_raw(Box::new(headers.clone()))
    })
}

/// Number of headers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_cnt(hdrs: *const Headers) -> usize {
    // SAFETY: null or a list of this library.
    unsafe { hdrs.as_ref() }.map_or(0, |headers| headers.entries.len())
}

/// Appends a copy of a header. A size of -1 means a C string; a null value is Kafka's null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_add(
    hdrs: *mut Headers,
    name: *const c_char,
    name_size: isize,
    value: *const c_void,
    value_size: isize,
) -> RespErr {
    // SAFETY: the caller hands a list, and memory of the sizes that it names.
    unsafe {
        let (Some(headers), false) = (hdrs.as_mut(), name.is_null()) else {
            return RespErr::INVALID_ARG;
        };
        headers.push(
            bytes(name, name_size),
            (!value.is_null()).then(|| bytes(value.cast(), value_size)),
        );
    }
    RespErr::NO_ERROR
}

/// The bytes at a pointer that is not null; a negative size means a C string.
///
/// # Safety
/// `at` points to `size` bytes, or to a C string.
pub unsafe fn bytes<'a>(at: *const c_char, size: isize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe {
        if size < 0 {
            CStr::from_ptr(at).to_bytes()
        } else {
            slice::from_raw_parts(at.cast(), size as usize)
        }
    }
}

/// Removes all headers of a name; `RD_KAFKA_RESP_ERR__NOENT` if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_remove(
    hdrs: *mut Headers,
    name: *const c_char,
) -> RespErr {
    // SAFETY: null or a list, null or a C string.
    unsafe {
        let (Some(headers), false) = (hdrs.as_mut(), name.is_null()) else {
            return RespErr::INVALID_ARG;
        };
        let (name, before) = (bytes(name, -1), headers.entries.len());
        headers.entries.retain(|entry| entry.name() != name);
        if headers.entries.len() < before {
            RespErr::NO_ERROR
        } else {
            RespErr::NOENT
        }
    }
}

/// Writes out a header, or says that there is none.
unsafe fn give(
    entry: Option<&Entry>,
    namep: *mut *const c_char,
    valuep: *mut *const c_void,
    sizep: *mut usize,
) -> RespErr {
    let Some(entry) = entry else {
        return RespErr::NOENT;
    };
    // SAFETY: each of the pointers is null or the caller's to be written.
    unsafe {
        if let Some(namep) = namep.as_mut() {
            *namep = entry.name.as_ptr().cast();
        }
        if let Some(valuep) = valuep.as_mut() {
            *valuep = entry
                .value
                .as_ref()
                .map_or(ptr::null(), |value| value.as_ptr().cast());
        }
        if let Some(sizep) = sizep.as_mut() {
            *sizep = entry.value().map_or(0, <[u8]>::len);
        }
    }
    RespErr::NO_ERROR
}

/// The last header of a name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_get_last(
    hdrs: *const Headers,
    name: *const c_char,
    valuep: *mut *const c_void,
    sizep: *mut usize,
) -> RespErr {
    // SAFETY: null or a list, null or a C string; the rest as in `give`.
    unsafe {
        let (Some(headers), false) = (hdrs.as_ref(), name.is_null()) else {
            return RespErr::INVALID_ARG;
        };
        let name = bytes(name, -1);
        give(
            headers.entries.iter().rfind(|entry| entry.name() == name),
            ptr::null_mut(),
            valuep,
            sizep,
        )
    }
}

/// The header number `idx` among those of a name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_get(
    hdrs: *const Headers,
    idx: usize,
    name: *const c_char,
    valuep: *mut *const c_void,
    sizep: *mut usize,
) -> RespErr {
    // SAFETY: as in `rd_kafka_header_get_last`.
    unsafe {
        let (Some(headers), false) = (hdrs.as_ref(), name.is_null()) else {
            return RespErr::INVALID_ARG;
        };
        let name = bytes(name, -1);
        give(
            headers
                .entries
                .iter()
                .filter(|entry| entry.name() == name)
                .nth(idx),
            ptr::null_mut(),
            valuep,
            sizep,
        )
    }
}

/// The header number `idx` among all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_header_get_all(
    hdrs: *const Headers,
    idx: usize,
    namep: *mut *const c_char,
    valuep: *mut *const c_void,
    sizep: *mut usize,
) -> RespErr {
    // SAFETY: null or a list; the rest as in `give`.
    unsafe {
        let Some(headers) = hdrs.as_ref() else {
            return RespErr::INVALID_ARG;
        };
        give(headers.entries.get(idx), namep, valuep, sizep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_repeat_and_values_may_be_null() {
        // SAFETY: a list and strings of this test, used as the C API asks.
        unsafe {
            let headers = rd_kafka_headers_new(0);
            for (name, value) in [(c"a", c"1"), (c"b", c""), (c"a", c"2")] {
                rd_kafka_header_add(headers, name.as_ptr(), -1, value.as_ptr().cast(), -1);
            }
            rd_kafka_header_add(headers, c"null!".as_ptr(), 4, ptr::null(), 0);
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 9);
            assert_eq!(
                rd_kafka_header_get_last(headers, c"a".as_ptr(), &mut value, &mut size),
                RespErr::NO_ERROR
            );
            assert_eq!(bytes(value.cast(), size as isize), b"2");
            assert_eq!(
                rd_kafka_header_get(headers, 0, c"a".as_ptr(), &mut value, &mut size),
                RespErr::NO_ERROR
            );
            assert_eq!(bytes(value.cast(), -1), b"1");
            assert_eq!(
                rd_kafka_header_get(headers, 2, c"a".as_ptr(), &mut value, &mut size),
                RespErr::NOENT
            );
            assert_eq!(
                rd_kafka_header_get_all(headers, 3, &mut name, &mut value, &mut size),
                RespErr::NO_ERROR
            );
            assert_eq!(
                (bytes(name, -1), value.is_null(), size),
                (&b"null"[..], true, 0)
            );
            let copy = rd_kafka_headers_copy(headers);
            assert_eq!(
                rd_kafka_header_remove(headers, c"a".as_ptr()),
                RespErr::NO_ERROR
            );
            assert_eq!(
                rd_kafka_header_remove(headers, c"a".as_ptr()),
                RespErr::NOENT
            );
            assert_eq!(
                (rd_kafka_header_cnt(headers), rd_kafka_header_cnt(copy)),
                (2, 4)
            );
            rd_kafka_headers_destroy(headers);
            rd_kafka_headers_destroy(copy);
        }
    }
}
