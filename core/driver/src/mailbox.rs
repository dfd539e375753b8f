//! Where answers arrive that another thread got from the broker, and where a handle's threads sleep.
//!
//! The lock in here is a leaf: whoever holds it takes no other. It may be taken under a client's lock.
//!
//! Two kinds of threads sleep here: the application's, in a call that waits (*pollers*), and the handle's background thread. Work goes to
//! a poller if there is one, because what comes of it is most likely what it waits for; the background thread is for when there is none.
//! Waking costs a system call, so that nobody is woken who is up, or who would wake up by himself in time.

use crate::clock::now;
use ottla_client::ConnId;
use ottla_protocol::Response;
use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

/// The longest sleep: a clock that is wrong about the far future does no harm then.
const LONGEST_SLEEP_US: u64 = 3_600_000_000;

/// Something for the client from outside.
pub(crate) enum Letter {
    /// An answer: over which connection, to which request.
    Answer(ConnId, i32, Response),
    /// Nothing more is to be handed in over the connection for so many milliseconds.
    Mute(ConnId, u32),
    /// The broker closed the connection.
    Disconnected(ConnId),
}

#[derive(Default)]
struct Inside {
    letters: Vec<Letter>,
    /// Among the letters is something that can't wait for the application's next call.
    urgent: bool,
    background_sleeps: bool,
    stop: bool,
}

pub(crate) struct Mail {
    inside: Mutex<Inside>,
    pollers_wake: Condvar,
    background_wake: Condvar,
    /// There are letters: a hint that costs one load.
    any: AtomicBool,
    /// Counts what pollers may want to know of.
    count: AtomicU64,
    /// Pollers that sleep, or are about to.
    pollers: AtomicU32,
    /// Until when the only poller sleeps; `u64::MAX` if there are several, or none.
    pollers_until: AtomicU64,
    /// Until when the background thread sleeps; 0 while it is up.
    background_until: AtomicU64,
    /// When the machine wants to be called.
    due: AtomicU64,
}

