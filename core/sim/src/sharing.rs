//! What the members of a share group were handed and what they said about it (KIP-932).
//!
//! Everything is looked at where the broker stands: requests when they arrive, answers when they are given.
//!
//! * A record that was accepted or rejected, and the member told so, never comes again, whatever the broker has been through.
//! * Nobody is handed what another one has, until that one gives it back, its session closes or its lock ends.
//! * Each delivery has a higher count than the one before while the broker runs, and than one that was released, the member
//!   told so, at any time; none is above the limit.
//! * At the end each record is done with: accepted, rejected, or delivered as often as may be.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::{ErrorCode, Request, Response, Str, messages::share_fetch::PartitionData};
use ottla_record::{Batches, Limits};

use crate::membership::Call;

const RELEASE: i8 = 2;
/// Says that the member is still at it.
pub const RENEW: i8 = 4;
/// The session epoch with which a session closes.
const FINAL_EPOCH: i32 = -1;

/// Partition and offset.
pub type Place = (i32, i64);

#[derive(Debug, Default)]
struct Record {
    /// What was produced there, if that was confirmed.
    produced: Option<String>,
    /// Who has it, and until when at least.
    holder: Option<(Str, u64)>,
    /// Of the last delivery, and the broker's life in which that was.
    count: i16,
    life: u64,
    /// Count of the last delivery whose release was confirmed.
    released: i16,
    /// Its end was confirmed.
    closed: bool,
    /// Times that its end was asked for and nobody knows the outcome.
    closing: u32,
    /// It was delivered as often as may be.
    exhausted: bool,
}

#[derive(Debug)]
struct Said {
    place: Place,
    kind: i8,
    count: i16,
}

#[derive(Debug)]
struct Asked {
    arrived_us: u64,
    member: Str,
    said: Vec<Said>,
    fetches: bool,
}

/// One group.
#[derive(Debug)]
pub struct Sharing {
    group: Str,
    lock_us: u64,
    limit: i16,
    records: BTreeMap<Place, Record>,
    asked: BTreeMap<Call, Asked>,
    /// Connections of each member's sessions.
    sessions: BTreeMap<Str, BTreeSet<u64>>,
    /// Counts the broker's lives.
    life: u64,
    /// Answers that may have told of deliveries and were never given.
    unseen: i16,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Deliveries.
    pub delivered: u64,
}

impl Sharing {
    /// Nothing is handed out yet.
    pub fn new(group: Str, lock_us: u64, limit: i16) -> Self {
        Self {
            group,
            lock_us,
            limit,
            records: BTreeMap::new(),
            asked: BTreeMap::new(),
            sessions: BTreeMap::new(),
            life: 0,
            unseen: 0,
            wrong: Vec::new(),
            delivered: 0,
        }
    }

    /// A record was produced, and that was confirmed.
    pub fn produced(&mut self, place: Place, value: String) {
        self.records.entry(place).or_default().produced = Some(value);
    }

    /// The broker stops: nobody has anything any more.
    pub fn broker_stopped(&mut self, now_us: u64) {
        self.life += 1;
        for record in self.records.values_mut() {
            // What was handed out for the last time, and not come back, is there again.
            let out = record
                .holder
                .take()
                .is_some_and(|(_, until)| until > now_us);
            record.exhausted &= !out;
        }
        let unseen = self.asked.values().filter(|it| it.may_hide_deliveries());
        self.unseen += unseen.count() as i16;
        self.asked.clear();
        self.sessions.clear();
    }

    /// The broker learns that a connection is gone: the sessions on it close.
    pub fn hung_up(&mut self, conn: u64) {
        let gone = self.asked.extract_if(.., |(on, _), _| *on == conn);
        let unseen = gone.filter(|(_, it)| it.may_hide_deliveries()).count();
        self.unseen += unseen as i16;
        let closed: Vec<Str> = self
            .sessions
            .iter()
            .filter(|(_, conns)| conns.contains(&conn))
            .map(|(member, _)| member.clone())
            .collect();
        for member in closed {
            self.session_closes(&member);
        }
    }

