//! A broker on a storage of one's choice, driven by hand: one request at a time, syncs at once, time as one says.

use bytes::Bytes;
use ottla_broker::{Broker, BrokerConfig, BrokerError, ConnId, Output, RequestEnvelope};
use ottla_log::{Storage, SyncJob};
use ottla_protocol::{
    ErrorCode, Request, Response,
    messages::{
        CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
        FindCoordinatorRequest, InitProducerIdRequest, OffsetCommitRequest, OffsetFetchRequest,
        ProduceRequest,
        create_topics::{CreatableTopic, CreatableTopicConfig},
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
        fetch::{FetchPartition, FetchTopic, PartitionData},
        offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch::OffsetFetchRequestTopic,
        produce::{PartitionProduceData, TopicProduceData},
    },
};
use ottla_record::{BatchBuilder, FinishOptions, Now};
use std::sync::Arc;

const CONN: ConnId = ConnId(1);

/// The broker.
pub struct Direct {
    broker: Broker,
    /// What time it is; moved by whoever wants that.
    pub now: Now,
    last_id: i32,
}

/// Why a request came to nothing.
pub type Refused = String;

/// Who produces: producer id, epoch, and the first sequence number.
pub type Sequence = Option<(i64, i16, i32)>;

impl Direct {
    /// Opens a data directory.
    pub fn open(
        config: BrokerConfig,
        storage: Arc<dyn Storage>,
        now: Now,
    ) -> Result<Self, BrokerError> {
        let mut broker = Broker::open(config, storage, now, 42)?;
        broker.handle_connect(now, CONN, "127.0.0.1");
        Ok(Self {
            broker,
            now,
            last_id: 0,
        })
    }

    /// Closes it.
    pub fn close(&mut self) -> Result<(), BrokerError> {
        self.broker.close(self.now)
    }

    /// Lets time pass, and what is due be done.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        self.broker.handle_timeout(self.now);
        self.work(0);
    }

    /// Does what the broker wants until nothing is left; the answer to `id`.
    fn work(&mut self, id: i32) -> Option<Response> {
        let mut answer = None;
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Respond {
                    correlation_id,
                    response,
                    ..
                } if correlation_id == id => answer = Some(response),
                Output::Sync { id, job } => {
                    let result = SyncJob::run(&job);
                    self.broker.handle_synced(self.now, id, result);
                }
                Output::Remove { job } => self.broker.handle_removed(job.run()),
                _ => {}
            }
        }
        answer
    }

    /// Sends a request; the answer must come before anything else happens.
    pub fn ask(&mut self, api_version: i16, request: Request) -> Result<Response, Refused> {
        self.last_id += 1;
        let envelope = RequestEnvelope {
            correlation_id: self.last_id,
            api_version,
            client_id: None,
            request,
        };
        self.broker.handle_request(self.now, CONN, envelope);
        self.work(self.last_id)
            .ok_or_else(|| "no answer".to_owned())
    }

    /// Creates a topic.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<(), Refused> {
        let configs = config.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: -1,
                configs: configs.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        match self.ask(7, Request::CreateTopics(request))? {
            Response::CreateTopics(answer) => good(answer.topics[0].error_code),
            other => Err(format!("{other:?}")),
        }
    }

    /// Deletes one.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Refused> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.into()],
            ..Default::default()
        };
        match self.ask(5, Request::DeleteTopics(request))? {
            Response::DeleteTopics(answer) => good(answer.responses[0].error_code),
            other => Err(format!("{other:?}")),
        }
    }

    /// Deletes a partition's records below an offset.
    pub fn delete_records(&mut self, topic: &str, part: i32, offset: i64) -> Result<(), Refused> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: part,
                    offset,
                }],
            }],
            ..Default::default()
        };
        match self.ask(2, Request::DeleteRecords(request))? {
            Response::DeleteRecords(answer) => good(answer.topics[0].partitions[0].error_code),
            other => Err(format!("{other:?}")),
        }
    }

    /// A producer id and its epoch.
    pub fn producer_id(&mut self) -> Result<(i64, i16), Refused> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        match self.ask(4, Request::InitProducerId(request))? {
            Response::InitProducerId(answer) => {
                good(answer.error_code)?;
                Ok((answer.producer_id, answer.producer_epoch))
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Produces one batch; its base offset.
    pub fn produce(
        &mut self,
        topic: &str,
        part: i32,
        values: &[Vec<u8>],
        sequence: Sequence,
    ) -> Result<i64, Refused> {
        let mut builder = BatchBuilder::new(1024);
        for value in values {
            builder
                .append(self.now.wall_ms, Some(b"key"), Some(value), &[])
                .map_err(|error| error.to_string())?;
        }
        let mut options = FinishOptions::default();
        if let Some((producer_id, producer_epoch, base_sequence)) = sequence {
            options = FinishOptions {
                producer_id,
                producer_epoch,
                base_sequence,
                ..options
            };
        }
        let batch: Bytes = builder
            .finish(&options)
            .map_err(|error| error.to_string())?
            .encoded;
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![PartitionProduceData {
                    index: part,
                    records: batch.into(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        match self.ask(9, Request::Produce(request))? {
            Response::Produce(answer) => {
                let answer = &answer.responses[0].partition_responses[0];
                good(answer.error_code)?;
                Ok(answer.base_offset)
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Fetches once, without waiting.
    pub fn fetch(&mut self, topic: &str, part: i32, offset: i64) -> Result<PartitionData, Refused> {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: i32::MAX,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.into(),
                partitions: vec![FetchPartition {
                    partition: part,
                    current_leader_epoch: -1,
                    fetch_offset: offset,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        match self.ask(11, Request::Fetch(request))? {
            Response::Fetch(mut answer) => {
                good(answer.error_code)?;
                Ok(answer.responses.remove(0).partitions.remove(0))
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Makes sure that the group's coordinator is there.
    pub fn find_coordinator(&mut self, group: &str) -> Result<(), Refused> {
        let request = FindCoordinatorRequest {
            key: group.into(),
            ..Default::default()
        };
        match self.ask(3, Request::FindCoordinator(request))? {
            Response::FindCoordinator(answer) => good(answer.error_code),
            other => Err(format!("{other:?}")),
        }
    }

    /// Commits an offset for a group without members.
    pub fn commit(
        &mut self,
        group: &str,
        topic: &str,
        part: i32,
        offset: i64,
    ) -> Result<(), Refused> {
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: part,
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    committed_metadata: None,
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        match self.ask(8, Request::OffsetCommit(request))? {
            Response::OffsetCommit(answer) => good(answer.topics[0].partitions[0].error_code),
            other => Err(format!("{other:?}")),
        }
    }

    /// What is committed; -1 if nothing.
    pub fn committed(&mut self, group: &str, topic: &str, part: i32) -> Result<i64, Refused> {
        let request = OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: topic.into(),
                partition_indexes: vec![part],
            }]),
            ..Default::default()
        };
        match self.ask(7, Request::OffsetFetch(request))? {
            Response::OffsetFetch(answer) => {
                good(answer.error_code)?;
                let partition = &answer.topics[0].partitions[0];
                good(partition.error_code)?;
                Ok(partition.committed_offset)
            }
            other => Err(format!("{other:?}")),
        }
    }
}

fn good(code: ErrorCode) -> Result<(), Refused> {
    match code {
        ErrorCode::NONE => Ok(()),
        code => Err(format!("{code:?}")),
    }
}
