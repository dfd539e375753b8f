//! What a client pushed: the newest value of each of its metrics.

use alloc::{borrow::ToOwned, boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

use super::otlp::{ClientMetricKind, ClientMetricValue, Point};

/// Metrics of one client, each combination of attributes counted.
pub(super) const MOST_METRICS: usize = 2000;
/// Bytes of a metric's name with the keys and values of all its attributes.
const LONGEST_ID: usize = 2048;
/// What a metric is taken to need besides its texts, in bytes.
const OVERHEAD: usize = 128;
/// What each of its attributes is taken to need besides them: two texts of their own.
const OVERHEAD_OF_ATTRIBUTE: usize = 64;

/// What tells the metrics of a client from each other.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    name: Box<str>,
    /// Those of a metric that was pushed are sorted by key, each key once.
    attributes: Box<[Attribute]>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    key: Box<str>,
    value: Box<str>,
}

impl Id {
    /// The metric of a data point. Of attributes with the same key the first counts. `None` if it has no name, its texts are too long
    /// together, or one of them has a NUL, where others that read it would take it to end.
    fn of(point: &Point<'_>) -> Option<Self> {
        let mut attributes: Vec<(&str, &str)> = point
            .attributes
            .iter()
            .map(|(key, value)| (*key, &**value))
            .collect();
        attributes.sort_by_key(|(key, _)| *key);
        attributes.dedup_by_key(|(key, _)| *key);
        let texts = || {
            let of_attributes = attributes.iter().flat_map(|(key, value)| [*key, *value]);
            core::iter::once(point.name).chain(of_attributes)
        };
        let fits = !point.name.is_empty()
            && texts().map(str::len).sum::<usize>() <= LONGEST_ID
            && !texts().any(|text| text.contains('\0'));
        fits.then(|| Self::new(point.name, &attributes))
    }

    fn new(name: &str, attributes: &[(&str, &str)]) -> Self {
        let attribute = |(key, value): &(&str, &str)| Attribute {
            key: (*key).to_owned().into(),
            value: (*value).to_owned().into(),
        };
        Self {
            name: name.to_owned().into(),
            attributes: attributes.iter().map(attribute).collect(),
        }
    }

    /// Memory that it takes, as it is counted.
    fn bytes(&self) -> usize {
        let of_attribute =
            |one: &Attribute| OVERHEAD_OF_ATTRIBUTE + one.key.len() + one.value.len();
        self.name.len() + self.attributes.iter().map(of_attribute).sum::<usize>()
    }
}

/// One metric of a client, with its newest value.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientMetric {
    id: Arc<Id>,
    /// What it is.
    pub kind: ClientMetricKind,
    /// What was measured: of counters and histograms the sum of all that was pushed, if the client pushes what came since it
    /// pushed before (delta temporality).
    pub value: ClientMetricValue,
}

impl ClientMetric {
    /// One that nobody pushed, for trying out what shows them. Its attributes are told in this order.
    pub fn new(
        name: &str,
        attributes: &[(&str, &str)],
        kind: ClientMetricKind,
        value: ClientMetricValue,
    ) -> Self {
        Self {
            id: Arc::new(Id::new(name, attributes)),
            kind,
            value,
        }
    }

    /// The name that the client has for it, such as `org.apache.kafka.producer.connection.creation.total`.
    pub fn name(&self) -> &str {
        &self.id.name
    }

    /// Its attributes, each once, sorted by key.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let attributes = self.id.attributes.iter();
        attributes.map(|one| (&*one.key, &*one.value))
    }
}

/// The metrics of one client.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    metrics: BTreeMap<Arc<Id>, (ClientMetricKind, ClientMetricValue)>,
    bytes: usize,
}

impl Pushed {
    /// Memory that it takes, as it is counted.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// Takes a data point, unless there are too many metrics, it is too large, or it would need more than `room` bytes. Whether it did.
    pub(super) fn take(&mut self, point: Point<'_>, room: usize) -> bool {
        let Some(id) = Id::of(&point) else {
            return false;
        };
        let size = OVERHEAD + id.bytes() + size_of_buckets(&point.value);
        if let Some((kind, value)) = self.metrics.get_mut(&id) {
            let old_size = OVERHEAD + id.bytes() + size_of_buckets(value);
            if size > old_size && size - old_size > room {
                return false;
            }
            self.bytes = self.bytes - old_size + size;
            if *kind == point.kind && point.is_delta {
                add(value, point.value);
            } else {
                *value = point.value;
            }
            *kind = point.kind;
            return true;
        }
        if self.metrics.len() >= MOST_METRICS || size > room {
            return false;
        }
        self.metrics.insert(Arc::new(id), (point.kind, point.value));
        self.bytes += size;
        true
    }

    /// All of them, by name.
    pub(super) fn metrics(&self) -> Vec<ClientMetric> {
        self.metrics
            .iter()
            .map(|(id, (kind, value))| ClientMetric {
                id: id.clone(),
                kind: *kind,
                value: value.clone(),
            })
            .collect()
    }
}

fn size_of_buckets(value: &ClientMetricValue) -> usize {
    match value {
        ClientMetricValue::Number(_) => 0,
        ClientMetricValue::Histogram { counts, .. } => 16 * counts.len(),
    }
}

