//! `Consumer`.

use crate::{
    arguments::callable,
    configuration::Configuration,
    error::{KafkaError, raise},
    events::EventCallbacks,
    message::{Chunk, Message},
    metadata::{self, ClusterMetadata},
    partition::{TopicPartition, list_of, partitions_of},
    waiting::{duration, forked, raise_later, raise_now, wait, watch_signals},
};
use bytes::Bytes;
use ottla::{ErrCode, Event, FetchedBatch, Handle, Queue, RebalanceKind, Role};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What `consume` takes at most.
const MAX_MESSAGES: i64 = 1_000_000;
/// How long closing may take: the last commit and leaving the group.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Consumes records, alone or in a group.
#[pyclass(frozen, subclass, name = "Consumer", module = "ottla")]
pub struct Consumer {
    open: RwLock<Option<Arc<Open>>>,
    closed: AtomicBool,
}

/// What a consumer is in its group, to be handed to a transactional producer.
#[pyclass(frozen, get_all, module = "ottla")]
pub struct ConsumerGroupMetadata {
    group_id: String,
    generation: i32,
    member_id: String,
    group_instance_id: Option<String>,
}

#[pymethods]
impl ConsumerGroupMetadata {
    fn __repr__(&self) -> String {
        format!(
            "ConsumerGroupMetadata(group_id={:?}, generation={}, member_id={:?})",
            self.group_id, self.generation, self.member_id
        )
    }
}

/// A consumer that is not closed.
struct Open {
    handle: Handle,
    queue: Queue,
    events: EventCallbacks,
    on_commit: Option<Py<PyAny>>,
    rebalance: Mutex<RebalanceCallbacks>,
    /// Whether the program has answered the rebalance under way itself.
    answered: AtomicBool,
    /// Fetched, and not handed out yet.
    fetched: Mutex<VecDeque<Fetched>>,
    /// Handed out, but an exception came in the way.
    undelivered: Mutex<VecDeque<Py<Message>>>,
    topics: Mutex<HashMap<String, Py<PyString>>>,
}

#[derive(Default)]
struct RebalanceCallbacks {
    on_assign: Option<Py<PyAny>>,
    on_revoke: Option<Py<PyAny>>,
    on_lost: Option<Py<PyAny>>,
}

/// Records of one partition, and what their messages share.
struct Fetched {
    batch: FetchedBatch,
    topic: Py<PyString>,
    chunk: Option<Arc<Chunk>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetched {
    /// Moves up to `max` messages into `messages`; returns whether there may be more.
    fn take(
        &mut self,
        py: Python<'_>,
        max: usize,
        messages: &mut Vec<Py<Message>>,
    ) -> PyResult<bool> {
        let partition = self.batch.partition();
        while messages.len() < max {
            let message = match self.batch.next() {
                None => return Ok(false),
                Some(Err((offset, error))) => {
                    let topic = Some(self.topic.clone_ref(py));
                    Message::event(topic, partition, offset, error)
                }
                Some(Ok(record)) => {
                    let kind = record.timestamp_type as i32;
                    let shares = |chunk: &&Arc<Chunk>| {
                        is_same(&chunk.buffer, record.buffer)
                            && chunk.timestamp_type == kind
                            && chunk.leader_epoch == record.leader_epoch
                    };
                    let chunk = match self.chunk.as_ref().filter(shares) {
                        Some(chunk) => chunk,
                        None => self.chunk.insert(Arc::new(Chunk {
                            topic: Some(self.topic.clone_ref(py)),
                            partition,
                            buffer: record.buffer.clone(),
                            timestamp_type: kind,
                            leader_epoch: record.leader_epoch,
                            latency: None,
                            error: None,
                        })),
                    };
                    Message::record(
                        chunk,
                        record.offset,
                        record.timestamp,
                        record.key,
                        record.value,
                        record.headers,
                    )
                }
            };
            messages.push(Py::new(py, message)?);
        }
        Ok(true)
    }
}

fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

impl Open {
    /// The topic's name as a Python string, the same one every time.
    fn topic_name(&self, py: Python<'_>, name: &str) -> Py<PyString> {
        let mut topics = locked(&self.topics);
        match topics.get(name) {
            Some(kept) => kept.clone_ref(py),
            None => {
                let kept = PyString::new(py, name).unbind();
                topics.insert(name.to_owned(), kept.clone_ref(py));
                kept
            }
        }
    }

