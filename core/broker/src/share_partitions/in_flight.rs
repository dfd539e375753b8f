//! What a share group knows of one partition's records: who has which, how often each was delivered, what is done with.
//!
//! The window goes from the start offset (everything below is done with) to the end offset (nothing from there on was ever
//! handed out). Every offset between the two has a state. This is a value: no clock, no log, no client.

use alloc::vec::Vec;

use ottla_protocol::{ErrorCode, Str};

use super::spans::Spans;

/// `delivery_state` of a record that may be handed out.
pub(crate) const AVAILABLE: i8 = 0;
/// `delivery_state` of a record that was accepted.
pub(crate) const ACKNOWLEDGED: i8 = 2;
/// `delivery_state` of a record that was rejected, was delivered too often, or isn't there (a gap).
pub(crate) const ARCHIVED: i8 = 4;

/// Where a record is on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delivery {
    Available,
    /// `member` has it until `until_us` (monotonic microseconds).
    Acquired {
        member: Str,
        until_us: u64,
    },
    Acknowledged,
    Archived,
}

/// One record's state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordState {
    pub delivery: Delivery,
    /// How often it was delivered, the present time included.
    pub count: i16,
}

impl RecordState {
    fn available(count: i16) -> Self {
        Self {
            delivery: Delivery::Available,
            count,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.delivery, Delivery::Acknowledged | Delivery::Archived)
    }

    fn is_held_by(&self, who: &str) -> bool {
        matches!(&self.delivery, Delivery::Acquired { member, .. } if *member == who)
    }
}

/// A run of records whose state is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateBatch {
    pub first: i64,
    pub last: i64,
    /// [`AVAILABLE`], [`ACKNOWLEDGED`] or [`ARCHIVED`].
    pub state: i8,
    pub count: i16,
}

/// What a member says about records it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckType {
    /// There is no record at this offset.
    Gap,
    Accept,
    /// Give it to somebody, perhaps to me again.
    Release,
    Reject,
    /// I am still at it.
    Renew,
}

impl AckType {
    pub fn from_wire(value: i8) -> Option<Self> {
        Some(match value {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }
}

/// One acknowledgement for a run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub first: i64,
    pub last: i64,
    pub kind: AckType,
}

/// A run of records that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub first: i64,
    pub last: i64,
    pub count: i16,
}

/// A batch of the log as acquiring sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchView {
    pub base: i64,
    pub last: i64,
    /// Not a control batch, and not of an aborted transaction that readers mustn't see.
    pub deliverable: bool,
}

/// What a fetch may acquire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Records at most; by default a batch that was begun is acquired to its end.
    pub max_records: i64,
    /// KIP-1206: not one record more than `max_records`.
    pub strict: bool,
    /// Records that may be under way at once (`group.share.partition.max.record.locks`); a batch is not cut for it.
    pub max_outstanding: i64,
}

/// What would be acquired: decided without a change, so that a fetch that finds too little can wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    /// Per batch and state, ascending.
    pub acquire: Vec<(i64, i64)>,
    /// Offsets without a deliverable record.
    gaps: Vec<(i64, i64)>,
    /// Whether anything of the batch is acquired, by batch.
    pub taken: Vec<bool>,
    /// The window's end, if this is applied.
    end: i64,
}

impl Selection {
    pub fn records(&self) -> i64 {
        self.acquire.iter().map(|(f, l)| l - f + 1).sum()
    }
}

/// The window of one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InFlight {
    start: i64,
    end: i64,
    spans: Spans<RecordState>,
}

