//! The application's functions in a configuration.

use crate::{
    abi::{Message, RespErr, TopicPartitionList},
    conf::{Conf, TopicConf},
    event::Event,
    instance::Instance,
    topic::Topic,
};
use core::ffi::{c_char, c_int, c_void};
use std::ptr;

/// Old kind of delivery report.
pub type DeliveryCallback =
    unsafe extern "C" fn(*mut Instance, *mut c_void, usize, RespErr, *mut c_void, *mut c_void);
/// Delivery report.
pub type DeliveryMessageCallback = unsafe extern "C" fn(*mut Instance, *const Message, *mut c_void);
/// Consumed message.
pub type ConsumeCallback = unsafe extern "C" fn(*mut Message, *mut c_void);
/// Rebalance.
pub type RebalanceCallback =
    unsafe extern "C" fn(*mut Instance, RespErr, *mut TopicPartitionList, *mut c_void);
/// Commit.
pub type OffsetCommitCallback =
    unsafe extern "C" fn(*mut Instance, RespErr, *mut TopicPartitionList, *mut c_void);
/// Error.
pub type ErrorCallback = unsafe extern "C" fn(*mut Instance, c_int, *const c_char, *mut c_void);
/// Throttling.
pub type ThrottleCallback =
    unsafe extern "C" fn(*mut Instance, *const c_char, i32, c_int, *mut c_void);
/// Log line.
pub type LogCallback = unsafe extern "C" fn(*const Instance, c_int, *const c_char, *const c_char);
/// Statistics.
pub type StatsCallback =
    unsafe extern "C" fn(*mut Instance, *mut c_char, usize, *mut c_void) -> c_int;
/// Event of the background queue.
pub type BackgroundEventCallback = unsafe extern "C" fn(*mut Instance, *mut Event, *mut c_void);
/// Partitioner.
pub type PartitionerCallback =
    unsafe extern "C" fn(*const Topic, *const c_void, usize, i32, *mut c_void, *mut c_void) -> i32;
/// Something has come into a queue.
pub type QueueCallback = unsafe extern "C" fn(*mut Instance, *mut c_void);

/// The functions, the pointer that they get, and which events are wanted in their place.
#[derive(Clone, Copy)]
pub struct Callbacks {
    pub(crate) delivery: Option<DeliveryCallback>,
    pub(crate) delivery_message: Option<DeliveryMessageCallback>,
    pub(crate) consume: Option<ConsumeCallback>,
    pub(crate) rebalance: Option<RebalanceCallback>,
    pub(crate) offset_commit: Option<OffsetCommitCallback>,
    pub(crate) error: Option<ErrorCallback>,
    pub(crate) throttle: Option<ThrottleCallback>,
    pub(crate) log: Option<LogCallback>,
    pub(crate) stats: Option<StatsCallback>,
    pub(crate) background_event: Option<BackgroundEventCallback>,
    pub(crate) opaque: *mut c_void,
    pub(crate) events: c_int,
}

// SAFETY: the opaque pointer is the application's own affair.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

impl Default for Callbacks {
    fn default() -> Self {
        Self {
            delivery: None,
            delivery_message: None,
            consume: None,
            rebalance: None,
            offset_commit: None,
            error: None,
            throttle: None,
            log: Some(crate::log::rd_kafka_log_print),
            stats: None,
            background_event: None,
            opaque: ptr::null_mut(),
            events: 0,
        }
    }
}

/// Changes the callbacks of a configuration.
unsafe fn change(conf: *mut Conf, change: impl FnOnce(&mut Callbacks)) {
    // SAFETY: null or a configuration of this library.
    if let Some(conf) = unsafe { conf.as_mut() } {
        change(&mut conf.callbacks);
    }
}

/// Which kinds of events (`RD_KAFKA_EVENT_*`, joined with |) the application polls from queues with `rd_kafka_queue_poll`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_events(conf: *mut Conf, events: c_int) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.events = events) }
}

/// A thread of the library calls this function with the events of the background queue (`rd_kafka_queue_get_background`). It has
/// to destroy them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_background_event_cb(
    conf: *mut Conf,
    event_cb: Option<BackgroundEventCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.background_event = event_cb) }
}

/// Delivery reports, an old form: see `rd_kafka_conf_set_dr_msg_cb`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_dr_cb(conf: *mut Conf, dr_cb: Option<DeliveryCallback>) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.delivery = dr_cb) }
}

/// Delivery reports: called by `rd_kafka_poll` and `rd_kafka_flush`, once for each message, which is the library's and gone
/// afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_dr_msg_cb(
    conf: *mut Conf,
    dr_msg_cb: Option<DeliveryMessageCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.delivery_message = dr_msg_cb) }
}

/// Consumed messages, for those who call `rd_kafka_queue_poll_callback`. The message is the library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_consume_cb(
    conf: *mut Conf,
    consume_cb: Option<ConsumeCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.consume = consume_cb) }
}

/// The group gives (`RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS`) or takes (`RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS`) partitions, and
/// waits until the function calls `rd_kafka_assign` with them or with null; with the cooperative protocol,
/// `rd_kafka_incremental_assign` or `rd_kafka_incremental_unassign`. Without such a function the library does that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_rebalance_cb(
    conf: *mut Conf,
    rebalance_cb: Option<RebalanceCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.rebalance = rebalance_cb) }
}

/// An asynchronous or automatic commit is done. `RD_KAFKA_RESP_ERR__NO_OFFSET`: there was nothing to commit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_offset_commit_cb(
    conf: *mut Conf,
    offset_commit_cb: Option<OffsetCommitCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.offset_commit = offset_commit_cb) }
}

/// Errors that concern the whole handle. `RD_KAFKA_RESP_ERR__FATAL`: ask `rd_kafka_fatal_error`. Without such a function they are
/// logged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_error_cb(
    conf: *mut Conf,
    error_cb: Option<ErrorCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.error = error_cb) }
}

/// A broker makes the client wait, because a quota is used up: its `host:port`, its node id, and for how many milliseconds it takes nothing
/// more. Called by polls for every answer that says so, and with 0 for the first afterwards that doesn't, as librdkafka does, of whichever kind
/// they are. Programs that poll queues for events get it, too, by `rd_kafka_queue_poll`: there is no event of that kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_throttle_cb(
    conf: *mut Conf,
    throttle_cb: Option<ThrottleCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.throttle = throttle_cb) }
}

/// Log lines, from any thread, at times with the handle locked: it must not call the handle but for its name. With
/// `log.queue=true` they come from a poll. Default: `rd_kafka_log_print`; null: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_log_cb(conf: *mut Conf, log_cb: Option<LogCallback>) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.log = log_cb) }
}

/// Statistics as JSON, every `statistics.interval.ms`. A function that returns 1 keeps the text and frees it with `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_stats_cb(
    conf: *mut Conf,
    stats_cb: Option<StatsCallback>,
) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.stats = stats_cb) }
}

/// The pointer that the functions get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_opaque(conf: *mut Conf, opaque: *mut c_void) {
    // SAFETY: passed on.
    unsafe { change(conf, |callbacks| callbacks.opaque = opaque) }
}

/// The configuration of topics that have none of their own. It becomes the library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set_default_topic_conf(
    conf: *mut Conf,
    tconf: *mut TopicConf,
) {
    guard!((), {
        // SAFETY: null or configurations of this library; the second is given up.
        unsafe {
            if let (Some(conf), false) = (conf.as_mut(), tconf.is_null()) {
                conf.set_default_topic(Box::from_raw(tconf));
            }
        }
    })
}
