//! Log lines.

use crate::{errors::c_string, instance::Instance};
use core::ffi::{c_char, c_int};
use ottla::LogLine;
use std::{
    ffi::CStr,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

impl Instance {
    /// Gives a line to the application's function.
    pub fn log(&self, line: &LogLine) {
        if let Some(callback) = self.conf.callbacks.log {
            let (facility, text) = (c_string(line.facility), c_string(&line.message));
            // SAFETY: the application's function, called as its type says.
            unsafe {
                callback(
                    self.as_ptr(),
                    line.level.into(),
                    facility.as_ptr(),
                    text.as_ptr(),
                )
            };
        }
    }
}

unsafe fn lossy<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: the caller hands null or C strings.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

/// A log function: writes the line to standard error. The default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_log_print(
    rk: *const Instance,
    level: c_int,
    fac: *const c_char,
    buf: *const c_char,
) {
    guard!((), {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // SAFETY: null or a handle, null or C strings.
        let line = unsafe {
            let name = rk
                .as_ref()
                .map_or("".into(), |instance| instance.name().to_string_lossy());
            format!(
                "%{level}|{}.{:03}|{}|{name}| {}\n",
                time.as_secs(),
                time.subsec_millis(),
                lossy(fac),
                lossy(buf)
            )
        };
        let _ = std::io::stderr().write_all(line.as_bytes());
    })
}

/// A log function: writes the line to syslog.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_log_syslog(
    rk: *const Instance,
    level: c_int,
    fac: *const c_char,
    buf: *const c_char,
) {
    guard!((), {
        // SAFETY: null or a handle, null or C strings; the format takes one string.
        unsafe {
            let name = rk
                .as_ref()
                .map_or("".into(), |instance| instance.name().to_string_lossy());
            let line = c_string(&format!("{}: {name}: {}", lossy(fac), lossy(buf)));
            libc::syslog(level, c"%s".as_ptr(), line.as_ptr());
        }
    })
}

/// Which lines are logged from now on: 0 (emergencies) to 7 (debugging).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_set_log_level(rk: *mut Instance, level: c_int) {
    guard!((), {
        // SAFETY: null or a handle.
        if let Some(handle) = unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok()) {
            handle.set_log_level(level.clamp(0, 7) as u8);
        }
    })
}
