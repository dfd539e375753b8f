//! What `ListTransactions` and `DescribeTransactions` show.

use alloc::{collections::BTreeSet, vec::Vec};
use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        describe_transactions::{self, TopicData},
        list_transactions::{ListTransactionsRequest, ListTransactionsResponse, TransactionState},
    },
};
use ottla_record::Now;
use regex_lite::Regex;

use super::{
    TransactionCoordinator,
    transaction::{Metadata, State, Transaction},
};

impl TransactionCoordinator {
    /// Transactional ids that fit all filters (none means any), by name.
    pub(crate) fn list(
        &self,
        now: Now,
        request: &ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        let mut states = Vec::new();
        let mut unknown_state_filters = Vec::new();
        for name in &request.state_filters {
            match State::ALL.into_iter().find(|state| state.name() == &**name) {
                Some(state) if !states.contains(&state) => states.push(state),
                Some(_) => {}
                None => unknown_state_filters.push(name.clone()),
            }
        }
        let pattern = match &request.transactional_id_pattern {
            Some(pattern) if !pattern.is_empty() => {
                match Regex::new(&alloc::format!("^(?:{pattern})$")) {
                    Ok(pattern) => Some(pattern),
                    Err(_) => {
                        return ListTransactionsResponse {
                            error_code: ErrorCode::INVALID_REGULAR_EXPRESSION,
                            ..Default::default()
                        };
                    }
                }
            }
            _ => None,
        };
        let ids: BTreeSet<i64> = request.producer_id_filters.iter().copied().collect();
        let fits = |id: &Str, m: &Metadata| {
            let duration = request.duration_filter;
            // A filter with nothing but unknown names finds nothing.
            let any_state = request.state_filters.is_empty();
            (any_state || states.contains(&m.state))
                && (ids.is_empty() || ids.contains(&m.producer_id))
                && (duration < 0 || now.wall_ms.saturating_sub(m.start_ms) > duration)
                && pattern.as_ref().is_none_or(|p| p.is_match(id))
        };
        let transaction_states = self
            .transactions
            .iter()
            .filter_map(|(id, t)| Some((id, t.present.as_ref()?)))
            .filter(|(id, m)| fits(id, m) && self.check_log(id).is_ok())
            .map(|(id, m)| TransactionState {
                transactional_id: id.clone(),
                producer_id: m.producer_id,
                transaction_state: Str::from_static(m.state.name()),
            })
            .collect();
        ListTransactionsResponse {
            unknown_state_filters,
            transaction_states,
            ..Default::default()
        }
    }

