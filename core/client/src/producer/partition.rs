//! A partition's records on their way: the open batch, those that are ready, those in flight.

use super::delivery::{Side, Sides};
use super::identity::{ProducerIdentity, Sequence};
use crate::statistics::PartitionCounters;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::Records;
use ottla_record::{
    BatchBuilder, BatchHeader, Codecs, Compression, FinishOptions, FinishedBatch, HEADER_LEN,
    Header, RecordError, add_sequence, header as patched,
};

/// Room for the first batch of a partition; later ones get as much as the one before needed.
const FIRST_ROOM: usize = 512;

/// The batch that records are added to.
pub(super) struct OpenBatch {
    pub(super) id: u64,
    pub(super) builder: BatchBuilder,
    sides: Sides,
    /// Bytes of keys and values.
    bytes: usize,
    opened_us: u64,
    newest_us: u64,
    /// Takes no more records from here on, so that those of one batch are about as old and time out together.
    pub(super) until_us: u64,
    /// From this length on it is worth a look whether the broker waits for work.
    pub(super) look_at: usize,
    /// It has lingered: the next chance to send it is taken.
    pub(super) lingered: bool,
}

/// One record, as it goes into a batch.
pub(super) struct Entry<'a> {
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header<'a>],
    pub(super) side: Side,
    /// When `produce()` was called.
    pub(super) created_us: u64,
}

impl Entry<'_> {
    /// Bytes that count against `queue.buffering.max.kbytes`.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

impl OpenBatch {
    pub(super) fn new(
        id: u64,
        builder: BatchBuilder,
        sides: Sides,
        now_us: u64,
        until_us: u64,
    ) -> Self {
        Self {
            id,
            builder,
            sides,
            bytes: 0,
            opened_us: now_us,
            newest_us: now_us,
            until_us,
            look_at: usize::MAX,
            lingered: false,
        }
    }

    #[inline]
    pub(super) fn append(&mut self, entry: &Entry<'_>) -> Result<(), RecordError> {
        let index = self.builder.count();
        self.builder
            .append(entry.timestamp, entry.key, entry.value, entry.headers)?;
        let age = entry.created_us.saturating_sub(self.opened_us);
        self.sides.push(index, entry.side, age);
        self.bytes += entry.bytes();
        self.newest_us = self.newest_us.max(entry.created_us);
        Ok(())
    }

    /// Microseconds at which its records are too old.
    pub(super) fn expires_us(&self, timeout_us: u64) -> u64 {
        self.newest_us.saturating_add(timeout_us)
    }

    pub(super) fn close(self) -> Batch {
        Batch {
            id: self.id,
            count: self.builder.count(),
            contents: Contents::Open(self.builder),
            sides: self.sides,
            bytes: self.bytes,
            opened_us: self.opened_us,
            newest_us: self.newest_us,
            attempts: 0,
            sequence: None,
            awaits_earlier: false,
            possibly_persisted: false,
        }
    }
}

/// A batch that takes no more records.
pub(super) struct Batch {
    /// Ascending in the order in which batches were opened.
    pub(super) id: u64,
    contents: Contents,
    pub(super) sides: Sides,
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) opened_us: u64,
    newest_us: u64,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// The sequence numbers of an idempotent producer, given when it is first sent.
    pub(super) sequence: Option<Sequence>,
    /// It was refused because one before it is missing: it has to wait for that one's answer.
    pub(super) awaits_earlier: bool,
    /// Whether it was sent without an answer that says what became of it.
    pub(super) possibly_persisted: bool,
}

/// The encoding is final when a batch is first sent: only then its sequence numbers are known.
enum Contents {
    Open(BatchBuilder),
    Finished {
        header: BatchHeader,
        encoded: Bytes,
        plain: Bytes,
    },
    /// Finishing failed.
    Lost,
}

impl Batch {
    /// Microseconds at which its records are too old.
    pub(super) fn expires_us(&self, timeout_us: u64) -> u64 {
        self.newest_us.saturating_add(timeout_us)
    }

    /// Makes the encoding final, if it isn't. Gives back a buffer that is free now.
    pub(super) fn finish(
        &mut self,
        codecs: &mut Codecs,
        options: &FinishOptions,
    ) -> Result<Option<Vec<u8>>, RecordError> {
        match core::mem::replace(&mut self.contents, Contents::Lost) {
            Contents::Open(builder) => {
                let FinishedBatch {
                    header,
                    encoded,
                    plain,
                    spare,
                } = builder.finish_with(codecs, options)?;
                self.contents = Contents::Finished {
                    header,
                    encoded,
                    plain,
                };
                Ok(spare)
            }
            finished => {
                self.contents = finished;
                Ok(None)
            }
        }
    }

