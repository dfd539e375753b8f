//! `rd_kafka_conf_t` and `rd_kafka_topic_conf_t`: properties by name.

use crate::{
    border::{allocate_text, text, write_text},
    conf_callbacks::{Callbacks, PartitionerCallback},
};
use core::ffi::{c_char, c_int, c_void};
use ottla::{Config, ConfigError, TopicConfig, config};
use std::ptr;

/// `RD_KAFKA_CONF_UNKNOWN`.
const UNKNOWN: c_int = -2;
/// `RD_KAFKA_CONF_INVALID`.
const INVALID: c_int = -1;
/// `RD_KAFKA_CONF_OK`.
const OK: c_int = 0;

/// `rd_kafka_conf_t`.
#[derive(Clone, Default)]
pub struct Conf {
    /// Properties, those of topics included.
    pub config: Config,
    /// The application's functions.
    pub callbacks: Callbacks,
    /// From the default topic configuration.
    pub topic_opaque: usize,
    /// From the default topic configuration.
    pub topic_partitioner: Option<PartitionerCallback>,
    /// The default topic configuration, once the application gave it or asked for it: it may change it in place, so that from
    /// then on this is what counts.
    default_topic: Option<Box<TopicConf>>,
}

impl Conf {
    /// What the application did to the default topic configuration counts from now on.
    fn settle(&mut self) {
        if let Some(topic) = &self.default_topic {
            *self.config.topic_mut() = topic.config.clone();
            self.topic_opaque = topic.opaque.expose_provenance();
            self.topic_partitioner = topic.partitioner;
        }
    }

    /// A copy, which doesn't share the default topic configuration.
    pub(crate) fn settled(&self) -> Self {
        let mut copy = self.clone();
        copy.settle();
        copy
    }

    /// Sets a property, the default topic configuration's included.
    fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        self.settle();
        self.config.set(name, value)?;
        if let Some(topic) = &mut self.default_topic {
            topic.config = self.config.topic().clone();
        }
        Ok(())
    }

    /// The default topic configuration is this one from now on.
    pub(crate) fn set_default_topic(&mut self, topic: Box<TopicConf>) {
        self.default_topic = Some(topic);
        self.settle();
    }

    fn default_topic(&mut self) -> Option<&mut TopicConf> {
        if self.default_topic.is_none() && self.config.topic().is_default() {
            return None;
        }
        let (config, opaque, partitioner) = (
            self.config.topic(),
            self.topic_opaque,
            self.topic_partitioner,
        );
        Some(self.default_topic.get_or_insert_with(|| {
            Box::new(TopicConf {
                config: config.clone(),
                opaque: ptr::with_exposed_provenance_mut(opaque),
                partitioner,
            })
        }))
    }
}

/// `rd_kafka_topic_conf_t`.
#[derive(Clone)]
pub struct TopicConf {
    /// Properties.
    pub config: TopicConfig,
    /// The application's pointer.
    pub opaque: *mut c_void,
    /// The application's partitioner.
    pub partitioner: Option<PartitionerCallback>,
}

impl Default for TopicConf {
    fn default() -> Self {
        Self {
            config: TopicConfig::new(),
            opaque: ptr::null_mut(),
            partitioner: None,
        }
    }
}

/// All defaults.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_conf_new() -> *mut Conf {
    guard!(ptr::null_mut(), Box::into_raw(Box::default()))
}

/// Frees a configuration that no handle was made with; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_destroy(conf: *mut Conf) {
    if !conf.is_null() {
        // SAFETY: the caller gives it up.
        guard!((), drop(unsafe { Box::from_raw(conf) }))
    }
}

/// A copy; null for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_dup(conf: *const Conf) -> *mut Conf {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration of this library.
        unsafe { conf.as_ref() }.map_or(ptr::null_mut(), |conf| {
            Box::into_raw(Box::new(conf.clone()))
        })
    })
}

/// The default of a property, for those that set null.
fn default_of(name: &str) -> Option<&'static str> {
    let row = config::properties().find(|row| row.name == name)?;
    match row.kind {
        config::Kind::Alias(of) => default_of(of),
        _ => Some(row.default),
    }
}