    /// What was fetched before, as far as it is wanted.
    fn take_fetched(
        &self,
        py: Python<'_>,
        max: usize,
        messages: &mut Vec<Py<Message>>,
    ) -> PyResult<()> {
        while messages.len() < max {
            if let Some(message) = locked(&self.undelivered).pop_front() {
                messages.push(message);
                continue;
            }
            let Some(mut fetched) = locked(&self.fetched).pop_front() else {
                break;
            };
            if fetched.take(py, max, messages)? {
                locked(&self.fetched).push_front(fetched);
            }
        }
        Ok(())
    }

    /// Serves one event; records and events in their place become messages.
    fn serve(
        &self,
        consumer: &Bound<'_, Consumer>,
        event: Event,
        max: usize,
        messages: &mut Vec<Py<Message>>,
    ) -> PyResult<()> {
        let py = consumer.py();
        match event {
            Event::Fetched(batch) => {
                let topic = self.topic_name(py, batch.topic());
                let mut fetched = Fetched {
                    batch,
                    topic,
                    chunk: None,
                };
                if fetched.take(py, max, messages)? {
                    locked(&self.fetched).push_back(fetched);
                }
                Ok(())
            }
            Event::PartitionEof {
                topic,
                partition,
                offset,
            } => {
                let topic = self.topic_name(py, &topic);
                let error = ErrCode::PARTITION_EOF.into();
                let message = Message::event(Some(topic), partition, offset, error);
                messages.push(Py::new(py, message)?);
                Ok(())
            }
            Event::ConsumerError {
                partition,
                offset,
                error,
            } => {
                let (topic, partition) = match partition {
                    Some((topic, partition)) => (Some(self.topic_name(py, &topic)), partition),
                    None => (None, -1),
                };
                let message = Message::event(topic, partition, offset, error);
                messages.push(Py::new(py, message)?);
                Ok(())
            }
            Event::Rebalance { kind, partitions } => self.rebalance(consumer, kind, partitions),
            Event::OffsetCommit { error, offsets } => match &self.on_commit {
                Some(callback) => {
                    let arguments = (KafkaError::of_code(error), list_of(py, offsets)?);
                    callback.call1(py, arguments).map(drop)
                }
                None => Ok(()),
            },
            event => self.events.serve(py, self.handle.name(), event),
        }
    }

    /// Tells the program, and answers the group unless the program has.
    fn rebalance(
        &self,
        consumer: &Bound<'_, Consumer>,
        kind: RebalanceKind,
        partitions: Vec<ottla::TopicPartition>,
    ) -> PyResult<()> {
        let py = consumer.py();
        let callback = {
            let callbacks = locked(&self.rebalance);
            let callback = match kind {
                RebalanceKind::Assign => callbacks.on_assign.as_ref(),
                RebalanceKind::Revoke => callbacks.on_revoke.as_ref(),
                RebalanceKind::Lost => callbacks.on_lost.as_ref().or(callbacks.on_revoke.as_ref()),
            };
            callback.map(|callback| callback.clone_ref(py))
        };
        self.answered.store(false, Relaxed);
        let called = match callback {
            Some(callback) => {
                let list = list_of(py, partitions.clone())?;
                callback.call1(py, (consumer, list)).map(drop)
            }
            None => Ok(()),
        };
        if !self.answered.load(Relaxed) {
            let answered = py.detach(|| self.answer(kind, &partitions));
            called?;
            return answered.map_err(raise);
        }
        called
    }

    fn answer(
        &self,
        kind: RebalanceKind,
        partitions: &[ottla::TopicPartition],
    ) -> Result<(), ottla::KafkaError> {
        let cooperative = self.handle.rebalance_protocol() == "COOPERATIVE";
        match (kind, cooperative) {
            (RebalanceKind::Assign, false) => self.handle.assign(partitions),
            (RebalanceKind::Assign, true) => self.handle.incremental_assign(partitions),
            (_, false) => self.handle.unassign(),
            (_, true) => self.handle.incremental_unassign(partitions),
        }
    }

