//! Share sessions: which partitions a member fetches, kept between its requests (KIP-932).
//!
//! A session is of a group and a member, and of the connection that opened it: it ends with that. Epoch 0 opens one, the
//! numbers from 1 on continue it, -1 ends it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use ottla_protocol::{ErrorCode, Str, Uuid};

use crate::context::ConnId;

/// The epoch that opens a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch that ends one.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// Who fetches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionKey {
    pub group: Str,
    pub member: Str,
}

/// A partition of a session.
pub(crate) type SessionPartition = (Uuid, i32);

#[derive(Debug)]
struct Session {
    conn: ConnId,
    /// What the next request must say.
    epoch: i32,
    partitions: BTreeSet<SessionPartition>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct ShareSessions {
    sessions: BTreeMap<SessionKey, Session>,
    slots: usize,
}

impl ShareSessions {
    pub fn new(slots: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            slots,
        }
    }

    /// Begins a `ShareFetch`; gives the partitions to fetch, in the order in which they are looked at this time.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `SHARE_SESSION_NOT_FOUND`, `INVALID_SHARE_SESSION_EPOCH`, `SHARE_SESSION_LIMIT_REACHED`.
    pub fn begin_fetch(
        &mut self,
        conn: ConnId,
        key: &SessionKey,
        epoch: i32,
        added: &[SessionPartition],
        forgotten: &[SessionPartition],
        has_acknowledgements: bool,
    ) -> Result<Vec<SessionPartition>, ErrorCode> {
        match epoch {
            FINAL_EPOCH => {
                let known = self.sessions.contains_key(key);
                known
                    .then(Vec::new)
                    .ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)
            }
            INITIAL_EPOCH => {
                if has_acknowledgements {
                    return Err(ErrorCode::INVALID_REQUEST);
                }
                if !self.sessions.contains_key(key) && self.sessions.len() >= self.slots {
                    return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
                }
                let mut session = Session {
                    conn,
                    epoch: 1,
                    partitions: BTreeSet::new(),
                };
                session.partitions.extend(added);
                let partitions = session.partitions.iter().copied().collect();
                let owned = SessionKey {
                    group: Str::from(key.group.as_str()),
                    member: Str::from(key.member.as_str()),
                };
                self.sessions.insert(owned, session);
                Ok(partitions)
            }
            epoch => {
                let session = self.continued(key, epoch)?;
                session.partitions.extend(added);
                for partition in forgotten {
                    session.partitions.remove(partition);
                }
                // Another partition is looked at first each time, so that none starves.
                let mut partitions: Vec<_> = session.partitions.iter().copied().collect();
                if !partitions.is_empty() {
                    let first = epoch as usize % partitions.len();
                    partitions.rotate_left(first);
                }
                Ok(partitions)
            }
        }
    }

    /// Begins a `ShareAcknowledge`.
    ///
    /// # Errors
    /// `SHARE_SESSION_NOT_FOUND`, `INVALID_SHARE_SESSION_EPOCH`.
    pub fn begin_acknowledge(&mut self, key: &SessionKey, epoch: i32) -> Result<(), ErrorCode> {
        match epoch {
            INITIAL_EPOCH => Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH),
            FINAL_EPOCH if self.sessions.contains_key(key) => Ok(()),
            FINAL_EPOCH => Err(ErrorCode::SHARE_SESSION_NOT_FOUND),
            epoch => self.continued(key, epoch).map(|_| ()),
        }
    }

    fn continued(&mut self, key: &SessionKey, epoch: i32) -> Result<&mut Session, ErrorCode> {
        let session = self
            .sessions
            .get_mut(key)
            .ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        Ok(session)
    }

    /// Ends a session.
    pub fn close(&mut self, key: &SessionKey) {
        self.sessions.remove(key);
    }

    /// Ends the sessions of a connection that is gone.
    pub fn close_conn(&mut self, conn: ConnId) -> Vec<SessionKey> {
        let of_conn = self.sessions.extract_if(.., |_, s| s.conn == conn);
        of_conn.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(member: &str) -> SessionKey {
        SessionKey {
            group: "g".into(),
            member: member.into(),
        }
    }

    const T: Uuid = Uuid([1; 16]);

    #[test]
    fn epochs() {
        let mut sessions = ShareSessions::new(2);
        let a = key("a");
        let begin = |s: &mut ShareSessions, epoch, added: &[_], forgotten: &[_]| {
            s.begin_fetch(ConnId(1), &a, epoch, added, forgotten, false)
        };
        let missing = Err(ErrorCode::SHARE_SESSION_NOT_FOUND);
        assert_eq!(begin(&mut sessions, 1, &[], &[]), missing);
        assert_eq!(begin(&mut sessions, FINAL_EPOCH, &[], &[]), missing);
        let both = [(T, 0), (T, 1)];
        assert_eq!(
            begin(&mut sessions, 0, &both, &[]).as_deref(),
            Ok(&both[..])
        );
        let turned = [(T, 1), (T, 0)];
        assert_eq!(
            begin(&mut sessions, 1, &[], &[]).as_deref(),
            Ok(&turned[..])
        );
        assert_eq!(
            begin(&mut sessions, 1, &[], &[]),
            Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH)
        );
        assert_eq!(
            begin(&mut sessions, 2, &[(T, 2)], &both).as_deref(),
            Ok(&[(T, 2)][..])
        );
        assert_eq!(sessions.begin_acknowledge(&a, 3), Ok(()));
        assert_eq!(
            sessions.begin_acknowledge(&a, 0),
            Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH)
        );
        assert_eq!(
            begin(&mut sessions, FINAL_EPOCH, &[], &[]).as_deref(),
            Ok(&[][..])
        );
        assert_eq!(sessions.begin_acknowledge(&a, FINAL_EPOCH), Ok(()));
        sessions.close(&a);
        assert_eq!(
            sessions.begin_acknowledge(&a, FINAL_EPOCH),
            Err(ErrorCode::SHARE_SESSION_NOT_FOUND)
        );
        assert_eq!(
            sessions.begin_fetch(ConnId(1), &a, 0, &[], &[], true),
            Err(ErrorCode::INVALID_REQUEST)
        );
    }

    #[test]
    fn no_more_than_there_is_room_for_and_gone_with_the_connection() {
        let mut sessions = ShareSessions::new(2);
        let open = |s: &mut ShareSessions, conn, member| {
            s.begin_fetch(ConnId(conn), &key(member), 0, &[], &[], false)
        };
        open(&mut sessions, 1, "a").unwrap();
        open(&mut sessions, 2, "b").unwrap();
        assert_eq!(
            open(&mut sessions, 1, "c"),
            Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED)
        );
        open(&mut sessions, 2, "a").unwrap();
        assert_eq!(sessions.close_conn(ConnId(1)), []);
        assert_eq!(sessions.close_conn(ConnId(2)), [key("a"), key("b")]);
        open(&mut sessions, 1, "c").unwrap();
    }
}
