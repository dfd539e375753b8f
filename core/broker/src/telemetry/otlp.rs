//! OTLP's `MetricsData` (opentelemetry-proto 1.x, `metrics/v1`), as clients push it (KIP-714): a reader of protobuf for just that.
//!
//! It borrows from the payload and goes over it without recursion. What it sets aside for one data point is bounded, whatever the bytes say:
//! a point that goes beyond a bound is told as one that was skipped.

use alloc::{borrow::Cow, string::ToString, vec::Vec};

/// The bytes are no `MetricsData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Attributes of a data point, its resource's included.
pub(super) const MOST_ATTRIBUTES: usize = 32;
/// Buckets of a histogram.
pub(super) const MOST_BUCKETS: usize = 64;

/// `DataPointFlags`: the point says that there is no value.
const NO_RECORDED_VALUE: u64 = 1;
/// `AggregationTemporality`: the value is what came since the point before.
const DELTA: u64 = 1;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientMetricKind {
    /// It only grows: a monotonic sum. What is told is the sum of all that was pushed.
    Counter,
    /// It goes up and down: a gauge, or a sum that isn't monotonic.
    Gauge,
    /// How often values fell into which range.
    Histogram,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMetricValue {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// Upper ends of the buckets but the last, ascending.
        bounds: Vec<f64>,
        /// Values in each bucket, one more than bounds; or none, and then there are no bounds.
        counts: Vec<u64>,
        /// Values.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// One data point.
#[derive(Debug, PartialEq)]
pub(super) struct Point<'a> {
    /// The metric's.
    pub(super) name: &'a str,
    pub(super) kind: ClientMetricKind,
    /// Whether the value is what came since the point before.
    pub(super) is_delta: bool,
    /// The point's attributes, then its resource's. Those that aren't a text, a number or a truth are left out.
    pub(super) attributes: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: ClientMetricValue,
}

/// Goes over the data points: `None` is one that is of a kind that isn't known, or beyond a bound.
///
/// # Errors
/// The payload can't be read; some points may have been told by then.
pub(super) fn read<'a>(
    payload: &'a [u8],
    each: &mut dyn FnMut(Option<Point<'a>>),
) -> Result<(), Malformed> {
    for resource_metrics in messages(payload, 1) {
        let resource_metrics = resource_metrics?;
        let mut resource = Attributes::default();
        for one in messages(resource_metrics, 1) {
            resource.add(one?, 1)?;
        }
        for scope_metrics in messages(resource_metrics, 2) {
            for metric in messages(scope_metrics?, 2) {
                read_metric(metric?, &resource, each)?;
            }
        }
    }
    Ok(())
}

/// A `Metric`.
fn read_metric<'a>(
    metric: &'a [u8],
    resource: &Attributes<'a>,
    each: &mut dyn FnMut(Option<Point<'a>>),
) -> Result<(), Malformed> {
    let mut name = "";
    let mut data = None;
    for field in Fields(metric) {
        match field? {
            (1, Wire::Bytes(bytes)) => name = text(bytes)?,
            (kind @ (5 | 7 | 9 | 10 | 11), Wire::Bytes(bytes)) => data = Some((kind, bytes)),
            _ => {}
        }
    }
    let Some((kind, data)) = data else {
        return Ok(());
    };
    let (mut temporality, mut is_monotonic) = (0, false);
    for field in Fields(data) {
        match field? {
            (2, Wire::Varint(value)) => temporality = value,
            (3, Wire::Varint(value)) => is_monotonic = value != 0,
            _ => {}
        }
    }
    let kind = match kind {
        5 => ClientMetricKind::Gauge,
        7 if is_monotonic => ClientMetricKind::Counter,
        7 => ClientMetricKind::Gauge,
        9 => ClientMetricKind::Histogram,
        // An exponential histogram or a summary, which no client of Kafka has.
        _ => {
            each(None);
            return Ok(());
        }
    };
    for point in messages(data, 1) {
        let (found, attributes) = match kind {
            ClientMetricKind::Histogram => read_histogram(point?)?,
            _ => read_number(point?)?,
        };
        let value = match found {
            Found::Nothing => continue,
            Found::TooLarge => None,
            Found::Value(value) => Some(value),
        };
        let whole = value.zip(attributes.over(resource));
        each(whole.map(|(value, attributes)| Point {
            name,
            kind,
            is_delta: temporality == DELTA,
            attributes,
            value,
        }));
    }
    Ok(())
}

/// What a data point has.
enum Found {
    /// No value.
    Nothing,
    /// More than is read.
    TooLarge,
    Value(ClientMetricValue),
}

/// A `NumberDataPoint`.
fn read_number(point: &[u8]) -> Result<(Found, Attributes<'_>), Malformed> {
    let mut attributes = Attributes::default();
    let mut value = None;
    let mut flags = 0;
    for field in Fields(point) {
        match field? {
            (4, Wire::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (6, Wire::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (7, Wire::Bytes(one)) => attributes.add_one(one)?,
            (8, Wire::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    let value = value.filter(|_| flags & NO_RECORDED_VALUE == 0);
    let found = value.map_or(Found::Nothing, |value| {
        Found::Value(ClientMetricValue::Number(value))
    });
    Ok((found, attributes))
}

/// A `HistogramDataPoint`.
fn read_histogram(point: &[u8]) -> Result<(Found, Attributes<'_>), Malformed> {
    let mut attributes = Attributes::default();
    let (mut count, mut sum, mut flags) = (0, 0.0, 0);
    let mut counts = Words::default();
    let mut bounds = Words::default();
    for field in Fields(point) {
        match field? {
            (4, Wire::Fixed64(bits)) => count = bits,
            (5, Wire::Fixed64(bits)) => sum = f64::from_bits(bits),
            (6, value) => counts.add(value)?,
            (7, value) => bounds.add(value)?,
            (9, Wire::Bytes(one)) => attributes.add_one(one)?,
            (10, Wire::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    if flags & NO_RECORDED_VALUE != 0 {
        return Ok((Found::Nothing, attributes));
    }
    if counts.too_many || bounds.too_many {
        return Ok((Found::TooLarge, attributes));
    }
    let (counts, bounds) = (counts.words, bounds.words);
    let bounds: Vec<f64> = bounds.into_iter().map(f64::from_bits).collect();
    let fits = counts.len() == bounds.len() + 1 || counts.is_empty() && bounds.is_empty();
    if !fits || !bounds.is_sorted_by(|a, b| a < b) {
        return Err(Malformed);
    }
    let value = ClientMetricValue::Histogram {
        bounds,
        counts,
        count,
        sum,
    };
    Ok((Found::Value(value), attributes))
}

/// A repeated field of 64 bits each, packed or not.
#[derive(Default)]
struct Words {
    words: Vec<u64>,
    too_many: bool,
}

impl Words {
    fn add(&mut self, value: Wire<'_>) -> Result<(), Malformed> {
        match value {
            Wire::Fixed64(word) => self.push(word),
            Wire::Bytes(packed) => {
                let (words, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Malformed);
                }
                for word in words {
                    self.push(u64::from_le_bytes(*word));
                }
            }
            Wire::Varint(_) | Wire::Fixed32 => {}
        }
        Ok(())
    }

    fn push(&mut self, word: u64) {
        if self.words.len() < MOST_BUCKETS {
            self.words.push(word);
        } else {
            self.too_many = true;
        }
    }
}

/// Attributes (`KeyValue`) of a resource or a data point.
#[derive(Clone, Default)]
struct Attributes<'a> {
    pairs: Vec<(&'a str, Cow<'a, str>)>,
    too_many: bool,
}

impl<'a> Attributes<'a> {
    /// Adds those of a message that has them in this field.
    fn add(&mut self, message: &'a [u8], number: u64) -> Result<(), Malformed> {
        for one in messages(message, number) {
            self.add_one(one?)?;
        }
        Ok(())
    }

    fn add_one(&mut self, pair: &'a [u8]) -> Result<(), Malformed> {
        let (mut key, mut value) = ("", Some(Cow::Borrowed("")));
        for field in Fields(pair) {
            match field? {
                (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                (2, Wire::Bytes(bytes)) => value = any_value(bytes)?,
                _ => {}
            }
        }
        let Some(value) = value else {
            return Ok(());
        };
        if self.pairs.len() < MOST_ATTRIBUTES {
            self.pairs.push((key, value));
        } else {
            self.too_many = true;
        }
        Ok(())
    }

    /// These, and those of the resource; `None` if they are too many.
    fn over(mut self, resource: &Self) -> Option<Vec<(&'a str, Cow<'a, str>)>> {
        let all = self.pairs.len() + resource.pairs.len();
        if self.too_many || resource.too_many || all > MOST_ATTRIBUTES {
            return None;
        }
        self.pairs.extend_from_slice(&resource.pairs);
        Some(self.pairs)
    }
}

/// An `AnyValue` as text; `None` for arrays, maps and bytes.
fn any_value(value: &[u8]) -> Result<Option<Cow<'_, str>>, Malformed> {
    let mut said = Some(Cow::Borrowed(""));
    for field in Fields(value) {
        said = match field? {
            (1, Wire::Bytes(bytes)) => Some(Cow::Borrowed(text(bytes)?)),
            (2, Wire::Varint(bit)) => Some(Cow::Borrowed(match bit {
                0 => "false",
                _ => "true",
            })),
            (3, Wire::Varint(number)) => Some(number.cast_signed().to_string().into()),
            (4, Wire::Fixed64(bits)) => Some(f64::from_bits(bits).to_string().into()),
            (5..=7, Wire::Bytes(_)) => None,
            _ => said,
        };
    }
    Ok(said)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// The messages of a repeated field.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok((of, Wire::Bytes(bytes))) if of == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// A field's value, by its wire type.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Nothing that is read here has it.
    Fixed32,
}

/// The fields of a message with their numbers. It ends with the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let (bits, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
                self.0 = rest;
                Wire::Fixed64(u64::from_le_bytes(*bits))
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            // Groups are of protobuf's past, and OTLP never had them.
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok((number, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Makes payloads for tests.
#[cfg(test)]
pub(crate) mod building {
    use alloc::vec::Vec;

    pub(crate) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// A field with a message, text or packed numbers.
    pub(crate) fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
        let mut field = varint(number << 3 | 2);
        field.extend(varint(content.len() as u64));
        field.extend_from_slice(content);
        field
    }

    pub(crate) fn number(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    pub(crate) fn fixed(number: u64, bits: u64) -> Vec<u8> {
        [varint(number << 3 | 1), bits.to_le_bytes().to_vec()].concat()
    }

    pub(crate) fn attribute(field: u64, key: &str, value: &str) -> Vec<u8> {
        let any = bytes(1, value.as_bytes());
        bytes(field, &[bytes(1, key.as_bytes()), bytes(2, &any)].concat())
    }

    /// A `MetricsData` of one `Metric`: its name, the field of its data, the data.
    pub(crate) fn metric(name: &str, kind: u64, data: &[u8]) -> Vec<u8> {
        let metric = [bytes(kind, data), bytes(1, name.as_bytes())].concat();
        let resource = bytes(1, &attribute(1, "group_id", "g"));
        // What is behind what it is needed for counts as well.
        let resource_metrics = [bytes(2, &bytes(2, &metric)), resource].concat();
        bytes(1, &resource_metrics)
    }

    /// One metric with one value, as the Java client pushes it.
    pub(crate) fn sum(name: &str, value: f64, monotonic: bool, delta: bool) -> Vec<u8> {
        let point = [
            fixed(3, 1),
            fixed(4, value.to_bits()),
            attribute(7, "node_id", "1"),
        ];
        let temporality = number(2, if delta { 1 } else { 2 });
        let is_monotonic = number(3, monotonic.into());
        metric(
            name,
            7,
            &[bytes(1, &point.concat()), temporality, is_monotonic].concat(),
        )
    }

    pub(crate) fn gauge(name: &str, value: f64) -> Vec<u8> {
        metric(name, 5, &bytes(1, &fixed(4, value.to_bits())))
    }
}

#[cfg(test)]
mod tests {
    use super::{building::*, *};
    use alloc::{format, string::String, vec};

    fn points(payload: &[u8]) -> Result<Vec<Option<Point<'_>>>, Malformed> {
        let mut points = Vec::new();
        read(payload, &mut |point| points.push(point))?;
        Ok(points)
    }

    fn one(payload: &[u8]) -> Point<'_> {
        let mut points = points(payload).unwrap();
        assert_eq!(points.len(), 1);
        points.remove(0).unwrap()
    }

    #[test]
    fn sums_and_gauges_with_their_attributes() {
        let payload = sum("a.b", 2.5, true, true);
        let point = one(&payload);
        assert_eq!((point.name, point.is_delta), ("a.b", true));
        assert_eq!(point.kind, ClientMetricKind::Counter);
        assert_eq!(point.value, ClientMetricValue::Number(2.5));
        let own = ("node_id", Cow::Borrowed("1"));
        let resources = ("group_id", Cow::Borrowed("g"));
        assert_eq!(point.attributes, [own, resources]);

        let cumulative = sum("a", 1.0, false, false);
        let point = one(&cumulative);
        assert_eq!(
            (point.kind, point.is_delta),
            (ClientMetricKind::Gauge, false)
        );
        let whole = metric("n", 5, &bytes(1, &fixed(6, (-3i64) as u64)));
        assert_eq!(one(&whole).value, ClientMetricValue::Number(-3.0));
    }

    #[test]
    fn attributes_of_every_type() {
        let any = |value: &[u8]| bytes(7, &[bytes(1, b"k"), bytes(2, value)].concat());
        let of = |value: &[u8]| {
            let point = [any(value), fixed(4, 0)].concat();
            let payload = metric("n", 5, &bytes(1, &point));
            let first = one(&payload).attributes.remove(0);
            format!("{}={}", first.0, first.1)
        };
        assert_eq!(of(&number(2, 1)), "k=true");
        assert_eq!(of(&number(3, u64::MAX)), "k=-1");
        assert_eq!(of(&fixed(4, 1.5f64.to_bits())), "k=1.5");
        assert_eq!(of(&[]), "k=");
        assert_eq!(of(&bytes(5, b"")), "group_id=g", "a list is left out");
    }

    #[test]
    fn histograms_packed_and_not() {
        let packed =
            |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let bound = 0.5f64.to_bits();
        let point = [
            fixed(4, 3),
            fixed(5, 9.0f64.to_bits()),
            bytes(6, &packed(&[1, 2])),
            fixed(7, bound),
        ];
        let payload = metric("h", 9, &bytes(1, &point.concat()));
        let expected = ClientMetricValue::Histogram {
            bounds: vec![0.5],
            counts: vec![1, 2],
            count: 3,
            sum: 9.0,
        };
        assert_eq!(one(&payload).value, expected);

        let read = |counts: &[u64], bounds: &[u64]| {
            let point = [bytes(6, &packed(counts)), bytes(7, &packed(bounds))].concat();
            points(&metric("h", 9, &bytes(1, &point))).map(|points| points[0].is_some())
        };
        assert_eq!(read(&[], &[]), Ok(true));
        assert_eq!(read(&[1], &[bound]), Err(Malformed), "a bucket is missing");
        assert_eq!(read(&[1, 1, 1], &[bound, bound]), Err(Malformed));
        let many = vec![0; MOST_BUCKETS + 1];
        assert_eq!(read(&many, &many[1..]), Ok(false));
    }

    #[test]
    fn what_has_no_value_or_is_not_known() {
        let silent = [fixed(4, 0), number(8, NO_RECORDED_VALUE)].concat();
        for point in [silent, Vec::new()] {
            assert_eq!(points(&metric("n", 5, &bytes(1, &point))), Ok(vec![]));
        }
        assert_eq!(points(&metric("n", 10, b"")), Ok(vec![None]));
        assert_eq!(points(&[]), Ok(vec![]));
        // Fields that came later, of every type.
        let later = [
            number(100, 1),
            fixed(101, 1),
            bytes(102, b"x"),
            vec![0x25, 0, 0, 0, 0],
        ];
        let payload = [later.concat(), gauge("n", 1.0)].concat();
        assert_eq!(one(&payload).name, "n");
    }

    #[test]
    fn too_many_attributes_cost_their_point() {
        let many: Vec<u8> = (0..MOST_ATTRIBUTES)
            .flat_map(|n| attribute(7, &format!("k{n}"), "v"))
            .collect();
        // One more is the resource's.
        let point = [many, fixed(4, 0)].concat();
        assert_eq!(points(&metric("n", 5, &bytes(1, &point))), Ok(vec![None]));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let payload = [sum("a.b", 2.5, true, true), gauge("c", 1.0)].concat();
        let whole = points(&payload).unwrap().len();
        for cut in 0..payload.len() {
            let read = points(&payload[..cut]);
            assert!(read.is_err() || read.unwrap().len() < whole, "cut at {cut}");
        }
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut bad = payload.clone();
                bad[at] ^= 1 << bit;
                let _ = points(&bad);
            }
        }
        for bad in [
            &[0xff; 11][..],     // a number without an end
            &[0x02, 0x00],       // field 0
            &[0x0b],             // a group
            &[0x0a, 0x05, 0x00], // longer than there is
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ] {
            assert_eq!(points(bad), Err(Malformed), "{bad:?}");
        }
        let name = metric(&String::from("n"), 5, &bytes(1, &fixed(4, 0)));
        let at = name.iter().rposition(|b| *b == b'n').unwrap();
        let mut bad = name;
        bad[at] = 0xff;
        assert_eq!(points(&bad), Err(Malformed), "no UTF-8");
    }
}