    /// Up to `max` messages; waits until there are so many, or until the time is over.
    fn consume(
        &self,
        consumer: &Bound<'_, Consumer>,
        max: usize,
        timeout: Duration,
    ) -> PyResult<Vec<Py<Message>>> {
        let py = consumer.py();
        let until = Instant::now().checked_add(timeout);
        let mut messages = Vec::new();
        self.take_fetched(py, max, &mut messages)?;
        while messages.len() < max {
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            let event = py.detach(|| self.queue.poll(left));
            let is_over = event.is_none() && until.is_some_and(|until| Instant::now() >= until);
            let served = match event {
                Some(event) => self.serve(consumer, event, max, &mut messages),
                None => raise_now(),
            };
            if let Err(exception) = served {
                locked(&self.undelivered).extend(messages);
                return Err(exception);
            }
            if is_over || self.handle.is_forked() {
                break;
            }
        }
        Ok(messages)
    }
}

impl Consumer {
    fn open(&self) -> PyResult<Arc<Open>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(open) if open.handle.is_forked() => Err(forked()),
            Some(open) => Ok(open.clone()),
            None if self.closed.load(Relaxed) => Err(PyRuntimeError::new_err("Consumer closed")),
            None => Err(PyRuntimeError::new_err("Consumer has not been initialized")),
        }
    }

    /// The partitions of an operation's argument, after it.
    fn each(
        &self,
        py: Python<'_>,
        partitions: &Bound<'_, PyAny>,
        run: impl FnOnce(&Handle, &mut [ottla::TopicPartition]) -> Result<(), ottla::KafkaError> + Send,
    ) -> PyResult<Vec<ottla::TopicPartition>> {
        let open = self.open()?;
        let mut partitions = partitions_of(partitions)?;
        wait(py, || run(&open.handle, &mut partitions))?;
        Ok(partitions)
    }
}

/// An error of the one partition that an operation was about, or of all that it was about.
fn failed(partitions: &[ottla::TopicPartition]) -> PyResult<()> {
    match partitions.first() {
        Some(first) if partitions.iter().all(|p| p.error != ErrCode::NO_ERROR) => {
            Err(raise(first.error.into()))
        }
        _ => Ok(()),
    }
}

