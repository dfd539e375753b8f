//! What a client pushed: the newest value of each of its metrics.

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};

use super::otlp::{ClientMetricKind, ClientMetricValue, Point};

/// Metrics of one client, each combination of attributes counted.
pub(super) const MOST_METRICS: usize = 2000;
/// Bytes of a metric's name with all its attributes.
const LONGEST_ID: usize = 2048;
/// What a metric is taken to need besides its name and attributes, in bytes.
const OVERHEAD: usize = 128;

/// One metric of a client, with its newest value.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientMetric {
    /// The name, and each attribute's key and value, with a NUL before each.
    id: Arc<str>,
    /// What it is.
    pub kind: ClientMetricKind,
    /// What was measured: of counters and histograms the sum of all that was pushed, if the client pushes what came since it
    /// pushed before (delta temporality).
    pub value: ClientMetricValue,
}

impl ClientMetric {
    /// One that nobody pushed, for trying out what shows them. No text in it may have a NUL.
    pub fn new(
        name: &str,
        attributes: &[(&str, &str)],
        kind: ClientMetricKind,
        value: ClientMetricValue,
    ) -> Self {
        let attributes = attributes.iter().flat_map(|(key, value)| [*key, *value]);
        let parts: Vec<&str> = core::iter::once(name).chain(attributes).collect();
        Self {
            id: parts.join("\0").into(),
            kind,
            value,
        }
    }

    /// The name that the client has for it, such as `org.apache.kafka.producer.connection.creation.total`.
    pub fn name(&self) -> &str {
        self.id.split('\0').next().unwrap_or_default()
    }

    /// Its attributes, each once, sorted by key.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.id.split('\0').skip(1);
        core::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }
}

/// The metrics of one client.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    metrics: BTreeMap<Arc<str>, (ClientMetricKind, ClientMetricValue)>,
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
        let Some(id) = id_of(&point) else {
            return false;
        };
        let size = OVERHEAD + id.len() + size_of_buckets(&point.value);
        if let Some((kind, value)) = self.metrics.get_mut(&*id) {
            let old_size = OVERHEAD + id.len() + size_of_buckets(value);
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
        self.metrics.insert(id.into(), (point.kind, point.value));
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

/// Name and attributes; `None` if they are too long, or can't be told from each other in there. Of attributes with the same key the first
/// counts.
fn id_of(point: &Point<'_>) -> Option<String> {
    let mut attributes: Vec<_> = point.attributes.iter().collect();
    attributes.sort_by_key(|(key, _)| *key);
    attributes.dedup_by_key(|(key, _)| *key);
    let mut id = String::from(point.name);
    for (key, value) in &attributes {
        if id.len() + key.len() + value.len() > LONGEST_ID {
            return None;
        }
        id.push('\0');
        id.push_str(key);
        id.push('\0');
        id.push_str(value);
    }
    let is_clear = id.bytes().filter(|byte| *byte == 0).count() == 2 * attributes.len();
    (is_clear && !point.name.is_empty() && id.len() <= LONGEST_ID).then_some(id)
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
        let long = "n".repeat(LONGEST_ID);
        assert!(!pushed.take(point(&long, Gauge, false, 1.0), ROOM));
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
