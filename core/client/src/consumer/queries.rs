//! Questions of the application: committed offsets, offsets for times, watermarks.

use super::assignors::TopicPartition;
use super::failures::coordinator_lost;
use super::machine::{
    Cluster, Consumer, ConsumerEvent, OperationResult, PartitionOffset, Purpose, To,
};
use super::offset;
use super::start_offsets::{WantedOffset, read_list_offsets, read_offset_fetch};
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ottla_protocol::{ErrorCode, Response, Str};
use ottla_record::Now;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Committed,
    Times,
    /// The low watermark, then the high one.
    Watermarks,
}

/// A partition that a query asks about.
#[derive(Clone, Debug)]
struct Asked {
    wanted: PartitionOffset,
    /// What ListOffsets is asked for.
    timestamp: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ToSend,
    UnderWay,
    Answered,
}

/// A query under way.
#[derive(Debug)]
pub(super) struct Query {
    kind: Kind,
    asked: Vec<Asked>,
    deadline: u64,
    retry_at: Option<u64>,
    /// It is to be tried again because a partition had no leader, and sooner if there is one.
    leaderless: bool,
}

impl Query {
    /// When it has to be looked at again.
    pub(super) fn due(&self) -> u64 {
        self.retry_at
            .map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// The topics whose leaders it needs.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Str> {
        let needs_leaders = self.kind != Kind::Committed;
        self.asked
            .iter()
            .filter(move |_| needs_leaders)
            .map(|asked| &asked.wanted.topic)
    }
}

impl Consumer {
    /// Asks the coordinator for the group's committed offsets. Ends in `Done` with [`OperationResult::Offsets`]:
    /// [`offset::INVALID`] where there is none.
    pub(crate) fn query_committed(
        &mut self,
        now: Now,
        id: u64,
        partitions: Vec<PartitionOffset>,
        timeout_ms: i32,
    ) -> Result<(), KafkaError> {
        self.group_id()?;
        let asked = partitions.into_iter().map(|wanted| (wanted, 0));
        self.ask(now, id, Kind::Committed, asked, timeout_ms);
        Ok(())
    }

    /// Asks for each partition's first offset whose record is at least as young as the timestamp in `offset`; the end
    /// (-1) where there is none. -1 and -2 stand for the end and the beginning, -3 for the youngest record.
    pub(crate) fn query_offsets_for_times(
        &mut self,
        now: Now,
        id: u64,
        times: Vec<PartitionOffset>,
        timeout_ms: i32,
    ) {
        let asked = times.into_iter().map(|wanted| {
            let timestamp = wanted.offset;
            (wanted, timestamp)
        });
        self.ask(now, id, Kind::Times, asked, timeout_ms);
    }

    /// Asks the partition's leader for the log's first offset and its end.
    pub(crate) fn query_watermarks(
        &mut self,
        now: Now,
        id: u64,
        partition: TopicPartition,
        timeout_ms: i32,
    ) {
        let wanted = PartitionOffset::new(partition.0, partition.1, offset::INVALID);
        let asked = [(wanted.clone(), offset::BEGINNING), (wanted, offset::END)].into_iter();
        self.ask(now, id, Kind::Watermarks, asked, timeout_ms);
    }

    /// The watermarks of the last fetch; [`offset::INVALID`] where nothing was fetched yet.
    pub(crate) fn watermarks(&self, partition: &TopicPartition) -> Option<(i64, i64)> {
        self.partitions.get(partition).map(|p| (p.low, p.high))
    }

    fn ask(
        &mut self,
        now: Now,
        id: u64,
        kind: Kind,
        asked: impl Iterator<Item = (PartitionOffset, i64)>,
        timeout_ms: i32,
    ) {
        let asked = asked.map(|(wanted, timestamp)| Asked {
            wanted: wanted.with_error(ErrCode::NO_ERROR),
            timestamp,
            state: State::ToSend,
        });
        let deadline = now.after_ms(i64::from(timeout_ms));
        self.queries.insert(
            id,
            Query {
                kind,
                asked: asked.collect(),
                deadline,
                retry_at: None,
                leaderless: false,
            },
        );
        if kind != Kind::Committed {
            self.want_topics(&[], false);
        }
    }

    /// Sends what is still to be asked and ends what is complete or too late.
    pub(super) fn serve_queries(&mut self, now: Now, cluster: &dyn Cluster) {
        let ids: Vec<u64> = self.queries.keys().copied().collect();
        for id in ids {
            self.serve_query(now, id, cluster);
        }
    }

