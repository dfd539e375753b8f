//! Markers: the records that end a transaction in each of its partitions.
//!
//! They are appended like any batch, and count once they are committed. Those of a decision of the coordinator are a job: when
//! all are committed the transaction is complete. A partition that is gone needs none; one whose log failed keeps the transaction
//! from being complete until the broker is opened again, which begins with writing all markers once more.

use alloc::collections::BTreeMap;
use ottla_log::{LogError, MarkerCheck};
use ottla_protocol::{
    ErrorCode, Response, Str, messages::write_txn_markers::WriteTxnMarkersResponse,
};
use ottla_record::{Now, control::EndTxnMarker};

use super::Decision;
use crate::{
    Broker,
    context::ReplyTo,
    groups::partition_of,
    partition::{CommitWaiter, Partition, PartitionIndex},
    topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC},
};

/// Bytes of a marker's batch.
const MARKER_BYTES: usize = 78;

/// Names a marker until it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MarkerId(u64);

/// Who decided how a transaction ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DecidedBy {
    /// The coordinator in this broker, with the leader epoch of the transactional id's partition.
    Here(i32),
    /// Another one, with its epoch.
    Elsewhere(i32),
    /// An administrator, whom no coordinator is ahead of.
    Administrator,
}

/// What a marker says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marker {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) committed: bool,
    pub(crate) decided_by: DecidedBy,
    /// The epoch must be larger than that of the transaction's records.
    pub(crate) epoch_was_bumped: bool,
}

/// Where the answer for a marker lies: marker, topic, partition.
type At = (usize, usize, usize);

/// Who waits for markers.
#[derive(Debug)]
enum WantedBy {
    /// The coordinator, for this transactional id.
    Coordinator(Str),
    /// A `WriteTxnMarkers`; in its answer NONE stands so far where nothing else does.
    Request(ReplyTo, WriteTxnMarkersResponse),
    /// Nobody.
    Nobody,
}

#[derive(Debug)]
struct Job {
    wanted_by: WantedBy,
    left: usize,
}

#[derive(Debug)]
struct UnderWay {
    job: u64,
    producer_id: i64,
    committed: bool,
    /// If it is in `__consumer_offsets`, the partition.
    offsets_partition: Option<i32>,
    at: Option<At>,
}

/// Markers that are not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    jobs: BTreeMap<u64, Job>,
    under_way: BTreeMap<MarkerId, UnderWay>,
    last: u64,
}

impl Markers {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Broker {
    /// Writes the markers of a transaction that is decided.
    pub(crate) fn write_markers(&mut self, now: Now, decision: Decision) {
        let id = decision.transactional_id.clone();
        let own_epoch = self.epoch_of(&id);
        let marker = Marker {
            producer_id: decision.producer_id,
            producer_epoch: decision.producer_epoch,
            committed: decision.committed,
            decided_by: DecidedBy::Here(own_epoch),
            epoch_was_bumped: decision.epoch_was_bumped,
        };
        let job = self.markers.next();
        let mut left = 0;
        for (topic, partition) in &decision.partitions {
            let written = self.write_marker(now, job, topic, *partition, marker, None);
            match written {
                // Of a partition that failed nobody hears any more.
                Ok(()) | Err(ErrorCode::KAFKA_STORAGE_ERROR) => left += 1,
                // It is gone, or a later epoch has ended this transaction there.
                Err(_) => {}
            }
        }
        if left == 0 {
            return self.transactions.handle_markers_written(now, &id);
        }
        let wanted_by = WantedBy::Coordinator(id);
        self.markers.jobs.insert(job, Job { wanted_by, left });
    }

    /// Writes the markers of a `WriteTxnMarkers`: of each what it says, where, and where its answer lies. The request is answered
    /// when all are committed.
    pub(crate) fn write_requested_markers(
        &mut self,
        now: Now,
        reply: ReplyTo,
        mut response: WriteTxnMarkersResponse,
        markers: impl Iterator<Item = (Marker, Str, i32, At)>,
    ) {
        let job = self.markers.next();
        let mut left = 0;
        for (marker, topic, partition, at) in markers {
            match self.write_marker(now, job, &topic, partition, marker, Some(at)) {
                Ok(()) => left += 1,
                Err(error) => set_error(&mut response, at, error),
            }
        }
        if left == 0 {
            return self.respond(reply, Response::WriteTxnMarkers(response));
        }
        let wanted_by = WantedBy::Request(reply, response);
        self.markers.jobs.insert(job, Job { wanted_by, left });
    }

    /// Writes a marker that nobody waits for.
    pub(super) fn write_lone_marker(
        &mut self,
        now: Now,
        topic: &Str,
        partition: i32,
        marker: Marker,
    ) -> Result<(), ErrorCode> {
        let job = self.markers.next();
        self.write_marker(now, job, topic, partition, marker, None)?;
        let wanted_by = WantedBy::Nobody;
        self.markers.jobs.insert(job, Job { wanted_by, left: 1 });
        Ok(())
    }

