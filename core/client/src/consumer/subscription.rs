//! The topics that the application subscribed to, by name and by regular expression.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use ottla_protocol::Str;
use regex_lite::Regex;

/// The longest name that a topic can have.
const MAX_TOPIC_LEN: usize = 249;

/// A subscription as the application gave it. An entry that starts with `^` is a regular expression which a topic's
/// name must match from its start, as in librdkafka; topics that appear later are taken in then.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    given: Vec<Str>,
    names: BTreeSet<Str>,
    patterns: Vec<Regex>,
}

/// The entry of a subscription that is no topic's name and no valid regular expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadSubscription(pub(crate) Str);

impl Subscription {
    /// Reads a list of names and `^regex`es.
    pub(crate) fn new(topics: &[Str]) -> Result<Self, BadSubscription> {
        let mut subscription = Self {
            given: topics.to_vec(),
            ..Self::default()
        };
        for topic in topics {
            if topic.starts_with('^') {
                let pattern = Regex::new(topic).map_err(|_| BadSubscription(topic.clone()))?;
                subscription.patterns.push(pattern);
            } else if topic.is_empty() || topic.len() > MAX_TOPIC_LEN {
                return Err(BadSubscription(topic.clone()));
            } else {
                subscription.names.insert(topic.clone());
            }
        }
        Ok(subscription)
    }

    /// The entries as they were given.
    pub(crate) fn given(&self) -> &[Str] {
        &self.given
    }

    /// Whether it names nothing at all: the consumer is not subscribed.
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether the answer depends on which topics exist.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The names that were given as such.
    pub(crate) fn names(&self) -> &BTreeSet<Str> {
        &self.names
    }

    /// Its names, and those of `existing` topics that match one of its patterns.
    pub(crate) fn topics<'a>(&self, existing: impl Iterator<Item = &'a Str>) -> BTreeSet<Str> {
        let mut topics = self.names.clone();
        if self.has_patterns() {
            topics.extend(
                existing
                    .filter(|t| self.patterns.iter().any(|p| p.is_match(t)))
                    .cloned(),
            );
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let existing: Vec<Str> = ["orders", "orders.eu", "other", "x"].map(Str::from).into();
        let s = Subscription::new(&["x".into(), "^ord.*".into(), "missing".into()]).unwrap();
        assert!(s.has_patterns());
        let topics: Vec<Str> = s.topics(existing.iter()).into_iter().collect();
        assert_eq!(topics, ["missing", "orders", "orders.eu", "x"]);
        let s = Subscription::new(&["^o.h".into()]).unwrap();
        assert_eq!(s.topics(existing.iter()).len(), 1);
        assert!(s.names().is_empty());
    }

    #[test]
    fn bad_entries() {
        assert_eq!(
            Subscription::new(&["^(".into()]).unwrap_err(),
            BadSubscription("^(".into())
        );
        assert_eq!(
            Subscription::new(&["".into()]).unwrap_err(),
            BadSubscription("".into())
        );
        assert!(Subscription::new(&[]).unwrap().is_empty());
    }
}
