//! `rd_kafka_AdminOptions_t`.

use crate::{
    abi::RespErr,
    border::write_text,
    errors::{Error, give},
    instance::Instance,
};
use core::ffi::{c_char, c_int, c_void};
use ottla::KafkaError;
use std::{ptr, slice, time::Duration};

/// `rd_kafka_admin_op_t`.
pub mod op {
    use core::ffi::c_int;

    /// Any operation.
    pub const ANY: c_int = 0;
    /// `rd_kafka_CreateTopics`
    pub const CREATE_TOPICS: c_int = 1;
    /// `rd_kafka_DeleteTopics`
    pub const DELETE_TOPICS: c_int = 2;
    /// `rd_kafka_CreatePartitions`
    pub const CREATE_PARTITIONS: c_int = 3;
    /// `rd_kafka_AlterConfigs`
    pub const ALTER_CONFIGS: c_int = 4;
    /// `rd_kafka_DeleteRecords`
    pub const DELETE_RECORDS: c_int = 6;
    /// `rd_kafka_ListConsumerGroups`
    pub const LIST_CONSUMER_GROUPS: c_int = 12;
    /// `rd_kafka_DescribeConsumerGroups`
    pub const DESCRIBE_CONSUMER_GROUPS: c_int = 13;
    /// `rd_kafka_ListConsumerGroupOffsets`
    pub const LIST_CONSUMER_GROUP_OFFSETS: c_int = 14;
    /// `rd_kafka_IncrementalAlterConfigs`
    pub const INCREMENTAL_ALTER_CONFIGS: c_int = 16;
    /// `rd_kafka_DescribeTopics`
    pub const DESCRIBE_TOPICS: c_int = 19;
    /// `rd_kafka_DescribeCluster`
    pub const DESCRIBE_CLUSTER: c_int = 20;
    /// `rd_kafka_ListOffsets`
    pub const LIST_OFFSETS: c_int = 21;
    /// `rd_kafka_ElectLeaders`
    pub const ELECT_LEADERS: c_int = 22;
    /// `RD_KAFKA_ADMIN_OP__CNT`
    pub const COUNT: c_int = 23;
}

/// `rd_kafka_AdminOptions_t`.
#[derive(Clone, Debug, Default)]
pub struct AdminOptions {
    for_api: c_int,
    request_timeout: Option<c_int>,
    operation_timeout: Option<c_int>,
    /// Only say whether it could be done.
    pub validate_only: bool,
    broker: Option<i32>,
    require_stable_offsets: bool,
    authorized_operations: bool,
    read_committed: bool,
    /// `rd_kafka_consumer_group_state_t`
    pub group_states: Vec<c_int>,
    /// `rd_kafka_consumer_group_type_t`
    pub group_types: Vec<c_int>,
    /// The application's pointer.
    pub opaque: usize,
}

const HOUR_MS: c_int = 3_600_000;

impl AdminOptions {
    /// How long the whole call may take: `socket.timeout.ms` unless it was set.
    pub(crate) fn request_timeout(&self, instance: &Instance) -> Duration {
        let ms = self.request_timeout.unwrap_or_else(|| {
            let default = instance.conf.config.get("socket.timeout.ms");
            default
                .ok()
                .and_then(|ms| ms.parse().ok())
                .unwrap_or(60_000)
        });
        Duration::from_millis(ms.max(0) as u64)
    }

    pub(crate) fn for_admin(&self) -> ottla::AdminOptions {
        ottla::AdminOptions {
            broker: self.broker,
            operation_timeout: self
                .operation_timeout
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
            read_committed: self.read_committed,
            require_stable_offsets: self.require_stable_offsets,
            authorized_operations: self.authorized_operations,
        }
    }

    /// Whether the operation that the options are for has this one.
    fn check(&self, name: &str, operations: &[c_int]) -> Result<(), KafkaError> {
        if self.for_api == op::ANY || operations.contains(&self.for_api) {
            return Ok(());
        }
        let text = format!("\"{name}\" is not supported for this operation");
        Err(KafkaError::new(ottla::ErrCode::INVALID_ARG, text))
    }
}

