//! `Producer`.

use crate::{
    arguments::{OwnedHeaders, Payload, delivery_callback, payload},
    configuration::Configuration,
    delivery_callbacks::DeliveryCallbacks,
    error::{KafkaError, raise},
    events::EventCallbacks,
    message::{Chunk, Message},
    metadata::{self, ClusterMetadata},
    waiting::{duration, forked, is_raised, raise_later, raise_now, wait, watch_signals},
};
use ottla::{DeliveryBatch, ErrCode, Event, Handle, ProduceRecord, Queue, Role, TopicHandle};
use pyo3::{
    exceptions::{PyBufferError, PyRuntimeError, PyTypeError},
    intern,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// Events that one poll serves at most; a delivery report counts as its whole batch.
const EVENTS_PER_POLL: usize = 1024;
/// Records that cross into the client at a time.
const RECORDS_PER_CALL: usize = 4096;

/// Produces records. Safe to use from many threads.
#[pyclass(frozen, subclass, name = "Producer", module = "ottla")]
pub struct Producer {
    open: RwLock<Option<Arc<Open>>>,
    closed: AtomicBool,
}

/// A producer that is not closed.
struct Open {
    handle: Handle,
    queue: Queue,
    events: EventCallbacks,
    on_delivery: Option<Py<PyAny>>,
    callbacks: DeliveryCallbacks,
    topics: Mutex<Topics>,
    /// What a callback's exception kept from being served.
    unserved: Mutex<VecDeque<Event>>,
}

/// The topics that were produced to, by name. The Python string that was used last is kept: programs use the same one over and
/// over.
#[derive(Default)]
struct Topics {
    last: Option<(Py<PyString>, TopicHandle)>,
    by_name: HashMap<String, (Py<PyString>, TopicHandle)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    #[inline]
    fn topic(&self, name: &Bound<'_, PyString>) -> PyResult<TopicHandle> {
        if let Some((last, topic)) = &locked(&self.topics).last
            && last.is(name)
        {
            return Ok(*topic);
        }
        let text = name.to_str()?;
        let mut topics = locked(&self.topics);
        let topic = match topics.by_name.get(text) {
            Some((_, topic)) => *topic,
            None => {
                let topic = self.handle.topic(text).map_err(raise)?;
                let entry = (name.clone().unbind(), topic);
                topics.by_name.insert(text.to_owned(), entry);
                topic
            }
        };
        let before = topics.last.replace((name.clone().unbind(), topic));
        drop(topics);
        drop(before);
        Ok(topic)
    }

    /// The topic's name as a Python string, the same one every time.
    fn topic_name(&self, py: Python<'_>, name: &str) -> Py<PyString> {
        match locked(&self.topics).by_name.get(name) {
            Some((kept, _)) => kept.clone_ref(py),
            None => PyString::new(py, name).unbind(),
        }
    }

    /// Calls the callbacks of a batch's records; returns how many records it had. With an exception the rest is kept for later.
    fn deliver(&self, py: Python<'_>, mut batch: DeliveryBatch) -> PyResult<usize> {
        let records = batch.len();
        if self.on_delivery.is_none() && self.callbacks.is_empty() {
            return Ok(records);
        }
        let error = batch.error().cloned().map(KafkaError::from);
        let shown_error = error.clone().into_pyobject(py)?.into_any();
        let chunk = Arc::new(Chunk {
            topic: Some(self.topic_name(py, batch.topic())),
            partition: batch.partition(),
            buffer: batch.buffer().clone(),
            timestamp_type: ottla::TimestampType::CreateTime as i32,
            leader_epoch: -1,
            latency: Some(batch.latency_us() as f64 / 1e6),
            error,
        });
        // Neighbours mostly have the same callback.
        let mut opaque = 0;
        let mut callback: Option<Py<PyAny>> = self.on_delivery.as_ref().map(|c| c.clone_ref(py));
        let mut same = 0;
        let mut served = 0;
        let mut result = Ok(());
        while let Some(report) = batch.next() {
            served += 1;
            if report.opaque != opaque {
                self.callbacks.release(opaque, same);
                (opaque, same) = (report.opaque, 0);
                callback = match opaque {
                    0 => self.on_delivery.as_ref().map(|c| c.clone_ref(py)),
                    opaque => self.callbacks.get(py, opaque),
                };
            }
            same += 1;
            let Some(callback) = &callback else {
                continue;
            };
            let message = Message::record(
                &chunk,
                report.offset,
                report.timestamp,
                report.key,
                report.value,
                report.headers,
            );
            result = Py::new(py, message)
                .and_then(|message| callback.call1(py, (&shown_error, message)))
                .map(drop);
            if result.is_err() {
                break;
            }
        }
        self.callbacks.release(opaque, same);
        if let Err(exception) = result {
            if served < records {
                locked(&self.unserved).push_front(Event::Delivery(batch));
            }
            return Err(exception);
        }
        Ok(records)
    }

    /// Serves one event; returns how many things it stood for.
    fn serve(&self, py: Python<'_>, event: Event) -> PyResult<usize> {
        match event {
            Event::Delivery(batch) => self.deliver(py, batch),
            event => self.events.serve(py, self.handle.name(), event).map(|()| 1),
        }
    }

    /// Serves these events; with an exception the rest is kept for later.
    fn serve_all(&self, py: Python<'_>, events: Vec<Event>) -> PyResult<usize> {
        let mut served = 0;
        let mut events = events.into_iter();
        while let Some(event) = events.next() {
            match self.serve(py, event) {
                Ok(n) => served += n,
                Err(exception) => {
                    locked(&self.unserved).extend(events);
                    return Err(exception);
                }
            }
        }
        Ok(served)
    }

    fn poll(&self, py: Python<'_>, timeout: Duration) -> PyResult<usize> {
        let unserved: Vec<Event> = std::mem::take(&mut *locked(&self.unserved)).into();
        let timeout = if unserved.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        let mut served = self.serve_all(py, unserved)?;
        let mut events = Vec::new();
        py.detach(|| self.queue.poll_batch(EVENTS_PER_POLL, timeout, &mut events));
        served += self.serve_all(py, events)?;
        raise_now()?;
        Ok(served)
    }

    fn flush(&self, py: Python<'_>, timeout: Duration) -> PyResult<usize> {
        let unserved: Vec<Event> = std::mem::take(&mut *locked(&self.unserved)).into();
        self.serve_all(py, unserved)?;
        let result = py.detach(|| {
            self.handle.flush_serving(timeout, &mut |event| {
                if is_raised() {
                    locked(&self.unserved).push_back(event);
                } else if let Some(Err(exception)) = Python::try_attach(|py| self.serve(py, event))
                {
                    raise_later(exception);
                }
            })
        });
        raise_now()?;
        match result {
            Ok(()) => {}
            Err(error) if error.code == ErrCode::TIMED_OUT => {}
            Err(error) => return Err(raise(error)),
        }
        Ok(self.handle.outq_len())
    }
}

/// What `produce` raises.
#[cold]
fn produce_error(error: ottla::KafkaError) -> PyErr {
    if error.code == ErrCode::QUEUE_FULL {
        return PyBufferError::new_err(error.message.into_owned());
    }
    raise(error)
}

impl Producer {
    fn closed_error(&self) -> PyErr {
        PyRuntimeError::new_err(if self.closed.load(Relaxed) {
            "Producer has been closed"
        } else {
            "Producer has not been initialized"
        })
    }

    fn open(&self) -> PyResult<Arc<Open>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(open) if open.handle.is_forked() => Err(forked()),
            Some(open) => Ok(open.clone()),
            None => Err(self.closed_error()),
        }
    }

    fn no_transactions<T>(&self) -> PyResult<T> {
        self.open()?;
        Err(raise(ottla::KafkaError::new(
            ErrCode::UNSUPPORTED_FEATURE,
            "transactions are not supported by this version",
        )))
    }
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            open: RwLock::new(None),
            closed: AtomicBool::new(false),
        }
    }

    #[pyo3(signature = (config=None, /, **kwargs))]
    fn __init__(
        &self,
        py: Python<'_>,
        config: Option<&Bound<'_, PyAny>>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let Configuration {
            config,
            events,
            on_delivery,
            ..
        } = Configuration::new(config, kwargs)?;
        let handle = wait(py, || Handle::new(Role::Producer, config))?;
        watch_signals(&handle);
        let open = Open {
            queue: handle.main_queue(),
            handle,
            events,
            on_delivery,
            callbacks: DeliveryCallbacks::default(),
            topics: Mutex::default(),
            unserved: Mutex::default(),
        };
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(open));
        Ok(())
    }

    /// Takes a record and returns at once; what becomes of it is told to the callback, out of poll() or flush().
    ///
    /// BufferError: the queue is full, poll() and try again. KafkaException: any other reason why it can't be taken.
    #[pyo3(signature = (topic, value=None, key=None, partition=-1, callback=None, on_delivery=None, timestamp=0, headers=None), text_signature = "($self, topic, value=None, key=None, partition=-1, callback=None, on_delivery=None, timestamp=0, headers=None)")]
    #[allow(clippy::too_many_arguments)] // the peer's signature
    fn produce(
        &self,
        topic: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: i32,
        callback: Option<&Bound<'_, PyAny>>,
        on_delivery: Option<&Bound<'_, PyAny>>,
        timestamp: i64,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let value = payload(value)?;
        let key = payload(key)?;
        let callback = delivery_callback(callback, on_delivery)?;
        let headers = match headers {
            None => None,
            Some(_) => Some(OwnedHeaders::new(headers)?),
        };
        let headers = headers.as_ref().map(OwnedHeaders::borrowed);
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(|| self.closed_error())?;
        let topic = open.topic(topic)?;
        let opaque = callback.map_or(0, |callback| open.callbacks.keep(callback, 1));
        let record = ProduceRecord {
            topic,
            partition,
            key: key.bytes(),
            value: value.bytes(),
            headers: headers.as_deref().unwrap_or_default(),
            timestamp,
            opaque,
            payload_addr: 0,
        };
        open.handle.produce(&record).map_err(|error| {
            open.callbacks.release(opaque, 1);
            produce_error(error)
        })
    }

    /// Takes many records with one call: dicts with `value`, `key`, `partition`, `timestamp`, `headers` and `callback`, all
    /// optional. Returns how many were taken; the others have got an `_error`.
    #[pyo3(signature = (topic, messages, partition=-1, callback=None, on_delivery=None), text_signature = "($self, topic, messages, partition=-1, callback=None, on_delivery=None)")]
    fn produce_batch(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        messages: &Bound<'_, PyAny>,
        partition: i32,
        callback: Option<&Bound<'_, PyAny>>,
        on_delivery: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let Ok(messages) = messages.cast::<PyList>() else {
            return Err(PyTypeError::new_err("messages must be a list"));
        };
        let common = delivery_callback(callback, on_delivery)?;
        let open = self.open()?;
        let topic = open.topic(topic)?;
        let mut batch = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let Ok(message) = message.cast_into::<PyDict>() else {
                let text = format!("Message at index {index} must be a dict");
                return Err(PyTypeError::new_err(text));
            };
            batch.push(BatchMessage::new(index, message, partition)?);
        }
        let mut taken = 0;
        let mut refused = Vec::new();
        for (part, messages) in batch.chunks(RECORDS_PER_CALL).enumerate() {
            taken += open.produce_part(py, topic, messages, common, |index, error| {
                refused.push((part * RECORDS_PER_CALL + index, error));
            })?;
        }
        for (index, error) in refused {
            batch[index]
                .dict
                .set_item(intern!(py, "_error"), KafkaError::from(error))?;
        }
        Ok(taken)
    }

    /// Serves callbacks; waits up to `timeout` seconds for the first (-1: for ever). Returns how many events were served.
    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        self.open()?.poll(py, duration(timeout)?)
    }

    /// Sends everything and waits until it is delivered and reported; returns how many are left after `timeout` seconds.
    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        self.open()?.flush(py, duration(timeout)?)
    }

    /// Gives up on records that wait (`in_queue`) and that were sent (`in_flight`); their reports come with poll().
    #[pyo3(signature = (in_queue=true, in_flight=true, blocking=true))]
    fn purge(
        &self,
        py: Python<'_>,
        in_queue: bool,
        in_flight: bool,
        blocking: bool,
    ) -> PyResult<()> {
        let _ = blocking; // it never takes long
        let open = self.open()?;
        wait(py, || open.handle.purge(in_queue, in_flight))
    }

    /// Brokers and topics: all, or the one named.
    #[pyo3(signature = (topic=None, timeout=-1.0), text_signature = "($self, topic=None, timeout=-1.0)")]
    fn list_topics(
        &self,
        py: Python<'_>,
        topic: Option<&str>,
        timeout: Option<f64>,
    ) -> PyResult<ClusterMetadata> {
        let (open, timeout) = (self.open()?, duration(timeout)?);
        let metadata = wait(py, || {
            let topics = topic.as_ref().map(std::slice::from_ref);
            open.handle.metadata(topics, timeout)
        })?;
        metadata::cluster(py, metadata)
    }

    /// The cluster's id.
    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn cluster_id(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<String> {
        let (open, timeout) = (self.open()?, duration(timeout)?);
        Ok(wait(py, || open.handle.cluster_id(timeout))?.to_string())
    }

    /// Flushes, then ends the producer. Every later call but this one raises RuntimeError.
    fn close(&self, py: Python<'_>) -> PyResult<bool> {
        let Ok(open) = self.open() else {
            self.closed.store(true, Relaxed);
            return Ok(true);
        };
        let flushed = open.flush(py, Duration::MAX);
        drop(open);
        self.closed.store(true, Relaxed);
        let open = self
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        end(py, open);
        flushed.map(|left| left == 0)
    }

    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn init_transactions(&self, timeout: Option<f64>) -> PyResult<()> {
        let _ = timeout;
        self.no_transactions()
    }

    fn begin_transaction(&self) -> PyResult<()> {
        self.no_transactions()
    }

    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn commit_transaction(&self, timeout: Option<f64>) -> PyResult<()> {
        let _ = timeout;
        self.no_transactions()
    }

    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn abort_transaction(&self, timeout: Option<f64>) -> PyResult<()> {
        let _ = timeout;
        self.no_transactions()
    }

    #[pyo3(signature = (positions, group_metadata, timeout=-1.0), text_signature = "($self, positions, group_metadata, timeout=-1.0)")]
    fn send_offsets_to_transaction(
        &self,
        positions: &Bound<'_, PyAny>,
        group_metadata: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let _ = (positions, group_metadata, timeout);
        self.no_transactions()
    }

    /// Records on their way or not yet reported, and events that wait for poll().
    fn __len__(&self) -> usize {
        self.open().map_or(0, |open| open.handle.outq_len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value, exc_traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc_value: &Bound<'_, PyAny>,
        exc_traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Option<bool>> {
        let _ = (exc_type, exc_value, exc_traceback);
        self.close(py).map(|_| None)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let open = self
            .open
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let _ = Python::try_attach(|py| end(py, open));
    }
}

/// Lets go of the handle, which may wait for its thread.
fn end(py: Python<'_>, open: Option<Arc<Open>>) {
    let Some(open) = open.and_then(Arc::into_inner) else {
        return;
    };
    let Open { handle, queue, .. } = open;
    py.detach(|| drop((handle, queue)));
}

/// A dict of `produce_batch`.
struct BatchMessage<'py> {
    dict: Bound<'py, PyDict>,
    value: Option<Bound<'py, PyAny>>,
    key: Option<Bound<'py, PyAny>>,
    callback: Option<Bound<'py, PyAny>>,
    headers: Option<OwnedHeaders>,
    partition: i32,
    timestamp: i64,
}

impl<'py> BatchMessage<'py> {
    fn new(index: usize, dict: Bound<'py, PyDict>, partition: i32) -> PyResult<Self> {
        let py = dict.py();
        let mut message = Self {
            value: dict.get_item(intern!(py, "value"))?,
            key: None,
            callback: None,
            headers: None,
            partition,
            timestamp: 0,
            dict,
        };
        let known = usize::from(message.value.is_some());
        if message.dict.len() > known {
            message.more(index)?;
        }
        Ok(message)
    }

    /// What else the dict has.
    fn more(&mut self, index: usize) -> PyResult<()> {
        let py = self.dict.py();
        let wrong = |what: &str, kind: &str| {
            PyTypeError::new_err(format!("Message {what} at index {index} must be {kind}"))
        };
        self.key = self.dict.get_item(intern!(py, "key"))?;
        let callback = self.dict.get_item(intern!(py, "callback"))?;
        let on_delivery = self.dict.get_item(intern!(py, "on_delivery"))?;
        self.callback = delivery_callback(callback.as_ref(), on_delivery.as_ref())?.cloned();
        if let Some(partition) = self.dict.get_item(intern!(py, "partition"))? {
            self.partition = partition.extract().map_err(|_| wrong("partition", "int"))?;
        }
        if let Some(timestamp) = self.dict.get_item(intern!(py, "timestamp"))? {
            self.timestamp = timestamp.extract().map_err(|_| wrong("timestamp", "int"))?;
        }
        if let Some(headers) = self.dict.get_item(intern!(py, "headers"))? {
            self.headers = Some(OwnedHeaders::new(Some(&headers))?);
        }
        Ok(())
    }
}

impl Open {
    /// Produces a part of a batch. Everything that touches Python is done before the client's lock is taken.
    fn produce_part(
        &self,
        py: Python<'_>,
        topic: TopicHandle,
        messages: &[BatchMessage<'_>],
        common: Option<&Bound<'_, PyAny>>,
        mut refused: impl FnMut(usize, ottla::KafkaError) + Send,
    ) -> PyResult<usize> {
        let mut values: Vec<(Payload<'_, '_>, Payload<'_, '_>)> =
            Vec::with_capacity(messages.len());
        for message in messages {
            values.push((
                payload(message.value.as_ref())?,
                payload(message.key.as_ref())?,
            ));
        }
        let headers: Vec<_> = messages
            .iter()
            .map(|message| message.headers.as_ref().map(OwnedHeaders::borrowed))
            .collect();
        let mut opaques = Vec::with_capacity(messages.len());
        let mut with_common = 0;
        let common_opaque = common.map_or(0, |callback| self.callbacks.keep(callback, 0));
        for message in messages {
            opaques.push(match &message.callback {
                Some(callback) => self.callbacks.keep(callback, 1),
                None => {
                    with_common += 1;
                    common_opaque
                }
            });
        }
        if let Some(callback) = common {
            self.callbacks.keep(callback, with_common);
        }
        let records: Vec<ProduceRecord<'_>> = messages
            .iter()
            .zip(&values)
            .zip(&headers)
            .zip(&opaques)
            .map(
                |(((message, (value, key)), headers), opaque)| ProduceRecord {
                    topic,
                    partition: message.partition,
                    key: key.bytes(),
                    value: value.bytes(),
                    headers: headers.as_deref().unwrap_or_default(),
                    timestamp: message.timestamp,
                    opaque: *opaque,
                    payload_addr: 0,
                },
            )
            .collect();
        let callbacks = &self.callbacks;
        let mut unused = Vec::new();
        let taken = py.detach(|| {
            self.handle.produce_batch(records, |index, error| {
                unused.push(opaques[index]);
                refused(index, error);
            })
        });
        for opaque in unused {
            callbacks.release(opaque, 1);
        }
        Ok(taken)
    }
}
