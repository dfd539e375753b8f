//! Fetch sessions (KIP-227): the broker remembers what a consumer fetches, so that a request names only what changed
//! and an answer only what has news.

use alloc::vec::Vec;
use hashbrown::HashMap;
use ottla_protocol::{ErrorCode, Str, Uuid};
use ottla_record::Now;

/// `FetchRequest.session_epoch` of a request that wants no session (and ends the one it names).
pub(crate) const FINAL_EPOCH: i32 = -1;
/// `FetchRequest.session_epoch` of a request that wants a new session.
pub(crate) const INITIAL_EPOCH: i32 = 0;

/// A session that was idle for this long, or is this old and smaller than a newcomer, makes room when all slots are taken.
const EVICTION_US: u64 = 120_000_000;

/// One partition to fetch. Up to Fetch v12 `topic` is set, from v13 on `topic_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FetchKey {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// What a consumer asked of one partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FetchTarget {
    pub(crate) key: FetchKey,
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
}

#[derive(Debug)]
struct SessionPartition {
    target: FetchTarget,
    /// As last answered; -1 before the first answer.
    high_watermark: i64,
    log_start_offset: i64,
}

#[derive(Debug)]
struct FetchSession {
    /// The epoch that the next request must have.
    epoch: i32,
    uses_topic_ids: bool,
    follower: bool,
    /// In the order in which they are read. What was answered with records moves to the end, so that all get their turn.
    order: Vec<SessionPartition>,
    /// Position in `order`, rebuilt after `order` changed otherwise than at its end.
    positions: HashMap<FetchKey, usize>,
    created_us: u64,
    last_used_us: u64,
}

impl FetchSession {
    fn rebuild_positions(&mut self) {
        self.positions.clear();
        for (at, partition) in self.order.iter().enumerate() {
            self.positions.insert(partition.target.key.clone(), at);
        }
    }

    fn update(&mut self, targets: Vec<FetchTarget>, forgotten: &[FetchKey]) {
        for target in targets {
            match self.positions.get(&target.key) {
                Some(&at) => self.order[at].target = target,
                None => {
                    self.positions.insert(target.key.clone(), self.order.len());
                    self.order.push(SessionPartition {
                        target,
                        high_watermark: -1,
                        log_start_offset: -1,
                    });
                }
            }
        }
        if !forgotten.is_empty() {
            let mut any = false;
            for key in forgotten {
                any |= self.positions.remove(key).is_some();
            }
            if any {
                let positions = &self.positions;
                self.order.retain(|p| positions.contains_key(&p.target.key));
                self.rebuild_positions();
            }
        }
    }
}

/// How a fetch is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchKind {
    /// All partitions; no session.
    Sessionless,
    /// All partitions, and a new session.
    Full,
    /// Only partitions with news, in this session.
    Incremental(i32),
}

/// All sessions of the broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    sessions: HashMap<i32, FetchSession>,
}

/// What one answered partition looked like, for the session's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnsweredPartition {
    pub(crate) has_records: bool,
    /// Errors, preferred replicas and diverging epochs are always told.
    pub(crate) must_be_told: bool,
    pub(crate) is_error: bool,
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
}

