//! `Message`: a record, a delivery report or an error, made into Python objects when it is asked for.

use crate::error::{KafkaError, optional_error};
use bytes::Bytes;
use ottla::{Headers, offset};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyGenericAlias, PyList, PyString, PyType},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the messages of one batch share.
pub struct Chunk {
    /// The topic; the same Python object for every chunk of it.
    pub topic: Option<Py<PyString>>,
    /// The partition, -1 if there is none.
    pub partition: i32,
    /// The bytes in which keys, values and headers lie.
    pub buffer: Bytes,
    /// `TIMESTAMP_…`.
    pub timestamp_type: i32,
    /// -1 if unknown.
    pub leader_epoch: i32,
    /// For delivery reports, in seconds.
    pub latency: Option<f64>,
    /// What became of the batch.
    pub error: Option<KafkaError>,
}

/// A part of a chunk's buffer, or nothing.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const NONE: Self = Self {
        start: u32::MAX,
        len: 0,
    };

    /// Where `part` lies in `buffer`.
    #[inline]
    fn new(buffer: &Bytes, part: Option<&[u8]>) -> Self {
        let Some(part) = part else {
            return Self::NONE;
        };
        // A batch is smaller than 2 GiB. An empty part may point anywhere.
        match (part.as_ptr() as usize).checked_sub(buffer.as_ptr() as usize) {
            Some(start) if start + part.len() <= buffer.len() => Self {
                start: start as u32,
                len: part.len() as u32,
            },
            _ => Self { start: 0, len: 0 },
        }
    }

    #[inline]
    fn of(self, buffer: &Bytes) -> Option<&[u8]> {
        let start = self.start as usize;
        buffer.get(start..start + self.len as usize)
    }
}

struct HeaderSpan {
    key: Span,
    value: Span,
}

/// What a program has put in place of the record's own.
#[derive(Default)]
struct Overrides {
    key: Option<Py<PyAny>>,
    value: Option<Py<PyAny>>,
    headers: Option<Py<PyAny>>,
    error: Option<Option<KafkaError>>,
}

/// A consumed record, a delivery report, or an event: look at `error()` first.
#[pyclass(frozen, name = "Message", module = "ottla")]
pub struct Message {
    chunk: Arc<Chunk>,
    offset: i64,
    timestamp: i64,
    key: Span,
    value: Span,
    headers: Option<Box<[HeaderSpan]>>,
    overrides: Mutex<Option<Box<Overrides>>>,
}

impl Message {
    /// A record out of a chunk; key, value and headers lie in its buffer.
    #[inline]
    pub fn record(
        chunk: &Arc<Chunk>,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Self {
        let buffer = &chunk.buffer;
        Self {
            offset,
            timestamp,
            key: Span::new(buffer, key),
            value: Span::new(buffer, value),
            headers: (!headers.is_empty()).then(|| {
                let span = |header: ottla::Header<'_>| HeaderSpan {
                    key: Span::new(buffer, Some(header.key)),
                    value: Span::new(buffer, header.value),
                };
                headers.map(span).collect()
            }),
            chunk: chunk.clone(),
            overrides: Mutex::new(None),
        }
    }

    /// An event that stands in a partition's place, such as its end.
    pub fn event(
        topic: Option<Py<PyString>>,
        partition: i32,
        offset: i64,
        error: ottla::KafkaError,
    ) -> Self {
        let buffer = Bytes::copy_from_slice(error.message.as_bytes());
        let value = Span::new(&buffer, Some(&buffer));
        let chunk = Chunk {
            topic,
            partition,
            buffer,
            timestamp_type: 0,
            leader_epoch: -1,
            latency: None,
            error: Some(error.into()),
        };
        Self {
            chunk: Arc::new(chunk),
            offset,
            timestamp: 0,
            key: Span::NONE,
            value,
            headers: None,
            overrides: Mutex::new(None),
        }
    }

