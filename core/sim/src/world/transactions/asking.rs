//! What a transactional producer asks for next, and each request in a version that it may use.

use ottla_protocol::{
    Records,
    messages::{
        add_offsets_to_txn::AddOffsetsToTxnRequest,
        add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        end_txn::EndTxnRequest,
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        init_producer_id::InitProducerIdRequest,
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
            OffsetFetchRequestTopics,
        },
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
        txn_offset_commit::{
            TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
        },
    },
};
use ottla_record::{BatchBuilder, FinishOptions};

use super::*;

/// `transaction.timeout.ms`.
pub(super) const TIMEOUT_MS: i32 = 1200;

/// What is asked until there is an outcome.
#[derive(Clone)]
pub(super) enum Ask {
    Create,
    Init,
    Add(Vec<i32>),
    Produce(Vec<(i32, Records)>),
    AddOffsets,
    Offsets(i64),
    End(bool),
    /// A copy of an EndTxn.
    Late(EndTxnRequest),
    Fetch,
    /// The committed offset of a transactional id's group.
    FetchOffset(usize),
}

impl Transactions {
    /// The next thing that a producer asks for; `None`: it is done.
    pub(super) fn next(&mut self, index: usize, now_us: u64) -> Option<Ask> {
        let Does::Produces(p) = &mut self.scripts[index].does else {
            return None;
        };
        if let Some(ask) = p.plan.pop_front() {
            return Some(ask);
        }
        let random = &mut self.random;
        let Some((number, _)) = p.open else {
            let name = &mut self.names[p.name];
            name.left = name.left.checked_sub(1)?;
            p.open = Some((self.ledger.begin(p.name), now_us));
            p.steps = random.between(1, 5);
            (p.added, p.added_offsets, p.uncertain) = (Vec::new(), false, false);
            return self.next(index, now_us);
        };
        if p.steps == 0 {
            // Some leave without a word; what they did is left to time or to the next instance.
            return (!random.chance(60)).then(|| Ask::End(random.chance(700)));
        }
        p.steps -= 1;
        if random.chance(250) {
            self.ledger.offset(number);
            if !p.v2 && !std::mem::replace(&mut p.added_offsets, true) {
                p.plan.push_back(Ask::AddOffsets);
            }
            p.plan.push_back(Ask::Offsets(number as i64));
            return p.plan.pop_front();
        }
        let partitions = match random.below(3) {
            0 => vec![0, 1],
            n => vec![n as i32 - 1],
        };
        let missing = |partition: &&i32| !p.added.contains(partition);
        let new: Vec<i32> = partitions.iter().filter(missing).copied().collect();
        if !p.v2 && !new.is_empty() {
            p.added.extend(&new);
            p.plan.push_back(Ask::Add(new));
        }
        let mut batches = Vec::new();
        for partition in partitions {
            let count = random.between(1, 3);
            let values = self.ledger.values(number, partition, count);
            let sequence = p.sequences.entry(partition).or_default();
            let base = *sequence;
            *sequence += values.len() as i32;
            batches.push((partition, batch(now_us, p.id, base, &values)));
        }
        p.plan.push_back(Ask::Produce(batches));
        p.plan.pop_front()
    }

