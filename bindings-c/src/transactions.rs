//! Transactions come with a later version: each of these says so.

use crate::{
    abi::TopicPartitionList,
    errors::{Error, give},
    group_metadata::GroupMetadata,
    instance::Instance,
};
use core::ffi::c_int;
use ottla::{ErrCode, KafkaError};

fn refuse() -> *mut Error {
    guard!(
        std::ptr::null_mut(),
        give(KafkaError::new(
            ErrCode::UNSUPPORTED_FEATURE,
            "Transactions come with a later version of Ottla"
        ))
    )
}

/// Transactions come with a later version: gives `RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_init_transactions(
    _rk: *mut Instance,
    _timeout_ms: c_int,
) -> *mut Error {
    refuse()
}

/// Transactions come with a later version: gives `RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_begin_transaction(_rk: *mut Instance) -> *mut Error {
    refuse()
}

/// Transactions come with a later version: gives `RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_send_offsets_to_transaction(
    _rk: *mut Instance,
    _offsets: *const TopicPartitionList,
    _cgmetadata: *const GroupMetadata,
    _timeout_ms: c_int,
) -> *mut Error {
    refuse()
}

/// Transactions come with a later version: gives `RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_commit_transaction(
    _rk: *mut Instance,
    _timeout_ms: c_int,
) -> *mut Error {
    refuse()
}

/// Transactions come with a later version: gives `RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_abort_transaction(
    _rk: *mut Instance,
    _timeout_ms: c_int,
) -> *mut Error {
    refuse()
}