impl InFlight {
    /// A window as its stored state tells of it. What is stored nothing of, between stored batches, was handed out before a
    /// restart and never answered: it is available, and its deliveries are not counted.
    pub fn load(start: i64, stored: impl Iterator<Item = StateBatch>) -> Self {
        let mut window = Self {
            start,
            end: start,
            spans: Spans::default(),
        };
        for batch in stored {
            let first = batch.first.max(start);
            if batch.last < first {
                continue;
            }
            if first > window.end {
                let gap = RecordState::available(0);
                window.spans.set(window.end, first - 1, gap);
            }
            let delivery = match batch.state {
                ACKNOWLEDGED => Delivery::Acknowledged,
                ARCHIVED => Delivery::Archived,
                _ => Delivery::Available,
            };
            let state = RecordState {
                delivery,
                count: batch.count,
            };
            window.spans.set(first, batch.last, state);
            window.end = window.end.max(batch.last + 1);
        }
        window.trim();
        window
    }

    /// Everything below is done with (KIP-932's SPSO).
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Nothing from here on was ever handed out.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Where to read next: the first record that may be handed out again, or the end of the window.
    pub fn next_offset(&self) -> i64 {
        self.spans
            .iter()
            .find(|(_, _, state)| state.delivery == Delivery::Available)
            .map_or(self.end, |(first, _, _)| first)
    }

    /// Records in the window that are done with.
    pub fn done(&self) -> i64 {
        let done = self.spans.iter().filter(|(_, _, state)| state.is_done());
        done.map(|(first, last, _)| last - first + 1).sum()
    }

    /// Records in the window that are not done with.
    pub fn outstanding(&self) -> i64 {
        self.end - self.start - self.done()
    }

    /// When the first lock ends.
    pub fn next_expiry_us(&self) -> Option<u64> {
        let until = self.spans.iter().filter_map(|(_, _, state)| {
            let Delivery::Acquired { until_us, .. } = &state.delivery else {
                return None;
            };
            Some(*until_us)
        });
        until.min()
    }

    /// What of `batches`, read from `from` up to `read_end` (exclusive), a member would get.
    pub fn select(
        &self,
        from: i64,
        batches: &[BatchView],
        read_end: i64,
        wanted: Wanted,
    ) -> Selection {
        let mut selection = Selection {
            end: self.end,
            taken: Vec::with_capacity(batches.len()),
            ..Selection::default()
        };
        let mut outstanding = self.outstanding();
        let mut left = wanted.max_records;
        let mut cursor = from;
        let mut stopped = false;
        for batch in batches {
            if batch.last < cursor {
                selection.taken.push(false);
                continue;
            }
            stopped |= left <= 0;
            if stopped {
                break;
            }
            if batch.base > cursor {
                self.select_gap(&mut selection, cursor, batch.base - 1);
            }
            let first = batch.base.max(cursor);
            if !batch.deliverable {
                self.select_gap(&mut selection, first, batch.last);
                selection.taken.push(false);
                cursor = batch.last + 1;
                continue;
            }
            let mut taken = false;
            let mut reached = batch.last;
            let known = self.spans.within(first, batch.last);
            let mut free: Vec<(i64, i64)> = known
                .into_iter()
                .filter(|(_, _, state)| state.delivery == Delivery::Available)
                .map(|(f, l, _)| (f, l))
                .collect();
            if batch.last >= self.end {
                if outstanding < wanted.max_outstanding {
                    free.push((first.max(self.end), batch.last));
                } else {
                    stopped = true;
                    reached = reached.min(self.end - 1);
                }
            }
            for (f, l) in free {
                let l = if wanted.strict {
                    l.min(f.saturating_add(left - 1))
                } else {
                    l
                };
                if l < f {
                    break;
                }
                taken = true;
                left -= l - f + 1;
                if l >= self.end {
                    outstanding += l - f + 1;
                }
                selection.acquire.push((f, l));
                if wanted.strict && left <= 0 {
                    reached = l;
                    stopped |= l < batch.last;
                    break;
                }
            }
            selection.taken.push(taken);
            selection.end = selection.end.max(reached + 1);
            cursor = cursor.max(reached + 1);
            if stopped {
                break;
            }
        }
        if !stopped && cursor < read_end {
            self.select_gap(&mut selection, cursor, read_end - 1);
        }
        selection.taken.resize(batches.len(), false);
        selection
    }