    /// The request in a version that the script may use.
    pub(super) fn request(&mut self, index: usize) -> Option<(i16, Request)> {
        let script = &self.scripts[index];
        let ask = script.ask.clone()?;
        let random = &mut self.random;
        let mut any = |from: i16, to: i16| random.between(from as u64, to as u64) as i16;
        let none = Producer::default();
        let p = match &script.does {
            Does::Produces(p) => p,
            _ => &none,
        };
        let (producer_id, producer_epoch) = p.id;
        let name = |index: usize| self.names.get(index).map(|name| name.text.clone());
        let id = name(p.name).unwrap_or_default();
        Some(match ask {
            Ask::Create => (
                any(2, 7),
                Request::CreateTopics(CreateTopicsRequest {
                    topics: vec![CreatableTopic {
                        name: TOPIC,
                        num_partitions: PARTITIONS,
                        replication_factor: 1,
                        ..Default::default()
                    }],
                    timeout_ms: 5000,
                    ..Default::default()
                }),
            ),
            Ask::Init => (
                any(0, 5),
                Request::InitProducerId(InitProducerIdRequest {
                    transactional_id: Some(id),
                    transaction_timeout_ms: TIMEOUT_MS,
                    ..Default::default()
                }),
            ),
            Ask::Add(partitions) => (
                any(0, 3),
                Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: id,
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                        name: TOPIC,
                        partitions,
                    }],
                    ..Default::default()
                }),
            ),
            Ask::Produce(batches) => {
                let data = batches.into_iter().map(|(index, records)| {
                    let mut data = PartitionProduceData::default();
                    (data.index, data.records) = (index, records);
                    data
                });
                let request = ProduceRequest {
                    transactional_id: Some(id),
                    acks: -1,
                    timeout_ms: 1000,
                    topic_data: vec![TopicProduceData {
                        name: TOPIC,
                        partition_data: data.collect(),
                        ..Default::default()
                    }],
                };
                let version = if p.v2 { 12 } else { any(3, 11) };
                (version, Request::Produce(request))
            }
            Ask::AddOffsets => (
                any(0, 3),
                Request::AddOffsetsToTxn(AddOffsetsToTxnRequest {
                    group_id: id.clone(),
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                }),
            ),
            Ask::Offsets(committed_offset) => (
                if p.v2 { 5 } else { any(0, 4) },
                Request::TxnOffsetCommit(TxnOffsetCommitRequest {
                    group_id: id.clone(),
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    topics: vec![TxnOffsetCommitRequestTopic {
                        name: TOPIC,
                        partitions: vec![TxnOffsetCommitRequestPartition {
                            committed_offset,
                            ..Default::default()
                        }],
                    }],
                    ..Default::default()
                }),
            ),
            Ask::End(committed) => (
                if p.v2 { 5 } else { any(0, 4) },
                Request::EndTxn(EndTxnRequest {
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    committed,
                }),
            ),
            Ask::Late(request) => (5, Request::EndTxn(request)),
            Ask::Fetch => {
                let Does::Reads(reader) = &script.does else {
                    return None;
                };
                let most = [300, 1 << 20][any(0, 1) as usize];
                let partitions = (0..PARTITIONS).map(|partition| FetchPartition {
                    partition,
                    fetch_offset: reader.next[partition as usize],
                    partition_max_bytes: most,
                    ..Default::default()
                });
                let request = FetchRequest {
                    max_wait_ms: if reader.last { 0 } else { 300 },
                    min_bytes: 1,
                    max_bytes: i32::MAX,
                    isolation_level: 1,
                    session_epoch: -1,
                    topics: vec![FetchTopic {
                        topic: TOPIC,
                        partitions: partitions.collect(),
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                (any(4, 12), Request::Fetch(request))
            }
            Ask::FetchOffset(index) => {
                let (version, group_id) = (any(7, 9), name(index).unwrap_or_default());
                let mut request = OffsetFetchRequest {
                    require_stable: true,
                    ..Default::default()
                };
                if version < 8 {
                    request.group_id = group_id;
                    request.topics = Some(vec![OffsetFetchRequestTopic {
                        name: TOPIC,
                        partition_indexes: vec![0],
                    }]);
                } else {
                    request.groups = vec![OffsetFetchRequestGroup {
                        group_id,
                        topics: Some(vec![OffsetFetchRequestTopics {
                            name: TOPIC,
                            partition_indexes: vec![0],
                            ..Default::default()
                        }]),
                        ..Default::default()
                    }];
                }
                (version, Request::OffsetFetch(request))
            }
        })
    }
}

fn batch(now_us: u64, (id, epoch): (i64, i16), base_sequence: i32, values: &[String]) -> Records {
    let mut builder = BatchBuilder::new(256);
    for value in values {
        // Each key is there once, so that compaction leaves all of them.
        let timestamp = START_MS + (now_us / 1000) as i64;
        let value = Some(value.as_bytes());
        let _ = builder.append(timestamp, value, value, &[]);
    }
    let options = FinishOptions {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence,
        transactional: true,
        ..FinishOptions::default()
    };
    let batch = builder.finish(&options);
    batch.map(|it| it.encoded.into()).unwrap_or_default()
}
