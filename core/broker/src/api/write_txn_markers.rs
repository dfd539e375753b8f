//! WriteTxnMarkers (27): ends transactions in partitions, without asking the coordinator. In Kafka coordinators send it to the leaders
//! of other brokers; here it is for administrators, who end a transaction that hangs (`kafka-transactions.sh abort`).
//!
//! Serves versions 1 to 2. Departs from Kafka: coordinator epoch -1 is accepted also after a coordinator has written a marker for the
//! producer; an older producer epoch is INVALID_PRODUCER_EPOCH, not UNKNOWN_SERVER_ERROR.
//!
//! Coordinator epoch -1 is an administrator's, whom no coordinator is ahead of. From version 2 on the markers say of which transaction
//! version they are: with 2, the epoch must be larger than that of the records.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Str,
    messages::write_txn_markers::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
        WriteTxnMarkersRequest, WriteTxnMarkersResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    transactions::markers::{DecidedBy, Marker},
};

/// The transaction version whose markers have a larger epoch than the records.
const WITH_EPOCH_BUMP: i8 = 2;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: WriteTxnMarkersRequest,
) -> Handled {
    let mut response = WriteTxnMarkersResponse::default();
    let mut markers = Vec::new();
    for (marker_at, asked) in request.markers.iter().enumerate() {
        let marker = Marker {
            producer_id: asked.producer_id,
            producer_epoch: asked.producer_epoch,
            committed: asked.transaction_result,
            decided_by: match asked.coordinator_epoch {
                ..0 => DecidedBy::Administrator,
                epoch => DecidedBy::Elsewhere(epoch),
            },
            epoch_was_bumped: asked.transaction_version >= WITH_EPOCH_BUMP,
        };
        let mut topics = Vec::new();
        for (topic_at, topic) in asked.topics.iter().enumerate() {
            let mut partitions = Vec::new();
            for (partition_at, partition) in topic.partition_indexes.iter().enumerate() {
                let at = (marker_at, topic_at, partition_at);
                markers.push((marker, Str::from(topic.name.as_str()), *partition, at));
                partitions.push(WritableTxnMarkerPartitionResult {
                    partition_index: *partition,
                    error_code: ErrorCode::NONE,
                });
            }
            topics.push(WritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions,
            });
        }
        response.markers.push(WritableTxnMarkerResult {
            producer_id: asked.producer_id,
            topics,
        });
    }
    broker.write_requested_markers(now, context.reply, response, markers.into_iter());
    Handled::Deferred
}
