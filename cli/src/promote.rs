//! `ottla promote DIR [--json]`: makes a directory ready for a JVM Kafka, and says how to start it.

use crate::{Failure, quoted};
use ottla::{Promoted, Promotion};
use std::path::Path;

pub const USAGE: &str = "\
usage: ottla promote DIR [--json]

Prepares the data directory DIR (file://DIR is the same) for a JVM Kafka 4 in KRaft mode, and writes the server.properties to
start it with to standard output. Nothing is exported or converted: topics, records, committed offsets, settings, quotas and
producer ids stay where they are. Nobody may have DIR open, and whoever had it must have closed it cleanly. Ottla can
open it again, before and after Kafka ran on it; to promote it twice does no harm.

  --json                 one JSON object instead of text: directory, promoted (now, already, again), cluster_id, node_id,
                         topics, partitions, next_producer_id, server_properties

Exit codes: 0 when DIR is ready for Kafka; 1 when it can't be made so (somebody has it open, it was not closed cleanly, it
is no data directory, it can't be read or written), with the reason on standard error; 2 when an option can't be
understood.

  ottla promote /var/lib/ottla";

pub fn main(args: &[String]) -> Result<(), Failure> {
    let mut dir = None;
    let mut json = false;
    for arg in args {
        match arg.as_str() {
            "--json" => json = true,
            flag if flag.starts_with('-') => {
                return Err(Failure::Usage(format!("promote knows no {flag}")));
            }
            path if dir.is_none() => dir = Some(path.strip_prefix("file://").unwrap_or(path)),
            _ => return Err(Failure::Usage("promote takes one directory".into())),
        }
    }
    let dir = dir.ok_or_else(|| Failure::Usage("promote needs a directory".into()))?;
    let failed = |why: String| Failure::Failed(why);
    let promotion = ottla::promote(dir).map_err(|error| failed(error.to_string()))?;
    let dir = Path::new(dir)
        .canonicalize()
        .map_err(|error| failed(format!("{dir}: {error}")))?;
    let properties = server_properties(&promotion, &dir.display().to_string());
    if json {
        println!(
            "{}",
            as_json(&promotion, &dir.display().to_string(), &properties)
        );
    } else {
        println!(
            "{}",
            for_people(&promotion, &dir.display().to_string(), &properties)
        );
    }
    Ok(())
}

/// What a JVM Kafka needs to know to be broker and controller in one on this directory.
fn server_properties(promotion: &Promotion, dir: &str) -> Vec<(&'static str, String)> {
    let node = promotion.node_id;
    vec![
        ("process.roles", "broker,controller".into()),
        ("node.id", node.to_string()),
        ("controller.quorum.voters", format!("{node}@localhost:9093")),
        (
            "listeners",
            "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093".into(),
        ),
        ("controller.listener.names", "CONTROLLER".into()),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
        ),
        // A backslash begins an escape in Java's properties.
        ("log.dirs", dir.replace('\\', "\\\\")),
        ("offsets.topic.replication.factor", "1".into()),
        ("transaction.state.log.replication.factor", "1".into()),
        ("transaction.state.log.min.isr", "1".into()),
    ]
}

fn for_people(promotion: &Promotion, dir: &str, properties: &[(&str, String)]) -> String {
    let done = match promotion.promoted {
        Promoted::Now => format!("{dir} is ready for Kafka"),
        Promoted::Already => format!("{dir} was ready for Kafka already: nothing was changed"),
        Promoted::Again => {
            format!("{dir} is ready for Kafka again, with its topics as they are now")
        }
    };
    let lines: String = properties
        .iter()
        .map(|(name, value)| format!("  {name}={value}\n"))
        .collect();
    format!(
        "{done}: {} topics with {} partitions, cluster {}.\n\n\
         Put this into server.properties of any Kafka 4:\n\n{lines}\n\
         and start it:\n\n  bin/kafka-server-start.sh server.properties\n\n\
         Programs go on with bootstrap.servers=localhost:9092 instead of file://{dir}",
        promotion.topics, promotion.partitions, promotion.cluster_id,
    )
}

fn as_json(promotion: &Promotion, dir: &str, properties: &[(&str, String)]) -> String {
    let promoted = match promotion.promoted {
        Promoted::Now => "now",
        Promoted::Already => "already",
        Promoted::Again => "again",
    };
    let properties: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)))
        .collect();
    format!(
        "{{\"directory\":{},\"promoted\":{},\"cluster_id\":{},\"node_id\":{},\"topics\":{},\"partitions\":{},\
         \"next_producer_id\":{},\"server_properties\":{{{}}}}}",
        quoted(dir),
        quoted(promoted),
        quoted(&promotion.cluster_id),
        promotion.node_id,
        promotion.topics,
        promotion.partitions,
        promotion.next_producer_id,
        properties.join(","),
    )
}
