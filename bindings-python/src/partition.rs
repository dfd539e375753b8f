//! `TopicPartition`.

use crate::error::KafkaError;
use ottla::offset;
use pyo3::{
    basic::CompareOp,
    exceptions::PyTypeError,
    prelude::*,
    types::{PyList, PyTuple},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicI32, AtomicI64, Ordering::Relaxed},
};

/// A partition of a topic with an offset: the argument and the result of most operations.
///
/// It compares and hashes by topic and partition.
#[pyclass(frozen, name = "TopicPartition", module = "ottla")]
pub struct TopicPartition {
    #[pyo3(get)]
    topic: String,
    partition: AtomicI32,
    offset: AtomicI64,
    #[pyo3(get)]
    metadata: Option<String>,
    leader_epoch: i32,
    error: Option<KafkaError>,
}

impl TopicPartition {
    /// The façade's form.
    pub fn to_ottla(&self) -> ottla::TopicPartition {
        let mut partition = ottla::TopicPartition::new(
            self.topic.as_str(),
            self.partition.load(Relaxed),
            self.offset.load(Relaxed),
        );
        partition.metadata = self.metadata.as_deref().map(Into::into);
        partition.leader_epoch = self.leader_epoch;
        partition
    }
}

impl From<ottla::TopicPartition> for TopicPartition {
    fn from(other: ottla::TopicPartition) -> Self {
        Self {
            topic: other.topic.to_string(),
            partition: other.partition.into(),
            offset: other.offset.into(),
            metadata: other.metadata.map(|text| text.to_string()),
            leader_epoch: other.leader_epoch,
            error: KafkaError::of_code(other.error),
        }
    }
}

#[pymethods]
impl TopicPartition {
    #[new]
    #[pyo3(signature = (topic, partition=-1, offset=offset::INVALID, metadata=None, leader_epoch=None), text_signature = "(topic, partition=-1, offset=-1001, metadata=None, leader_epoch=None)")]
    fn new(
        topic: String,
        partition: i32,
        offset: i64,
        metadata: Option<String>,
        leader_epoch: Option<i32>,
    ) -> Self {
        Self {
            topic,
            partition: partition.into(),
            offset: offset.into(),
            metadata,
            leader_epoch: leader_epoch.unwrap_or(-1),
            error: None,
        }
    }

    #[getter]
    fn partition(&self) -> i32 {
        self.partition.load(Relaxed)
    }

    #[setter]
    fn set_partition(&self, partition: i32) {
        self.partition.store(partition, Relaxed);
    }

    #[getter]
    fn offset(&self) -> i64 {
        self.offset.load(Relaxed)
    }

    #[setter]
    fn set_offset(&self, offset: i64) {
        self.offset.store(offset, Relaxed);
    }

    #[getter]
    fn leader_epoch(&self) -> Option<i32> {
        Some(self.leader_epoch).filter(|epoch| *epoch >= 0)
    }

    #[getter]
    fn error(&self) -> Option<KafkaError> {
        self.error.clone()
    }

    fn __repr__(&self) -> String {
        let leader_epoch = self
            .leader_epoch()
            .map_or("None".to_owned(), |epoch| epoch.to_string());
        let error = self.error.as_ref().map_or("None".to_owned(), |error| {
            format!("{}({})", error.inner().code, error.inner().message)
        });
        format!(
            "TopicPartition{{topic={},partition={},offset={},leader_epoch={leader_epoch},error={error}}}",
            self.topic,
            self.partition(),
            self.offset(),
        )
    }

    fn __str__(&self) -> String {
        self.__repr__()
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.topic, self.partition()).hash(&mut hasher);
        hasher.finish()
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<TopicPartition>() else {
            return Ok(py.NotImplemented());
        };
        let other = other.get();
        let order = (&self.topic, self.partition()).cmp(&(&other.topic, other.partition()));
        Ok(op
            .matches(order)
            .into_pyobject(py)?
            .to_owned()
            .into_any()
            .unbind())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        let arguments = (
            &this.topic,
            this.partition(),
            this.offset(),
            &this.metadata,
            this.leader_epoch(),
        );
        (slf.get_type(), arguments).into_pyobject(slf.py())
    }
}

/// The façade's form of a list of `TopicPartition`.
pub fn partitions_of(list: &Bound<'_, PyAny>) -> PyResult<Vec<ottla::TopicPartition>> {
    let Ok(list) = list.cast::<PyList>() else {
        return Err(PyTypeError::new_err("requires list of TopicPartition"));
    };
    list.iter()
        .map(|item| match item.cast::<TopicPartition>() {
            Ok(partition) => Ok(partition.get().to_ottla()),
            Err(_) => Err(PyTypeError::new_err("expected ottla.TopicPartition")),
        })
        .collect()
}

/// A Python list of partitions.
pub fn list_of(
    py: Python<'_>,
    partitions: Vec<ottla::TopicPartition>,
) -> PyResult<Bound<'_, PyList>> {
    let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
    PyList::new(py, partitions)
}