    /// Bytes on the wire, or so many as there are before compression.
    pub(super) fn size(&self) -> usize {
        match &self.contents {
            Contents::Open(builder) => builder.len(),
            Contents::Finished { encoded, .. } => encoded.len(),
            Contents::Lost => 0,
        }
    }

    /// The bytes to send, which a broker in this process need not check: nobody else has written them.
    pub(super) fn records(&self) -> Records {
        self.bytes_to_send().vouched()
    }

    /// Sequence numbers that are others than when it was encoded go into a new header.
    fn bytes_to_send(&self) -> Records {
        let Contents::Finished {
            header, encoded, ..
        } = &self.contents
        else {
            return Records::new();
        };
        let Some(sequence) = self.sequence else {
            return encoded.clone().into();
        };
        let ProducerIdentity { id, epoch } = sequence.identity;
        if (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        ) == (id, epoch, sequence.base)
        {
            return encoded.clone().into();
        }
        let Some(raw) = encoded.first_chunk::<HEADER_LEN>() else {
            return Records::new();
        };
        let raw = patched::with_producer(raw, id, epoch, sequence.base);
        [Bytes::copy_from_slice(&raw), encoded.slice(HEADER_LEN..)]
            .into_iter()
            .collect()
    }

    /// Header and records area of the finished batch, for the reports.
    pub(super) fn plain(&self) -> Option<(BatchHeader, Bytes)> {
        match &self.contents {
            Contents::Finished { header, plain, .. } => Some((*header, plain.clone())),
            _ => None,
        }
    }

    /// The buffer, if nobody else holds on to it.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        let Contents::Finished { encoded, plain, .. } = self.contents else {
            return None;
        };
        drop(plain);
        encoded.try_into_mut().ok().map(Vec::from)
    }
}

/// One partition.
pub(super) struct Partition {
    /// The leader's node id, or -1.
    pub(super) leader: i32,
    pub(super) open: Option<OpenBatch>,
    /// To be sent, in order.
    pub(super) ready: VecDeque<Batch>,
    /// Sent, in order.
    pub(super) in_flight: VecDeque<Batch>,
    /// After an error nothing is sent before this.
    pub(super) not_before: u64,
    /// Whether it is in the producer's list of partitions that have something to send.
    pub(super) listed: bool,
    pub(super) sequencing: Sequencing,
    pub(super) counters: PartitionCounters,
    room: usize,
    last_sides: Sides,
    last_count: usize,
}

/// Where an idempotent producer stands with a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequencing {
    /// Whose sequence it is; [`ProducerIdentity::NONE`]: to be begun with the producer's present identity.
    pub(super) identity: ProducerIdentity,
    next: i32,
    /// Batches that got numbers.
    count: u64,
    /// The first and the last batch that failed after they got their numbers, so that the broker may miss them.
    gaps: Option<(u64, u64)>,
}

impl Sequencing {
    fn begun_by(identity: ProducerIdentity) -> Self {
        Self {
            identity,
            next: 0,
            count: 0,
            gaps: None,
        }
    }

    /// This batch's numbers will perhaps never come.
    pub(super) fn note_gap(&mut self, id: u64) {
        let (first, last) = self.gaps.unwrap_or((id, id));
        self.gaps = Some((first.min(id), last.max(id)));
    }

    /// This batch was written, and so must have been all before it.
    pub(super) fn note_written(&mut self, id: u64) {
        self.gaps = match self.gaps {
            Some((first, last)) if first < id && id < last => Some((id, last)),
            Some((first, _)) if first > id => self.gaps,
            _ => None,
        };
    }

    /// Whether the broker may rightly miss something before this batch.
    pub(super) fn has_gap_before(&self, id: u64) -> bool {
        self.gaps.is_some_and(|(first, _)| first < id)
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            leader: -1,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            not_before: 0,
            listed: false,
            sequencing: Sequencing::begun_by(ProducerIdentity::NONE),
            counters: PartitionCounters::default(),
            room: FIRST_ROOM,
            last_sides: Sides::default(),
            last_count: 0,
        }
    }
}

