//! What is left: directories, elections, reassignments.

use super::*;
use ApiKey::*;

pub const CASES: &[Row] = &[
    ("describe log dirs", DescribeLogDirs, log_dirs),
    ("elect leaders", ElectLeaders, elect),
    (
        "list partition reassignments",
        ListPartitionReassignments,
        reassignments,
    ),
];

fn log_dirs(s: &mut Session, v: i16) {
    use describe_log_dirs::DescribableLogDirTopic;
    let name = format!("log-dirs-{v}");
    make_topic(s, &name, 2, &[]);
    fill(s, &name, 0, plain(&["a", "b"]));
    let mut ask = |what: &str, topic: &str, partitions: &[i32]| {
        let request = DescribeLogDirsRequest {
            topics: Some(vec![DescribableLogDirTopic {
                topic: topic.into(),
                partitions: partitions.to_vec(),
            }]),
        };
        let answer = s.prepare(v, Request::DescribeLogDirs(request));
        if let Some(Response::DescribeLogDirs(mut answer)) = answer {
            for result in &mut answer.results {
                let known = (result.total_bytes > 0, result.usable_bytes > 0);
                s.note(what, "total and usable bytes known", &format!("{known:?}"));
                (result.total_bytes, result.usable_bytes) = (0, 0);
                result.log_dir = Str::new();
                for topic in &mut result.topics {
                    topic.partitions.sort_by_key(|p| p.partition_index);
                }
            }
            s.keep(what, &Response::DescribeLogDirs(answer));
        } else {
            s.note(what, "answer", "none");
        }
    };
    ask("both", &name, &[0, 1]);
    ask("one", &name, &[1]);
    ask("no such partition", &name, &[7]);
    ask("no such topic", "log-dirs-none", &[0]);
}

fn elect(s: &mut Session, v: i16) {
    use elect_leaders::TopicPartitions;
    let name = format!("elect-{v}");
    make_topic(s, &name, 1, &[]);
    let named = |topic: &str, partitions: &[i32]| TopicPartitions {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    for (what, election_type, topics) in [
        ("preferred", 0, vec![named(&name, &[0])]),
        ("unclean", 1, vec![named(&name, &[0])]),
        ("no such type", 5, vec![named(&name, &[0])]),
        ("no such partition", 0, vec![named(&name, &[7])]),
        ("no such topic", 0, vec![named("elect-none", &[0])]),
    ] {
        if election_type > 0 && v < 1 {
            continue;
        }
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: Some(topics),
            timeout_ms: 5_000,
        };
        s.ask(what, v, Request::ElectLeaders(request));
    }
}

fn reassignments(s: &mut Session, v: i16) {
    use list_partition_reassignments::ListPartitionReassignmentsTopics;
    make_topic(s, "reassign", 1, &[]);
    for topics in [
        None,
        Some(vec![]),
        Some(vec![ListPartitionReassignmentsTopics {
            name: "reassign".into(),
            partition_indexes: vec![0, 9],
        }]),
    ] {
        let what = format!("{:?}", topics.as_ref().map(Vec::len));
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: 5_000,
            topics,
        };
        s.ask(&what, v, Request::ListPartitionReassignments(request));
    }
}
