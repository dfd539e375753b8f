//! The native half of the Python package `ottla`: confluent-kafka's classes over the [`ottla`] façade.
//!
//! Only conversions and bookkeeping live here. The interpreter's lock is given up in every call that may wait; records cross the
//! border as [`message::Message`] objects that share the fetched bytes and turn into Python objects when they are asked for.

mod admin;
mod arguments;
mod configuration;
mod consumer;
mod delivery_callbacks;
mod error;
mod events;
mod message;
mod metadata;
mod partition;
mod producer;
mod waiting;

use pyo3::prelude::*;

/// Version of the librdkafka API that this library has the shapes of, as text and as a number.
const LIBRDKAFKA: (&str, u32) = ("2.15.0", 0x020f_00ff);

/// The version of the librdkafka whose behaviour is followed: a text and a number.
#[pyfunction]
fn libversion() -> (&'static str, u32) {
    LIBRDKAFKA
}

/// The version of this package.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule(gil_used = false)]
fn _ottla(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<producer::Producer>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<consumer::ConsumerGroupMetadata>()?;
    module.add_class::<message::Message>()?;
    module.add_class::<partition::TopicPartition>()?;
    module.add_class::<admin::Admin>()?;
    metadata::add_to(module)?;
    error::add_to(module)?;
    module.add("OFFSET_BEGINNING", ottla::offset::BEGINNING)?;
    module.add("OFFSET_END", ottla::offset::END)?;
    module.add("OFFSET_STORED", ottla::offset::STORED)?;
    module.add("OFFSET_INVALID", ottla::offset::INVALID)?;
    for (name, kind) in [
        (
            "TIMESTAMP_NOT_AVAILABLE",
            ottla::TimestampType::NotAvailable,
        ),
        ("TIMESTAMP_CREATE_TIME", ottla::TimestampType::CreateTime),
        (
            "TIMESTAMP_LOG_APPEND_TIME",
            ottla::TimestampType::LogAppendTime,
        ),
    ] {
        module.add(name, kind as i32)?;
    }
    module.add_function(wrap_pyfunction!(libversion, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)
}
