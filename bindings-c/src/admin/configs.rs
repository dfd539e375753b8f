//! Settings of topics, groups and brokers.

use super::{
    Answer, Listed, answer, arguments, begin, give_listed, has_duplicates, invalid,
    options::AdminOptions, result_of,
};
use crate::{
    abi::RespErr,
    border::text,
    errors::{Error, c_string, give},
    event::Event,
    instance::Instance,
    queue::QueueHandle,
};
use core::ffi::{CStr, c_char, c_int};
use ottla::{Admin, ConfigChange, ConfigOperation, KafkaError};
use std::{ffi::CString, ptr, time::Duration};

/// `rd_kafka_ConfigResource_t`: what has settings; in a result with them.
pub struct ConfigResource {
    kind: c_int,
    name: CString,
    /// For `rd_kafka_AlterConfigs`.
    settings: Vec<(String, String)>,
    /// For `rd_kafka_IncrementalAlterConfigs`.
    changes: Vec<ConfigChange>,
    entries: Listed<ConfigEntry>,
    error: RespErr,
    text: Option<CString>,
}

/// `rd_kafka_ConfigEntry_t`: one setting.
pub struct ConfigEntry {
    name: CString,
    value: Option<CString>,
    source: c_int,
    is_read_only: bool,
    is_sensitive: bool,
    is_synonym: bool,
    synonyms: Listed<ConfigEntry>,
}

/// Events of `rd_kafka_DescribeConfigs`.
pub type DescribeConfigsResult = Event;
/// Events of `rd_kafka_AlterConfigs`.
pub type AlterConfigsResult = Event;
/// Events of `rd_kafka_IncrementalAlterConfigs`.
pub type IncrementalAlterConfigsResult = Event;

const TOPIC: c_int = 2;
const GROUP: c_int = 3;
const BROKER: c_int = 4;
const DEFAULT_CONFIG: c_int = 5;

fn name_of(names: &[&'static CStr], code: c_int) -> *const c_char {
    let name = usize::try_from(code).ok().and_then(|code| names.get(code));
    name.map_or(c"UNSUPPORTED".as_ptr(), |name| name.as_ptr())
}

/// A source's name.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_ConfigSource_name(confsource: c_int) -> *const c_char {
    const NAMES: &[&CStr] = &[
        c"UNKNOWN_CONFIG",
        c"DYNAMIC_TOPIC_CONFIG",
        c"DYNAMIC_BROKER_CONFIG",
        c"DYNAMIC_DEFAULT_BROKER_CONFIG",
        c"STATIC_BROKER_CONFIG",
        c"DEFAULT_CONFIG",
    ];
    name_of(NAMES, confsource)
}

/// A resource type's name.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_ResourceType_name(restype: c_int) -> *const c_char {
    const NAMES: &[&CStr] = &[c"UNKNOWN", c"ANY", c"TOPIC", c"GROUP", c"BROKER"];
    name_of(NAMES, restype)
}

/// A topic (`RD_KAFKA_RESOURCE_TOPIC`) or group (`RD_KAFKA_RESOURCE_GROUP`) by name or a broker (`RD_KAFKA_RESOURCE_BROKER`) by node id; null
/// for a null or empty name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_new(
    restype: c_int,
    resname: *const c_char,
) -> *mut ConfigResource {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a C string.
        let name = unsafe { text(resname) }.filter(|name| !name.is_empty());
        name.map_or(ptr::null_mut(), |name| {
            Box::into_raw(Box::new(ConfigResource {
                kind: restype,
                name: c_string(name),
                settings: Vec::new(),
                changes: Vec::new(),
                entries: Listed::new(Vec::new()),
                error: RespErr::NO_ERROR,
                text: None,
            }))
        })
    })
}

/// Frees what `rd_kafka_ConfigResource_new` made; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_destroy(object: *mut ConfigResource) {
    // SAFETY: passed on.
    unsafe { super::destroy(object) }
}

/// Frees each of an array's; the array stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_destroy_array(
    objects: *mut *mut ConfigResource,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { super::destroy_all(objects, count) }
}

