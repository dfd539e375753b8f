//! Subscriptions (the resources `client-metrics`): which metrics are wanted of which clients, how often.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
};

use ottla_protocol::{Str, Uuid};
use ottla_record::crc32c;
use regex_lite::{Regex, RegexBuilder};

use crate::configs::{dynamic::Given, words};

/// `interval.ms` unless it is said.
pub(super) const DEFAULT_INTERVAL_MS: i32 = 300_000;
/// Instead of names: all metrics.
const ALL: &str = "*";
/// Bytes that one compiled pattern may take.
const MOST_PATTERN_BYTES: usize = 1 << 20;

/// What a client can be matched by, as `match` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matched {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl Matched {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "client_instance_id" => Self::InstanceId,
            "client_id" => Self::ClientId,
            "client_software_name" => Self::SoftwareName,
            "client_software_version" => Self::SoftwareVersion,
            "client_source_address" => Self::SourceAddress,
            "client_source_port" => Self::SourcePort,
            _ => return None,
        })
    }
}

/// The patterns of a `match`, by what they are of: the last counts where there are several.
type Patterns = BTreeMap<Matched, Regex>;

/// Compiles a `match`: NAME=PATTERN with commas between. A pattern has to match the whole of what it is compared with.
///
/// # Errors
/// The first word that isn't such a pattern.
pub(crate) fn compile(value: &str) -> Result<Patterns, &str> {
    let mut patterns = Patterns::new();
    for word in words(value) {
        // As Java splits: what is empty at the end doesn't count.
        let (name, pattern) = word
            .trim_end_matches('=')
            .split_once('=')
            .filter(|(_, pattern)| !pattern.contains('='))
            .ok_or(word)?;
        let of = Matched::of(name.trim()).ok_or(word)?;
        let pattern = pattern.trim();
        // By itself first: brackets of its own must not pair with those around it.
        for (pattern, is_whole) in [(pattern, false), (&*format!("^(?:{pattern})$"), true)] {
            let compiled = RegexBuilder::new(pattern)
                .size_limit(MOST_PATTERN_BYTES)
                .build()
                .map_err(|_| word)?;
            if is_whole {
                patterns.insert(of, compiled);
            }
        }
    }
    Ok(patterns)
}

/// Who a client is: what patterns are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) instance_id: Uuid,
    pub(crate) client_id: Option<Str>,
    pub(crate) software_name: Str,
    pub(crate) software_version: Str,
    pub(crate) source_address: Str,
    pub(crate) source_port: Option<u16>,
}

impl Who {
    fn is(&self, of: Matched, pattern: &Regex) -> bool {
        match of {
            Matched::InstanceId => pattern.is_match(&format!("{}", self.instance_id)),
            Matched::ClientId => self
                .client_id
                .as_ref()
                .is_some_and(|id| pattern.is_match(id)),
            Matched::SoftwareName => pattern.is_match(&self.software_name),
            Matched::SoftwareVersion => pattern.is_match(&self.software_version),
            Matched::SourceAddress => pattern.is_match(&self.source_address),
            Matched::SourcePort => self
                .source_port
                .is_some_and(|port| pattern.is_match(&format!("{port}"))),
        }
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    metrics: BTreeSet<Str>,
    interval_ms: i32,
    patterns: Patterns,
}

impl Subscription {
    /// From its settings.
    ///
    /// # Errors
    /// A pattern that can't be compiled: a JVM Kafka takes some that can't be here.
    pub(super) fn of(given: &Given) -> Result<Self, String> {
        let value = |name: &str| given.get(&Str::from(name)).map(|value| &**value);
        let metrics = words(value("metrics").unwrap_or_default());
        let interval = value("interval.ms").and_then(|ms| ms.trim().parse().ok());
        Ok(Self {
            metrics: metrics.map(Str::from).collect(),
            interval_ms: interval.unwrap_or(DEFAULT_INTERVAL_MS),
            patterns: compile(value("match").unwrap_or_default())?,
        })
    }
}

/// What is wanted of one client: of all the subscriptions that match it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Prefixes of names, or just `*`.
    pub(super) metrics: BTreeSet<Str>,
    /// The shortest of their intervals.
    pub(super) interval_ms: i32,
}

