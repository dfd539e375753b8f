//! Consumer groups: listing, describing, deleting.

use super::{
    Answer, Listed, OwnedList, answer, arguments, begin, cluster::Node, give_listed,
    give_operations, has_duplicates, invalid, operations, options::AdminOptions, result_of,
};
use crate::{
    abi::TopicPartitionList,
    border::text,
    errors::{Error, c_string, new_error},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
};
use core::ffi::{CStr, c_char, c_int};
use ottla::{Admin, ErrCode, KafkaError};
use std::{ffi::CString, ptr, slice, time::Duration};

/// `rd_kafka_DeleteGroup_t`.
pub struct DeleteGroup(String);

/// `rd_kafka_group_result_t`: what became of one group.
pub struct GroupResult {
    pub(super) group: CString,
    pub(super) error: Option<Error>,
    pub(super) partitions: OwnedList,
}

/// `rd_kafka_ConsumerGroupListing_t`.
pub struct GroupListing {
    group: CString,
    is_simple: bool,
    state: c_int,
    kind: c_int,
}

/// `rd_kafka_ConsumerGroupDescription_t`.
pub struct GroupDescription {
    group: CString,
    error: Option<Error>,
    is_simple: bool,
    assignor: CString,
    operations: Option<Vec<c_int>>,
    state: c_int,
    kind: c_int,
    coordinator: Option<Node>,
    members: Listed<MemberDescription>,
}

/// `rd_kafka_MemberDescription_t`.
pub struct MemberDescription {
    client_id: CString,
    consumer_id: CString,
    group_instance_id: Option<CString>,
    host: CString,
    assignment: MemberAssignment,
    target: Option<MemberAssignment>,
}

/// `rd_kafka_MemberAssignment_t`.
pub struct MemberAssignment(OwnedList);

/// Events of `rd_kafka_ListConsumerGroups`.
pub type ListConsumerGroupsResult = Event;
/// Events of `rd_kafka_DescribeConsumerGroups`.
pub type DescribeConsumerGroupsResult = Event;
/// Events of `rd_kafka_DeleteGroups`.
pub type DeleteGroupsResult = Event;

/// `rd_kafka_consumer_group_state_t`, by number.
const STATES: [&CStr; 6] = [
    c"Unknown",
    c"PreparingRebalance",
    c"CompletingRebalance",
    c"Stable",
    c"Dead",
    c"Empty",
];
const DEAD: c_int = 4;
/// `rd_kafka_consumer_group_type_t`, by number.
const TYPES: [&CStr; 3] = [c"Unknown", c"Consumer", c"Classic"];
const CLASSIC: c_int = 2;

fn code_of(names: &[&CStr], name: &str) -> c_int {
    let of = |known: &&CStr| known.to_bytes().eq_ignore_ascii_case(name.as_bytes());
    names.iter().position(of).unwrap_or(0) as c_int
}

fn name_of(names: &[&'static CStr], code: c_int) -> *const c_char {
    let name = usize::try_from(code).ok().and_then(|code| names.get(code));
    name.map_or(ptr::null(), |name| name.as_ptr())
}

fn names_of(names: &[&'static CStr], codes: &[c_int]) -> Vec<&'static str> {
    let name = |code: &c_int| names.get(*code as usize)?.to_str().ok();
    codes.iter().filter_map(name).collect()
}

/// A state's name; null for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_consumer_group_state_name(state: c_int) -> *const c_char {
    name_of(&STATES, state)
}

/// The state of a name, in any case; `RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN` for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_state_code(name: *const c_char) -> c_int {
    // SAFETY: null or a C string.
    code_of(&STATES, unsafe { text(name) }.unwrap_or_default())
}

/// A type's name; null for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_consumer_group_type_name(r#type: c_int) -> *const c_char {
    name_of(&TYPES, r#type)
}

/// The type of a name, in any case; `RD_KAFKA_CONSUMER_GROUP_TYPE_UNKNOWN` for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_consumer_group_type_code(name: *const c_char) -> c_int {
    // SAFETY: null or a C string.
    code_of(&TYPES, unsafe { text(name) }.unwrap_or_default())
}