#[pymethods]
impl Consumer {
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
            mut config,
            events,
            on_commit,
            ..
        } = Configuration::new(config, kwargs)?;
        if !config.is_set("group.id") {
            return Err(PyValueError::new_err(
                "Failed to create consumer: group.id must be set",
            ));
        }
        config.set_rebalance_events(true);
        let handle = wait(py, || {
            let handle = Handle::new(Role::Consumer, config)?;
            handle.poll_set_consumer()?;
            Ok(handle)
        })?;
        watch_signals(&handle);
        let open = Open {
            queue: handle.consumer_queue(),
            handle,
            events,
            on_commit,
            rebalance: Mutex::default(),
            answered: AtomicBool::new(false),
            fetched: Mutex::default(),
            undelivered: Mutex::default(),
            topics: Mutex::default(),
        };
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(open));
        Ok(())
    }

    /// Joins the group for these topics; a name that begins with `^` is a regular expression. The callbacks are called with the
    /// consumer and a list of partitions, out of poll() and consume(); without `on_lost`, `on_revoke` is called for both.
    #[pyo3(signature = (topics, on_assign=None, on_revoke=None, on_lost=None))]
    fn subscribe(
        &self,
        py: Python<'_>,
        topics: &Bound<'_, PyAny>,
        on_assign: Option<&Bound<'_, PyAny>>,
        on_revoke: Option<&Bound<'_, PyAny>>,
        on_lost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let open = self.open()?;
        let wrong = || PyTypeError::new_err("expected list of topic unicode strings");
        let topics: Vec<String> = topics
            .cast::<PyList>()
            .map_err(|_| wrong())?
            .extract()
            .map_err(|_| wrong())?;
        if topics.is_empty() {
            let text = "Failed to set subscription: no topics";
            return Err(raise(ottla::KafkaError::new(ErrCode::INVALID_ARG, text)));
        }
        let callbacks = RebalanceCallbacks {
            on_assign: callable("on_assign", on_assign)?,
            on_revoke: callable("on_revoke", on_revoke)?,
            on_lost: callable("on_lost", on_lost)?,
        };
        wait(py, || open.handle.subscribe(&topics))?;
        let before = std::mem::replace(&mut *locked(&open.rebalance), callbacks);
        drop(before);
        Ok(())
    }

    /// Leaves the group.
    fn unsubscribe(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open()?;
        wait(py, || open.handle.unsubscribe())
    }

    /// The next message or event, or None after `timeout` seconds (-1: never).
    #[pyo3(signature = (timeout=-1.0), text_signature = "($self, timeout=-1.0)")]
    fn poll(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Py<Message>>> {
        let open = slf.get().open()?;
        Ok(open.consume(slf, 1, duration(timeout)?)?.pop())
    }

    /// Up to `num_messages` messages and events: as many as there are within `timeout` seconds (-1: waits for all).
    #[pyo3(signature = (num_messages=1, timeout=-1.0), text_signature = "($self, num_messages=1, timeout=-1.0)")]
    fn consume<'py>(
        slf: &Bound<'py, Self>,
        num_messages: i64,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        if !(0..=MAX_MESSAGES).contains(&num_messages) {
            return Err(PyValueError::new_err(
                "num_messages must be between 0 and 1000000 (1M)",
            ));
        }
        let open = slf.get().open()?;
        let messages = open.consume(slf, num_messages as usize, duration(timeout)?)?;
        PyList::new(slf.py(), messages)
    }

    /// Consumes these partitions, from their offsets on, and no others.
    fn assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let partitions = partitions_of(partitions)?;
        open.answered.store(true, Relaxed);
        wait(py, || open.handle.assign(&partitions))
    }

    /// Consumes nothing any more.
    fn unassign(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open()?;
        open.answered.store(true, Relaxed);
        wait(py, || open.handle.unassign())
    }

    /// Consumes these partitions too.
    fn incremental_assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let partitions = partitions_of(partitions)?;
        open.answered.store(true, Relaxed);
        wait(py, || open.handle.incremental_assign(&partitions))
    }

    /// Consumes these partitions no more.
    fn incremental_unassign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let partitions = partitions_of(partitions)?;
        open.answered.store(true, Relaxed);
        wait(py, || open.handle.incremental_unassign(&partitions))
    }

    /// What is consumed.
    fn assignment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let open = self.open()?;
        list_of(py, py.detach(|| open.handle.assignment()))
    }

    /// Commits the offset behind a message, these offsets, or what was stored. With `asynchronous=False` it waits, and returns
    /// the partitions with their errors.
    #[pyo3(signature = (message=None, offsets=None, asynchronous=true))]
    fn commit<'py>(
        &self,
        py: Python<'py>,
        message: Option<&Bound<'_, PyAny>>,
        offsets: Option<&Bound<'_, PyAny>>,
        asynchronous: bool,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let open = self.open()?;
        let offsets = positions(py, message, offsets)?;
        if asynchronous {
            return wait(py, || open.handle.commit_async(offsets.as_deref())).map(|()| None);
        }
        let committed = wait(py, || open.handle.commit(offsets.as_deref(), Duration::MAX))?;
        failed(&committed)?;
        list_of(py, committed).map(Some)
    }

    /// What the group has committed for these partitions.
    #[pyo3(signature = (partitions, timeout=-1.0), text_signature = "($self, partitions, timeout=-1.0)")]
    fn committed<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(timeout)?;
        list_of(
            py,
            self.each(py, partitions, |handle, partitions| {
                handle.committed(partitions, timeout)
            })?,
        )
    }

    /// The offsets behind the last messages that were handed out.
    fn position<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        list_of(
            py,
            self.each(py, partitions, |handle, partitions| {
                handle.position(partitions)
            })?,
        )
    }

    /// Goes on at the partition's offset.
    fn seek(&self, py: Python<'_>, partition: &Bound<'_, TopicPartition>) -> PyResult<()> {
        let open = self.open()?;
        let mut partitions = [partition.get().to_ottla()];
        wait(py, || open.handle.seek(&mut partitions))?;
        failed(&partitions)
    }

    /// Hands out nothing of these partitions for a while.
    fn pause(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        self.each(py, partitions, |handle, partitions| {
            handle.pause(partitions)
        })
        .map(drop)
    }

    /// Goes on with paused partitions.
    fn resume(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        self.each(py, partitions, |handle, partitions| {
            handle.resume(partitions)
        })
        .map(drop)
    }

    /// Notes the offset behind a message, or these offsets, for the next commit. Needs `enable.auto.offset.store=False`.
    #[pyo3(signature = (message=None, offsets=None))]
    fn store_offsets(
        &self,
        py: Python<'_>,
        message: Option<&Bound<'_, PyAny>>,
        offsets: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let open = self.open()?;
        let Some(mut offsets) = positions(py, message, offsets)? else {
            return Err(PyValueError::new_err("expected either message or offsets"));
        };
        wait(py, || open.handle.store_offsets(&mut offsets))?;
        failed(&offsets)
    }

    /// A partition's first offset and its end: asked for, or as the last fetch told (`cached`).
    #[pyo3(signature = (partition, timeout=-1.0, cached=false), text_signature = "($self, partition, timeout=-1.0, cached=False)")]
    fn get_watermark_offsets(
        &self,
        py: Python<'_>,
        partition: &Bound<'_, TopicPartition>,
        timeout: Option<f64>,
        cached: bool,
    ) -> PyResult<(i64, i64)> {
        let (open, timeout) = (self.open()?, duration(timeout)?);
        let of = partition.get().to_ottla();
        wait(py, || {
            if cached {
                let unknown = (ottla::offset::INVALID, ottla::offset::INVALID);
                let known = open.handle.watermark_offsets(&of.topic, of.partition);
                return Ok(known.unwrap_or(unknown));
            }
            open.handle
                .query_watermark_offsets(&of.topic, of.partition, timeout)
        })
    }

    /// The first offsets whose records are not older than the timestamps (in ms) that the partitions have in `offset`.
    #[pyo3(signature = (partitions, timeout=-1.0), text_signature = "($self, partitions, timeout=-1.0)")]
    fn offsets_for_times<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(timeout)?;
        list_of(
            py,
            self.each(py, partitions, |handle, partitions| {
                handle.offsets_for_times(partitions, timeout)
            })?,
        )
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

    /// The member id in the group, None outside of one.
    fn memberid(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let open = self.open()?;
        let id = py.detach(|| open.handle.member_id());
        Ok(Some(id.to_string()).filter(|id| !id.is_empty()))
    }

    /// What the consumer is in its group.
    fn consumer_group_metadata(&self, py: Python<'_>) -> PyResult<Option<ConsumerGroupMetadata>> {
        let open = self.open()?;
        let found = py.detach(|| open.handle.group_metadata());
        Ok(found.map(|group| ConsumerGroupMetadata {
            group_id: group.group_id.to_string(),
            generation: group.generation,
            member_id: group.member_id.to_string(),
            group_instance_id: group.group_instance_id.map(|id| id.to_string()),
        }))
    }

    /// Gives up its partitions, commits what was stored, leaves the group. Every later call but this one raises RuntimeError.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let open = match this.open() {
            Ok(open) => open,
            Err(_) => {
                this.closed.store(true, Relaxed);
                return Ok(());
            }
        };
        let consumer = slf.clone().unbind();
        let result = py.detach(|| {
            open.handle
                .close_consumer_serving(CLOSE_TIMEOUT, &mut |event| {
                    let served = Python::try_attach(|py| {
                        // Records that come now are not wanted any more.
                        open.serve(consumer.bind(py), event, 0, &mut Vec::new())
                    });
                    if let Some(Err(exception)) = served {
                        raise_later(exception);
                    }
                })
        });
        this.closed.store(true, Relaxed);
        let taken = this
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(open);
        end(py, taken, false);
        raise_now()?;
        result.map_err(raise)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value, exc_traceback))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: &Bound<'_, PyAny>,
        exc_value: &Bound<'_, PyAny>,
        exc_traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Option<bool>> {
        let _ = (exc_type, exc_value, exc_traceback);
        Self::close(slf).map(|()| None)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let open = self
            .open
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let _ = Python::try_attach(|py| end(py, open, true));
    }
}