impl Wanted {
    pub(super) fn of<'a>(subscriptions: impl Iterator<Item = &'a Subscription>, who: &Who) -> Self {
        let mut wanted = Self {
            metrics: BTreeSet::new(),
            interval_ms: DEFAULT_INTERVAL_MS,
        };
        for one in subscriptions {
            if one
                .patterns
                .iter()
                .all(|(of, pattern)| who.is(*of, pattern))
            {
                wanted.metrics.extend(one.metrics.iter().cloned());
                wanted.interval_ms = wanted.interval_ms.min(one.interval_ms);
            }
        }
        if wanted.metrics.contains(&Str::from_static(ALL)) {
            wanted.metrics = BTreeSet::from([Str::from_static(ALL)]);
        }
        wanted
    }

    /// Its number for this client, made as Kafka makes it: another one as soon as anything else is wanted.
    pub(super) fn id(&self, client: &Uuid) -> i32 {
        let names: alloc::vec::Vec<&str> = self.metrics.iter().map(|name| &**name).collect();
        let text = format!("[{}]{}", names.join(", "), self.interval_ms);
        let (words, _) = client.0.as_chunks::<4>();
        let folded = words
            .iter()
            .fold(0, |hash, word| hash ^ u32::from_be_bytes(*word));
        (crc32c(text.as_bytes()) ^ folded).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn who() -> Who {
        Who {
            instance_id: Uuid::from_random(7),
            client_id: Some("billing-1".into()),
            software_name: "apache-kafka-java".into(),
            software_version: "4.3.1".into(),
            source_address: "127.0.0.1".into(),
            source_port: Some(4711),
        }
    }

    fn subscription(given: &[(&str, &str)]) -> Subscription {
        let given = given
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        Subscription::of(&given.collect()).unwrap()
    }

    #[test]
    fn patterns_match_the_whole_of_what_they_are_of() {
        let matches = |patterns: &str| {
            let one = subscription(&[("match", patterns), ("metrics", "m")]);
            !Wanted::of([one].iter(), &who()).metrics.is_empty()
        };
        for patterns in [
            "",
            "client_id=billing-.*",
            " client_id = billing-1|other , client_source_port=4711",
            "client_software_name=apache.*,client_software_version=4\\.[0-9.]+",
            "client_source_address=127.0.0.1",
            // Of two the last counts.
            "client_id=other,client_id=billing-1",
        ] {
            assert!(matches(patterns), "{patterns}");
        }
        let own = format!("client_instance_id={}", who().instance_id);
        assert!(matches(&own));
        for patterns in [
            "client_id=billing",
            "client_id=a|billing",
            "client_id=billing-1,client_source_port=1",
            "client_software_version=4",
        ] {
            assert!(!matches(patterns), "{patterns}");
        }
        let anonymous = Who {
            client_id: None,
            source_port: None,
            ..who()
        };
        for patterns in ["client_id=.*", "client_source_port=.*"] {
            let one = subscription(&[("match", patterns), ("metrics", "m")]);
            assert!(Wanted::of([one].iter(), &anonymous).metrics.is_empty());
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in [
            "client_id",
            "client_id=",
            "name=a",
            "client_id=a=b",
            "client_id=(",
            "client_id=a)(b",
        ] {
            assert_eq!(
                compile(&format!("client_source_port=1,{bad}")).unwrap_err(),
                bad
            );
        }
        assert_eq!(compile("client_id=a==").unwrap().len(), 1, "as Java splits");
    }

    #[test]
    fn of_several_all_metrics_and_the_shortest_interval() {
        let a = subscription(&[("metrics", "b,a"), ("interval.ms", "5000")]);
        let b = subscription(&[("metrics", "a,c"), ("interval.ms", "400000")]);
        let none = subscription(&[
            ("metrics", "x"),
            ("match", "client_id=none"),
            ("interval.ms", "100"),
        ]);
        let all = subscription(&[("metrics", "*")]);
        let of = |list: &[&Subscription]| {
            let wanted = Wanted::of(list.iter().copied(), &who());
            let names: Vec<&str> = wanted.metrics.iter().map(|name| &**name).collect();
            (
                names.join(","),
                wanted.interval_ms,
                wanted.id(&who().instance_id),
            )
        };
        let (names, interval_ms, id) = of(&[&a, &b, &none]);
        assert_eq!((&*names, interval_ms), ("a,b,c", 5000));
        assert_eq!(of(&[&b]).1, DEFAULT_INTERVAL_MS);
        let (names, _, other_id) = of(&[&a, &all]);
        assert_eq!(names, "*");
        assert_ne!(id, other_id);
        assert_eq!(id, of(&[&b, &a]).2);
        let (names, interval_ms, _) = of(&[]);
        assert_eq!((&*names, interval_ms), ("", DEFAULT_INTERVAL_MS));
    }
}