/// Sets a number that has a range, for some operations or (empty) for all.
unsafe fn set_number(
    options: *mut AdminOptions,
    (name, min, max, operations): (&str, c_int, c_int, &[c_int]),
    value: c_int,
    (errstr, size): (*mut c_char, usize),
    set: impl FnOnce(&mut AdminOptions),
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null or options that only the caller uses now; a buffer of the size that the caller names.
        unsafe {
            let Some(options) = options.as_mut() else {
                return RespErr::INVALID_ARG;
            };
            let allowed = match operations {
                [] => Ok(()),
                operations => options.check(name, operations),
            };
            let text = match allowed {
                Err(error) => error.message.to_string(),
                Ok(()) if value < min || value > max => format!(
                    "Invalid value type for \"{name}\": expecting integer in range {min}..{max}"
                ),
                Ok(()) => {
                    set(options);
                    return RespErr::NO_ERROR;
                }
            };
            write_text(&text, errstr, size);
            RespErr::INVALID_ARG
        }
    })
}

/// Options for an operation, or for any (`RD_KAFKA_ADMIN_OP_ANY`); null if there is no such operation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_new(
    rk: *mut Instance,
    for_api: c_int,
) -> *mut AdminOptions {
    if rk.is_null() || !(op::ANY..op::COUNT).contains(&for_api) {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(AdminOptions {
        for_api,
        ..AdminOptions::default()
    }))
}

/// Frees options; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_destroy(options: *mut AdminOptions) {
    // SAFETY: passed on.
    unsafe { super::destroy(options) }
}

/// How long the whole call may take, 0 to 3,600,000 ms; `socket.timeout.ms` otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_request_timeout(
    options: *mut AdminOptions,
    timeout_ms: c_int,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    // SAFETY: passed on.
    unsafe {
        let row = ("request_timeout", 0, HOUR_MS, &[][..]);
        set_number(options, row, timeout_ms, (errstr, errstr_size), |options| {
            options.request_timeout = Some(timeout_ms);
        })
    }
}

/// How long the broker may work before it answers, -1 to 3,600,000 ms: creating, growing and deleting topics, deleting records.
/// An embedded broker answers when it is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_operation_timeout(
    options: *mut AdminOptions,
    timeout_ms: c_int,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    const OPERATIONS: &[c_int] = &[
        op::CREATE_TOPICS,
        op::DELETE_TOPICS,
        op::CREATE_PARTITIONS,
        op::DELETE_RECORDS,
        op::ELECT_LEADERS,
    ];
    // SAFETY: passed on.
    unsafe {
        let row = ("operation_timeout", -1, HOUR_MS, OPERATIONS);
        set_number(options, row, timeout_ms, (errstr, errstr_size), |options| {
            options.operation_timeout = Some(timeout_ms);
        })
    }
}

/// Only say whether it could be done: creating topics and partitions, altering configurations.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_validate_only(
    options: *mut AdminOptions,
    true_or_false: c_int,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    const OPERATIONS: &[c_int] = &[
        op::CREATE_TOPICS,
        op::CREATE_PARTITIONS,
        op::ALTER_CONFIGS,
        op::INCREMENTAL_ALTER_CONFIGS,
    ];
    // SAFETY: passed on.
    unsafe {
        let row = ("validate_only", 0, 1, OPERATIONS);
        set_number(
            options,
            row,
            true_or_false,
            (errstr, errstr_size),
            |options| {
                options.validate_only = true_or_false != 0;
            },
        )
    }
}

/// Ask this broker (node id) in place of the one that would be asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_broker(
    options: *mut AdminOptions,
    broker_id: i32,
    errstr: *mut c_char,
    errstr_size: usize,
) -> RespErr {
    // SAFETY: passed on.
    unsafe {
        let row = ("broker", 0, c_int::MAX, &[][..]);
        set_number(options, row, broker_id, (errstr, errstr_size), |options| {
            options.broker = Some(broker_id);
        })
    }
}

/// Sets something for one operation; null is success.
unsafe fn set_for(
    options: *mut AdminOptions,
    name: &str,
    operations: &[c_int],
    set: impl FnOnce(&mut AdminOptions) -> Result<(), KafkaError>,
) -> *mut Error {
    guard!(ptr::null_mut(), {
        // SAFETY: null or options that only the caller uses now.
        let Some(options) = (unsafe { options.as_mut() }) else {
            return give(super::invalid("no options"));
        };
        match options.check(name, operations).and_then(|()| set(options)) {
            Ok(()) => ptr::null_mut(),
            Err(error) => give(error),
        }
    })
}

