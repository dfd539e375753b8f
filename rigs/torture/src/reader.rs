//! The process that opens a directory afterwards and tells all that is in it.

use crate::{
    history::{Event, Part},
    mark::Mark,
    options::Options,
    writer::GROUP,
};
use ottla::{Admin, Config, Consumer, KafkaError, TopicPartition, offset};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const WAIT: Duration = Duration::from_secs(60);
/// Nothing new for so long is the end, even if more was to come.
const STUCK: Duration = Duration::from_secs(60);

/// Reads everything: topics, records, committed offsets.
pub fn main(options: &Options) -> Result<(), String> {
    read(&options.address).map_err(|error| error.to_string())?;
    Event::Done.tell();
    Ok(())
}

fn read(address: &str) -> Result<(), KafkaError> {
    let config = Config::new().with("bootstrap.servers", address)?;
    let admin = Admin::new(config.clone())?;
    let mut parts: HashMap<Part, i64> = HashMap::new();
    for topic in admin.metadata(None, WAIT)?.topics {
        if topic.is_internal {
            continue;
        }
        let name = topic.name.to_string();
        Event::Topic(name.clone()).tell();
        for partition in topic.partitions {
            let part = (name.clone(), partition.id);
            let bounds = admin
                .handle()
                .query_watermark_offsets(&part.0, part.1, WAIT);
            match bounds {
                Ok((start, end)) => {
                    Event::Bounds(part.clone(), start, end).tell();
                    if start < end {
                        parts.insert(part, end);
                    }
                }
                Err(error) => Event::Bad(part, 0, error.to_string()).tell(),
            }
        }
    }
    for committed in admin.list_group_offsets(GROUP, None, WAIT)? {
        if committed.offset >= 0 {
            let part = (committed.topic.to_string(), committed.partition);
            Event::Committed(part, committed.offset).tell();
        }
    }
    let config = config
        .with("group.id", "another")?
        .with("enable.auto.commit", "false")?;
    let consumer = Consumer::new(config)?;
    let assigned: Vec<_> = parts
        .keys()
        .map(|(topic, partition)| {
            TopicPartition::new(topic.as_str(), *partition, offset::BEGINNING)
        })
        .collect();
    consumer.assign(&assigned)?;
    let mut moved = Instant::now();
    while !parts.is_empty() && moved.elapsed() < STUCK {
        let mut batch = match consumer.next_batch(Duration::from_millis(200)) {
            Ok(Some(batch)) => batch,
            Ok(None) => continue,
            Err(error) => {
                Event::Bad(("?".into(), 0), 0, error.to_string()).tell();
                continue;
            }
        };
        let part = (batch.topic().to_string(), batch.partition());
        while let Some(record) = batch.next() {
            moved = Instant::now();
            let at = match record {
                Ok(record) => {
                    match record.value.and_then(Mark::of) {
                        Some(mark) => Event::Read(mark, part.clone(), record.offset),
                        None => Event::Bad(part.clone(), record.offset, "a damaged value".into()),
                    }
                    .tell();
                    record.offset
                }
                Err((offset, error)) => {
                    Event::Bad(part.clone(), offset, error.to_string()).tell();
                    offset
                }
            };
            if parts.get(&part).is_some_and(|end| at + 1 >= *end) {
                parts.remove(&part);
            }
        }
    }
    Ok(())
}