impl FetchSessions {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: HashMap::new(),
        }
    }

    /// Takes a request in: decides its kind and gives back all partitions to fetch, in order.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        session_id: i32,
        session_epoch: i32,
        uses_topic_ids: bool,
        targets: Vec<FetchTarget>,
        forgotten: &[FetchKey],
    ) -> Result<(FetchKind, Vec<FetchTarget>), ErrorCode> {
        if session_epoch == FINAL_EPOCH || session_epoch == INITIAL_EPOCH {
            if session_id != 0 {
                self.sessions.remove(&session_id);
            }
            let kind = if session_epoch == FINAL_EPOCH {
                FetchKind::Sessionless
            } else {
                FetchKind::Full
            };
            return Ok((kind, targets));
        }
        let session = self
            .sessions
            .get_mut(&session_id)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.update(targets, forgotten);
        if session.order.is_empty() {
            self.sessions.remove(&session_id);
            return Ok((FetchKind::Sessionless, Vec::new()));
        }
        session.epoch = next_epoch(session.epoch);
        session.last_used_us = now.mono_us;
        let all = session.order.iter().map(|p| p.target.clone()).collect();
        Ok((FetchKind::Incremental(session_id), all))
    }

    /// Makes the session of an answered full fetch, if there is room. `new_id` gives random ids. Returns 0 for none.
    pub(crate) fn create(
        &mut self,
        now: Now,
        uses_topic_ids: bool,
        follower: bool,
        answered: impl Iterator<Item = (FetchTarget, AnsweredPartition)>,
        mut new_id: impl FnMut() -> i32,
    ) -> i32 {
        let order: Vec<SessionPartition> = answered
            .map(|(target, answer)| SessionPartition {
                target,
                high_watermark: if answer.is_error {
                    -1
                } else {
                    answer.high_watermark
                },
                log_start_offset: answer.log_start_offset,
            })
            .collect();
        if order.is_empty() || !self.make_room(now, follower, order.len()) {
            return 0;
        }
        let id = loop {
            let id = new_id() & i32::MAX;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = FetchSession {
            epoch: 1,
            uses_topic_ids,
            follower,
            order,
            positions: HashMap::new(),
            created_us: now.mono_us,
            last_used_us: now.mono_us,
        };
        session.rebuild_positions();
        self.sessions.insert(id, session);
        id
    }

    fn make_room(&mut self, now: Now, follower: bool, size: usize) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        // Both choices are total orders with the id last, so that the map's order can't matter.
        let idle = self
            .sessions
            .iter()
            .min_by_key(|(id, s)| (s.last_used_us, **id));
        let victim = match idle {
            Some((id, s)) if now.mono_us.saturating_sub(s.last_used_us) > EVICTION_US => Some(*id),
            _ => self
                .sessions
                .iter()
                .filter(|(_, s)| {
                    follower && !s.follower
                        || now.mono_us.saturating_sub(s.created_us) > EVICTION_US
                })
                .min_by_key(|(id, s)| (s.follower, s.order.len(), **id))
                .filter(|(_, s)| (s.follower, s.order.len()) < (follower, size))
                .map(|(id, _)| *id),
        };
        match victim {
            Some(id) => self.sessions.remove(&id).is_some(),
            None => false,
        }
    }

    /// Remembers an incremental answer and says which partitions belong in it: `answers[i]` is about the i-th target of
    /// [`FetchSessions::begin`]. A session that is gone meanwhile tells everything.
    pub(crate) fn answer(
        &mut self,
        id: i32,
        targets: &[FetchTarget],
        answers: &[AnsweredPartition],
    ) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return answers.iter().map(|_| true).collect();
        };
        let mut moved = Vec::new();
        let mut told = Vec::with_capacity(answers.len());
        for (target, answer) in targets.iter().zip(answers) {
            let Some(&at) = session.positions.get(&target.key) else {
                told.push(true);
                continue;
            };
            let partition = &mut session.order[at];
            let news = answer.has_records
                || answer.must_be_told
                || answer.is_error
                || partition.high_watermark != answer.high_watermark
                || partition.log_start_offset != answer.log_start_offset;
            // After an error the next good answer must be told, whatever it holds.
            partition.high_watermark = if answer.is_error {
                -1
            } else {
                answer.high_watermark
            };
            partition.log_start_offset = answer.log_start_offset;
            if answer.has_records {
                moved.push(at);
            }
            told.push(news);
        }
        if !moved.is_empty() && moved.len() < session.order.len() {
            moved.sort_unstable();
            let mut tail = Vec::with_capacity(moved.len());
            let mut kept = Vec::with_capacity(session.order.len());
            for (at, partition) in session.order.drain(..).enumerate() {
                if moved.binary_search(&at).is_ok() {
                    tail.push(partition)
                } else {
                    kept.push(partition)
                }
            }
            kept.append(&mut tail);
            session.order = kept;
            session.rebuild_positions();
        }
        told
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn target(topic: &str, partition: i32, fetch_offset: i64) -> FetchTarget {
        FetchTarget {
            key: FetchKey {
                topic: topic.into(),
                topic_id: Uuid::ZERO,
                partition,
            },
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            max_bytes: 1000,
        }
    }

    fn seen(high_watermark: i64, has_records: bool) -> AnsweredPartition {
        AnsweredPartition {
            has_records,
            must_be_told: false,
            is_error: false,
            high_watermark,
            log_start_offset: 0,
        }
    }

    fn at(us: u64) -> Now {
        Now::new(us, 0)
    }

    fn three(sessions: &mut FetchSessions, now: Now) -> i32 {
        let answered = (0..3).map(|p| (target("t", p, 0), seen(5, false)));
        let mut next = 10 + sessions.len() as i32;
        sessions.create(now, false, false, answered, || {
            next += 1;
            next
        })
    }

    #[test]
    fn incremental_requests_and_answers() {
        let mut sessions = FetchSessions::new(10);
        let id = three(&mut sessions, at(0));
        assert_ne!(id, 0);

        let (kind, all) = sessions
            .begin(at(1), id, 1, false, vec![target("t", 1, 5)], &[])
            .unwrap();
        assert_eq!(kind, FetchKind::Incremental(id));
        assert_eq!(
            all,
            [target("t", 0, 0), target("t", 1, 5), target("t", 2, 0)]
        );
        let told = sessions.answer(id, &all, &[seen(5, true), seen(5, false), seen(6, false)]);
        assert_eq!(told, [true, false, true]);

        // What had records moved to the end; forgotten partitions are gone; new ones come last.
        let (_, all) = sessions
            .begin(
                at(2),
                id,
                2,
                false,
                vec![target("u", 0, 0)],
                &[target("t", 2, 0).key],
            )
            .unwrap();
        assert_eq!(
            all,
            [target("t", 1, 5), target("t", 0, 0), target("u", 0, 0)]
        );

        assert_eq!(
            sessions.begin(at(3), id, 2, false, vec![], &[]),
            Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH)
        );
        assert_eq!(
            sessions.begin(at(3), id, 3, true, vec![], &[]),
            Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR)
        );
        assert_eq!(
            sessions.begin(at(3), 999, 3, false, vec![], &[]),
            Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
        );

        // Forgetting everything closes the session.
        let all_keys = [
            target("t", 1, 0).key,
            target("t", 0, 0).key,
            target("u", 0, 0).key,
        ];
        assert_eq!(
            sessions.begin(at(4), id, 3, false, vec![], &all_keys),
            Ok((FetchKind::Sessionless, vec![]))
        );
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn an_error_is_told_and_so_is_what_follows() {
        let mut sessions = FetchSessions::new(10);
        let id = three(&mut sessions, at(0));
        let (_, all) = sessions.begin(at(1), id, 1, false, vec![], &[]).unwrap();
        let error = AnsweredPartition {
            is_error: true,
            ..seen(5, false)
        };
        assert_eq!(
            sessions.answer(id, &all, &[seen(5, false), error, seen(5, false)]),
            [false, true, false]
        );
        let (_, all) = sessions.begin(at(1), id, 2, false, vec![], &[]).unwrap();
        assert_eq!(
            sessions.answer(id, &all, &[seen(5, false), seen(5, false), seen(5, false)]),
            [false, true, false]
        );
    }

    #[test]
    fn closing_and_eviction() {
        let mut sessions = FetchSessions::new(2);
        let first = three(&mut sessions, at(0));
        let second = three(&mut sessions, at(1000));
        assert_eq!(three(&mut sessions, at(2000)), 0, "no room among the young");
        assert_eq!(
            sessions
                .begin(at(EVICTION_US), second, 1, false, vec![], &[])
                .unwrap()
                .1
                .len(),
            3
        );
        let third = three(&mut sessions, at(EVICTION_US + 1));
        assert_ne!(third, 0, "the idle one makes room");
        assert!(sessions.begin(at(0), first, 1, false, vec![], &[]).is_err());
        sessions
            .begin(at(0), second, FINAL_EPOCH, false, vec![], &[])
            .unwrap();
        assert_eq!(sessions.len(), 1);
        // A full request ends the session that it names.
        let (kind, _) = sessions
            .begin(
                at(0),
                third,
                INITIAL_EPOCH,
                false,
                vec![target("t", 0, 0)],
                &[],
            )
            .unwrap();
        assert_eq!((kind, sessions.len()), (FetchKind::Full, 0));
    }
}