    fn overrides(&self) -> MutexGuard<'_, Option<Box<Overrides>>> {
        self.overrides
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Overrides)) {
        change(self.overrides().get_or_insert_default());
    }

    fn bytes<'py>(&self, py: Python<'py>, span: Span) -> Option<Bound<'py, PyAny>> {
        Some(PyBytes::new(py, span.of(&self.chunk.buffer)?).into_any())
    }

    /// The partition and the offset behind this message, to be committed.
    pub fn next_position(&self, py: Python<'_>) -> PyResult<ottla::TopicPartition> {
        let topic = match &self.chunk.topic {
            Some(topic) => topic.bind(py).to_str()?,
            None => "",
        };
        let mut position = ottla::TopicPartition::new(topic, self.chunk.partition, self.offset + 1);
        position.leader_epoch = self.chunk.leader_epoch;
        Ok(position)
    }
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (topic=None, partition=-1, offset=offset::INVALID, key=None, value=None, headers=None, error=None, timestamp=(0, 0), latency=None, leader_epoch=None), text_signature = "(topic=None, partition=-1, offset=-1001, key=None, value=None, headers=None, error=None, timestamp=(0, 0), latency=None, leader_epoch=None)")]
    #[allow(clippy::too_many_arguments)] // the peer's signature
    fn new(
        topic: Option<Py<PyString>>,
        partition: i32,
        offset: i64,
        key: Option<Py<PyAny>>,
        value: Option<Py<PyAny>>,
        headers: Option<Py<PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        timestamp: (i32, i64),
        latency: Option<f64>,
        leader_epoch: Option<i32>,
    ) -> PyResult<Self> {
        let chunk = Chunk {
            topic,
            partition,
            buffer: Bytes::new(),
            timestamp_type: timestamp.0,
            leader_epoch: leader_epoch.unwrap_or(-1),
            latency,
            error: optional_error(error)?,
        };
        let overrides = Overrides {
            key,
            value,
            headers,
            error: None,
        };
        Ok(Self {
            chunk: Arc::new(chunk),
            offset,
            timestamp: timestamp.1,
            key: Span::NONE,
            value: Span::NONE,
            headers: None,
            overrides: Mutex::new(Some(Box::new(overrides))),
        })
    }

    /// The topic's name.
    fn topic(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.chunk.topic.as_ref().map(|topic| topic.clone_ref(py))
    }

    /// The partition.
    fn partition(&self) -> Option<i32> {
        Some(self.chunk.partition).filter(|partition| *partition >= 0)
    }

    /// The offset.
    fn offset(&self) -> Option<i64> {
        Some(self.offset).filter(|offset| *offset >= 0)
    }

    /// The key.
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let set = self
            .overrides()
            .as_ref()
            .and_then(|set| Some(set.key.as_ref()?.clone_ref(py)));
        match set {
            Some(key) => Some(key.into_bound(py)),
            None => self.bytes(py, self.key),
        }
    }

    /// The value; of an event its text.
    fn value<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let set = self
            .overrides()
            .as_ref()
            .and_then(|set| Some(set.value.as_ref()?.clone_ref(py)));
        match set {
            Some(value) => Some(value.into_bound(py)),
            None => self.bytes(py, self.value),
        }
    }

    /// The headers, a list of pairs, or None if there are none.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let set = self
            .overrides()
            .as_ref()
            .and_then(|set| Some(set.headers.as_ref()?.clone_ref(py)));
        if let Some(headers) = set {
            return Ok(Some(headers.into_bound(py)));
        }
        let Some(headers) = &self.headers else {
            return Ok(None);
        };
        let pairs = headers.iter().map(|header| {
            let key = header.key.of(&self.chunk.buffer).unwrap_or_default();
            (String::from_utf8_lossy(key), self.bytes(py, header.value))
        });
        Ok(Some(PyList::new(py, pairs.collect::<Vec<_>>())?.into_any()))
    }

    /// The error, or None: then this is a record.
    fn error(&self) -> Option<KafkaError> {
        match self.overrides().as_ref().and_then(|set| set.error.clone()) {
            Some(set) => set,
            None => self.chunk.error.clone(),
        }
    }

    /// What kind of timestamp it is (`TIMESTAMP_…`), and milliseconds since the epoch.
    fn timestamp(&self) -> (i32, i64) {
        (self.chunk.timestamp_type, self.timestamp)
    }

    /// Seconds from `produce()` to the report; None for consumed records.
    fn latency(&self) -> Option<f64> {
        self.chunk.latency
    }

    /// Epoch of the leader that appended it, if known.
    fn leader_epoch(&self) -> Option<i32> {
        Some(self.chunk.leader_epoch).filter(|epoch| *epoch >= 0)
    }

    /// How often a share group was given the record; None outside of share groups.
    fn delivery_count(&self) -> Option<i32> {
        None
    }

    /// Puts another key in place.
    fn set_key(&self, key: Py<PyAny>) {
        self.change(|set| set.key = Some(key));
    }

    /// Puts another value in place.
    fn set_value(&self, value: Py<PyAny>) {
        self.change(|set| set.value = Some(value));
    }

    /// Puts other headers in place.
    fn set_headers(&self, headers: Py<PyAny>) {
        self.change(|set| set.headers = Some(headers));
    }

    /// Puts another error in place.
    #[pyo3(signature = (error))]
    fn set_error(&self, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let error = optional_error(error)?;
        self.change(|set| set.error = Some(error));
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let set = self
            .overrides()
            .as_ref()
            .and_then(|set| Some(set.value.as_ref()?.clone_ref(py)));
        match set {
            Some(value) => value.bind(py).len(),
            None => Ok(self.value.len as usize),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shown = |object: Option<Bound<'_, PyAny>>| -> PyResult<String> {
            let Some(object) = object else {
                return Ok("None".to_owned());
            };
            let text = object.repr()?.to_string();
            Ok(match text.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            })
        };
        let topic = self.topic(py).map(|topic| topic.into_bound(py).into_any());
        let error = self.error().map_or(String::new(), |error| {
            format!(", error={}", error.inner().code)
        });
        Ok(format!(
            "Message(topic={}, partition={}, offset={}, key={}, value={}{error})",
            shown(topic)?,
            self.chunk.partition,
            self.offset,
            shown(self.key(py))?,
            shown(self.value(py))?,
        ))
    }

    /// For type annotations: `Message[str, dict]`.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(class.py(), class.as_any(), item)
    }
}