/// A setting that `rd_kafka_AlterConfigs` is to make, in place of an earlier one of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_set_config(
    config: *mut ConfigResource,
    name: *const c_char,
    value: *const c_char,
) -> RespErr {
    guard!(RespErr::FAIL, {
        // SAFETY: null, or an object that only the caller uses now; null or C strings.
        unsafe {
            let (Some(config), Some(name), Some(value)) =
                (config.as_mut(), text(name), text(value))
            else {
                return RespErr::INVALID_ARG;
            };
            if name.is_empty() {
                return RespErr::INVALID_ARG;
            }
            config.settings.retain(|(known, _)| known != name);
            config.settings.push((name.to_owned(), value.to_owned()));
            RespErr::NO_ERROR
        }
    })
}

/// A change that `rd_kafka_IncrementalAlterConfigs` is to make; one that deletes needs no value. Null, or an error for what is missing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_add_incremental_config(
    config: *mut ConfigResource,
    name: *const c_char,
    op_type: c_int,
    value: *const c_char,
) -> *mut Error {
    guard!(ptr::null_mut(), {
        // SAFETY: null, or an object that only the caller uses now; null or C strings.
        let (config, name, value) = unsafe { (config.as_mut(), text(name), text(value)) };
        let operation = match op_type {
            0 => ConfigOperation::Set,
            1 => ConfigOperation::Delete,
            2 => ConfigOperation::Append,
            3 => ConfigOperation::Subtract,
            _ => return give(invalid("Invalid alter config operation type")),
        };
        let (Some(config), Some(name)) = (config, name.filter(|name| !name.is_empty())) else {
            return give(invalid("Config name is required"));
        };
        let value = match operation {
            ConfigOperation::Delete => None,
            _ if value.is_none() => {
                return give(invalid(
                    "Config value is required unless the operation type is delete",
                ));
            }
            _ => value.map(str::to_owned),
        };
        config.changes.push(ConfigChange {
            name: name.to_owned(),
            operation,
            value,
        });
        ptr::null_mut()
    })
}

fn resource(kind: c_int, name: &CStr) -> Result<ottla::ConfigResource, KafkaError> {
    let name = name.to_str().unwrap_or_default();
    match (kind, name.parse()) {
        (TOPIC, _) => Ok(ottla::ConfigResource::Topic(name.to_owned())),
        (GROUP, _) => Ok(ottla::ConfigResource::Group(name.to_owned())),
        (BROKER, Ok(node)) => Ok(ottla::ConfigResource::Broker(node)),
        (BROKER, Err(_)) => Err(invalid("A BROKER config resource is named by its node id")),
        _ => Err(invalid(
            "Only TOPIC, GROUP and BROKER resources have configs",
        )),
    }
}

/// A resource of a result.
fn answered(
    kind: c_int,
    name: CString,
    entries: Vec<ConfigEntry>,
    error: Option<KafkaError>,
) -> ConfigResource {
    ConfigResource {
        kind,
        name,
        settings: Vec::new(),
        changes: Vec::new(),
        entries: Listed::new(entries),
        error: error.as_ref().map_or(RespErr::NO_ERROR, |e| e.code.into()),
        text: error.map(|error| c_string(&error.message)),
    }
}

fn entry(found: ottla::ConfigEntry) -> ConfigEntry {
    let value = |value: Option<String>| value.map(|value| c_string(&value));
    let synonyms = found
        .synonyms
        .into_iter()
        .map(|(name, of, source)| ConfigEntry {
            name: c_string(&name),
            value: value(of),
            source: source.into(),
            is_read_only: true,
            is_sensitive: found.is_sensitive,
            is_synonym: true,
            synonyms: Listed::new(Vec::new()),
        });
    ConfigEntry {
        synonyms: Listed::new(synonyms.collect()),
        name: c_string(&found.name),
        value: value(found.value),
        source: found.source.into(),
        is_read_only: found.is_read_only,
        is_sensitive: found.is_sensitive,
        is_synonym: false,
    }
}