/// Sets with `set`, and reports as C programs have it.
unsafe fn set_with(
    name: *const c_char,
    value: *const c_char,
    errstr: *mut c_char,
    errstr_size: usize,
    set: impl FnOnce(&str, &str) -> Result<(), ConfigError>,
) -> c_int {
    // SAFETY: null or C strings; the buffer has the size that the caller names.
    unsafe {
        let Some(name) = text(name) else {
            write_text(
                "The property has no name, or one that is not UTF-8",
                errstr,
                errstr_size,
            );
            return UNKNOWN;
        };
        let value = match (value.is_null(), text(value)) {
            (true, _) => default_of(name).unwrap_or_default(),
            (false, Some(value)) => value,
            (false, None) => {
                write_text("The value is not UTF-8", errstr, errstr_size);
                return INVALID;
            }
        };
        match set(name, value) {
            Ok(()) => OK,
            Err(error) => {
                write_text(&error.to_string(), errstr, errstr_size);
                match error {
                    ConfigError::Unknown(_) => UNKNOWN,
                    ConfigError::Invalid(_) => INVALID,
                }
            }
        }
    }
}

/// Sets a property; null means its default. What is wrong is told in `errstr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_set(
    conf: *mut Conf,
    name: *const c_char,
    value: *const c_char,
    errstr: *mut c_char,
    errstr_size: usize,
) -> c_int {
    guard!(INVALID, {
        // SAFETY: null or a configuration; the rest is passed on.
        unsafe {
            let Some(conf) = conf.as_mut() else {
                return INVALID;
            };
            set_with(name, value, errstr, errstr_size, |name, value| {
                conf.set(name, value)
            })
        }
    })
}

/// Writes a value as text. `*dest_size` is the room in `dest` and becomes what is needed, the zero included; a null `dest` only
/// asks for that.
unsafe fn get_with(
    value: Result<String, ConfigError>,
    dest: *mut c_char,
    dest_size: *mut usize,
) -> c_int {
    match value {
        Ok(value) => {
            // SAFETY: null, or room as the caller names it.
            unsafe {
                if let Some(size) = dest_size.as_mut() {
                    write_text(&value, dest, *size);
                    *size = value.len() + 1;
                }
            }
            OK
        }
        Err(ConfigError::Unknown(_)) => UNKNOWN,
        Err(ConfigError::Invalid(_)) => INVALID,
    }
}

/// A property as text. `*dest_size` is the room in `dest` and becomes what is needed, the zero included; a null `dest` only asks
/// for that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_get(
    conf: *const Conf,
    name: *const c_char,
    dest: *mut c_char,
    dest_size: *mut usize,
) -> c_int {
    guard!(INVALID, {
        // SAFETY: null or a configuration, a C string, a buffer.
        unsafe {
            match (conf.as_ref(), text(name)) {
                (Some(conf), Some(name)) => {
                    get_with(conf.settled().config.get(name), dest, dest_size)
                }
                _ => UNKNOWN,
            }
        }
    })
}

/// A topic property as text, like `rd_kafka_conf_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_get(
    conf: *const TopicConf,
    name: *const c_char,
    dest: *mut c_char,
    dest_size: *mut usize,
) -> c_int {
    guard!(INVALID, {
        // SAFETY: null or a configuration, a C string, a buffer.
        unsafe {
            match (conf.as_ref(), text(name)) {
                (Some(conf), Some(name)) => get_with(conf.config.get(name), dest, dest_size),
                _ => UNKNOWN,
            }
        }
    })
}

/// Names and values in turns, in libc memory.
unsafe fn dump(rows: Vec<(&'static str, String)>, cntp: *mut usize) -> *mut *const c_char {
    // SAFETY: the array has room for all; `cntp` is null or the caller's to be written.
    unsafe {
        let array: *mut *const c_char =
            libc::malloc((rows.len() * 2).max(1) * size_of::<*const c_char>()).cast();
        if array.is_null() {
            return array;
        }
        for (i, (name, value)) in rows.iter().enumerate() {
            *array.add(i * 2) = allocate_text(name);
            *array.add(i * 2 + 1) = allocate_text(value);
        }
        if let Some(cntp) = cntp.as_mut() {
            *cntp = rows.len() * 2;
        }
        array
    }
}

/// All properties: an array of `*cntp` strings, names and values in turns. Freed with `rd_kafka_conf_dump_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_dump(
    conf: *mut Conf,
    cntp: *mut usize,
) -> *mut *const c_char {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration; the rest is passed on.
        unsafe {
            dump(
                conf.as_ref().map_or_else(Vec::new, |c| c.config.dump()),
                cntp,
            )
        }
    })
}

/// All topic properties, like `rd_kafka_conf_dump`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_dump(
    conf: *mut TopicConf,
    cntp: *mut usize,
) -> *mut *const c_char {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration; the rest is passed on.
        unsafe {
            dump(
                conf.as_ref().map_or_else(Vec::new, |c| c.config.dump()),
                cntp,
            )
        }
    })
}