    fn serve_query(&mut self, now: Now, id: u64, cluster: &dyn Cluster) {
        let retry_at = now.after_ms(i64::from(self.config.retry_backoff_ms));
        let Some(query) = self.queries.get_mut(&id) else {
            return;
        };
        if query
            .asked
            .iter()
            .all(|asked| asked.state == State::Answered)
        {
            return self.end_query(id, None);
        }
        if query.deadline <= now.mono_us {
            return self.end_query(id, Some(KafkaError::from(ErrCode::TIMED_OUT)));
        }
        let led = |asked: &Asked| {
            let (topic, partition) = (&asked.wanted.topic, asked.wanted.partition);
            asked.state == State::ToSend && cluster.leader(topic, partition).is_some()
        };
        let found = query.leaderless && query.asked.iter().any(led);
        if !found && query.retry_at.is_some_and(|at| now.mono_us < at) {
            return;
        }
        query.leaderless = false;
        query.retry_at = None;
        let left = query.deadline.saturating_sub(now.mono_us).div_ceil(1000);
        let timeout_ms = i32::try_from(left).unwrap_or(i32::MAX);
        if query.kind == Kind::Committed {
            let mut keys = Vec::new();
            for asked in query
                .asked
                .iter_mut()
                .filter(|asked| asked.state == State::ToSend)
            {
                asked.state = State::UnderWay;
                keys.push(asked.wanted.key());
            }
            if !keys.is_empty() {
                let request = self.offset_fetch_request(keys.iter().cloned());
                let purpose = Purpose::Query {
                    query: id,
                    partitions: keys,
                    timestamp: 0,
                };
                self.send(To::Coordinator, request, timeout_ms, purpose);
            }
            return;
        }
        // A partition can be asked about only once in a request: one per leader and, for watermarks, timestamp.
        let watermarks = query.kind == Kind::Watermarks;
        let mut requests: BTreeMap<(i32, i64), Vec<WantedOffset>> = BTreeMap::new();
        let mut leaderless = false;
        for asked in query
            .asked
            .iter_mut()
            .filter(|asked| asked.state == State::ToSend)
        {
            let key = asked.wanted.key();
            if let Some((node, epoch)) = cluster.leader(&key.0, key.1) {
                asked.state = State::UnderWay;
                let part = if watermarks { asked.timestamp } else { 0 };
                requests
                    .entry((node, part))
                    .or_default()
                    .push((key, epoch, asked.timestamp));
            } else if cluster
                .partition_count(&key.0)
                .is_some_and(|count| key.1 >= count || key.1 < 0)
            {
                asked.state = State::Answered;
                asked.wanted.error = ErrCode::UNKNOWN_PARTITION;
            } else if !matches!(
                cluster.topic_error(&key.0),
                ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE
            ) {
                asked.state = State::Answered;
                asked.wanted.error = ErrCode::from(cluster.topic_error(&key.0));
            } else {
                leaderless = true;
            }
        }
        if leaderless {
            query.leaderless = true;
            query.retry_at = Some(retry_at);
        }
        let complete = query
            .asked
            .iter()
            .all(|asked| asked.state == State::Answered);
        if leaderless {
            self.want_topics(&[], true);
        }
        for ((node, timestamp), wanted) in requests {
            let partitions = wanted.iter().map(|(key, ..)| key.clone()).collect();
            let request = self.list_offsets_request(wanted);
            self.send(
                To::Node(node),
                request,
                timeout_ms,
                Purpose::Query {
                    query: id,
                    partitions,
                    timestamp,
                },
            );
        }
        if complete {
            self.end_query(id, None);
        }
    }

    /// An answer to a part of a query.
    pub(super) fn query_answered(
        &mut self,
        now: Now,
        id: u64,
        partitions: Vec<TopicPartition>,
        timestamp: i64,
        reply: Result<Response, KafkaError>,
    ) {
        let retry_at = now.after_ms(i64::from(self.config.retry_backoff_ms));
        let Some(query) = self.queries.get_mut(&id) else {
            return;
        };
        let watermarks = query.kind == Kind::Watermarks;
        let mut refresh = false;
        let mut lost = false;
        let mut set =
            |asked: &mut Asked, found: Option<(i64, i32, Option<Str>, ErrorCode)>| match found {
                Some((offset, leader_epoch, metadata, error)) if !error.is_retriable() => {
                    asked.state = State::Answered;
                    asked.wanted.error = ErrCode::from(error);
                    asked.wanted.leader_epoch = leader_epoch;
                    asked.wanted.offset = offset;
                    asked.wanted.metadata = metadata;
                }
                _ => {
                    asked.state = State::ToSend;
                    refresh = true;
                }
            };
        let of_this_request = |asked: &&mut Asked| {
            asked.state == State::UnderWay
                && (!watermarks || asked.timestamp == timestamp)
                && partitions
                    .iter()
                    .any(|(topic, p)| *p == asked.wanted.partition && *topic == asked.wanted.topic)
        };
        let mut failed = None;
        if query.kind == Kind::Committed {
            let answer = read_offset_fetch(reply);
            for asked in query.asked.iter_mut().filter(of_this_request) {
                let found = answer
                    .as_ref()
                    .ok()
                    .and_then(|answer| answer.get(&asked.wanted.key()));
                set(
                    asked,
                    found.map(|c| {
                        let offset = if c.offset < 0 {
                            offset::INVALID
                        } else {
                            c.offset
                        };
                        (
                            offset,
                            c.leader_epoch,
                            c.metadata.clone().filter(|m| !m.is_empty()),
                            c.error,
                        )
                    }),
                );
            }
            failed = answer.err();
            lost = failed.as_ref().is_some_and(coordinator_lost);
        } else {
            let answer = read_list_offsets(reply);
            for asked in query.asked.iter_mut().filter(of_this_request) {
                let found = answer
                    .as_ref()
                    .ok()
                    .and_then(|answer| answer.get(&asked.wanted.key()));
                set(
                    asked,
                    found.map(|l| (l.offset, l.leader_epoch, None, l.error)),
                );
            }
            failed = failed.or(answer.err());
        }
        if refresh {
            query.retry_at = Some(retry_at);
            if query.kind != Kind::Committed {
                self.want_topics(&[], true);
            }
        }
        if lost {
            self.forget_coordinator();
        }
        if let Some(error) = failed
            && !error.retriable
        {
            self.end_query(id, Some(error));
        }
    }

