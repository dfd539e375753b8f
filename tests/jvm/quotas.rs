//! Client quotas, set and told by Kafka's own tool, on Ottla's broker and on Kafka's.

use crate::{Outcome, expect, jvm::Jvm};
use ottla::serve::{Listener, ServerConfig, serve};
use std::path::Path;

const TOOL: &str = "kafka.admin.ConfigCommand";

/// Quotas of all kinds of entities.
const SET: &[&[&str]] = &[
    &[
        "--entity-type",
        "clients",
        "--entity-name",
        "shop",
        "--add-config",
        "producer_byte_rate=1048576,request_percentage=12.5",
    ],
    &[
        "--entity-type",
        "users",
        "--entity-name",
        "anna b",
        "--entity-type",
        "clients",
        "--entity-default",
        "--add-config",
        "consumer_byte_rate=2097152",
    ],
    &[
        "--entity-type",
        "users",
        "--entity-default",
        "--add-config",
        "controller_mutation_rate=10",
    ],
    &[
        "--entity-type",
        "ips",
        "--entity-name",
        "127.0.0.7",
        "--add-config",
        "connection_creation_rate=100",
    ],
];

/// One is changed, one goes, one comes.
const CHANGE: &[&[&str]] = &[
    &[
        "--entity-type",
        "clients",
        "--entity-name",
        "shop",
        "--add-config",
        "producer_byte_rate=5000",
        "--delete-config",
        "request_percentage",
    ],
    &[
        "--entity-type",
        "ips",
        "--entity-default",
        "--add-config",
        "connection_creation_rate=3000",
    ],
];

/// Does this with the directory served by Ottla.
fn served<T>(dir: &Path, what: impl FnOnce(&str) -> Outcome<T>) -> Outcome<T> {
    let failed = |error: ottla::KafkaError| error.to_string();
    let broker = ottla::Broker::open(&format!("file://{}", dir.display())).map_err(failed)?;
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    let server = serve(&broker, &[Listener::from(any)], ServerConfig::default()).map_err(failed)?;
    let done = what(&server.local_addrs()[0].to_string());
    server.stop();
    done
}

fn tool(jvm: &Jvm, bootstrap: &str, command: &str, args: &[&str]) -> Outcome<String> {
    let all = [&["--bootstrap-server", bootstrap, command], args].concat();
    jvm.run(TOOL, &all).map(|(out, _)| out)
}

/// What the tool tells of all quotas, in lines, sorted.
pub fn told(jvm: &Jvm, bootstrap: &str) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    for of in [
        &["--entity-type", "clients"][..],
        // Without the last it asks for SCRAM users, too.
        &["--entity-type", "users", "--entity-default"],
        &["--entity-type", "users", "--entity-type", "clients"],
        &["--entity-type", "ips"],
    ] {
        let said = tool(jvm, bootstrap, "--describe", of)?;
        lines.extend(said.lines().map(in_order));
    }
    lines.sort();
    Ok(lines)
}

/// A line with its quotas in order: Kafka has them in a hash map.
fn in_order(line: &str) -> String {
    let Some((of, given)) = line.split_once(" are ") else {
        return line.to_owned();
    };
    let mut given: Vec<&str> = given.split(", ").collect();
    given.sort_unstable();
    format!("{of} are {}", given.join(", "))
}

/// Sets them on Ottla's broker. What the tool tells of them then.
pub fn set(jvm: &Jvm, dir: &Path) -> Outcome<Vec<String>> {
    let lines = served(dir, |bootstrap| {
        for of in SET {
            tool(jvm, bootstrap, "--alter", of)?;
        }
        told(jvm, bootstrap)
    })?;
    expect(lines.len() == SET.len(), || {
        format!("of quotas is told: {lines:#?}")
    })?;
    Ok(lines)
}

/// Changes some on Kafka's broker. What the tool tells of all then.
pub fn change(jvm: &Jvm, bootstrap: &str) -> Outcome<Vec<String>> {
    for of in CHANGE {
        tool(jvm, bootstrap, "--alter", of)?;
    }
    told(jvm, bootstrap)
}

/// What the tool tells of those in a directory that Ottla serves.
pub fn told_of(jvm: &Jvm, dir: &Path) -> Outcome<Vec<String>> {
    served(dir, |bootstrap| told(jvm, bootstrap))
}

pub fn must_be(expected: &[String], found: &[String]) -> Outcome {
    expect(expected == found, || {
        format!("quotas were {expected:#?}, and are {found:#?}")
    })
}
