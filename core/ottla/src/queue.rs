//! Queues of events, as librdkafka has them.

use crate::{
    Event, KafkaError,
    handle::Handle,
    shared::{CONSUMER, QueueState, Shared, lock},
};
use ottla_client::{ErrCode, Role};
use ottla_driver::now;
use ottla_protocol::Str;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// What is called when a queue gets its first event (it was empty before).
///
/// It is called from whichever thread made the event, at times under the handle's lock: it must be quick and must not call the
/// handle. Writing to an eventfd or pipe, or scheduling a call, is what it is for.
pub type QueueHook = Arc<dyn Fn() + Send + Sync>;

/// A queue of a [`Handle`]. A clone is the same queue; it keeps the handle alive.
///
/// Polling drives the client: it is the polling thread that sends what lingers, takes answers, heartbeats. While nobody polls, the
/// handle's background thread does that.
#[derive(Clone, Debug)]
pub struct Queue {
    handle: Handle,
    index: usize,
}

/// How often an interrupt check is asked.
const INTERRUPT_CHECK_US: u64 = 200_000;

impl Queue {
    pub(crate) fn new(handle: Handle, index: usize) -> Self {
        Self { handle, index }
    }

    fn shared(&self) -> &Shared {
        self.handle.shared()
    }

    /// The next event; waits for one as long as `timeout` says (`Duration::ZERO` doesn't, `Duration::MAX` for ever). `None` when
    /// the time is over, or when the [interrupt check](crate::Handle::set_interrupt_check) says so. A queue that forwards gives what
    /// is in the queue where its events go.
    pub fn poll(&self, timeout: Duration) -> Option<Event> {
        self.poll_for(timeout, true)
    }

    /// As [`Queue::poll`], but what there is to consume (records, ends of partitions, consumer errors) stays where it is. For
    /// callers that serve callbacks beside another thread that consumes: taking records and putting them back would change
    /// their order. It doesn't count as a poll for `max.poll.interval.ms`.
    pub fn poll_events(&self, timeout: Duration) -> Option<Event> {
        self.poll_for(timeout, false)
    }

    fn poll_for(&self, timeout: Duration, consume: bool) -> Option<Event> {
        if let Some(event) = self.pop() {
            return Some(event);
        }
        // A consumer's poll counts for `max.poll.interval.ms`, whatever comes of it.
        if timeout.is_zero()
            && self.shared().role == Role::Producer
            && self.handle.driver().is_quiet()
        {
            return None;
        }
        let until = deadline(timeout);
        let mut waited = false;
        let event = loop {
            let seen = self.handle.driver().signal_count();
            if let Some(event) = self.take(consume) {
                break Some(event);
            }
            let time = now().mono_us;
            if time >= until || self.handle.driver().is_forked() {
                break None;
            }
            if consume && !waited {
                waited = true;
                let _ = self
                    .handle
                    .driver()
                    .with(|client, now| client.application_waits(now, true));
            }
            let interrupt = lock(&self.shared().interrupt).clone();
            let step = if interrupt.is_some() {
                time + INTERRUPT_CHECK_US
            } else {
                u64::MAX
            };
            self.handle.driver().wait(seen, until.min(step));
            if interrupt.is_some_and(|check| check()) {
                break None;
            }
        };
        if waited {
            let _ = self
                .handle
                .driver()
                .with(|client, now| client.application_waits(now, false));
        }
        event
    }

    /// Up to `max` events with one taking of the lock: waits for the first only. Returns how many were added to `events`.
    pub fn poll_batch(&self, max: usize, timeout: Duration, events: &mut Vec<Event>) -> usize {
        let before = events.len();
        if max == 0 {
            return 0;
        }
        events.extend(self.poll(timeout));
        while !events.is_empty() && events.len() - before < max {
            match self.take(true) {
                Some(event) => events.push(event),
                None => break,
            }
        }
        events.len() - before
    }

    /// An event that lies in the queue.
    fn pop(&self) -> Option<Event> {
        let mut queues = lock(&self.shared().queues);
        let at = Shared::terminal(&queues, self.index);
        let state = queues.get_mut(at)?;
        if std::mem::take(&mut state.woken) {
            return Some(Event::Wakeup);
        }
        state.events.pop_front()
    }

    /// Drives the client, then an event that lies in the queue, or (if it is to `consume`) something fetched that belongs here.
    fn take(&self, consume: bool) -> Option<Event> {
        let sources = if consume { self.sources() } else { Vec::new() };
        let driven = self.handle.driver().with(|client, now| {
            self.shared().count_taken(client);
            now
        });
        let now = driven.ok()?;
        if let Some(event) = self.pop() {
            return Some(event);
        }
        if sources.is_empty() {
            return None;
        }
        let consumed = self.handle.driver().with(|client, _| {
            sources.iter().find_map(|source| match source {
                Source::Consumer => client.poll_consumed(now),
                Source::Partition(topic, partition) => {
                    client.poll_consumed_of(now, &(topic.clone(), *partition))
                }
            })
        });
        // The fetch may have been followed by a rebalance, whose event is in the queue now; the records come first.
        consumed.ok().flatten().map(Shared::consumed)
    }

