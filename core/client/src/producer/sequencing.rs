//! An idempotent producer's order: what to do when a broker says that a batch is out of it.
//!
//! The rules are librdkafka's, but for one: a new epoch counts for a partition as soon as nothing of that partition is in
//! flight, where librdkafka waits for all partitions.

use super::Producer;
use super::identity::Identity;
use super::partition::Batch;
use super::sender::RETRY_SPREAD;
use crate::error::{ErrCode, KafkaError};
use alloc::format;
use ottla_protocol::Response;
use ottla_record::Now;

impl Producer {
    /// Errors of an idempotent producer's order. Gives the batch back if it is none of them.
    pub(super) fn out_of_sequence(
        &mut self,
        now: Now,
        topic: u32,
        number: u32,
        mut batch: Batch,
        error: &KafkaError,
    ) -> Option<Batch> {
        let Some(sequence) = batch.sequence else {
            return Some(batch);
        };
        let lost_track = matches!(
            error.code,
            ErrCode::UNKNOWN_PRODUCER_ID
                | ErrCode::INVALID_PRODUCER_EPOCH
                | ErrCode::INVALID_PRODUCER_ID_MAPPING
        );
        if error.code != ErrCode::OUT_OF_ORDER_SEQUENCE_NUMBER && !lost_track {
            return Some(batch);
        }
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        // Refused, hence not written by this attempt; these repetitions are no fault of the batch.
        batch.attempts -= 1;
        if partition.sequencing.identity != sequence.identity {
            batch.sequence = None;
            self.send_again(topic, number, batch, 0);
        } else if partition.has_earlier(batch.id) {
            // The one before it will be sent again, and then this one.
            batch.awaits_earlier = true;
            self.send_again(topic, number, batch, 0);
        } else if partition.sequencing.has_gap_before(batch.id) || lost_track {
            batch.sequence = None;
            self.send_again(topic, number, batch, 0);
            self.restart_sequence(now, topic, number, error.code);
        } else {
            let text = format!(
                "the broker expects another sequence number than {} on {} [{number}], though every batch before was acknowledged",
                sequence.base, self.topics[topic as usize].name
            );
            let fatal = KafkaError::new(error.code, text).into_fatal();
            self.fail(now, topic, number as i32, batch, fatal.clone());
            self.raise_fatal(now, fatal);
        }
        None
    }

    /// Begins a partition's sequence anew, under a new epoch; under a new id where the broker refuses this one's epochs.
    pub(super) fn restart_sequence(&mut self, now: Now, topic: u32, number: u32, code: ErrCode) {
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        let was_current = self.identity == Identity::Known(partition.sequencing.identity);
        partition.restart_sequence();
        match code {
            _ if !was_current => {}
            ErrCode::INVALID_PRODUCER_EPOCH | ErrCode::INVALID_PRODUCER_ID_MAPPING => {
                self.identity = Identity::Wanted { at: now.mono_us };
            }
            _ => self.identity.bump(now),
        }
    }

    /// Takes in the answer to InitProducerId.
    pub(crate) fn identified(&mut self, now: Now, result: Result<Response, KafkaError>) {
        let pause = self
            .random
            .jitter(u64::from(self.client.retry_backoff_ms) * 1000, RETRY_SPREAD);
        if let Err(error) = self.identity.answered(now, pause, result) {
            let text = format!("no producer id: {}", error.message);
            self.raise_fatal(now, KafkaError::new(error.code, text).into_fatal());
        }
    }
}