    fn write_marker(
        &mut self,
        now: Now,
        job: u64,
        topic: &Str,
        partition: i32,
        marker: Marker,
        at: Option<At>,
    ) -> Result<(), ErrorCode> {
        let (index, end) = self.append_marker(now, topic, partition, marker)?;
        let id = MarkerId(self.markers.next());
        let under_way = UnderWay {
            job,
            producer_id: marker.producer_id,
            committed: marker.committed,
            offsets_partition: (*topic == OFFSETS_TOPIC).then_some(partition),
            at,
        };
        self.markers.under_way.insert(id, under_way);
        self.wait_for_commit(index, end, CommitWaiter::Marker(id));
        Ok(())
    }

    /// Appends a marker to a partition; its index, and where the marker ends.
    fn append_marker(
        &mut self,
        now: Now,
        topic: &Str,
        partition: i32,
        marker: Marker,
    ) -> Result<(PartitionIndex, i64), ErrorCode> {
        let topic = self.topics.by_name(topic);
        let index = topic
            .and_then(|topic| topic.partition(partition))
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let own_epoch = match marker.decided_by {
            DecidedBy::Here(epoch) => epoch,
            DecidedBy::Elsewhere(_) => -1,
            DecidedBy::Administrator => {
                let id = self.transactions.transactional_id_of(marker.producer_id);
                id.map_or(0, |id| self.epoch_of(id))
            }
        };
        let partition = self
            .partitions
            .get_mut(index)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.check_usable()?;
        let known = partition.log.producers().get(marker.producer_id);
        let coordinator_epoch = match marker.decided_by {
            DecidedBy::Elsewhere(epoch) => epoch,
            DecidedBy::Here(_) | DecidedBy::Administrator => {
                let seen = known.map_or(-1, |producer| producer.coordinator_epoch);
                own_epoch.max(seen)
            }
        };
        let checked = partition.log.producers().check_marker(
            marker.producer_id,
            marker.producer_epoch,
            coordinator_epoch,
            marker.epoch_was_bumped,
        );
        match checked {
            MarkerCheck::Accept => {}
            MarkerCheck::Fenced { .. } => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            MarkerCheck::CoordinatorFenced { .. } => {
                return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
            }
        }
        let record = EndTxnMarker {
            committed: marker.committed,
            coordinator_epoch,
        };
        let appended = partition.log.append_marker(
            record,
            marker.producer_id,
            marker.producer_epoch,
            partition.leader_epoch,
            now,
        );
        match appended {
            Ok(appended) => {
                if let Some(first) = known.and_then(|producer| producer.transaction_start) {
                    partition.transaction_ended(appended.base_offset, first);
                }
                self.note_appended(now, index, MARKER_BYTES);
                Ok((index, appended.last_offset + 1))
            }
            Err(LogError::BatchTooLarge { .. }) => Err(ErrorCode::RECORD_LIST_TOO_LARGE),
            Err(_) => {
                self.fail_partition(index);
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        }
    }

    /// The leader epoch of the partition of `__transaction_state` that a transactional id is in.
    fn epoch_of(&self, id: &str) -> i32 {
        self.state_partition(id)
            .map_or(0, |partition| partition.leader_epoch)
    }

    /// The partition of `__transaction_state` that a transactional id is in, if the topic is there.
    pub(super) fn state_partition(&self, id: &str) -> Option<&Partition> {
        let topic = self.topics.by_name(TRANSACTIONS_TOPIC)?;
        let count = topic.partitions.len() as i32;
        self.partitions
            .get(topic.partition(partition_of(id, count))?)
    }

    /// A marker is committed, or never will be.
    pub(crate) fn marker_settled(&mut self, now: Now, id: MarkerId, error: ErrorCode) {
        let Some(marker) = self.markers.under_way.remove(&id) else {
            return;
        };
        if error == ErrorCode::NONE
            && let Some(partition) = marker.offsets_partition
        {
            self.groups
                .complete_transaction(partition, marker.producer_id, marker.committed);
        }
        let Some(job) = self.markers.jobs.get_mut(&marker.job) else {
            return;
        };
        match (&mut job.wanted_by, marker.at) {
            // A partition that was deleted has nothing to end any more; for one that failed the transaction stays as it is.
            (WantedBy::Coordinator(_), _)
                if !matches!(
                    error,
                    ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                ) =>
            {
                return;
            }
            (WantedBy::Request(_, response), Some(at)) if error != ErrorCode::NONE => {
                set_error(response, at, error);
            }
            _ => {}
        }
        job.left -= 1;
        if job.left > 0 {
            return;
        }
        match self.markers.jobs.remove(&marker.job).map(|j| j.wanted_by) {
            Some(WantedBy::Coordinator(id)) => self.transactions.handle_markers_written(now, &id),
            Some(WantedBy::Request(reply, response)) => {
                self.respond(reply, Response::WriteTxnMarkers(response));
            }
            Some(WantedBy::Nobody) | None => {}
        }
    }
}

fn set_error(response: &mut WriteTxnMarkersResponse, at: At, error: ErrorCode) {
    let (marker, topic, partition) = at;
    let topics = response.markers.get_mut(marker).map(|m| &mut m.topics);
    let partitions = topics.and_then(|t| t.get_mut(topic));
    if let Some(answer) = partitions.and_then(|t| t.partitions.get_mut(partition)) {
        answer.error_code = error;
    }
}