/// Lets go of the handle; with `leave` it leaves its group first, without callbacks.
fn end(py: Python<'_>, open: Option<Arc<Open>>, leave: bool) {
    let Some(open) = open.and_then(Arc::into_inner) else {
        return;
    };
    let Open {
        handle,
        queue,
        fetched,
        ..
    } = open;
    drop(fetched);
    py.detach(|| {
        if leave && !handle.is_forked() {
            let _ = handle.close_consumer(CLOSE_TIMEOUT);
        }
        drop((handle, queue));
    });
}

/// The offsets that a commit is about; none: what was stored.
fn positions(
    py: Python<'_>,
    message: Option<&Bound<'_, PyAny>>,
    offsets: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Vec<ottla::TopicPartition>>> {
    let message = message.filter(|message| !message.is_none());
    let offsets = offsets.filter(|offsets| !offsets.is_none());
    match (message, offsets) {
        (Some(_), Some(_)) => Err(PyValueError::new_err(
            "message and offsets are mutually exclusive",
        )),
        (Some(message), None) => {
            let Ok(message) = message.cast::<Message>() else {
                return Err(PyTypeError::new_err("expected ottla.Message"));
            };
            message
                .get()
                .next_position(py)
                .map(|position| Some(vec![position]))
        }
        (None, Some(offsets)) => partitions_of(offsets).map(Some),
        (None, None) => Ok(None),
    }
}