/// Asks for all settings of topics, groups and brokers; an `RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeConfigs(
    rk: *mut Instance,
    configs: *mut *mut ConfigResource,
    config_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        // SAFETY: null or objects of this library.
        unsafe {
            let wanted: Vec<(c_int, CString)> = arguments(configs, config_cnt)
                .into_iter()
                .map(|resource| (resource.kind, resource.name.clone()))
                .collect();
            let kind = Event::DESCRIBE_CONFIGS_RESULT;
            begin(rk, options, rkqu, kind, move |admin, timeout, _| {
                if wanted.is_empty() {
                    return Err(invalid("No config resources specified"));
                }
                let resources = wanted.iter().map(|(kind, name)| resource(*kind, name));
                let resources = resources.collect::<Result<Vec<_>, _>>()?;
                let found = admin.describe_configs(&resources, timeout)?.into_iter();
                let described = wanted.into_iter().zip(found).map(|((kind, name), found)| {
                    let (entries, error) = match found {
                        Ok(entries) => (entries.into_iter().map(entry).collect(), None),
                        Err(error) => (Vec::new(), Some(error)),
                    };
                    answered(kind, name, entries, error)
                });
                Ok(Answer::Configs(Listed::new(described.collect())))
            });
        }
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_DescribeConfigs_result(
    rkev: *mut Event,
) -> *const DescribeConfigsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::DESCRIBE_CONFIGS_RESULT) }
}

/// The resources with their settings: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_DescribeConfigs_result_resources(
    result: *const DescribeConfigsResult,
    cntp: *mut usize,
) -> *mut *const ConfigResource {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe { resources_of(result, Event::DESCRIBE_CONFIGS_RESULT, cntp) }
}

/// Changes of resources, `wanted` of each: what `work` makes of them, by kind and name in a result.
///
/// # Safety
/// Null or objects of this library; as many `configs` as are said.
unsafe fn alter<T: Send + 'static>(
    (rk, options, rkqu, kind): (*mut Instance, *const AdminOptions, *mut QueueHandle, c_int),
    (configs, config_cnt): (*mut *mut ConfigResource, usize),
    wanted: impl Fn(&ConfigResource) -> Vec<T>,
    work: impl FnOnce(
        &Admin,
        &[(ottla::ConfigResource, Vec<T>)],
        bool,
        Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError>
    + Send
    + 'static,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let resources = arguments(configs, config_cnt).into_iter();
        let wanted: Vec<_> = resources
            .map(|resource| (resource.kind, resource.name.clone(), wanted(resource)))
            .collect();
        begin(rk, options, rkqu, kind, move |admin, timeout, options| {
            if wanted.is_empty() {
                return Err(invalid("No config resources specified"));
            }
            if has_duplicates(wanted.iter().map(|(kind, name, _)| (kind, name))) {
                return Err(invalid("Duplicate config resources not allowed"));
            }
            let mut names = Vec::with_capacity(wanted.len());
            let mut resources = Vec::with_capacity(wanted.len());
            for (kind, name, changes) in wanted {
                resources.push((resource(kind, &name)?, changes));
                names.push((kind, name));
            }
            let done = work(admin, &resources, options.validate_only, timeout)?;
            let altered = names.into_iter().zip(done);
            let altered = altered
                .map(|((kind, name), done)| answered(kind, name, Vec::new(), done.err()))
                .collect();
            Ok(Answer::Configs(Listed::new(altered)))
        });
    }
}

/// Replaces all that was set of each resource by its `rd_kafka_ConfigResource_set_config`: what isn't named goes back to its default. An
/// `RD_KAFKA_EVENT_ALTERCONFIGS_RESULT` comes into the queue. `rd_kafka_IncrementalAlterConfigs` leaves alone what others have set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConfigs(
    rk: *mut Instance,
    configs: *mut *mut ConfigResource,
    config_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        let to = (rk, options, rkqu, Event::ALTER_CONFIGS_RESULT);
        let settings = |of: &ConfigResource| of.settings.clone();
        // SAFETY: null or objects of this library.
        unsafe { alter(to, (configs, config_cnt), settings, Admin::alter_configs) };
    })
}

/// Makes the changes of each resource, either all or none. An `RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT` comes into the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_IncrementalAlterConfigs(
    rk: *mut Instance,
    configs: *mut *mut ConfigResource,
    config_cnt: usize,
    options: *const AdminOptions,
    rkqu: *mut QueueHandle,
) {
    guard!((), {
        let to = (rk, options, rkqu, Event::INCREMENTAL_ALTER_CONFIGS_RESULT);
        let changes = |of: &ConfigResource| of.changes.clone();
        let work = |admin: &Admin, resources: &[(_, Vec<ConfigChange>)], validate, timeout| {
            if resources.iter().any(|(_, changes)| changes.is_empty()) {
                return Err(invalid("A config resource without changes"));
            }
            admin.incremental_alter_configs(resources, validate, timeout)
        };
        // SAFETY: null or objects of this library.
        unsafe { alter(to, (configs, config_cnt), changes, work) };
    })
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_AlterConfigs_result(
    rkev: *mut Event,
) -> *const AlterConfigsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::ALTER_CONFIGS_RESULT) }
}

