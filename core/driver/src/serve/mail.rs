//! What reaches an event loop from other threads: answers that come later, new connections, the order to stop.

use super::listener::Accepted;
use crate::embedded::{Answer, Mailbox, lock};
use mio::Waker;
use ottla_broker::ConnId;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

pub(super) enum Letter {
    /// An answer that came later.
    Answer(ConnId, Answer),
    /// Nothing is to be read from the connection for so many milliseconds.
    Mute(ConnId, u32),
    /// The broker wants the connection closed.
    Disconnected(ConnId),
    /// A connection that is this loop's from now on.
    Accepted(Accepted),
    /// A connection was closed somewhere: there is room for another.
    Room,
    /// The end.
    Stop,
}

/// The mail of one event loop. Whoever puts something in wakes it, but only if it sleeps and nobody has done so yet: a wake-up
/// is a system call.
pub(super) struct LoopMail {
    letters: Mutex<Vec<Letter>>,
    asleep: AtomicBool,
    waker: Waker,
}

impl LoopMail {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            letters: Mutex::default(),
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    pub(super) fn put(&self, letter: Letter) {
        lock(&self.letters).push(letter);
        // Either the loop has yet to look into the letters, or it is seen here to sleep.
        if self.asleep.swap(false, SeqCst) {
            // It fails only if the event loop is gone.
            let _ = self.waker.wake();
        }
    }

    /// The loop is about to sleep. False if there is something to do instead.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        if lock(&self.letters).is_empty() {
            return true;
        }
        self.asleep.store(false, SeqCst);
        false
    }

    /// The loop is awake again.
    pub(super) fn awake(&self) {
        self.asleep.store(false, SeqCst);
    }

    /// Moves the letters into `out`, which must be empty.
    pub(super) fn take(&self, out: &mut Vec<Letter>) {
        std::mem::swap(&mut *lock(&self.letters), out);
    }
}

/// The mailbox of one connection, for the broker.
pub(super) struct ConnectionMailbox {
    pub(super) conn: ConnId,
    pub(super) mail: Arc<LoopMail>,
}

impl Mailbox for ConnectionMailbox {
    fn deliver(&self, answer: Answer) {
        self.mail.put(Letter::Answer(self.conn, answer));
    }

    fn disconnected(&self) {
        self.mail.put(Letter::Disconnected(self.conn));
    }

    fn mute(&self, throttle_ms: u32) {
        self.mail.put(Letter::Mute(self.conn, throttle_ms));
    }

    fn warn(&self, _text: &str) {} // the server has a mailbox of its own for that
}
