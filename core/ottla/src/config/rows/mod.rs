//! The table's rows, in librdkafka's order within each file.

mod connection;
mod consumer;
mod embedded;
mod general;
mod producer;
mod security;
mod topic;

use super::property::Property;

/// Sections of the table: a title and the rows.
pub(super) const SECTIONS: &[(&str, &[Property])] = &[
    ("All handles", general::ROWS),
    ("Consumers", consumer::ROWS),
    ("Producers", producer::ROWS),
    ("Topics", topic::ROWS),
    ("Embedded brokers (`memory:` and `file:`)", embedded::ROWS),
    ("Connections over TCP", connection::ROWS),
    ("TLS and SASL", security::ROWS),
];

/// Why what concerns TCP does nothing yet.
const NO_SOCKETS: &str = "concerns connections over TCP, which come with a later version";
/// Why what is deprecated does nothing.
const NO_LONGER: &str = "does nothing any more, in librdkafka too";