    fn end_query(&mut self, id: u64, error: Option<KafkaError>) {
        let Some(query) = self.queries.remove(&id) else {
            return;
        };
        let asked = || query.asked.iter().map(|asked| asked.wanted.clone());
        let result = match (error, query.kind) {
            (Some(error), _) => Err(error),
            (None, Kind::Watermarks) => {
                let found: Vec<PartitionOffset> = asked().collect();
                match found.iter().find(|p| p.error != ErrCode::NO_ERROR) {
                    Some(failed) => Err(KafkaError::from(failed.error)),
                    None => {
                        let offset = |i: usize| found.get(i).map_or(offset::INVALID, |p| p.offset);
                        Ok(OperationResult::Watermarks {
                            low: offset(0),
                            high: offset(1),
                        })
                    }
                }
            }
            (None, _) => Ok(OperationResult::Offsets(asked().collect())),
        };
        self.event(ConsumerEvent::Done { id, result });
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Rig, tp};
    use super::*;
    use alloc::vec;

    fn done(rig: &mut Rig) -> Option<Result<OperationResult, KafkaError>> {
        match rig.consumer.poll_event() {
            Some(ConsumerEvent::Done { result, .. }) => Some(result),
            _ => None,
        }
    }

    #[test]
    fn committed_offsets() {
        let mut rig = Rig::new(|_| {});
        rig.consumer
            .query_committed(rig.now, 1, vec![tp("a", 0), tp("b", 1)], 1_000)
            .unwrap();
        rig.committed(-1);
        let Some(Ok(OperationResult::Offsets(found))) = done(&mut rig) else {
            panic!()
        };
        assert_eq!((found.len(), found[0].offset), (2, offset::INVALID));
    }

    #[test]
    fn watermarks_and_times() {
        let mut rig = Rig::new(|c| c.group_id = None);
        rig.consumer
            .query_watermarks(rig.now, 1, ("a".into(), 0), 1_000);
        rig.lists(ErrorCode::NONE);
        rig.lists(ErrorCode::NONE);
        assert_eq!(
            done(&mut rig),
            Some(Ok(OperationResult::Watermarks {
                low: 100,
                high: 200
            }))
        );

        let times = vec![
            PartitionOffset::new("a", 0, 1234),
            PartitionOffset::new("a", 9, 5),
        ];
        rig.consumer
            .query_offsets_for_times(rig.now, 2, times, 1_000);
        rig.lists(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let listed = rig.run(100).lists(ErrorCode::NONE);
        assert_eq!(listed.topics[0].partitions[0].timestamp, 1234);
        let Some(Ok(OperationResult::Offsets(found))) = done(&mut rig) else {
            panic!()
        };
        assert_eq!((found[0].offset, found[0].error), (200, ErrCode::NO_ERROR));
        assert_eq!(found[1].error, ErrCode::UNKNOWN_PARTITION);
    }

    #[test]
    fn a_query_ends_in_time() {
        let mut rig = Rig::new(|_| {});
        rig.consumer
            .query_watermarks(rig.now, 1, ("unknown".into(), 0), 1_000);
        rig.run(999);
        assert_eq!(done(&mut rig), None);
        rig.run(1);
        assert_eq!(
            done(&mut rig).unwrap().unwrap_err().code,
            ErrCode::TIMED_OUT
        );
        assert_eq!(rig.consumer.poll_timeout(), None);
    }
}
