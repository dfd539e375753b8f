//! `rd_kafka_consumer_group_metadata_t`.

use crate::{
    border::text,
    errors::{Error, c_string, give},
    instance::Instance,
};
use core::ffi::{CStr, c_char, c_void};
use ottla::{ErrCode, KafkaError};
use std::{ffi::CString, ptr, slice};

/// What a consumer is in its group.
pub struct GroupMetadata {
    group_id: CString,
    generation: i32,
    member_id: CString,
    group_instance_id: Option<CString>,
}

/// What the consumer is in its group; null if it has no `group.id`. The application destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata(rk: *mut Instance) -> *mut GroupMetadata {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a handle.
        let found =
            unsafe { rk.as_ref() }.and_then(|instance| instance.handle().ok()?.group_metadata());
        found.map_or(ptr::null_mut(), |found| {
            Box::into_raw(Box::new(GroupMetadata {
                group_id: c_string(&found.group_id),
                generation: found.generation,
                member_id: c_string(&found.member_id),
                group_instance_id: found.group_instance_id.as_ref().map(|id| c_string(id)),
            }))
        })
    })
}

/// Metadata of a group without a member.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_new(
    group_id: *const c_char,
) -> *mut GroupMetadata {
    // SAFETY: passed on.
    unsafe {
        rd_kafka_consumer_group_metadata_new_with_genid(group_id, -1, c"".as_ptr(), ptr::null())
    }
}

/// Metadata of a member.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_new_with_genid(
    group_id: *const c_char,
    generation_id: i32,
    member_id: *const c_char,
    group_instance_id: *const c_char,
) -> *mut GroupMetadata {
    guard!(ptr::null_mut(), {
        // SAFETY: null or C strings.
        unsafe {
            let Some(group_id) = text(group_id) else {
                return ptr::null_mut();
            };
            Box::into_raw(Box::new(GroupMetadata {
                group_id: c_string(group_id),
                generation: generation_id,
                member_id: c_string(text(member_id).unwrap_or_default()),
                group_instance_id: text(group_instance_id).map(c_string),
            }))
        }
    })
}

/// What librdkafka's serialized form begins with. The generation follows in the machine's byte order, then group and member as C
/// strings, a byte that is 1 if there is no group instance id, and that id as a C string if there is one.
const MAGIC: &[u8] = b"CGMDv2:";

impl GroupMetadata {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.generation.to_ne_bytes());
        bytes.extend(self.group_id.as_bytes_with_nul());
        bytes.extend(self.member_id.as_bytes_with_nul());
        bytes.push(self.group_instance_id.is_none().into());
        if let Some(id) = &self.group_instance_id {
            bytes.extend(id.as_bytes_with_nul());
        }
        bytes
    }

    /// Errors are librdkafka's texts.
    fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        const BAD_LENGTH: &str = "Input buffer bad length";
        fn string(bytes: &mut &[u8]) -> Result<CString, &'static str> {
            let found = CStr::from_bytes_until_nul(bytes).map_err(|_| BAD_LENGTH)?;
            *bytes = &bytes[found.count_bytes() + 1..];
            Ok(found.to_owned())
        }
        // Generation, two empty strings and the flag.
        if bytes.len() < MAGIC.len() + 7 {
            return Err("Input buffer is too short");
        }
        let mut rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("Input buffer is not a serialized consumer group metadata object")?;
        let (generation, after) = rest.split_first_chunk().ok_or(BAD_LENGTH)?;
        rest = after;
        let (group_id, member_id) = (string(&mut rest)?, string(&mut rest)?);
        let (is_null, after) = rest.split_first().ok_or(BAD_LENGTH)?;
        rest = after;
        let group_instance_id = match is_null {
            0 => Some(string(&mut rest)?),
            _ => None,
        };
        if !rest.is_empty() {
            return Err(BAD_LENGTH);
        }
        Ok(Self {
            group_id,
            generation: i32::from_ne_bytes(*generation),
            member_id,
            group_instance_id,
        })
    }
}

/// Serializes it for bindings: `*bufferp`, to be freed with `rd_kafka_mem_free`, has `*sizep` bytes. Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_write(
    cgmd: *const GroupMetadata,
    bufferp: *mut *mut c_void,
    sizep: *mut usize,
) -> *mut Error {
    guard!(ptr::null_mut(), {
        // SAFETY: null or an object of this library, null or the caller's to be written.
        unsafe {
            let (Some(cgmd), Some(bufferp), Some(sizep)) =
                (cgmd.as_ref(), bufferp.as_mut(), sizep.as_mut())
            else {
                return give(KafkaError::from(ErrCode::INVALID_ARG));
            };
            let bytes = cgmd.to_bytes();
            let buffer = libc::malloc(bytes.len());
            if buffer.is_null() {
                return give(KafkaError::from(ErrCode::CRIT_SYS_RESOURCE));
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len());
            (*bufferp, *sizep) = (buffer, bytes.len());
            ptr::null_mut()
        }
    })
}

/// Reads what `rd_kafka_consumer_group_metadata_write` wrote on a machine of this kind, librdkafka's as well. Null is success, and
/// `*cgmdp` is the application's to destroy; `RD_KAFKA_RESP_ERR__BAD_MSG` says that the bytes are something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_read(
    cgmdp: *mut *mut GroupMetadata,
    buffer: *const c_void,
    size: usize,
) -> *mut Error {
    guard!(ptr::null_mut(), {
        // SAFETY: null or the caller's to be written; null or as many bytes as the caller says.
        unsafe {
            let Some(cgmdp) = cgmdp.as_mut() else {
                return give(KafkaError::from(ErrCode::INVALID_ARG));
            };
            let bytes = match buffer.is_null() {
                true => &[],
                false => slice::from_raw_parts(buffer.cast::<u8>(), size),
            };
            match GroupMetadata::from_bytes(bytes) {
                Ok(read) => {
                    *cgmdp = Box::into_raw(Box::new(read));
                    ptr::null_mut()
                }
                Err(why) => give(KafkaError::new(ErrCode::BAD_MSG, why)),
            }
        }
    })
}

/// The group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_group_id(
    group_metadata: *const GroupMetadata,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { group_metadata.as_ref() }.map_or(ptr::null(), |m| m.group_id.as_ptr())
}

/// `group.instance.id`, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_group_instance_id(
    group_metadata: *const GroupMetadata,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { group_metadata.as_ref() }
        .and_then(|m| m.group_instance_id.as_ref())
        .map_or(ptr::null(), |id| id.as_ptr())
}

/// The member; empty outside of a group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_member_id(
    group_metadata: *const GroupMetadata,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { group_metadata.as_ref() }.map_or(ptr::null(), |m| m.member_id.as_ptr())
}

/// The generation; -1 outside of a group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_generation_id(
    group_metadata: *const GroupMetadata,
) -> i32 {
    // SAFETY: null or an object of this library.
    unsafe { group_metadata.as_ref() }.map_or(-1, |m| m.generation)
}

/// Frees it; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_metadata_destroy(
    group_metadata: *mut GroupMetadata,
) {
    if !group_metadata.is_null() {
        // SAFETY: the caller gives it up.
        drop(unsafe { Box::from_raw(group_metadata) });
    }
}