/// Lists the consumer groups; an `RD_KAFKA_EVENT_LISTCONSUMERGROUPS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroups(
    rk: *mut Instance,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let kind = Event::LIST_CONSUMER_GROUPS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, options| {
                let states = names_of(&STATES, &options.group_states);
                let types = names_of(&TYPES, &options.group_types);
                let groups = admin.list_groups_of(&states, &types, timeout)?;
                // Groups of other protocols (Kafka Connect's, for one) are not consumers'.
                let listed = groups
                    .iter()
                    .filter(|group| matches!(&*group.protocol_type, "" | "consumer"))
                    .map(|group| GroupListing {
                        group: c_string(&group.group_id),
                        is_simple: group.protocol_type.is_empty(),
                        state: code_of(&STATES, &group.state),
                        kind: code_of(&TYPES, &group.group_type),
                    });
                Ok(Answer::GroupListings(Listed::new(listed.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_ListConsumerGroups_result(
    rkev: *mut Event,
) -> *const ListConsumerGroupsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::LIST_CONSUMER_GROUPS_RESULT) }
}

/// The groups: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroups_result_valid(
    result: *const ListConsumerGroupsResult,
    cntp: *mut usize,
) -> *mut *const GroupListing {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::LIST_CONSUMER_GROUPS_RESULT) {
            Some(Answer::GroupListings(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// Errors of brokers that could not be asked. There is one broker, whose error is the event's: the array is empty, and null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ListConsumerGroups_result_errors(
    _result: *const ListConsumerGroupsResult,
    cntp: *mut usize,
) -> *mut *const Error {
    // SAFETY: null or the caller's to be written.
    if let Some(count) = unsafe { cntp.as_mut() } {
        *count = 0;
    }
    ptr::null_mut()
}

/// The group's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupListing_group_id(
    grplist: *const GroupListing,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { grplist.as_ref() }.map_or(ptr::null(), |grplist| grplist.group.as_ptr())
}

/// 1 if it only has offsets: nobody joins it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupListing_is_simple_consumer_group(
    grplist: *const GroupListing,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grplist.as_ref() }.map_or(0, |grplist| grplist.is_simple.into())
}

/// The group's state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupListing_state(
    grplist: *const GroupListing,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grplist.as_ref() }.map_or(0, |grplist| grplist.state)
}

/// The group's type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupListing_type(grplist: *const GroupListing) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grplist.as_ref() }.map_or(0, |grplist| grplist.kind)
}

fn described(admin: &Admin, group: &str, timeout: Duration) -> GroupDescription {
    let info = match admin.describe_groups(&[group], timeout) {
        Ok(mut found) => found.pop().unwrap_or_else(|| Err(ErrCode::BAD_MSG.into())),
        Err(error) => Err(error),
    };
    let empty = || GroupDescription {
        group: c_string(group),
        error: None,
        is_simple: false,
        assignor: CString::default(),
        operations: None,
        state: 0,
        kind: 0,
        coordinator: None,
        members: Listed::new(Vec::new()),
    };
    let failed = |error: KafkaError| GroupDescription {
        error: Some(new_error(error)),
        ..empty()
    };
    let info = match info {
        Ok(info) => info,
        // As the versions tell it that librdkafka asks for: a group that isn't there is dead.
        Err(error) if error.code == ErrCode::GROUP_ID_NOT_FOUND => {
            return GroupDescription {
                is_simple: true,
                state: DEAD,
                kind: CLASSIC,
                ..empty()
            };
        }
        Err(error) => return failed(error),
    };
    if !matches!(info.protocol_type.as_str(), "" | "consumer") {
        let kind = &info.protocol_type;
        let text = format!("GroupId {group} is not a consumer group ({kind}).");
        return failed(KafkaError::new(ErrCode::INVALID_ARG, text));
    }
    let members = info.members.iter().map(|member| MemberDescription {
        client_id: c_string(&member.client_id),
        consumer_id: c_string(&member.member_id),
        group_instance_id: member.group_instance_id.as_ref().map(|id| c_string(id)),
        host: c_string(&member.client_host),
        assignment: MemberAssignment(OwnedList::new(&member.assigned_partitions())),
        target: member
            .target_partitions()
            .map(|partitions| MemberAssignment(OwnedList::new(&partitions))),
    });
    GroupDescription {
        is_simple: info.protocol_type.is_empty(),
        assignor: c_string(&info.protocol),
        operations: operations(info.authorized_operations),
        state: code_of(&STATES, &info.state),
        kind: code_of(&TYPES, info.group_type.name()),
        coordinator: (info.broker.id >= 0).then(|| Node::new(&info.broker)),
        members: Listed::new(members.collect()),
        ..empty()
    }
}