    fn select_gap(&self, selection: &mut Selection, first: i64, last: i64) {
        for (f, l, state) in self.spans.within(first, last) {
            if state.delivery == Delivery::Available {
                selection.gaps.push((f, l));
            }
        }
        if last >= self.end {
            selection.gaps.push((first.max(self.end), last));
            selection.end = selection.end.max(last + 1);
        }
    }

    /// Hands out what was selected. Runs are told apart by their delivery count, and end with a batch once they have
    /// `batch_size` records.
    pub fn acquire(
        &mut self,
        selection: &Selection,
        member: &Str,
        until_us: u64,
        batch_size: i64,
    ) -> Vec<Acquired> {
        for &(first, last) in &selection.gaps {
            let gap = RecordState {
                delivery: Delivery::Archived,
                count: 0,
            };
            self.spans.set(first, last, gap);
        }
        let mut acquired: Vec<Acquired> = Vec::new();
        for &(first, last) in &selection.acquire {
            let mut pieces: Vec<(i64, i64, i16)> = self
                .spans
                .within(first, last)
                .into_iter()
                .map(|(f, l, state)| (f, l, state.count))
                .collect();
            if pieces.is_empty() {
                pieces.push((first, last, 0));
            }
            for (first, last, count) in pieces {
                let count = count.saturating_add(1);
                let delivery = Delivery::Acquired {
                    member: member.clone(),
                    until_us,
                };
                self.spans.set(first, last, RecordState { delivery, count });
                match acquired.last_mut() {
                    Some(run)
                        if run.last + 1 == first
                            && run.count == count
                            && run.last - run.first + 1 < batch_size =>
                    {
                        run.last = last;
                    }
                    _ => acquired.push(Acquired { first, last, count }),
                }
            }
        }
        self.end = self.end.max(selection.end);
        self.trim();
        acquired
    }

    /// Takes a member's word on records that it has, all of it or nothing. What lies below the start is done with and passed
    /// over, as in Kafka.
    ///
    /// # Errors
    /// `INVALID_RECORD_STATE`: it has not all of these records (any more). `INVALID_REQUEST`: some of them were never handed out.
    pub fn acknowledge(
        &mut self,
        member: &str,
        acks: &[Ack],
        renewed_until_us: u64,
        delivery_limit: i16,
    ) -> Result<Vec<StateBatch>, ErrorCode> {
        let mut changed = self.clone();
        let mut batches = Vec::new();
        for ack in acks {
            let first = ack.first.max(self.start);
            if ack.last < first {
                continue;
            }
            if ack.last >= self.end {
                // As in Kafka it depends on whether there is a batch that it could begin in.
                return Err(match self.start < self.end {
                    true => ErrorCode::INVALID_REQUEST,
                    false => ErrorCode::INVALID_RECORD_STATE,
                });
            }
            // Looked up in what the earlier acknowledgements made of it: nothing is acknowledged twice.
            for (f, l, state) in changed.spans.within(first, ack.last) {
                if !state.is_held_by(member) {
                    return Err(ErrorCode::INVALID_RECORD_STATE);
                }
                let delivery = match ack.kind {
                    AckType::Accept => Delivery::Acknowledged,
                    AckType::Gap | AckType::Reject => Delivery::Archived,
                    AckType::Release if state.count >= delivery_limit => Delivery::Archived,
                    AckType::Release => Delivery::Available,
                    AckType::Renew => Delivery::Acquired {
                        member: Str::from(member),
                        until_us: renewed_until_us,
                    },
                };
                changed.change(f, l, delivery, state.count, &mut batches);
            }
        }
        changed.trim();
        *self = changed;
        Ok(batches)
    }

    /// Takes back all that `member` has, as if it had released it.
    pub fn release_all(&mut self, member: &str, delivery_limit: i16) -> Vec<StateBatch> {
        self.take_back(delivery_limit, |state| state.is_held_by(member))
    }

