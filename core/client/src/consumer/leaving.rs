//! Leaving the group: unsubscribe, close, and being fenced.

use super::machine::{Consumer, ConsumerEvent, Purpose, To};
use super::membership::{Phase, Then};
use super::offset::{self};
use super::subscription::Subscription;
use crate::error::KafkaError;
use alloc::format;
use alloc::vec;
use ottla_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::{Request, Str};
use ottla_record::Now;

/// How long a LeaveGroup may take; the coordinator notices an absent member anyhow.
const LEAVE_TIMEOUT_MS: i32 = 5_000;

impl Consumer {
    /// Leaves the group, after the partitions were given up.
    pub(crate) fn unsubscribe(&mut self, now: Now) {
        self.subscription = Subscription::default();
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.rejoin = false;
        match &mut membership.phase {
            Phase::Out | Phase::Leaving(_) => {}
            Phase::Revoking { then, .. } | Phase::Committing(then) => *then = Then::Leave,
            _ => self.revoke(now, None, Then::Leave, false),
        }
    }

    /// Tells the coordinator that the member goes. A static one doesn't: it may be back soon.
    pub(super) fn send_leave(&mut self) -> Option<u64> {
        let membership = self.membership.as_mut()?;
        if membership.member_id.is_empty() || self.config.group_instance_id.is_some() {
            return None;
        }
        let member_id = core::mem::take(&mut membership.member_id);
        membership.generation = -1;
        let member = MemberIdentity {
            member_id: member_id.clone(),
            ..Default::default()
        };
        let request = Request::LeaveGroup(LeaveGroupRequest {
            group_id: membership.group.clone(),
            member_id,
            members: vec![member],
        });
        Some(self.send(To::Coordinator, request, LEAVE_TIMEOUT_MS, Purpose::Leave))
    }

    /// LeaveGroup was answered, or wasn't: it makes no difference.
    pub(super) fn left(&mut self, now: Now, token: u64) {
        if matches!(self.membership.as_ref().map(|m| &m.phase), Some(Phase::Leaving(t)) if *t == token)
        {
            self.out(now);
        }
    }

    pub(super) fn out(&mut self, now: Now) {
        let again = !self.subscription.is_empty() && !self.closing && self.fatal.is_none();
        if let Some(membership) = &mut self.membership {
            membership.generation = -1;
            membership.assignor = None;
            membership.is_leader = false;
            membership.lost = false;
            membership.phase = if again {
                Phase::Waiting(now.mono_us)
            } else {
                Phase::Out
            };
        }
    }

    /// Another consumer with the same `group.instance.id` took this one's place: it can't go on.
    pub(super) fn fenced(&mut self, now: Now, error: KafkaError) {
        if self.fatal.is_some() {
            return;
        }
        let text = format!("fatal: {}", error.message);
        let fatal = KafkaError {
            fatal: true,
            ..KafkaError::new(error.code, text)
        };
        self.fatal = Some(fatal.clone());
        self.error(None, offset::INVALID, fatal);
        self.subscription = Subscription::default();
        if let Some(membership) = &mut self.membership {
            membership.member_id = Str::new();
            membership.generation = -1;
        }
        self.revoke(now, None, Then::Leave, true);
    }

    /// Gives everything up, commits, leaves the group. [`ConsumerEvent::Closed`] tells the end.
    pub(crate) fn close(&mut self, now: Now) {
        if self.closing {
            return;
        }
        self.closing = true;
        let is_out = self
            .membership
            .as_ref()
            .is_none_or(|m| matches!(m.phase, Phase::Out));
        self.unsubscribe(now);
        if is_out {
            self.unassign(now);
        }
    }

    /// Ends the close when nothing is under way any more.
    pub(super) fn serve_close(&mut self) {
        let is_out = self
            .membership
            .as_ref()
            .is_none_or(|m| matches!(m.phase, Phase::Out));
        let commits = self
            .in_flight
            .values()
            .any(|purpose| matches!(purpose, Purpose::Commit(_)));
        if self.closing && is_out && !commits && self.retry_commits.is_empty() {
            self.closed = true;
            self.in_flight.clear();
            self.event(ConsumerEvent::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Rig;
    use super::*;
    use crate::error::ErrCode;
    use ottla_protocol::{ErrorCode, Response};

    /// As if the application had taken records up to `offset` of partition `p` of topic a.
    fn consumed(rig: &mut Rig, p: i32, offset: i64) {
        rig.consumer
            .consumed_partition(&("a".into(), p))
            .unwrap()
            .hand_out(offset - 1);
    }

    #[test]
    fn a_fenced_static_member_is_done_for() {
        let mut rig = Rig::subscribed_alone(|c| c.group_instance_id = Some("i".into()));
        rig.beats(ErrorCode::FENCED_INSTANCE_ID);
        assert_eq!(rig.polled(), "error 82");
        assert!(rig.consumer.assignment().is_empty());
        assert_eq!(
            rig.consumer
                .subscribe(rig.now, &["a".into()])
                .unwrap_err()
                .code,
            ErrCode::FATAL
        );
        assert!(!rig.waiting().contains("LeaveGroup"));
    }

    #[test]
    fn unsubscribe_and_close_commit_and_leave() {
        for close in [false, true] {
            let mut rig = Rig::subscribed_alone(|_| {});
            rig.committed(0);
            consumed(&mut rig, 1, 3);
            if close {
                rig.consumer.close(rig.now)
            } else {
                rig.consumer.unsubscribe(rig.now)
            }
            assert!(!rig.waiting().contains("LeaveGroup"));
            assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 1, 3)]);
            let (token, leave) = rig.take(|r| {
                if let Request::LeaveGroup(l) = r {
                    Some(l.clone())
                } else {
                    None
                }
            });
            assert_eq!(leave.members[0].member_id, "me");
            rig.reply(token, Ok(Response::LeaveGroup(Default::default())));
            assert_eq!(rig.consumer.closed, close);
            assert_eq!(rig.consumer.poll_timeout(), None);
        }
    }

    #[test]
    fn a_static_member_closes_without_leaving() {
        let mut rig = Rig::subscribed_alone(|c| c.group_instance_id = Some("i".into()));
        rig.consumer.close(rig.now);
        assert!(!rig.waiting().contains("LeaveGroup"));
        assert!(rig.consumer.closed);
    }
}
