//! Who reads what was committed: a `read_committed` consumer, and the offsets of the groups at the end.

use ottla_protocol::{
    ErrorCode,
    messages::{
        fetch::{AbortedTransaction, FetchResponse},
        offset_fetch::OffsetFetchResponse,
    },
};
use ottla_record::{Batches, Limits};

use super::*;

#[derive(Default)]
pub(super) struct Reader {
    pub next: [i64; PARTITIONS as usize],
    pub done: [bool; PARTITIONS as usize],
    pub last: bool,
}

impl World {
    /// A `read_committed` consumer: it leaves out what is in a transaction that the answer calls aborted, up to its marker.
    pub(super) fn reads_transactions(&mut self, index: usize, fetch: FetchResponse) {
        let it = &mut self.transactions;
        let Does::Reads(reader) = &mut it.scripts[index].does else {
            return;
        };
        let mut wrong = Vec::new();
        for data in fetch.responses.into_iter().flat_map(|it| it.partitions) {
            let at = data.partition_index as usize;
            if data.error_code != ErrorCode::NONE {
                if !passes(data.error_code) {
                    wrong.push(format!("transactions: fetch: {}", data.error_code));
                }
                continue;
            }
            let mut aborted = data.aborted_transactions.unwrap_or_default();
            let mut skipping: Vec<i64> = Vec::new();
            for batch in Batches::new(data.records.chunks().cloned()) {
                let Ok(batch) = batch else { break };
                let header = *batch.header();
                let last = header.last_offset();
                skipping.extend(
                    aborted
                        .extract_if(.., |it| it.first_offset <= last)
                        .map(|it| it.producer_id),
                );
                let from = reader.next[at];
                reader.next[at] = from.max(header.next_offset());
                if header.attributes.is_control() {
                    skipping.retain(|id| *id != header.producer_id);
                    continue;
                }
                if header.attributes.is_transactional() && skipping.contains(&header.producer_id) {
                    continue;
                }
                let Ok(mut records) = batch.records(Limits::default()) else {
                    wrong.push("transactions: a batch can't be read".into());
                    continue;
                };
                while let Some(Ok(record)) = records.next_record() {
                    if record.offset < from {
                        continue;
                    }
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    let place = (data.partition_index, record.offset);
                    wrong.extend(it.ledger.read(place.0, place.1, &value, reader.last));
                }
            }
            reader.done[at] = reader.next[at] == data.high_watermark
                && data.last_stable_offset == data.high_watermark;
        }
        let done = reader.last && reader.done.iter().all(|done| *done);
        if !reader.last && it.random.chance(50) {
            reader.next = Default::default();
        }
        let next = reader.next;
        trace!(self, "script {index}: read transactions up to {next:?}");
        for what in wrong {
            trace!(self, "script {index}: {what}");
            self.checker.violation(what);
        }
        if done {
            self.script_ends(index);
        }
    }

    pub(super) fn hears_offset(&mut self, index: usize, answer: &OffsetFetchResponse) {
        let Some(Ask::FetchOffset(name)) = self.transactions.scripts[index].ask else {
            return;
        };
        let of_groups = answer.groups.iter().flat_map(|group| &group.topics);
        let of_groups = of_groups.flat_map(|topic| &topic.partitions);
        let of_groups = of_groups.map(|it| (it.committed_offset, it.error_code));
        let plain = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let plain = plain.map(|it| (it.committed_offset, it.error_code));
        // Until it is stable.
        if let Some((offset, ErrorCode::NONE)) = of_groups.chain(plain).next() {
            self.transactions.ledger.offsets.insert(name, offset);
            self.script_ends(index);
        }
    }
}

/// Planted: in one partition every second producer's transactions look as if they had been aborted.
pub(super) fn miss_markers(fetch: &mut FetchResponse) {
    let partitions = fetch.responses.iter_mut().flat_map(|it| &mut it.partitions);
    for data in partitions.filter(|it| it.partition_index == 1) {
        let mut open: Vec<i64> = Vec::new();
        let mut aborted = Vec::new();
        for batch in Batches::new(data.records.chunks().cloned()).flatten() {
            let header = *batch.header();
            if header.attributes.is_control() {
                open.retain(|id| *id != header.producer_id);
            } else if !open.contains(&header.producer_id) {
                open.push(header.producer_id);
                aborted.push(AbortedTransaction {
                    producer_id: header.producer_id,
                    first_offset: header.base_offset,
                });
            }
        }
        data.aborted_transactions = Some(aborted);
    }
}