/// Frees what `rd_kafka_conf_dump` gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_dump_free(arr: *mut *const c_char, cnt: usize) {
    if arr.is_null() {
        return;
    }
    // SAFETY: an array of `dump` with as many strings.
    unsafe {
        for i in 0..cnt {
            libc::free((*arr.add(i)).cast_mut().cast());
        }
        libc::free(arr.cast());
    }
}

/// Writes a table of all properties to a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_properties_show(fp: *mut libc::FILE) {
    guard!((), {
        if fp.is_null() {
            return;
        }
        let mut table = String::new();
        for (title, topic) in [
            ("Global configuration properties", false),
            ("Topic configuration properties", true),
        ] {
            table += &format!(
                "## {title}\n\n{:<40} | C/P | {:<15} | {}\n",
                "Property", "Default", "Description"
            );
            table += &format!("{:-<40}-|-----|-{:-<15}-|-{:-<40}\n", "", "", "");
            let rows = config::properties()
                .filter(|row| (row.scope == config::Scope::Topic) == topic && !row.hidden);
            for row in rows {
                let whose = match row.applies_to {
                    config::AppliesTo::Both => "*",
                    config::AppliesTo::Consumer => "C",
                    config::AppliesTo::Producer => "P",
                };
                let alias;
                let doc = match row.kind {
                    config::Kind::Alias(of) => {
                        alias = format!("Alias for `{of}`");
                        &alias
                    }
                    _ => row.doc,
                };
                table += &format!(
                    "{:<40} | {whose:^3} | {:<15} | {doc}\n",
                    row.name, row.default
                );
            }
            table.push('\n');
        }
        // SAFETY: the caller's open file; the text's length is told.
        unsafe { libc::fwrite(table.as_ptr().cast(), 1, table.len(), fp) };
    })
}

/// All defaults.
#[unsafe(no_mangle)]
pub extern "C" fn rd_kafka_topic_conf_new() -> *mut TopicConf {
    guard!(ptr::null_mut(), Box::into_raw(Box::default()))
}

/// A copy; null for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_dup(conf: *const TopicConf) -> *mut TopicConf {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration of this library.
        unsafe { conf.as_ref() }.map_or(ptr::null_mut(), |conf| {
            Box::into_raw(Box::new(conf.clone()))
        })
    })
}

/// Frees a topic configuration that was given to nobody; null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_destroy(topic_conf: *mut TopicConf) {
    if !topic_conf.is_null() {
        // SAFETY: the caller gives it up.
        guard!((), drop(unsafe { Box::from_raw(topic_conf) }))
    }
}

/// Sets a topic property, like `rd_kafka_conf_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_set(
    conf: *mut TopicConf,
    name: *const c_char,
    value: *const c_char,
    errstr: *mut c_char,
    errstr_size: usize,
) -> c_int {
    guard!(INVALID, {
        // SAFETY: null or a configuration; the rest is passed on.
        unsafe {
            let Some(conf) = conf.as_mut() else {
                return INVALID;
            };
            set_with(name, value, errstr, errstr_size, |name, value| {
                conf.config.set(name, value)
            })
        }
    })
}

/// The pointer that a topic's functions get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_set_opaque(
    conf: *mut TopicConf,
    rkt_opaque: *mut c_void,
) {
    // SAFETY: null or a configuration of this library.
    if let Some(conf) = unsafe { conf.as_mut() } {
        conf.opaque = rkt_opaque;
    }
}

/// The application's own partitioner, in place of the property `partitioner`. It is called while the producer is in use: it may
/// call `rd_kafka_topic_partition_available` and the `rd_kafka_msg_partitioner_*` functions, nothing else of the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_topic_conf_set_partitioner_cb(
    topic_conf: *mut TopicConf,
    partitioner: Option<PartitionerCallback>,
) {
    // SAFETY: null or a configuration of this library.
    if let Some(conf) = unsafe { topic_conf.as_mut() } {
        conf.partitioner = partitioner;
    }
}

/// The topic properties and functions of topics that have none of their own: those given to `rd_kafka_conf_set_default_topic_conf`,
/// or set as topic properties on this configuration; null if there are none. It stays the configuration's and may be changed; it
/// lives until another is set or the configuration is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rd_kafka_conf_get_default_topic_conf(conf: *mut Conf) -> *mut TopicConf {
    guard!(ptr::null_mut(), {
        // SAFETY: null or a configuration that only the caller uses now.
        unsafe { conf.as_mut() }
            .and_then(Conf::default_topic)
            .map_or(ptr::null_mut(), ptr::from_mut)
    })
}