impl Mail {
    pub(crate) fn new() -> Self {
        Self {
            inside: Mutex::default(),
            pollers_wake: Condvar::new(),
            background_wake: Condvar::new(),
            any: AtomicBool::new(false),
            count: AtomicU64::new(0),
            pollers: AtomicU32::new(0),
            pollers_until: AtomicU64::new(u64::MAX),
            background_until: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing in here can panic half-way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a letter in and wakes whoever is to read it. Fetched records can wait for the application's next call, if nobody sleeps
    /// for them, unless `eager`: then somebody waits for a hook to be called.
    pub(crate) fn put(&self, letter: Letter, eager: bool) {
        let urgent = eager || !matches!(&letter, Letter::Answer(_, _, Response::Fetch(_)));
        let mut inside = self.inside();
        inside.urgent |= urgent;
        inside.letters.push(letter);
        self.any.store(true, SeqCst);
        self.count.fetch_add(1, SeqCst);
        let pollers = self.pollers.load(SeqCst) > 0;
        let background = !pollers && urgent && inside.background_sleeps;
        drop(inside);
        if pollers {
            self.pollers_wake.notify_all();
        } else if background {
            self.background_wake.notify_one();
        }
    }

    /// Whether there are letters.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Takes the letters out.
    pub(crate) fn take(&self) -> Vec<Letter> {
        if !self.any() {
            return Vec::new();
        }
        let mut inside = self.inside();
        self.any.store(false, SeqCst);
        inside.urgent = false;
        std::mem::take(&mut inside.letters)
    }

    /// How often something came that pollers may want to know of.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    /// Something is there for the application.
    pub(crate) fn wake_pollers(&self) {
        self.count.fetch_add(1, SeqCst);
        if self.pollers.load(SeqCst) > 0 {
            // Whoever counts as a poller has this lock until it sleeps.
            drop(self.inside());
            self.pollers_wake.notify_all();
        }
    }

    /// When the machine wants to be called.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due.load(Relaxed)
    }

    /// The machine wants to be called at `due`. Wakes someone if all sleep longer than that. Called under the client's lock.
    #[inline]
    pub(crate) fn set_due(&self, due: u64) {
        if due != self.due.load(Relaxed) {
            // In one order with the sleepers' stores: either they see this, or they are seen here.
            self.due.store(due, SeqCst);
            self.wake_for(due);
        }
    }

    fn wake_for(&self, due: u64) {
        if due >= self.background_until.load(SeqCst) || due >= self.pollers_until.load(SeqCst) {
            return;
        }
        let inside = self.inside();
        let pollers = self.pollers.load(SeqCst) > 0;
        let background = !pollers && inside.background_sleeps;
        if pollers {
            self.count.fetch_add(1, SeqCst);
        }
        drop(inside);
        if pollers {
            self.pollers_wake.notify_all();
        } else if background {
            self.background_wake.notify_one();
        }
    }

    /// A thread of the application sleeps until the count is no longer `seen`, until the machine wants to be called, or until
    /// `until_us`.
    pub(crate) fn sleep_as_poller(&self, seen: u64, until_us: u64) {
        let mut inside = self.inside();
        let alone = self.pollers.fetch_add(1, SeqCst) == 0;
        loop {
            let until = until_us.min(self.due.load(SeqCst));
            self.pollers_until
                .store(if alone { until } else { u64::MAX }, SeqCst);
            let now_us = now().mono_us;
            if self.count.load(SeqCst) != seen || now_us >= until {
                break;
            }
            if self.due.load(SeqCst) < until {
                continue;
            }
            let sleep = Duration::from_micros((until - now_us).min(LONGEST_SLEEP_US));
            inside = self
                .pollers_wake
                .wait_timeout(inside, sleep)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        self.pollers_until.store(u64::MAX, SeqCst);
        let last = self.pollers.fetch_sub(1, SeqCst) == 1;
        drop(inside);
        if last {
            // From now on the background thread has to be up in time.
            self.wake_for(self.due.load(SeqCst));
        }
    }

    /// The background thread sleeps until there is something to do. False if it is to end.
    pub(crate) fn sleep_in_background(&self) -> bool {
        let mut inside = self.inside();
        loop {
            if inside.stop {
                return false;
            }
            if inside.urgent && self.pollers.load(SeqCst) == 0 {
                break;
            }
            let due = self.due.load(SeqCst);
            let now_us = now().mono_us;
            if due <= now_us {
                break;
            }
            self.background_until.store(due, SeqCst);
            if self.due.load(SeqCst) < due {
                continue;
            }
            inside.background_sleeps = true;
            let sleep = Duration::from_micros((due - now_us).min(LONGEST_SLEEP_US));
            inside = self
                .background_wake
                .wait_timeout(inside, sleep)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            inside.background_sleeps = false;
        }
        self.background_until.store(0, SeqCst);
        true
    }

    /// Ends the background thread.
    pub(crate) fn stop(&self) {
        self.inside().stop = true;
        self.background_wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread, time::Instant};

    #[test]
    fn a_poller_is_woken_by_what_comes_and_by_what_is_due() {
        let mail = Arc::new(Mail::new());
        let seen = mail.count();
        let of_thread = mail.clone();
        let waker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            of_thread.wake_pollers();
        });
        let start = Instant::now();
        mail.sleep_as_poller(seen, now().mono_us + 120_000_000);
        assert!(start.elapsed() < Duration::from_secs(60));
        waker.join().unwrap();
        // As if the background thread slept for ever.
        mail.background_until.store(u64::MAX, SeqCst);
        let seen = mail.count();
        let of_thread = mail.clone();
        let planner = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            of_thread.set_due(now().mono_us + 10_000);
        });
        mail.sleep_as_poller(seen, now().mono_us + 120_000_000);
        assert!(start.elapsed() < Duration::from_secs(60));
        planner.join().unwrap();
    }

    #[test]
    fn the_background_thread_wakes_for_an_earlier_deadline_and_ends() {
        let mail = Arc::new(Mail::new());
        let of_thread = mail.clone();
        let background = thread::spawn(move || {
            let mut rounds = 0;
            while of_thread.sleep_in_background() {
                rounds += 1;
                of_thread.set_due(u64::MAX);
            }
            rounds
        });
        for _ in 0..50 {
            mail.set_due(now().mono_us + 200);
            while mail.due() != u64::MAX {
                thread::yield_now();
            }
        }
        mail.stop();
        assert_eq!(background.join().unwrap(), 50);
    }
}