    fn session_closes(&mut self, member: &Str) {
        for record in self.records.values_mut() {
            record.holder.take_if(|(holder, _)| *holder == *member);
        }
    }

    /// A request comes to the broker.
    pub fn arrived(&mut self, now_us: u64, call: Call, request: &Request) {
        let (group, member, epoch, fetches) = match request {
            Request::ShareFetch(it) => (&it.group_id, &it.member_id, it.share_session_epoch, true),
            Request::ShareAcknowledge(it) => {
                (&it.group_id, &it.member_id, it.share_session_epoch, false)
            }
            _ => return,
        };
        let (Some(group), Some(member)) = (group, member) else {
            return;
        };
        if *group != self.group {
            return;
        }
        let mut runs: Vec<(i32, i64, i64, &[i8])> = Vec::new();
        match request {
            Request::ShareFetch(it) => {
                for partition in it.topics.iter().flat_map(|topic| &topic.partitions) {
                    let batches = partition.acknowledgement_batches.iter();
                    runs.extend(batches.map(|it| {
                        let at = partition.partition_index;
                        (
                            at,
                            it.first_offset,
                            it.last_offset,
                            &it.acknowledge_types[..],
                        )
                    }));
                }
            }
            Request::ShareAcknowledge(it) => {
                for partition in it.topics.iter().flat_map(|topic| &topic.partitions) {
                    let batches = partition.acknowledgement_batches.iter();
                    runs.extend(batches.map(|it| {
                        let at = partition.partition_index;
                        (
                            at,
                            it.first_offset,
                            it.last_offset,
                            &it.acknowledge_types[..],
                        )
                    }));
                }
            }
            _ => {}
        }
        let mut said = Vec::new();
        for (partition, first, last, kinds) in runs {
            for (at, offset) in (first..=last).enumerate() {
                let Some(kind) = kinds.get(at).or(kinds.first()) else {
                    continue;
                };
                let place = (partition, offset);
                let record = self.records.entry(place).or_default();
                if *kind != RENEW {
                    record.holder.take_if(|(holder, _)| *holder == *member);
                }
                record.closing += u32::from(ends(*kind));
                said.push(Said {
                    place,
                    kind: *kind,
                    count: record.count,
                });
            }
        }
        if fetches {
            let conns = self.sessions.entry(member.clone()).or_default();
            conns.insert(call.0);
        }
        if epoch == FINAL_EPOCH {
            self.session_closes(member);
        }
        let asked = Asked {
            arrived_us: now_us,
            member: member.clone(),
            said,
            fetches,
        };
        self.asked.insert(call, asked);
    }