/// The event's result; null if it is another's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_event_IncrementalAlterConfigs_result(
    rkev: *mut Event,
) -> *const IncrementalAlterConfigsResult {
    // SAFETY: passed on.
    unsafe { result_of(rkev, Event::INCREMENTAL_ALTER_CONFIGS_RESULT) }
}

/// The resources with what became of each: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_AlterConfigs_result_resources(
    result: *const AlterConfigsResult,
    cntp: *mut usize,
) -> *mut *const ConfigResource {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe { resources_of(result, Event::ALTER_CONFIGS_RESULT, cntp) }
}

/// The resources with what became of each: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_IncrementalAlterConfigs_result_resources(
    result: *const IncrementalAlterConfigsResult,
    cntp: *mut usize,
) -> *mut *const ConfigResource {
    // SAFETY: null or an event; null or the caller's to be written.
    unsafe { resources_of(result, Event::INCREMENTAL_ALTER_CONFIGS_RESULT, cntp) }
}

/// # Safety
/// Null or an event of this library; null or the caller's to be written.
unsafe fn resources_of(
    result: *const Event,
    kind: c_int,
    cntp: *mut usize,
) -> *mut *const ConfigResource {
    // SAFETY: the caller's promise.
    unsafe {
        let listed = match answer(result, kind) {
            Some(Answer::Configs(listed)) => Some(listed),
            _ => None,
        };
        give_listed(listed, cntp)
    }
}

/// The settings: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_configs(
    config: *const ConfigResource,
    cntp: *mut usize,
) -> *mut *const ConfigEntry {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe { give_listed(config.as_ref().map(|config| &config.entries), cntp) }
}

/// What it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_type(config: *const ConfigResource) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { config.as_ref() }.map_or(0, |config| config.kind)
}

/// Its name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_name(
    config: *const ConfigResource,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { config.as_ref() }.map_or(ptr::null(), |config| config.name.as_ptr())
}

/// Why it could not be described or altered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_error(config: *const ConfigResource) -> RespErr {
    // SAFETY: null or an object of this library.
    unsafe { config.as_ref() }.map_or(RespErr::NO_ERROR, |config| config.error)
}

/// The error's text; null if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigResource_error_string(
    config: *const ConfigResource,
) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { config.as_ref() }
        .and_then(|config| config.text.as_ref())
        .map_or(ptr::null(), |text| text.as_ptr())
}

/// The setting's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_name(entry: *const ConfigEntry) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(ptr::null(), |entry| entry.name.as_ptr())
}

/// The setting's value; null if it has none, or is a secret.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_value(entry: *const ConfigEntry) -> *const c_char {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }
        .and_then(|entry| entry.value.as_ref())
        .map_or(ptr::null(), |value| value.as_ptr())
}

/// Where the value comes from.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_source(entry: *const ConfigEntry) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(0, |entry| entry.source)
}

/// 1 if it can not be changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_is_read_only(entry: *const ConfigEntry) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(-1, |entry| entry.is_read_only.into())
}

/// 1 if it was not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_is_default(entry: *const ConfigEntry) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(-1, |entry| (entry.source == DEFAULT_CONFIG).into())
}

/// 1 if it is a secret.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_is_sensitive(entry: *const ConfigEntry) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(-1, |entry| entry.is_sensitive.into())
}

/// 1 if it is one of the synonyms of another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_is_synonym(entry: *const ConfigEntry) -> c_int {
    // SAFETY: null or an object of this library.
    unsafe { entry.as_ref() }.map_or(-1, |entry| entry.is_synonym.into())
}

/// Where the value could come from, what counts most first: an array of `*cntp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_ConfigEntry_synonyms(
    entry: *const ConfigEntry,
    cntp: *mut usize,
) -> *mut *const ConfigEntry {
    // SAFETY: null or an object of this library; null or the caller's to be written.
    unsafe { give_listed(entry.as_ref().map(|entry| &entry.synonyms), cntp) }
}