/// Describes consumer groups with their members; an `RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeConsumerGroups(
    rk: *mut Instance,
    groups: *mut *const c_char,
    groups_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library; null or an array of as many C strings as the caller says.
        unsafe {
            let names = match groups.is_null() {
                true => &[],
                false => slice::from_raw_parts(groups.cast_const(), groups_cnt),
            };
            let names: Vec<String> = names
                .iter()
                .filter_map(|name| text(*name))
                .map(str::to_owned)
                .collect();
            let kind = Event::DESCRIBE_CONSUMER_GROUPS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if names.is_empty() {
                    return Err(invalid("No groups to describe"));
                }
                if has_duplicates(&names) {
                    return Err(invalid("Duplicate groups not allowed"));
                }
                let groups = names.iter().map(|group| described(admin, group, timeout));
                Ok(Answer::GroupDescriptions(Listed::new(groups.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DescribeConsumerGroups_result(
    rkev: *mut Event,
) -> *const DescribeConsumerGroupsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DESCRIBE_CONSUMER_GROUPS_RESULT) }
}

/// The groups, in the order of the call: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeConsumerGroups_result_groups(
    result: *const DescribeConsumerGroupsResult,
    cntp: *mut usize,
) -> *mut *const GroupDescription {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::DESCRIBE_CONSUMER_GROUPS_RESULT) {
            Some(Answer::GroupDescriptions(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The group's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_group_id(
    grpdesc: *const GroupDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(ptr::null(), |grpdesc| grpdesc.group.as_ptr())
}

/// Why the group could not be described; null if it could.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_error(
    grpdesc: *const GroupDescription,
) -> *const Error {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }
        .and_then(|group| group.error.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// 1 if it only has offsets: nobody joins it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(
    grpdesc: *const GroupDescription,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(0, |grpdesc| grpdesc.is_simple.into())
}

/// The assignor that the members chose; empty without members.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_partition_assignor(
    grpdesc: *const GroupDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(ptr::null(), |grpdesc| grpdesc.assignor.as_ptr())
}

/// What the asker may do with the group: an array of `*cntp`; null if that was not asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_authorized_operations(
    grpdesc: *const GroupDescription,
    cntp: *mut usize,
) -> *const c_int {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe {
        let operations = grpdesc.as_ref().and_then(|group| group.operations.as_ref());
        give_operations(operations, cntp)
    }
}

/// The group's state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_state(
    grpdesc: *const GroupDescription,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(0, |grpdesc| grpdesc.state)
}

/// The broker that coordinates the group; null if it isn't known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_coordinator(
    grpdesc: *const GroupDescription,
) -> *const Node {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }
        .and_then(|group| group.coordinator.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The group's type; `RD_KAFKA_CONSUMER_GROUP_TYPE_UNKNOWN` with an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_type(
    grpdesc: *const GroupDescription,
) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(0, |grpdesc| grpdesc.kind)
}

/// How many members it has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_member_count(
    grpdesc: *const GroupDescription,
) -> usize {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(0, |grpdesc| grpdesc.members.len())
}

/// One of the members; null behind the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConsumerGroupDescription_member(
    grpdesc: *const GroupDescription,
    idx: usize,
) -> *const MemberDescription {
    // SAFETY: null or an object of this library.
    unsafe { grpdesc.as_ref() }.map_or(ptr::null(), |group| group.members.get(idx))
}

