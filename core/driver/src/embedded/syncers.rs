//! Threads that sync beside the broker's thread, while several partitions are to be synced at a time.
//!
//! A file system puts the syncs that wait for it at the same moment into one commit of its journal, but makes one commit for each that comes
//! after another: twelve partitions one by one take six to ten times as long as side by side (docs/internals/driver.md). So with
//! `durability=fsync` everybody takes one sync at a time from the list, the broker's thread too. A syncer is started when there is more to do
//! than threads that are free, and ends when there was nothing for a while: who has one busy partition has no thread more.

use super::{Shared, State, lock};
use crate::clock::now;
use std::{
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

/// Threads besides the broker's own.
const MOST_SYNCERS: usize = 8;
/// How long one sleeps before it ends.
const IDLE: Duration = Duration::from_secs(2);

/// What [`State`] knows of the threads that sync.
pub(super) struct Syncers {
    /// Those that look at the list before they sleep: neither in a sync nor asleep. The broker's thread is one of them even when it
    /// sleeps, since it is woken for whatever there is to do.
    ready: usize,
    asleep: usize,
    /// All but the broker's thread.
    running: usize,
}

impl Syncers {
    pub(super) fn new() -> Self {
        Self {
            ready: 1,
            asleep: 0,
            running: 0,
        }
    }
}

impl Shared {
    /// Takes the first sync of the list, makes it without the lock and tells the broker. False if there is none.
    pub(super) fn sync_one(self: &Arc<Self>) -> bool {
        let mut state = lock(&self.state);
        let Some((id, job)) = state.syncs.pop_front() else {
            return false;
        };
        state.syncers.ready -= 1;
        self.call_syncers(&mut state);
        drop(state);
        let result = job.run();
        let mut state = self.lock();
        state.syncers.ready += 1;
        state.broker.handle_synced(now(), id, result);
        self.settle(state, &mut |_, answer| Some(answer));
        true
    }

    /// Sees that there is somebody for every sync on the list, as far as there may be.
    pub(super) fn call_syncers(self: &Arc<Self>, state: &mut State) {
        let syncers = &mut state.syncers;
        let left = state.syncs.len().saturating_sub(syncers.ready);
        if left == 0 || !self.syncs_side_by_side {
        } else if syncers.asleep > 1 && left > 1 {
            self.syncers_wake.notify_all();
        } else if syncers.asleep > 0 {
            self.syncers_wake.notify_one();
        } else if syncers.running < MOST_SYNCERS && !state.closing {
            let of_thread = self.clone();
            let thread = thread::Builder::new()
                .name("ottla-sync".into())
                .spawn(move || of_thread.run_syncer());
            // Without a thread those who are there do it, later.
            if thread.is_ok() {
                syncers.running += 1;
                syncers.ready += 1;
            }
        }
    }

    fn run_syncer(self: &Arc<Self>) {
        let _leave = Leave(self);
        loop {
            while self.sync_one() {}
            let mut state = lock(&self.state);
            if !state.syncs.is_empty() {
                continue;
            }
            if state.closing {
                return;
            }
            state.syncers.ready -= 1;
            state.syncers.asleep += 1;
            let wait = self.syncers_wake.wait_timeout(state, IDLE);
            let (mut state, wait) = wait.unwrap_or_else(PoisonError::into_inner);
            state.syncers.asleep -= 1;
            state.syncers.ready += 1;
            if wait.timed_out() && state.syncs.is_empty() {
                return;
            }
        }
    }

    /// Waits until all syncers have ended; the broker is closing.
    pub(super) fn end_syncers(&self) {
        let mut state = lock(&self.state);
        while state.syncers.running > 0 {
            self.syncers_wake.notify_all();
            let wait = self.syncers_wake.wait(state);
            state = wait.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A syncer's end, by a panic of the broker's too.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.syncers.running -= 1;
        state.syncers.ready = state.syncers.ready.saturating_sub(1);
        if state.closing {
            // Whoever closes the broker waits for the last.
            self.0.syncers_wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedBroker, EventSink, Handle, Place};
    use ottla_broker::{BrokerConfig, Durability};
    use ottla_client::{
        BootstrapServer, ClientConfig, Event, Role,
        producer::{ProduceRecord, Side},
    };
    use std::{path::Path, sync::Mutex, time::Instant};

    #[derive(Default)]
    struct Events(Mutex<Vec<Event>>);

    impl EventSink for Events {
        fn event(&self, event: Event) {
            lock(&self.0).push(event);
        }
        fn consumable(&self) {}
    }

    fn open(dir: &Path, durability: Durability) -> EmbeddedBroker {
        let config = BrokerConfig {
            durability,
            num_partitions: 6,
            ..BrokerConfig::default()
        };
        EmbeddedBroker::open(&Place::Directory(dir.into()), config).unwrap()
    }

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "not in time: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A record for each partition, all acknowledged.
    fn produce(broker: &EmbeddedBroker) {
        let events = Arc::new(Events::default());
        let server = BootstrapServer {
            host: "localhost".into(),
            port: 9092,
        };
        let config = ClientConfig {
            role: Role::Producer,
            bootstrap_servers: vec![server],
            ..ClientConfig::default()
        };
        let handle = Handle::new(config, broker.clone(), events.clone()).unwrap();
        let topic = handle.with(|client, now| client.intern_topic(now, "t", None, None));
        let topic = topic.unwrap().unwrap();
        for partition in 0..6 {
            let record = ProduceRecord {
                topic,
                partition,
                timestamp: 0,
                key: None,
                value: Some(b"value"),
                headers: &[],
                side: Side::default(),
            };
            let produced = handle.with(|client, now| client.produce(now, &record));
            produced.unwrap().unwrap();
        }
        let flushing = handle.with(|client, now| client.set_flushing(now, true));
        flushing.unwrap();
        wait_until("all are acknowledged", || {
            let acknowledged = handle.with(|client, _| {
                for event in lock(&events.0).drain(..) {
                    if let Event::Delivery(batch) = event {
                        assert_eq!(batch.error, None);
                        client.delivery_taken(batch.len(), batch.bytes());
                    }
                }
                client.queue_len() == 0
            });
            acknowledged.unwrap()
        });
    }

    fn running(broker: &EmbeddedBroker) -> usize {
        lock(&broker.open.shared.state).syncers.running
    }

    #[test]
    fn they_come_for_several_partitions_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), Durability::Fsync);
        assert_eq!(running(&broker), 0);
        wait_until("six partitions are synced by several", || {
            produce(&broker);
            running(&broker) > 0
        });
        wait_until("they have nothing to do", || running(&broker) == 0);
        let state = lock(&broker.open.shared.state);
        assert_eq!((state.syncers.ready, state.syncers.asleep), (1, 0));
        drop(state);
        // Closed amid them.
        produce(&broker);
        assert!(broker.close().unwrap(), "the last handle");
        produce(&open(dir.path(), Durability::Fsync));
    }

    #[test]
    fn nobody_comes_where_nobody_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), Durability::Os);
        produce(&broker);
        assert_eq!(running(&broker), 0);
    }
}
