//! `rd_kafka_consumer_group_metadata_t`.

use crate::{border::text, errors::c_string, instance::Instance};
use core::ffi::c_char;
use std::{ffi::CString, ptr};

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