fn boolean(name: &str, value: c_int) -> Result<bool, KafkaError> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(KafkaError::new(
            ottla::ErrCode::INVALID_ARG,
            format!("Invalid value type for \"{name}\": expecting integer in range 0..1"),
        )),
    }
}

/// Whether committed offsets wait for transactions that commit others (`rd_kafka_ListConsumerGroupOffsets`). Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_require_stable_offsets(
    options: *mut AdminOptions,
    true_or_false: c_int,
) -> *mut Error {
    let name = "require_stable_offsets";
    // SAFETY: passed on.
    unsafe {
        set_for(
            options,
            name,
            &[op::LIST_CONSUMER_GROUP_OFFSETS],
            |options| {
                options.require_stable_offsets = boolean(name, true_or_false)?;
                Ok(())
            },
        )
    }
}

/// Whether descriptions tell what the asker may do. Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_include_authorized_operations(
    options: *mut AdminOptions,
    true_or_false: c_int,
) -> *mut Error {
    const OPERATIONS: &[c_int] = &[
        op::DESCRIBE_CONSUMER_GROUPS,
        op::DESCRIBE_TOPICS,
        op::DESCRIBE_CLUSTER,
    ];
    let name = "include_authorized_operations";
    // SAFETY: passed on.
    unsafe {
        set_for(options, name, OPERATIONS, |options| {
            options.authorized_operations = boolean(name, true_or_false)?;
            Ok(())
        })
    }
}

/// Numbers of an enum out of an array: each once, and between the first and the last that means something.
unsafe fn numbers(
    array: *const c_int,
    count: usize,
    last: c_int,
    (what, duplicate): (&'static str, &'static str),
) -> Result<Vec<c_int>, KafkaError> {
    let given = match array.is_null() {
        true => &[],
        // SAFETY: as many numbers as the caller says.
        false => unsafe { slice::from_raw_parts(array, count) },
    };
    if given.iter().any(|number| !(0..=last).contains(number)) {
        return Err(super::invalid(what));
    }
    if super::has_duplicates(given) {
        return Err(super::invalid(duplicate));
    }
    Ok(given.to_vec())
}

/// Only groups in these states (`rd_kafka_ListConsumerGroups`). Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_match_consumer_group_states(
    options: *mut AdminOptions,
    consumer_group_states: *const c_int,
    consumer_group_states_cnt: usize,
) -> *mut Error {
    let name = "match_consumer_group_states";
    // SAFETY: passed on.
    unsafe {
        set_for(options, name, &[op::LIST_CONSUMER_GROUPS], |options| {
            let texts = ("Invalid group state value", "Duplicate states not allowed");
            let count = consumer_group_states_cnt;
            options.group_states = numbers(consumer_group_states, count, 5, texts)?;
            Ok(())
        })
    }
}

/// Only groups of these types (`rd_kafka_ListConsumerGroups`). Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_match_consumer_group_types(
    options: *mut AdminOptions,
    consumer_group_types: *const c_int,
    consumer_group_types_cnt: usize,
) -> *mut Error {
    let name = "match_consumer_group_types";
    // SAFETY: passed on.
    unsafe {
        set_for(options, name, &[op::LIST_CONSUMER_GROUPS], |options| {
            let texts = ("Invalid group type value", "Duplicate types not allowed");
            let count = consumer_group_types_cnt;
            let types = numbers(consumer_group_types, count, 2, texts)?;
            if types.contains(&0) {
                return Err(super::invalid("UNKNOWN group type is not allowed"));
            }
            options.group_types = types;
            Ok(())
        })
    }
}

/// Whether offsets count that transactions have not committed (`rd_kafka_ListOffsets`). Null is success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_isolation_level(
    options: *mut AdminOptions,
    value: c_int,
) -> *mut Error {
    let name = "isolation_level";
    // SAFETY: passed on.
    unsafe {
        set_for(options, name, &[op::LIST_OFFSETS], |options| {
            options.read_committed = boolean(name, value)?;
            Ok(())
        })
    }
}

/// The pointer that `rd_kafka_event_opaque` of the result gives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AdminOptions_set_opaque(
    options: *mut AdminOptions,
    ev_opaque: *mut c_void,
) {
    // SAFETY: null or options that only the caller uses now.
    if let Some(options) = unsafe { options.as_mut() } {
        options.opaque = ev_opaque.expose_provenance();
    }
}
