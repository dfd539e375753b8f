//! Queues of events, as librdkafka has them.

use crate::Event;
use std::sync::Arc;
use std::time::Duration;

/// What is called when a queue gets its first event (it was empty before).
///
/// It is called from whichever thread made the event, at times under the handle's lock: it must be quick and must not call the
/// handle. Writing to an eventfd or pipe, or scheduling a call, is what it is for.
pub type QueueHook = Arc<dyn Fn() + Send + Sync>;

/// A queue of a [`Handle`](crate::Handle). A clone is the same queue; it keeps the handle alive.
///
/// Polling drives the client: it is the polling thread that sends what lingers, takes answers, heartbeats. While nobody polls, the
/// handle's background thread does that.
#[derive(Clone, Debug)]
pub struct Queue {}

#[allow(unused_variables)]
impl Queue {
    /// The next event; waits for one as long as `timeout` says (`Duration::ZERO` doesn't, `Duration::MAX` for ever). `None` when
    /// the time is over, or when the [interrupt check](crate::Handle::set_interrupt_check) says so.
    pub fn poll(&self, timeout: Duration) -> Option<Event> {
        todo!()
    }

    /// Up to `max` events with one taking of the lock: waits for the first only. Returns how many were added to `events`.
    pub fn poll_batch(&self, max: usize, timeout: Duration, events: &mut Vec<Event>) -> usize {
        todo!()
    }

    /// Events that wait. Chunks of records and batches of delivery reports count as the records in them.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// From now on events go to `to` (those that wait, too), or with `None` stay here again. A circle is refused with
    /// `_INVALID_ARG`.
    pub fn forward(&self, to: Option<&Queue>) -> Result<(), crate::KafkaError> {
        todo!()
    }

    /// Makes a poll of this queue return, now or the next time, with [`Event::Wakeup`].
    pub fn wake(&self) {
        todo!()
    }

    /// Calls `hook` whenever the queue gets an event while it was empty; `None` takes it away. Called at once if events wait
    /// already. With a hook the background thread takes on what otherwise the next poll would.
    pub fn set_hook(&self, hook: Option<QueueHook>) {
        todo!()
    }

    /// Whether both are the same queue of the same handle.
    pub fn is_same(&self, other: &Queue) -> bool {
        todo!()
    }
}