    /// The broker answers.
    pub fn answered(&mut self, now_us: u64, call: Call, response: &Response) {
        let Some(asked) = self.asked.remove(&call) else {
            return;
        };
        match response {
            Response::ShareFetch(answer) => {
                let partitions = answer.responses.iter().flat_map(|it| &it.partitions);
                let errors = partitions
                    .clone()
                    .map(|it| (it.partition_index, it.acknowledge_error_code));
                self.acknowledged(&asked, answer.error_code, &errors.collect());
                for data in partitions {
                    self.handed_out(now_us, &asked, data);
                }
            }
            Response::ShareAcknowledge(answer) => {
                let partitions = answer.responses.iter().flat_map(|it| &it.partitions);
                let errors = partitions.map(|it| (it.partition_index, it.error_code));
                self.acknowledged(&asked, answer.error_code, &errors.collect());
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, asked: &Asked, whole: ErrorCode, errors: &BTreeMap<i32, ErrorCode>) {
        for Said { place, kind, count } in &asked.said {
            let error = match (whole, errors.get(&place.0)) {
                (ErrorCode::NONE, Some(error)) => *error,
                (ErrorCode::NONE, None) => ErrorCode::UNKNOWN_SERVER_ERROR,
                (whole, _) => whole,
            };
            let record = self.records.entry(*place).or_default();
            if is_refusal(error) {
                record.closing -= u32::from(ends(*kind));
            }
            if error != ErrorCode::NONE {
                continue;
            }
            match *kind {
                RELEASE => record.released = record.released.max(*count),
                RENEW => {
                    let until = asked.arrived_us + self.lock_us;
                    if let Some((holder, lock)) = &mut record.holder
                        && *holder == asked.member
                    {
                        *lock = until.max(*lock);
                    }
                }
                _ => record.closed = true,
            }
        }
    }

    fn handed_out(&mut self, now_us: u64, asked: &Asked, data: &PartitionData) {
        let partition = data.partition_index;
        let mut sent: BTreeMap<i64, String> = BTreeMap::new();
        if !data.acquired_records.is_empty() {
            for batch in Batches::new(data.records.chunks().cloned()).flatten() {
                let Ok(mut records) = batch.records(Limits::default()) else {
                    continue;
                };
                while let Some(Ok(record)) = records.next_record() {
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    sent.insert(record.offset, value.into_owned());
                }
            }
        }
        for run in &data.acquired_records {
            for offset in run.first_offset..=run.last_offset {
                let place = (partition, offset);
                self.delivered += 1;
                for what in self.hand_out(now_us, asked, place, run.delivery_count, &sent) {
                    self.wrong.push(format!(
                        "share group {}: {place:?} came to {} (delivery {}): {what}",
                        self.group, asked.member, run.delivery_count
                    ));
                }
            }
        }
    }

    fn hand_out(
        &mut self,
        now_us: u64,
        asked: &Asked,
        place: Place,
        count: i16,
        sent: &BTreeMap<i64, String>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let record = self.records.entry(place).or_default();
        match (sent.get(&place.1), &record.produced) {
            // Between what compaction left of a batch there are offsets without a record.
            (None, Some(_)) => wrong.push("without the record".into()),
            (Some(is), Some(was)) if is != was => wrong.push(format!("it is {is} and was {was}")),
            _ => {}
        }
        if record.closed {
            wrong.push("it was done with, and its member had been told so".into());
        }
        if let Some((holder, until)) = &record.holder
            && *until > now_us
        {
            wrong.push(format!("{holder} has it until {until} us"));
        }
        if record.life == self.life && count <= record.count {
            wrong.push(format!("the one before was delivery {}", record.count));
        }
        if count <= record.released {
            wrong.push(format!("delivery {} was released", record.released));
        }
        if !(1..=self.limit).contains(&count) {
            wrong.push(format!("the limit is {}", self.limit));
        }
        record.holder = Some((asked.member.clone(), asked.arrived_us + self.lock_us));
        (record.count, record.life) = (count, self.life);
        record.exhausted |= count >= self.limit;
        wrong
    }

    fn is_done(&self, record: &Record) -> bool {
        record.closed
            || record.closing > 0
            || record.exhausted
            || self.unseen > 0 && record.count + self.unseen >= self.limit
    }

    /// Whether every record whose production was confirmed is done with.
    pub fn all_done(&self) -> bool {
        let mut due = self.records.values().filter(|it| it.produced.is_some());
        due.all(|it| self.is_done(it))
    }

    /// The verdict at the end.
    pub fn conclude(&self) -> Vec<String> {
        let due = self.records.iter().filter(|(_, it)| it.produced.is_some());
        let lost = due.filter(|(_, it)| !self.is_done(it));
        lost.map(|(place, it)| {
            format!(
                "share group {}: {place:?} was left over after delivery {}",
                self.group, it.count
            )
        })
        .collect()
    }
}

impl Asked {
    /// What it acquires is told of only when what it says is written.
    fn may_hide_deliveries(&self) -> bool {
        self.fetches && !self.said.is_empty()
    }
}

/// Whether a record that this is said of never comes again.
fn ends(kind: i8) -> bool {
    kind != RELEASE && kind != RENEW
}

/// Whether an answer says for certain that nothing was done.
fn is_refusal(error: ErrorCode) -> bool {
    [
        ErrorCode::INVALID_RECORD_STATE,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::INVALID_SHARE_SESSION_EPOCH,
        ErrorCode::SHARE_SESSION_NOT_FOUND,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_ID,
    ]
    .contains(&error)
}
