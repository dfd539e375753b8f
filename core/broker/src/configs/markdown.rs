//! `BROKER_CONFIGURATION.md`, made from the tables.

use alloc::{format, string::String};
use core::fmt::Write;

use super::{
    groups::{CLIENT_METRICS_ROWS, GROUP_ROWS},
    row::{Effect, Update},
    rows::BROKER_ROWS,
};
use crate::topic_config::{TOPIC_CONFIG_KEYS, TopicConfig};

const HEAD: &str = "\
# Configuration of the broker

The settings of a Kafka 4 broker, for `ottla serve --config FILE` and `--set NAME=VALUE`; those of topics, groups and client metrics; and what each does here.
Names, types, defaults and bounds are those of Kafka 4.3.1. A setting is

* **effective**: it does what it says;
* **without effect**: it is checked and kept, and does nothing, for the reason given. The daemon says so when it starts, and
  `DescribeConfigs` in the setting's documentation;
* **refused**: anything but its default is an error.

A name that is not here is no reason for `ottla serve` not to start, as it is none for Kafka: a warning names it, and it is passed over. `IncrementalAlterConfigs`
and `AlterConfigs` refuse it; so does the Rust API (`ServerProperties::parse`, and what stands behind `?` in `bootstrap.servers`).

The column *while it runs* says whether `IncrementalAlterConfigs` changes it: for one *broker*, or for *all* as well.

<!-- Made from core/broker/src/configs/ by `cargo xtask gen`. -->
";

/// The whole document.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n## Topics\n\n| Setting | Type | Default | Here | Default from | What it is |\n|---|---|---|---|---|---|\n");
    let defaults = TopicConfig::default();
    for key in TOPIC_CONFIG_KEYS {
        let from = key.broker_name.map(|name| format!("`{name}`"));
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.config_type,
            code(Some(&key.value(&defaults))),
            here(key.effect),
            from.unwrap_or_default(),
            key.doc
        );
    }
    text.push_str("\n## Broker\n\n| Setting | Type | Default | Here | While it runs | What it is |\n|---|---|---|---|---|---|\n");
    for row in BROKER_ROWS {
        let mut default = code(row.default);
        if let Some(theirs) = row.kafka_default {
            let _ = write!(default, " (Kafka: {})", code(theirs));
        }
        let update = match row.update {
            Update::ReadOnly => "",
            Update::PerBroker => "broker",
            Update::ClusterWide => "all",
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} | {update} | {} |",
            row.name,
            row.config_type,
            here(row.effect),
            row.doc
        );
    }
    for (title, rows) in [
        ("Groups", GROUP_ROWS),
        ("Client metrics", CLIENT_METRICS_ROWS),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n| Setting | Type | Default | Here | What it is |\n|---|---|---|---|---|\n"
        );
        for row in rows {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                row.name,
                row.config_type,
                code(row.default),
                here(row.effect),
                row.doc
            );
        }
    }
    text
}

fn code(value: Option<&str>) -> String {
    match value {
        None => "null".into(),
        Some("") => "empty".into(),
        Some(value) => format!("`{value}`"),
    }
}

fn here(effect: Effect) -> String {
    match effect {
        Effect::Effective => "effective".into(),
        Effect::Server => "effective in `ottla serve`".into(),
        Effect::Without(why) => format!("**without effect**: {why}"),
        Effect::Refused(why) => format!("**refused**: {why}"),
    }
}