impl Partition {
    /// A builder with room for a batch like the last one.
    pub(super) fn builder(&self, spare: Option<Vec<u8>>, compression: Compression) -> BatchBuilder {
        let builder = match spare {
            Some(buffer) if buffer.capacity() >= self.room => BatchBuilder::with_buffer(buffer),
            _ => BatchBuilder::new(self.room),
        };
        if compression == Compression::None {
            builder
        } else {
            builder.without_running_crc()
        }
    }

    /// Side entries with room for a batch like the last one.
    pub(super) fn sides(&self) -> Sides {
        Sides::like(&self.last_sides, self.last_count)
    }

    /// Ends the open batch; it is sent behind those that are ready.
    pub(super) fn close_open(&mut self) {
        let Some(open) = self.open.take() else { return };
        // A little more than the last one, so that a batch of the same size does not have to grow.
        self.room = (open.builder.len() + open.builder.len() / 32 + 64).next_multiple_of(64);
        self.last_count = open.builder.count() + 16;
        let batch = open.close();
        self.last_sides = Sides::like(&batch.sides, 0);
        self.ready.push_back(batch);
    }

    /// Takes a batch out of those in flight.
    pub(super) fn take_in_flight(&mut self, id: u64) -> Option<Batch> {
        let at = self.in_flight.iter().position(|batch| batch.id == id)?;
        self.in_flight.remove(at)
    }

    /// Puts a batch back among those that are ready, in its old place.
    pub(super) fn put_back(&mut self, batch: Batch) {
        let at = self.ready.partition_point(|other| other.id < batch.id);
        self.ready.insert(at, batch);
    }

    /// Gives the batch its sequence numbers, if it has none. `false`: it has to wait until what is in flight is answered,
    /// because a new sequence begins.
    pub(super) fn sequence(&mut self, batch: &mut Batch, current: ProducerIdentity) -> bool {
        if batch.sequence.is_some() {
            return true;
        }
        let sequencing = &mut self.sequencing;
        if sequencing.identity != current {
            let pending =
                !self.in_flight.is_empty() || self.ready.iter().any(|b| b.sequence.is_some());
            match pending {
                false => *sequencing = Sequencing::begun_by(current),
                true if sequencing.identity == ProducerIdentity::NONE => return false,
                // The old sequence goes on until it is answered; the broker takes it as long as nothing newer came.
                true => {}
            }
        }
        batch.sequence = Some(Sequence {
            identity: sequencing.identity,
            base: sequencing.next,
            nth: sequencing.count,
        });
        sequencing.count += 1;
        sequencing.next = add_sequence(sequencing.next, batch.count as i32);
        true
    }

    /// Whether a batch with sequence numbers before this one's is not answered yet.
    pub(super) fn has_earlier(&self, id: u64) -> bool {
        let earlier = |batch: &Batch| batch.id < id && batch.sequence.is_some();
        self.in_flight.iter().any(earlier) || self.ready.iter().any(earlier)
    }

    /// Whether the next batch has to wait for the answer to one in flight: because it was refused for want of that one,
    /// or because a broker only remembers the last `remembered` batches, and could not tell that it has that one already.
    pub(super) fn awaits_earlier(&self, remembered: u64) -> bool {
        let next = self.ready.front();
        if let Some(sequence) = next.and_then(|next| next.sequence) {
            let earlier = |batch: &Batch| batch.sequence.is_some_and(|s| s.nth < sequence.nth);
            return next.is_some_and(|next| next.awaits_earlier)
                && self.in_flight.iter().any(earlier);
        }
        let oldest = self
            .in_flight
            .iter()
            .filter_map(|batch| batch.sequence)
            .map(|s| s.nth)
            .min();
        oldest.is_some_and(|oldest| self.sequencing.count >= oldest + remembered)
    }

    /// Begins a new sequence with the next batch: what waits loses its numbers.
    pub(super) fn restart_sequence(&mut self) {
        self.sequencing.identity = ProducerIdentity::NONE;
        self.ready
            .iter_mut()
            .for_each(|batch| batch.sequence = None);
    }

    /// Whether anything is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty() || !self.in_flight.is_empty()
    }

    /// Messages that wait to be sent, and messages in flight.
    pub(super) fn messages(&self) -> (usize, usize) {
        let open = self.open.as_ref().map_or(0, |open| open.builder.count());
        let ready: usize = self.ready.iter().map(|batch| batch.count).sum();
        (
            open + ready,
            self.in_flight.iter().map(|batch| batch.count).sum(),
        )
    }
}