    /// Whose records are polled here.
    fn sources(&self) -> Vec<Source> {
        let queues = lock(&self.shared().queues);
        let mut sources = Vec::new();
        let at = Shared::terminal(&queues, self.index);
        let consumer = Shared::terminal(&queues, CONSUMER);
        if consumer == at {
            sources.push(Source::Consumer);
        }
        for (i, state) in queues.iter().enumerate() {
            if let Some((topic, partition)) = &state.partition {
                let to = Shared::terminal(&queues, i);
                if to == at && to != consumer {
                    sources.push(Source::Partition(topic.clone(), *partition));
                }
            }
        }
        sources
    }

    /// Events that wait. Chunks of records and batches of delivery reports count as the records in them.
    pub fn len(&self) -> usize {
        let queues = lock(&self.shared().queues);
        let Some(state) = queues.get(Shared::terminal(&queues, self.index)) else {
            return 0;
        };
        state.events.iter().map(weight).sum()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on events go to `to` (those that wait, too), or with `None` stay here again. A circle is refused with
    /// `_INVALID_ARG`.
    pub fn forward(&self, to: Option<&Queue>) -> Result<(), KafkaError> {
        let mut queues = lock(&self.shared().queues);
        if let Some(to) = to {
            if !to.handle.is_same(&self.handle) {
                return Err(KafkaError::new(
                    ErrCode::INVALID_ARG,
                    "the queues belong to different handles",
                ));
            }
            if Shared::terminal(&queues, to.index) == self.index {
                return Err(KafkaError::new(
                    ErrCode::INVALID_ARG,
                    "the queues would forward to each other",
                ));
            }
            let events = std::mem::take(&mut queues[self.index].events);
            let end = Shared::terminal(&queues, to.index);
            queues[end].events.extend(events);
        }
        queues[self.index].forward = to.map(|to| to.index);
        let partitions = forwarded(&queues);
        drop(queues);
        for ((topic, partition), apart) in partitions {
            let _ = self
                .handle
                .driver()
                .with(|client, now| client.set_forwarded(now, &(topic, partition), apart));
        }
        Ok(())
    }

    /// Puts something of the caller's own into the queue (or where it forwards to), as [`Event::Application`]; whoever polls gets it.
    pub fn push(&self, event: Box<dyn std::any::Any + Send>) {
        self.shared().push(self.index, Event::Application(event));
        self.handle.driver().wake();
    }

    /// Makes a poll of this queue return, now or the next time, with [`Event::Wakeup`].
    pub fn wake(&self) {
        let mut queues = lock(&self.shared().queues);
        let at = Shared::terminal(&queues, self.index);
        let hook = queues.get_mut(at).and_then(|state| {
            state.woken = true;
            state.hook.clone()
        });
        drop(queues);
        self.handle.driver().wake();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Calls `hook` whenever the queue gets an event while it was empty; `None` takes it away. Called at once if events wait
    /// already.
    pub fn set_hook(&self, hook: Option<QueueHook>) {
        let mut queues = lock(&self.shared().queues);
        let Some(state) = queues.get_mut(self.index) else {
            return;
        };
        let before = std::mem::replace(&mut state.hook, hook.clone());
        match (&before, &hook) {
            (None, Some(_)) => {
                self.shared().hooks.fetch_add(1, Relaxed);
            }
            (Some(_), None) => {
                self.shared().hooks.fetch_sub(1, Relaxed);
            }
            _ => {}
        }
        let waits = !state.events.is_empty();
        drop(queues);
        let waits = waits
            || (self
                .sources()
                .iter()
                .any(|source| matches!(source, Source::Consumer))
                && self
                    .handle
                    .driver()
                    .with(|client, _| client.has_consumed())
                    .unwrap_or(false));
        if let (Some(hook), true) = (hook, waits) {
            hook();
        }
    }

    /// Whether both are the same queue of the same handle.
    pub fn is_same(&self, other: &Queue) -> bool {
        self.index == other.index && self.handle.is_same(&other.handle)
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The handle that the queue belongs to.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

enum Source {
    Consumer,
    Partition(Str, i32),
}

/// Partitions with a queue of their own, and whether their records go elsewhere than to the consumer queue.
pub(crate) fn forwarded(queues: &[QueueState]) -> Vec<((Str, i32), bool)> {
    let consumer = Shared::terminal(queues, CONSUMER);
    let of = |(i, state): (usize, &QueueState)| {
        Some((
            state.partition.clone()?,
            Shared::terminal(queues, i) != consumer,
        ))
    };
    queues.iter().enumerate().filter_map(of).collect()
}

fn weight(event: &Event) -> usize {
    match event {
        Event::Delivery(batch) => batch.len(),
        Event::Fetched(batch) => batch.record_count(),
        _ => 1,
    }
}

/// When a timeout is over, in monotonic microseconds.
pub(crate) fn deadline(timeout: Duration) -> u64 {
    let us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    now().mono_us.saturating_add(us)
}
