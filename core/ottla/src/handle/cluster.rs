//! Questions about the cluster: metadata, offsets, groups.

use super::{Handle, Route, consuming::offsets_of, milliseconds, time_left, unexpected};
use crate::{BrokerInfo, ErrCode, KafkaError, Role, TopicPartition, queue::deadline};
use ottla_client::consumer::OperationResult;
use ottla_protocol::{
    ErrorCode, Request, Response, Str,
    messages::{
        ConsumerGroupDescribeRequest, DescribeGroupsRequest, FindCoordinatorRequest,
        ListOffsetsRequest, MetadataRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
        metadata::MetadataRequestTopic,
    },
};
use std::time::Duration;

/// Questions about the cluster.
impl Handle {
    /// Brokers, and all topics (`None`) or those named.
    pub fn metadata(
        &self,
        topics: Option<&[&str]>,
        timeout: Duration,
    ) -> Result<crate::Metadata, KafkaError> {
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                let topic = |name: &&str| MetadataRequestTopic {
                    name: Some((*name).into()),
                    ..Default::default()
                };
                topics.iter().map(topic).collect()
            }),
            allow_auto_topic_creation: self.role() == Role::Producer,
            ..Default::default()
        };
        match self.request(Route::Any, Request::Metadata(request), timeout)? {
            Response::Metadata(response) => Ok(crate::Metadata::from(response)),
            other => Err(unexpected(&other)),
        }
    }

    /// A partition's first offset and its end, asked of the leader.
    ///
    /// Errors: `_UNKNOWN_PARTITION` at once, as librdkafka, for a topic or partition that isn't there; it isn't created.
    pub fn query_watermark_offsets(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        let until = deadline(timeout);
        let ask = |timestamp| self.list_offset(topic, partition, timestamp, time_left(until));
        let found = ask(-2).and_then(|low| Ok((low, ask(-1)?)));
        found.map_err(|error| match error.code {
            ErrCode::UNKNOWN_TOPIC_OR_PART => {
                KafkaError::new(ErrCode::UNKNOWN_PARTITION, error.message)
            }
            _ => error,
        })
    }

    /// Asks for a partition's leader if none is known, without creating the topic. A leader that is being chosen is left to
    /// be waited for.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PART`, `_UNKNOWN_PARTITION`, or what else the broker says of the topic.
    pub(crate) fn find_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        if self.is_partition_available(topic, partition) {
            return Ok(());
        }
        let asked = MetadataRequestTopic {
            name: Some(topic.into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.request(Route::Any, Request::Metadata(request), timeout)?;
        let Response::Metadata(response) = response else {
            return Err(unexpected(&response));
        };
        let found = response.topics.into_iter().next();
        let error = found
            .as_ref()
            .map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |t| t.error_code);
        let partitions = found.map(|t| t.partitions).unwrap_or_default();
        match error {
            ErrorCode::NONE if partitions.iter().all(|p| p.partition_index != partition) => {
                let text = format!("topic {topic} has no partition {partition}");
                Err(KafkaError::new(ErrCode::UNKNOWN_PARTITION, text))
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let text = format!("there is no topic {topic}");
                Err(KafkaError::new(ErrCode::UNKNOWN_TOPIC_OR_PART, text))
            }
            ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => Ok(()),
            error => Err(KafkaError::from(error)),
        }
    }

    /// The offset that a partition's leader gives for a timestamp, or for one of the logical ones.
    fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        timeout: Duration,
    ) -> Result<i64, KafkaError> {
        let until = deadline(timeout);
        self.find_leader(topic, partition, timeout)?;
        let asked = ListOffsetsPartition {
            partition_index: partition,
            timestamp,
            ..Default::default()
        };
        let topics = vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![asked],
        }];
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics,
            ..Default::default()
        };
        let route = Route::Leader(topic.into(), partition);
        let timeout = time_left(until);
        let response = self.request(route, Request::ListOffsets(request), timeout)?;
        let Response::ListOffsets(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop());
        match answer {
            Some(answer) if answer.error_code.0 == 0 => Ok(answer.offset),
            Some(answer) => Err(KafkaError::from(answer.error_code)),
            None => Err(KafkaError::new(
                ErrCode::BAD_MSG,
                "the answer names no partition",
            )),
        }
    }

    /// The same as the last fetch told, without asking; `None` before that.
    pub fn watermark_offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        self.inner
            .driver
            .with(|client, _| client.watermarks(&(topic.into(), partition)))
            .ok()
            .flatten()
    }

    /// Replaces the timestamp (ms) in each `offset` by the first offset whose record is not older, `OFFSET_END` if there is none.
    ///
    /// Each partition has its own error; if all of them are unknown the call fails, too, with `_UNKNOWN_PARTITION`.
    pub fn offsets_for_times(
        &self,
        times: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        self.look_up_times(times, timeout)?;
        let unknown = [ErrCode::UNKNOWN_TOPIC_OR_PART, ErrCode::UNKNOWN_PARTITION];
        match times.iter().all(|p| unknown.contains(&p.error)) && !times.is_empty() {
            true => Err(KafkaError::from(ErrCode::UNKNOWN_PARTITION)),
            false => Ok(()),
        }
    }

    fn look_up_times(
        &self,
        times: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        if self.role() == Role::Producer {
            // A producer has no offsets to look after, but may ask for them all the same.
            let until = deadline(timeout);
            for wanted in times {
                let left = time_left(until);
                match self.list_offset(&wanted.topic, wanted.partition, wanted.offset, left) {
                    Ok(offset) => (wanted.offset, wanted.error) = (offset, ErrCode::NO_ERROR),
                    Err(error) => wanted.error = error.code,
                }
            }
            return Ok(());
        }
        let asked = offsets_of(times);
        let id = self.operation(|client, now, id| {
            client.query_offsets_for_times(now, id, asked, milliseconds(timeout))
        })?;
        if let OperationResult::Offsets(found) = self.operation_result(id, timeout)? {
            times
                .iter_mut()
                .zip(found)
                .for_each(|(to, from)| *to = from.into());
        }
        Ok(())
    }

    /// Groups with their members: all, or the one named.
    pub fn list_groups(
        &self,
        group: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<crate::GroupInfo>, KafkaError> {
        let groups: Vec<Str> = match group {
            Some(group) => vec![group.into()],
            None => {
                match self.request(Route::Any, Request::ListGroups(Default::default()), timeout)? {
                    Response::ListGroups(response) if response.error_code.0 == 0 => response
                        .groups
                        .into_iter()
                        .map(|group| group.group_id)
                        .collect(),
                    Response::ListGroups(response) => {
                        return Err(KafkaError::from(response.error_code));
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        };
        groups
            .into_iter()
            .map(|group| self.describe_group(group, false, timeout))
            .collect()
    }

    /// A group of either kind with its members. As Kafka's own admin client: the broker that runs groups itself is asked first, and who
    /// doesn't know the group, or the question, is asked for a classic one.
    pub(crate) fn describe_group_of_any_kind(
        &self,
        group: Str,
        include_authorized_operations: bool,
        timeout: Duration,
    ) -> Result<crate::GroupInfo, KafkaError> {
        let deadline = deadline(timeout);
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.clone()],
            include_authorized_operations,
        };
        let request = Request::ConsumerGroupDescribe(request);
        let answer = self.request(Route::GroupCoordinator(group.clone()), request, timeout);
        let described = match answer {
            Ok(Response::ConsumerGroupDescribe(mut response)) => Some(only(response.groups.pop())?),
            Ok(other) => return Err(unexpected(&other)),
            Err(error) if error.code == ErrCode::UNSUPPORTED_FEATURE => None,
            Err(error) => return Err(error),
        };
        let is_another = [
            ErrorCode::GROUP_ID_NOT_FOUND,
            ErrorCode::UNSUPPORTED_VERSION,
        ];
        match described.filter(|described| !is_another.contains(&described.error_code)) {
            Some(described) => {
                let broker = self.coordinator_of(&group, time_left(deadline))?;
                Ok(crate::GroupInfo::consumer(described, broker))
            }
            None => self.describe_group(group, include_authorized_operations, time_left(deadline)),
        }
    }

    /// A classic group with its members.
    pub(crate) fn describe_group(
        &self,
        group: Str,
        include_authorized_operations: bool,
        timeout: Duration,
    ) -> Result<crate::GroupInfo, KafkaError> {
        let deadline = deadline(timeout);
        let request = Request::DescribeGroups(DescribeGroupsRequest {
            groups: vec![group.clone()],
            include_authorized_operations,
        });
        let described =
            match self.request(Route::GroupCoordinator(group.clone()), request, timeout)? {
                Response::DescribeGroups(mut response) => only(response.groups.pop())?,
                other => return Err(unexpected(&other)),
            };
        let broker = self.coordinator_of(&group, time_left(deadline))?;
        Ok(crate::GroupInfo::classic(described, broker))
    }

    /// The broker that has a group.
    fn coordinator_of(&self, group: &Str, timeout: Duration) -> Result<BrokerInfo, KafkaError> {
        let request = FindCoordinatorRequest {
            key: group.clone(),
            coordinator_keys: vec![group.clone()],
            ..Default::default()
        };
        let response = self.request(Route::Any, Request::FindCoordinator(request), timeout)?;
        let Response::FindCoordinator(mut response) = response else {
            return Err(unexpected(&response));
        };
        // Before version 4 there is one, outside of the list.
        let (error, id, host, port) = match response.coordinators.pop() {
            Some(found) => (found.error_code, found.node_id, found.host, found.port),
            None => (
                response.error_code,
                response.node_id,
                response.host,
                response.port,
            ),
        };
        match error {
            ErrorCode::NONE => Ok(BrokerInfo {
                id,
                host,
                port,
                rack: None,
            }),
            error => Err(KafkaError::from(error)),
        }
    }
}

/// What an answer to one question must have.
fn only<T>(answer: Option<T>) -> Result<T, KafkaError> {
    answer.ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))
}