/// Adds what came since.
fn add(to: &mut ClientMetricValue, since: ClientMetricValue) {
    match (to, since) {
        (ClientMetricValue::Number(sum), ClientMetricValue::Number(more)) => *sum += more,
        (
            ClientMetricValue::Histogram {
                bounds,
                counts,
                count,
                sum,
            },
            ClientMetricValue::Histogram {
                bounds: same,
                counts: more,
                count: more_values,
                sum: more_sum,
            },
        ) if *bounds == same && counts.len() == more.len() => {
            for (count, more) in counts.iter_mut().zip(more) {
                *count = count.saturating_add(more);
            }
            *count = count.saturating_add(more_values);
            *sum += more_sum;
        }
        // Other buckets than before: it begins anew.
        (to, since) => *to = since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::otlp::{ClientMetricKind::*, MOST_BUCKETS};
    use alloc::{borrow::Cow, format, vec};

    const ROOM: usize = 1 << 20;

    fn point<'a>(name: &'a str, kind: ClientMetricKind, is_delta: bool, value: f64) -> Point<'a> {
        Point {
            name,
            kind,
            is_delta,
            attributes: vec![("z", Cow::Borrowed("1")), ("a", Cow::Borrowed("2"))],
            value: ClientMetricValue::Number(value),
        }
    }

    fn histogram(bounds: &[f64], counts: &[u64]) -> Point<'static> {
        Point {
            value: ClientMetricValue::Histogram {
                bounds: bounds.to_vec(),
                counts: counts.to_vec(),
                count: 2,
                sum: 3.0,
            },
            ..point("h", Histogram, true, 0.0)
        }
    }

    #[test]
    fn deltas_are_added_up_and_others_replaced() {
        let mut pushed = Pushed::default();
        for value in [1.0, 2.0] {
            assert!(pushed.take(point("delta", Counter, true, value), ROOM));
            assert!(pushed.take(point("cumulative", Counter, false, value), ROOM));
            assert!(pushed.take(point("gauge", Gauge, false, value), ROOM));
        }
        let metrics = pushed.metrics();
        let values: Vec<_> = metrics.iter().map(|m| (m.name(), &m.value)).collect();
        let number = |value| ClientMetricValue::Number(value);
        assert_eq!(
            values,
            [
                ("cumulative", &number(2.0)),
                ("delta", &number(3.0)),
                ("gauge", &number(2.0))
            ]
        );
        let attributes: Vec<_> = metrics[0].attributes().collect();
        assert_eq!(attributes, [("a", "2"), ("z", "1")]);
        // What became something else begins anew.
        assert!(pushed.take(point("gauge", Counter, true, 5.0), ROOM));
        assert_eq!(pushed.metrics()[2].value, number(5.0));
    }

    #[test]
    fn histograms_are_added_bucket_by_bucket() {
        let mut pushed = Pushed::default();
        for counts in [[1, 2], [10, 20]] {
            assert!(pushed.take(histogram(&[1.0], &counts), ROOM));
        }
        let added = |counts: &[u64], count, sum| ClientMetricValue::Histogram {
            bounds: vec![1.0],
            counts: counts.to_vec(),
            count,
            sum,
        };
        assert_eq!(pushed.metrics()[0].value, added(&[11, 22], 4, 6.0));
        let before = pushed.bytes();
        assert!(pushed.take(histogram(&[1.0, 2.0], &[1, 1, 1]), ROOM));
        assert_eq!(pushed.bytes(), before + 16);
        let many = [0; MOST_BUCKETS];
        assert!(!pushed.take(histogram(&[], &many), 100), "no room to grow");
    }

    #[test]
    fn bounds() {
        let mut pushed = Pushed::default();
        assert!(!pushed.take(point("", Gauge, false, 1.0), ROOM), "no name");
        assert!(!pushed.take(point("a\0b", Gauge, false, 1.0), ROOM));
        let longest = "n".repeat(LONGEST_ID - "a2z1".len());
        let too_long = format!("{longest}n");
        assert!(!pushed.take(point(&too_long, Gauge, false, 1.0), ROOM));
        assert!(Pushed::default().take(point(&longest, Gauge, false, 1.0), ROOM));
        assert!(!pushed.take(point("n", Gauge, false, 1.0), 100), "no room");
        assert_eq!(pushed.bytes(), 0);
        for n in 0..MOST_METRICS {
            assert!(pushed.take(point(&format!("n{n}"), Gauge, false, 1.0), ROOM));
        }
        assert!(!pushed.take(point("n", Gauge, false, 1.0), ROOM));
        assert!(pushed.take(point("n0", Gauge, false, 2.0), 0), "an old one");
        let same_key = vec![("k", Cow::Borrowed("own")), ("k", Cow::Borrowed("other"))];
        let mut twice = Pushed::default();
        let point = Point {
            attributes: same_key,
            ..point("n", Gauge, false, 1.0)
        };
        assert!(twice.take(point, ROOM));
        let metric = twice.metrics().remove(0);
        assert_eq!(metric.attributes().collect::<Vec<_>>(), [("k", "own")]);
    }
}