    /// One transactional id with the partitions of its transaction.
    pub(crate) fn describe(&self, id: &Str) -> describe_transactions::TransactionState {
        let refused = |error_code| describe_transactions::TransactionState {
            error_code,
            transactional_id: id.clone(),
            ..Default::default()
        };
        if id.is_empty() {
            return refused(ErrorCode::INVALID_REQUEST);
        }
        if let Err(error) = self.check_log(id) {
            return refused(error);
        }
        let Some(m) = self.present(id) else {
            return refused(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
        };
        describe_transactions::TransactionState {
            error_code: ErrorCode::NONE,
            transactional_id: id.clone(),
            transaction_state: Str::from_static(m.state.name()),
            transaction_timeout_ms: m.timeout_ms,
            transaction_start_time_ms: m.start_ms,
            producer_id: m.producer_id,
            producer_epoch: m.epoch,
            topics: m
                .partitions
                .topics()
                .map(|(topic, partitions)| TopicData {
                    topic: topic.clone(),
                    partitions: partitions.iter().copied().collect(),
                })
                .collect(),
        }
    }

    /// The transactional id that a producer id belongs to.
    pub(super) fn transactional_id_of(&self, producer_id: i64) -> Option<&Str> {
        let is_its = |t: &&Transaction| {
            [&t.present, &t.pending].iter().any(|m| {
                let m = m.as_ref();
                m.is_some_and(|m| m.producer_id == producer_id)
            })
        };
        let mut found = self.transactions.iter().filter(|(_, t)| is_its(t));
        found.next().map(|(id, _)| id)
    }

    /// Of each producer id the partitions that its transaction has, or is going to have; only of transactions that are not
    /// complete.
    pub(super) fn open_partitions(&self) -> Vec<(i64, Str, i32)> {
        let mut all: Vec<(i64, Str, i32)> = Vec::new();
        for transaction in self.transactions.values() {
            for m in [&transaction.present, &transaction.pending] {
                let partitions = m.iter().flat_map(|m| m.partitions.to_list());
                let producer_id = m.as_ref().map_or(-1, |m| m.producer_id);
                all.extend(partitions.map(|(topic, partition)| (producer_id, topic, partition)));
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, TOPIC, config};
    use super::*;
    use alloc::vec;

    fn names(response: &ListTransactionsResponse) -> Vec<&str> {
        let states = response.transaction_states.iter();
        states.map(|s| &*s.transactional_id).collect()
    }

    #[test]
    fn filters() {
        let mut c = Coordinator::new(config());
        let first = c.init("app-1").unwrap();
        c.init("app-2").unwrap();
        let other = c.init("other").unwrap();
        c.add("app-1", first, &[0]);
        c.advance(5_000);
        c.add("other", other, &[0]);
        let list = |request: ListTransactionsRequest| c.coordinator.list(c.now, &request);
        assert_eq!(
            names(&list(ListTransactionsRequest::default())),
            ["app-1", "app-2", "other"]
        );
        let answer = list(ListTransactionsRequest {
            state_filters: vec!["Ongoing".into(), "Nonsense".into()],
            ..Default::default()
        });
        assert_eq!(names(&answer), ["app-1", "other"]);
        assert_eq!(answer.unknown_state_filters, ["Nonsense"]);
        let answer = list(ListTransactionsRequest {
            state_filters: vec!["Nonsense".into()],
            ..Default::default()
        });
        assert!(names(&answer).is_empty());
        let answer = list(ListTransactionsRequest {
            producer_id_filters: vec![other.0],
            ..Default::default()
        });
        assert_eq!(names(&answer), ["other"]);
        let answer = list(ListTransactionsRequest {
            state_filters: vec!["Ongoing".into()],
            duration_filter: 4_999,
            ..Default::default()
        });
        assert_eq!(names(&answer), ["app-1"]);
        for (pattern, found) in [
            ("app-.*", vec!["app-1", "app-2"]),
            ("app", vec![]),
            ("other|app-2", vec!["app-2", "other"]),
        ] {
            let answer = list(ListTransactionsRequest {
                transactional_id_pattern: Some(pattern.into()),
                ..Default::default()
            });
            assert_eq!(names(&answer), found);
        }
        let answer = list(ListTransactionsRequest {
            transactional_id_pattern: Some("(".into()),
            ..Default::default()
        });
        assert_eq!(answer.error_code, ErrorCode::INVALID_REGULAR_EXPRESSION);
    }

    #[test]
    fn one_of_them() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.add("x", producer, &[1, 0]);
        let shown = c.coordinator.describe(&"x".into());
        assert_eq!(shown.transaction_state, "Ongoing");
        assert_eq!((shown.producer_id, shown.producer_epoch), producer);
        assert_eq!(shown.transaction_start_time_ms, c.now.wall_ms);
        assert_eq!(
            (&shown.topics[0].topic, &shown.topics[0].partitions),
            (&TOPIC, &vec![0, 1])
        );
        let missing = c.coordinator.describe(&"y".into());
        let not_found = ErrorCode::TRANSACTIONAL_ID_NOT_FOUND;
        assert_eq!((missing.error_code, missing.producer_id), (not_found, 0));
        let empty = c.coordinator.describe(&"".into());
        assert_eq!(empty.error_code, ErrorCode::INVALID_REQUEST);
    }
}