    /// Takes back what was held for too long: available again, or archived once it was delivered often enough.
    pub fn expire(&mut self, now_us: u64, delivery_limit: i16) -> Vec<StateBatch> {
        self.take_back(
            delivery_limit,
            |state| matches!(state.delivery, Delivery::Acquired { until_us, .. } if until_us <= now_us),
        )
    }

    fn take_back(
        &mut self,
        delivery_limit: i16,
        which: impl Fn(&RecordState) -> bool,
    ) -> Vec<StateBatch> {
        let taken: Vec<(i64, i64, i16)> = self
            .spans
            .iter()
            .filter(|(_, _, state)| which(state))
            .map(|(f, l, state)| (f, l, state.count))
            .collect();
        let mut batches = Vec::new();
        for (first, last, count) in taken {
            let delivery = if count >= delivery_limit {
                Delivery::Archived
            } else {
                Delivery::Available
            };
            self.change(first, last, delivery, count, &mut batches);
        }
        self.trim();
        batches
    }

    /// The log begins at `log_start` now: what lay below is gone, whoever has it. Whether that moved the window.
    pub fn follow_log_start(&mut self, log_start: i64) -> bool {
        if log_start <= self.start {
            return false;
        }
        self.start = log_start;
        self.end = self.end.max(log_start);
        self.spans.clear_below(log_start);
        self.trim();
        true
    }

    fn change(
        &mut self,
        first: i64,
        last: i64,
        delivery: Delivery,
        count: i16,
        batches: &mut Vec<StateBatch>,
    ) {
        let stored = match delivery {
            Delivery::Available => Some(AVAILABLE),
            Delivery::Acknowledged => Some(ACKNOWLEDGED),
            Delivery::Archived => Some(ARCHIVED),
            Delivery::Acquired { .. } => None,
        };
        if let Some(state) = stored {
            batches.push(StateBatch {
                first,
                last,
                state,
                count,
            });
        }
        self.spans.set(first, last, RecordState { delivery, count });
    }

    /// Moves the start over what is done with.
    fn trim(&mut self) {
        loop {
            let Some((first, last, state)) = self.spans.iter().next() else {
                break;
            };
            if first != self.start || !state.is_done() {
                break;
            }
            self.start = last + 1;
            self.spans.clear_below(last + 1);
        }
    }