/// The member's `client.id`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_client_id(
    member: *const MemberDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }.map_or(ptr::null(), |member| member.client_id.as_ptr())
}

/// The member's `group.instance.id`; null without one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_group_instance_id(
    member: *const MemberDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }
        .and_then(|member| member.group_instance_id.as_ref())
        .map_or(ptr::null(), |id| id.as_ptr())
}

/// The member's id in the group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_consumer_id(
    member: *const MemberDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }.map_or(ptr::null(), |member| member.consumer_id.as_ptr())
}

/// Where the member is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_host(
    member: *const MemberDescription,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }.map_or(ptr::null(), |member| member.host.as_ptr())
}

/// What the member was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_assignment(
    member: *const MemberDescription,
) -> *const MemberAssignment {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }.map_or(ptr::null(), |member| &raw const member.assignment)
}

/// What the member is to be given; null in a classic group, where nobody but the member knows it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberDescription_target_assignment(
    member: *const MemberDescription,
) -> *const MemberAssignment {
    // SAFETY: null or an object of this library.
    unsafe { member.as_ref() }
        .and_then(|member| member.target.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The partitions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_MemberAssignment_partitions(
    assignment: *const MemberAssignment,
) -> *const TopicPartitionList {
    // SAFETY: null or an object of this library.
    unsafe { assignment.as_ref() }.map_or(ptr::null(), |assignment| assignment.0.as_ptr())
}

/// A group to delete; null for a null name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteGroup_new(group: *const c_char) -> *mut DeleteGroup {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a C string.
        unsafe { text(group) }.map_or(ptr::null_mut(), |name| {
            Box::into_raw(Box::new(DeleteGroup(name.to_owned())))
        })
    })
}

/// Frees a group to delete; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteGroup_destroy(object: *mut DeleteGroup) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteGroup_destroy_array(
    objects: *mut *mut DeleteGroup,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// Deletes groups that have no members; an `RD_KAFKA_EVENT_DELETEGROUPS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteGroups(
    rk: *mut Instance,
    del_groups: *mut *mut DeleteGroup,
    del_group_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let names = arguments(del_groups, del_group_cnt);
            let names: Vec<_> = names.into_iter().map(|group| group.0.clone()).collect();
            let kind = Event::DELETE_GROUPS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if names.is_empty() {
                    return Err(invalid("No groups to delete"));
                }
                if has_duplicates(&names) {
                    return Err(invalid("Duplicate groups not allowed"));
                }
                let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                let results = admin.delete_groups(&asked, timeout)?.into_iter();
                let groups = names
                    .iter()
                    .zip(results)
                    .map(|(group, result)| GroupResult {
                        group: c_string(group),
                        error: result.err().map(new_error),
                        partitions: OwnedList::none(),
                    });
                Ok(Answer::Groups(Listed::new(groups.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DeleteGroups_result(
    rkev: *mut Event,
) -> *const DeleteGroupsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DELETE_GROUPS_RESULT) }
}

/// The groups with what became of them: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DeleteGroups_result_groups(
    result: *const DeleteGroupsResult,
    cntp: *mut usize,
) -> *mut *const GroupResult {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe {
        let listed = match answer(result, Event::DELETE_GROUPS_RESULT) {
            Some(Answer::Groups(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The group's error; null if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_group_result_error(groupres: *const GroupResult) -> *const Error {
    // SAFETY: null or an object of this library.
    unsafe { groupres.as_ref() }
        .and_then(|result| result.error.as_ref())
        .map_or(ptr::null(), ptr::from_ref)
}

/// The group's id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_group_result_name(groupres: *const GroupResult) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { groupres.as_ref() }.map_or(ptr::null(), |groupres| groupres.group.as_ptr())
}

/// The partitions with their offsets and errors; null where it is about none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_group_result_partitions(
    groupres: *const GroupResult,
) -> *const TopicPartitionList {
    // SAFETY: null or an object of this library.
    unsafe { groupres.as_ref() }.map_or(ptr::null(), |groupres| groupres.partitions.as_ptr())
}
