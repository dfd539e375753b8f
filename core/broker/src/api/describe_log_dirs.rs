//! DescribeLogDirs (35): how much of the disk each partition takes (KIP-113, KIP-827). There is one log directory.
//!
//! Serves versions 1 to 5. Departs from Kafka: a failed write takes one partition away, not the directory, so the directory is never
//! told as failed; the disk's size and room are -1 where there is no disk (`memory:`).

use alloc::{collections::BTreeMap, vec, vec::Vec};

use hashbrown::HashSet;
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_log_dirs::{
        DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
        DescribeLogDirsResult, DescribeLogDirsTopic,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> Handled {
    let asked: Option<HashSet<(Str, i32)>> = request.topics.map(|topics| {
        let each = topics.into_iter().flat_map(|topic| {
            let name = topic.topic;
            topic.partitions.into_iter().map(move |p| (name.clone(), p))
        });
        each.collect()
    });
    let mut topics: BTreeMap<Str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for topic in broker.topics.iter() {
        for partition in topic
            .partitions
            .iter()
            .filter_map(|i| broker.partitions.get(*i))
        {
            let named = (topic.name.clone(), partition.number);
            if asked.as_ref().is_none_or(|asked| asked.contains(&named)) {
                let described = DescribeLogDirsPartition {
                    partition_index: partition.number,
                    partition_size: partition.log.size_bytes() as i64,
                    ..Default::default()
                };
                topics.entry(named.0).or_default().push(described);
            }
        }
    }
    // What the file system tells; -1 where there is none, or it doesn't tell.
    let (total_bytes, usable_bytes) = match broker.storage.space() {
        Some(space) => (bounded(space.total_bytes), bounded(space.usable_bytes)),
        None => (-1, -1),
    };
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::NONE,
        log_dir: broker.config.log_dir.clone(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions })
            .collect(),
        total_bytes,
        usable_bytes,
        ..Default::default()
    };
    Handled::Respond(Response::DescribeLogDirs(DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    }))
}

fn bounded(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch},
    };
    use ottla_protocol::{Request, messages::describe_log_dirs::DescribableLogDirTopic};

    fn ask(h: &mut Harness, topics: Option<Vec<(&str, i32)>>) -> DescribeLogDirsResult {
        let topics = topics.map(|topics| {
            let asked = |(topic, partition): (&str, i32)| DescribableLogDirTopic {
                topic: topic.into(),
                partitions: vec![partition],
            };
            topics.into_iter().map(asked).collect()
        });
        let request = Request::DescribeLogDirs(DescribeLogDirsRequest { topics });
        let Response::DescribeLogDirs(mut response) = h.ask(4, request) else {
            panic!()
        };
        response.results.remove(0)
    }

    #[test]
    fn sizes_of_all_and_of_some() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        h.create_topic("u", 1, &[]);
        h.produce("t", 1, batch(&["a"]));
        let all = ask(&mut h, None);
        let sizes = |result: &DescribeLogDirsResult| -> Vec<(Str, i32, bool)> {
            let each = |topic: &DescribeLogDirsTopic| {
                let name = topic.name.clone();
                let one = |p: &DescribeLogDirsPartition| {
                    (name.clone(), p.partition_index, p.partition_size > 0)
                };
                topic.partitions.iter().map(one).collect::<Vec<_>>()
            };
            result.topics.iter().flat_map(each).collect()
        };
        let expected = [("t", 0, false), ("t", 1, true), ("u", 0, false)];
        assert_eq!(sizes(&all), expected.map(|(n, p, s)| (n.into(), p, s)));
        assert_eq!((all.total_bytes, all.usable_bytes), (-1, -1));
        let some = ask(&mut h, Some(vec![("u", 0), ("u", 3), ("none", 0)]));
        assert_eq!(sizes(&some), [("u".into(), 0, false)]);
        assert!(ask(&mut h, Some(vec![])).topics.is_empty());
    }
}