    /// Every offset of the window has a state, and its first one is not done with.
    #[cfg(test)]
    pub fn check(&self) {
        let mut next = self.start;
        for (first, last, state) in self.spans.iter() {
            assert_eq!(first, next, "{self:?}");
            assert!(first > self.start || !state.is_done(), "{self:?}");
            next = last + 1;
        }
        assert_eq!(next, self.end, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const ALL: Wanted = Wanted {
        max_records: i64::MAX,
        strict: false,
        max_outstanding: 2000,
    };

    fn batch(base: i64, last: i64) -> BatchView {
        BatchView {
            base,
            last,
            deliverable: true,
        }
    }

    fn take(
        window: &mut InFlight,
        member: &str,
        batches: &[BatchView],
        wanted: Wanted,
    ) -> Vec<Acquired> {
        let end = batches.last().map_or(window.end(), |b| b.last + 1);
        let selection = window.select(window.next_offset(), batches, end, wanted);
        let acquired = window.acquire(&selection, &member.into(), 100, 500);
        window.check();
        acquired
    }

    fn ack(first: i64, last: i64, kind: AckType) -> Ack {
        Ack { first, last, kind }
    }

    #[test]
    fn acquire_accept_and_move_on() {
        let mut w = InFlight::load(10, core::iter::empty());
        let got = take(&mut w, "a", &[batch(10, 14), batch(15, 19)], ALL);
        assert_eq!(
            got,
            [Acquired {
                first: 10,
                last: 19,
                count: 1
            }]
        );
        assert_eq!((w.next_offset(), w.outstanding()), (20, 10));
        let changed = w.acknowledge("a", &[ack(12, 14, AckType::Accept)], 0, 5);
        assert_eq!(changed.unwrap().len(), 1);
        assert_eq!(w.start(), 10);
        w.acknowledge("a", &[ack(10, 11, AckType::Accept)], 0, 5)
            .unwrap();
        assert_eq!(w.start(), 15);
        w.check();
        // Below the start: passed over. Twice, or by somebody else: refused, and nothing of it is done.
        assert_eq!(
            w.acknowledge("a", &[ack(10, 11, AckType::Accept)], 0, 5),
            Ok(vec![])
        );
        let both = [ack(15, 16, AckType::Accept), ack(16, 16, AckType::Accept)];
        let before = w.clone();
        assert_eq!(
            w.acknowledge("a", &both, 0, 5),
            Err(ErrorCode::INVALID_RECORD_STATE)
        );
        assert_eq!(
            w.acknowledge("b", &both[..1], 0, 5),
            Err(ErrorCode::INVALID_RECORD_STATE)
        );
        assert_eq!(
            w.acknowledge("a", &[ack(19, 20, AckType::Accept)], 0, 5),
            Err(ErrorCode::INVALID_REQUEST)
        );
        assert_eq!(w, before);
    }

    #[test]
    fn released_and_expired_records_come_again_until_the_limit() {
        let mut w = InFlight::load(0, core::iter::empty());
        for count in 1..=5 {
            let got = take(&mut w, "a", &[batch(0, 1)], ALL);
            assert_eq!(got[0].count, count);
            if count % 2 == 0 {
                let changed = w.acknowledge("a", &[ack(0, 0, AckType::Release)], 0, 5);
                assert_eq!(changed.unwrap()[0].count, count);
            }
            assert_eq!(w.expire(99, 5), []);
            assert_eq!(w.next_expiry_us(), Some(100));
            w.expire(100, 5);
            w.check();
        }
        assert_eq!(
            (w.start(), w.end()),
            (2, 2),
            "delivered five times: archived"
        );
    }

    #[test]
    fn what_a_closed_session_had_is_somebody_elses() {
        let mut w = InFlight::load(0, core::iter::empty());
        take(&mut w, "a", &[batch(0, 4)], ALL);
        let released = StateBatch {
            first: 0,
            last: 4,
            state: AVAILABLE,
            count: 1,
        };
        assert_eq!(w.release_all("a", 2), [released]);
        assert_eq!(take(&mut w, "b", &[batch(0, 4)], ALL)[0].count, 2);
        assert_eq!(w.release_all("a", 2), []);
        let archived = StateBatch {
            state: ARCHIVED,
            count: 2,
            ..released
        };
        assert_eq!(w.release_all("b", 2), [archived]);
        assert_eq!(w.start(), 5);
    }

    #[test]
    fn gaps_and_control_batches_are_nobodys() {
        let mut w = InFlight::load(0, core::iter::empty());
        let control = BatchView {
            deliverable: false,
            ..batch(5, 5)
        };
        let batches = [batch(2, 3), control, batch(8, 9)];
        let selection = w.select(0, &batches, 12, ALL);
        assert_eq!(selection.taken, [true, false, true]);
        let got = w.acquire(&selection, &"a".into(), 9, 500);
        w.check();
        assert_eq!(
            got.iter().map(|a| (a.first, a.last)).collect::<Vec<_>>(),
            [(2, 3), (8, 9)]
        );
        assert_eq!((w.start(), w.end(), w.outstanding()), (2, 12, 4));
        let acks = [ack(2, 3, AckType::Accept), ack(8, 9, AckType::Reject)];
        w.acknowledge("a", &acks, 0, 5).unwrap();
        assert_eq!((w.start(), w.end()), (12, 12));
    }

    #[test]
    fn limits() {
        let batches = [batch(0, 9), batch(10, 19), batch(20, 29)];
        let wanted = |max_records, strict, max_outstanding| Wanted {
            max_records,
            strict,
            max_outstanding,
        };
        let fresh = || InFlight::load(0, core::iter::empty());
        let runs = |got: Vec<Acquired>| got.iter().map(|a| (a.first, a.last)).collect::<Vec<_>>();
        // A batch that was begun is taken whole, unless the records are counted strictly.
        let mut w = fresh();
        assert_eq!(
            runs(take(&mut w, "a", &batches, wanted(11, false, 2000))),
            [(0, 19)]
        );
        let mut w = fresh();
        assert_eq!(
            runs(take(&mut w, "a", &batches, wanted(11, true, 2000))),
            [(0, 10)]
        );
        assert_eq!(w.end(), 11);
        assert_eq!(
            runs(take(&mut w, "b", &batches[1..], wanted(5, true, 2000))),
            [(11, 15)]
        );
        // Nothing new beyond the window's size; what was released comes again all the same.
        let mut w = fresh();
        assert_eq!(
            runs(take(&mut w, "a", &batches, wanted(100, false, 15))),
            [(0, 19)]
        );
        assert_eq!(
            runs(take(&mut w, "a", &batches[2..], wanted(100, false, 15))),
            []
        );
        w.acknowledge("a", &[ack(3, 4, AckType::Release)], 0, 5)
            .unwrap();
        assert_eq!(
            runs(take(&mut w, "b", &batches, wanted(100, false, 15))),
            [(3, 4)]
        );
        // Runs end with the batch that fills `batch_size`.
        let mut w = fresh();
        let selection = w.select(0, &batches, 30, ALL);
        assert_eq!(
            runs(w.acquire(&selection, &"a".into(), 1, 15)),
            [(0, 19), (20, 29)]
        );
    }

    #[test]
    fn the_log_start_takes_records_away() {
        let mut w = InFlight::load(0, core::iter::empty());
        take(&mut w, "a", &[batch(0, 9)], ALL);
        assert!(w.follow_log_start(4));
        assert!(!w.follow_log_start(4));
        w.check();
        w.acknowledge("a", &[ack(0, 9, AckType::Accept)], 0, 5)
            .unwrap();
        assert_eq!((w.start(), w.end()), (10, 10));
        assert!(w.follow_log_start(50));
        assert_eq!((w.start(), w.end(), w.next_offset()), (50, 50, 50));
    }

    #[test]
    fn a_renewed_lock_lasts() {
        let mut w = InFlight::load(0, core::iter::empty());
        take(&mut w, "a", &[batch(0, 9)], ALL);
        let changed = w.acknowledge("a", &[ack(0, 4, AckType::Renew)], 300, 5);
        assert_eq!(changed, Ok(vec![]), "nothing of it is stored");
        assert_eq!(w.expire(100, 5).len(), 1);
        assert_eq!((w.next_offset(), w.next_expiry_us()), (5, Some(300)));
    }

    #[test]
    fn loads_what_was_stored() {
        let stored = [
            StateBatch {
                first: 0,
                last: 4,
                state: ACKNOWLEDGED,
                count: 1,
            },
            StateBatch {
                first: 7,
                last: 8,
                state: AVAILABLE,
                count: 3,
            },
            StateBatch {
                first: 9,
                last: 9,
                state: ARCHIVED,
                count: 5,
            },
        ];
        let mut w = InFlight::load(2, stored.into_iter());
        w.check();
        assert_eq!((w.start(), w.end(), w.next_offset()), (5, 10, 5));
        let got = take(&mut w, "a", &[batch(0, 9), batch(10, 10)], ALL);
        assert_eq!(
            got.iter()
                .map(|a| (a.first, a.last, a.count))
                .collect::<Vec<_>>(),
            [(5, 6, 1), (7, 8, 4), (10, 10, 1)]
        );
    }
}
