//! An event loop: some of the connections, all that happens on them.
//!
//! It goes in turns. In each, all connections with something to do are looked at in three steps: *hear* (read, cut, decode), *hand
//! in* (all requests of all of them, with the broker locked once), *speak* (encode, write). So the lock is taken once a turn, and a
//! connection's answers of a turn are written with one system call.

use super::{
    connection::Connection,
    counters::{LoopCounters, add},
    listener::{Accepted, Bound},
    log::{Level, ServerLog},
    mail::{ConnectionMailbox, Letter, LoopMail},
    receive::SharedChunk,
    server::{LoopShare, Serving},
};
use crate::{
    clock::now,
    embedded::{Answer, Caller},
};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use ottla_broker::{ConnId, RequestEnvelope};
use rustix::net::sockopt;
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

const WAKER: Token = Token(usize::MAX);
/// Tokens of listeners are counted down from here; those of connections are their slots.
const FIRST_LISTENER: usize = usize::MAX - 1;
const MOST_LISTENERS: usize = 1024;
/// Events that are taken from the system at a time.
const EVENTS: usize = 256;
/// Bytes that are read from a connection before others get their turn.
const MOST_READ_PER_TURN: usize = 1 << 20;
/// Requests, and bytes of them, that are handed in with the broker locked once; others want it, too.
const MOST_REQUESTS_PER_TURN: usize = 256;
/// Connections that are accepted before others get their turn.
const MOST_ACCEPTS_PER_TURN: usize = 64;
/// Sockets of those who connect too often, at most; then the first of them is closed at once.
const MOST_THROTTLED: usize = 1024;
/// How long nothing is accepted after the system said that it can't.
const ACCEPT_PAUSE_US: u64 = 200_000;
/// How often a connection that may not read because of others looks again.
const BLOCKED_US: u64 = 20_000;
/// A client that holds up others, since its half request keeps memory that all share, has so long to go on.
const PRIVILEGE_US: u64 = 10_000_000;

pub(super) struct EventLoop {
    number: usize,
    poll: Poll,
    serving: Arc<Serving>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    by_id: HashMap<ConnId, usize>,
    /// Slots of connections to look at in the next turn.
    listed: Vec<usize>,
    /// Slots of connections that may not read: there are too many bytes of requests.
    blocked: Vec<usize>,
    /// The one connection that may complete its request in spite of that.
    privileged: Option<usize>,
    chunk: SharedChunk,
    listeners: Vec<Listening>,
    /// When accepting goes on, if it rests.
    accept_at: Option<u64>,
    /// Since when, and how many were accepted (`max.connection.creation.rate`).
    accepted_since: (u64, u32),
    /// Sockets of those who connect too often, and when they are closed: whoever is told at once comes back at once.
    throttled: VecDeque<(u64, TcpStream)>,
    /// Whether the time is measured that connections take, for a quota.
    measures: bool,
    /// When connections are looked through for what takes too long; `u64::MAX` if there are none.
    sweep_at: u64,
    /// When the rest is cut off, once it is to stop.
    stop_at: Option<u64>,
}

struct Listening {
    bound: Bound,
    ready: bool,
}

impl EventLoop {
    /// What a loop waits on, and its mail.
    pub(super) fn poll() -> io::Result<(Poll, LoopMail)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((poll, LoopMail::new(waker)))
    }

    pub(super) fn new(
        number: usize,
        poll: Poll,
        serving: Arc<Serving>,
        listeners: Vec<Bound>,
    ) -> io::Result<Self> {
        let mut listening = Vec::new();
        for (number, mut bound) in listeners.into_iter().enumerate().take(MOST_LISTENERS) {
            let token = Token(FIRST_LISTENER - number);
            poll.registry()
                .register(&mut bound.socket, token, Interest::READABLE)?;
            listening.push(Listening { bound, ready: true });
        }
        Ok(Self {
            number,
            poll,
            serving,
            connections: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            listed: Vec::new(),
            blocked: Vec::new(),
            privileged: None,
            chunk: SharedChunk::default(),
            listeners: listening,
            accept_at: None,
            accepted_since: (0, 0),
            throttled: VecDeque::new(),
            measures: false,
            sweep_at: u64::MAX,
            stop_at: None,
        })
    }

    fn share(&self) -> &LoopShare {
        &self.serving.loops[self.number]
    }

    fn counters(&self) -> &LoopCounters {
        &self.share().counters
    }

    fn log(&self) -> &dyn ServerLog {
        &*self.serving.config.log
    }

    /// The loop's thread.
    pub(super) fn run(mut self) {
        // A bug in here costs this loop's connections, and no more: their clients connect again.
        while catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            self.log().event(
                Level::Error,
                "an event loop failed, its connections are closed; please report this bug",
                &[("loop", &self.number)],
            );
            self.listed.clear();
            self.blocked.clear();
            self.chunk.release();
            (0..self.connections.len()).for_each(|slot| self.close(slot));
        }
    }

    /// Goes on until it is told to stop.
    fn serve(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut letters = Vec::new();
        loop {
            self.wait(&mut events);
            let now_us = now().mono_us;
            self.note_events(&events);
            self.serving.loops[self.number].mail.take(&mut letters);
            for letter in letters.drain(..) {
                self.open_letter(letter, now_us);
            }
            self.throttled.retain(|(due_us, _)| now_us < *due_us);
            self.accept(now_us);
            self.unblock();
            if now_us >= self.sweep_at {
                self.sweep(now_us);
            }
            self.turn(now_us);
            if let Some(stop_at) = self.stop_at
                && self.is_stopped(now_us >= stop_at)
            {
                return;
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, events: &mut Events) {
        let due = [
            Some(self.sweep_at),
            self.accept_at,
            self.stop_at,
            self.throttled.iter().map(|(due_us, _)| *due_us).min(),
            (!self.blocked.is_empty()).then(|| now().mono_us + BLOCKED_US),
        ];
        let due = due.into_iter().flatten().min().unwrap_or(u64::MAX);
        let mail = &self.serving.loops[self.number].mail;
        let at_once = !self.listed.is_empty() || !mail.may_sleep();
        let timeout = match due {
            _ if at_once => Some(Duration::ZERO),
            u64::MAX => None,
            due => Some(Duration::from_micros(
                due.saturating_sub(now().mono_us).min(3_600_000_000),
            )),
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.log()
                .event(Level::Error, "poll failed", &[("error", &error)]);
            std::thread::sleep(Duration::from_millis(100));
        }
        self.serving.loops[self.number].mail.awake();
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            if token.0 > FIRST_LISTENER - MOST_LISTENERS {
                if let Some(listening) = self.listeners.get_mut(FIRST_LISTENER - token.0) {
                    listening.ready = true;
                }
                continue;
            }
            let Some(Some(conn)) = self.connections.get_mut(token.0) else {
                continue;
            };
            conn.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            conn.at_end |= event.is_read_closed() || event.is_error();
            conn.writable |= event.is_writable();
            list(&mut self.listed, conn, token.0);
        }
    }

    fn open_letter(&mut self, letter: Letter, now_us: u64) {
        match letter {
            Letter::Answer(id, answer) => {
                if let Some(&slot) = self.by_id.get(&id)
                    && let Some(conn) = &mut self.connections[slot]
                {
                    conn.talk.answer(answer);
                    list(&mut self.listed, conn, slot);
                }
            }
            Letter::Disconnected(id) => {
                if let Some(&slot) = self.by_id.get(&id)
                    && let Some(conn) = &mut self.connections[slot]
                {
                    conn.closing = Some("the broker can't answer what it sent".into());
                    list(&mut self.listed, conn, slot);
                }
            }
            Letter::Mute(id, throttle_ms) => {
                if let Some(&slot) = self.by_id.get(&id)
                    && let Some(conn) = &mut self.connections[slot]
                {
                    conn.talk.mute(now_us, throttle_ms);
                    list(&mut self.listed, conn, slot);
                }
            }
            Letter::Accepted(accepted) => self.admit(accepted, now_us),
            Letter::Room => {}
            Letter::Stop => {
                self.listeners.clear();
                self.throttled.clear();
                self.stop_at
                    .get_or_insert(now_us + micros(self.serving.config.grace));
            }
        }
    }

    /// Takes whoever waits at the door.
    fn accept(&mut self, now_us: u64) {
        if self.accept_at.is_some_and(|at| now_us < at) {
            return;
        }
        self.accept_at = None;
        for number in 0..self.listeners.len() {
            let mut left = MOST_ACCEPTS_PER_TURN;
            // Those who come while there are too many stay in the system's queue; `Letter::Room` comes when one goes.
            while self.listeners[number].ready && !self.serving.census.is_full() {
                if left == 0 {
                    self.accept_at = Some(now_us);
                    break;
                }
                left -= 1;
                let (since, count) = &mut self.accepted_since;
                if now_us >= *since + 1_000_000 {
                    (*since, *count) = (now_us, 0);
                }
                if *count >= self.serving.config.max_connection_rate {
                    self.accept_at = Some(*since + 1_000_000);
                    return;
                }
                match self.listeners[number].bound.socket.accept() {
                    Ok((stream, peer)) => {
                        self.accepted_since.1 += 1;
                        let broker = &self.serving.broker;
                        if let Some(throttle_ms) = broker.connection_throttle_ms(peer.ip()) {
                            add(&self.counters().throttled, 1);
                            let due_us = now_us + u64::from(throttle_ms) * 1000;
                            self.throttled.push_back((due_us, stream));
                            if self.throttled.len() > MOST_THROTTLED {
                                self.throttled.pop_front();
                            }
                            continue;
                        }
                        if !self.serving.census.admit(peer.ip()) {
                            add(&self.counters().refused, 1);
                            self.log().event(
                                Level::Warn,
                                "connection refused: too many from its address",
                                &[("peer", &peer)],
                            );
                            continue;
                        }
                        let endpoint = self.listeners[number].bound.endpoint.clone();
                        self.place(
                            Accepted {
                                stream,
                                peer,
                                endpoint,
                            },
                            now_us,
                        );
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.listeners[number].ready = false;
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                        ) => {}
                    Err(error) => {
                        // Out of descriptors or memory: trying again at once would only burn time.
                        self.log().event(
                            Level::Error,
                            "connections can't be accepted",
                            &[("error", &error)],
                        );
                        self.accept_at = Some(now_us + ACCEPT_PAUSE_US);
                        return;
                    }
                }
            }
        }
    }

    /// Gives a connection to the loop that has the fewest.
    fn place(&mut self, accepted: Accepted, now_us: u64) {
        let loops = &self.serving.loops;
        let fewest = (0..loops.len()).min_by_key(|&at| loops[at].connections.load(Relaxed));
        let to = fewest.unwrap_or(self.number);
        loops[to].connections.fetch_add(1, Relaxed);
        if to == self.number {
            self.admit(accepted, now_us);
        } else {
            loops[to].mail.put(Letter::Accepted(accepted));
        }
    }

    /// A connection is this loop's from now on.
    fn admit(&mut self, accepted: Accepted, now_us: u64) {
        let Accepted {
            mut stream,
            peer,
            endpoint,
        } = accepted;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        set_options(&stream);
        let interests = Interest::READABLE | Interest::WRITABLE;
        let registered = self
            .poll
            .registry()
            .register(&mut stream, Token(slot), interests);
        if let Err(error) = registered {
            self.log().event(
                Level::Error,
                "a connection can't be watched",
                &[("error", &error)],
            );
            self.free.push(slot);
            self.leave(peer.ip());
            return;
        }
        let mail = self.share().mail.clone();
        // As Java writes an address, which is what Kafka shows.
        let host = format!("/{}", peer.ip().to_canonical());
        let broker = &self.serving.broker;
        let id = broker.accept(&host, Some(peer.port()), endpoint, |conn| {
            Arc::new(ConnectionMailbox { conn, mail })
        });
        add(&self.counters().accepted, 1);
        self.log().event(
            Level::Debug,
            "connection accepted",
            &[("connection", &id.0), ("peer", &peer)],
        );
        let mut conn = Connection::new(id, stream, peer, now_us);
        list(&mut self.listed, &mut conn, slot);
        self.connections[slot] = Some(conn);
        self.by_id.insert(id, slot);
        self.sweep_by(now_us + micros(self.serving.config.max_idle));
    }

    /// A connection, counted already, is gone.
    fn leave(&self, ip: std::net::IpAddr) {
        self.share().connections.fetch_sub(1, Relaxed);
        if self.serving.census.leave(ip) {
            self.serving.loops[0].mail.put(Letter::Room);
        }
    }

    /// One turn: all that can be done now on the connections that are listed.
    fn turn(&mut self, now_us: u64) {
        if self.listed.is_empty() {
            return;
        }
        let mut turn = std::mem::take(&mut self.listed);
        if self.stop_at.is_none() {
            for &slot in &turn {
                self.timed(slot, |this| this.hear(slot, now_us));
            }
            self.hand_in(&mut turn, now_us);
        }
        let spoken_us = now().mono_us;
        for &slot in &turn {
            self.timed(slot, |this| this.speak(slot, spoken_us));
        }
        if self.listed.is_empty() {
            turn.clear();
            self.listed = turn; // its memory
        }
    }

    /// Does something for a connection, and notes how long that takes if somebody wants to know.
    fn timed(&mut self, slot: usize, work: impl FnOnce(&mut Self)) {
        if !self.measures {
            return work(self);
        }
        let began_us = now().mono_us;
        work(self);
        if let Some(conn) = &mut self.connections[slot] {
            conn.used_us += now().mono_us.saturating_sub(began_us);
        }
    }

    /// Reads what came, and makes requests of it.
    fn hear(&mut self, slot: usize, now_us: u64) {
        let Some(conn) = &mut self.connections[slot] else {
            return;
        };
        if conn.closing.is_some() {
            return;
        }
        let serving = &*self.serving;
        let counters = &serving.loops[self.number].counters;
        let chunk = &mut self.chunk;
        let max_size = serving.config.max_request_bytes;
        let mut left = MOST_READ_PER_TURN;
        let heard = catch_unwind(AssertUnwindSafe(|| {
            // What had to wait for room.
            conn.talk.cut(chunk, max_size, now_us, counters)?;
            while conn.readable && left > 0 && conn.talk.wants_bytes(now_us) {
                if serving.held.load(Relaxed) >= serving.config.max_queued_bytes {
                    let first = *self.privileged.get_or_insert(slot) == slot;
                    if !(first && conn.talk.is_amid_frame()) {
                        if first {
                            self.privileged = None;
                        }
                        conn.blocked = true;
                        self.blocked.push(slot);
                        break;
                    }
                }
                match conn.talk.read(chunk, |room| conn.stream.read(room)) {
                    Ok(read) if read.bytes == 0 => {
                        conn.readable = false;
                        conn.at_end = true;
                        conn.heard_end = true;
                    }
                    Ok(read) => {
                        left = left.saturating_sub(read.bytes);
                        add(&counters.bytes_in, read.bytes as u64);
                        conn.active_us = now_us;
                        // Less than there was room for: that was all, until the next event. But the end makes no other event.
                        conn.readable = !read.short || conn.at_end;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        conn.readable = false;
                    }
                    Err(error) => {
                        conn.readable = false;
                        conn.closing = Some(error.to_string());
                    }
                }
                conn.talk.cut(chunk, max_size, now_us, counters)?;
            }
            Ok(())
        }));
        match heard {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => {
                let broken: super::conversation::Broken = broken;
                let (id, peer) = (conn.id, conn.peer);
                conn.closing = Some(broken.to_string());
                conn.waste();
                add(&counters.bad_requests, 1);
                self.log().event(
                    Level::Warn,
                    "connection closed: it sent no request that is served",
                    &[("connection", &id.0), ("peer", &peer), ("why", &broken)],
                );
            }
            Err(_) => self.panicked(slot),
        }
        self.account(slot);
        if self.privileged == Some(slot)
            && !self.connections[slot]
                .as_ref()
                .is_some_and(|conn| conn.talk.is_amid_frame())
        {
            self.privileged = None;
        }
    }

    /// Hands in all requests whose turn it is, of the connections of this turn. Connections of this loop that get an answer by that
    /// join the turn.
    fn hand_in(&mut self, turn: &mut Vec<usize>, now_us: u64) {
        let serving = self.serving.clone();
        let mut caller = TurnCaller {
            connections: &mut self.connections,
            by_id: &self.by_id,
            turn,
            at: 0,
            left: MOST_REQUESTS_PER_TURN,
            too_much_unwritten: serving.unwritten.load(Relaxed)
                > serving.config.max_unwritten_bytes,
            now_us,
            panicked: Vec::new(),
        };
        let measures = serving.broker.request_all(&mut caller);
        for slot in caller.panicked {
            self.panicked(slot);
        }
        self.measures = measures.unwrap_or(self.measures);
    }

    /// A machine failed at something that this connection sent: a bug, but not the end of the others.
    #[cold]
    fn panicked(&mut self, slot: usize) {
        let Some(conn) = &mut self.connections[slot] else {
            return;
        };
        conn.closing = Some("a request of it made the broker fail".into());
        conn.waste();
        let (id, peer) = (conn.id, conn.peer);
        self.log().event(
            Level::Error,
            "connection closed: a request made the broker fail; please report this bug",
            &[("connection", &id.0), ("peer", &peer)],
        );
    }

    /// Writes the answers that are there, and sees what remains to be done.
    fn speak(&mut self, slot: usize, now_us: u64) {
        let Some(conn) = &mut self.connections[slot] else {
            return;
        };
        conn.listed = false;
        let serving = &*self.serving;
        let counters = &serving.loops[self.number].counters;
        match catch_unwind(AssertUnwindSafe(|| conn.talk.encode(now_us, counters))) {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => {
                let id = conn.id;
                conn.closing = Some(broken.to_string());
                self.log().event(
                    Level::Error,
                    "connection closed: an answer can't be written; please report this bug",
                    &[("connection", &id.0), ("why", &broken)],
                );
            }
            Err(_) => self.panicked(slot),
        }
        let Some(conn) = &mut self.connections[slot] else {
            return;
        };
        match conn.write(now_us) {
            Ok(written) => add(
                &counters_of(&self.serving, self.number).bytes_out,
                written as u64,
            ),
            Err(error) => {
                conn.closing.get_or_insert_with(|| error.to_string());
            }
        }
        let may_hand_in = conn.talk.may_hand_in(now_us) && self.stop_at.is_none();
        // Whoever sends no more is answered to the last of what it sent, but for a long poll: most have hung up.
        if conn.heard_end && !conn.talk.has_waiting() && !conn.talk.is_owed() {
            conn.closing
                .get_or_insert_with(|| "the client closed it".into());
        }
        if conn.closing.is_some() {
            self.close(slot);
            return;
        }
        let may_hear = self.stop_at.is_none()
            && conn.talk.wants_bytes(now_us)
            && (conn.readable && !conn.blocked || conn.talk.has_uncut());
        let may_write = conn.writable && conn.talk.unwritten() > 0;
        if may_hand_in || may_hear || may_write {
            list(&mut self.listed, conn, slot);
        }
        let stall = conn
            .stalled_us
            .map(|since| since + micros(self.serving.config.max_stall));
        let due = stall.into_iter().chain(conn.talk.muted_until()).min();
        if let Some(due) = due {
            self.sweep_by(due);
        }
        self.account(slot);
    }

    fn sweep_by(&mut self, due_us: u64) {
        self.sweep_at = self.sweep_at.min(due_us);
    }

    /// Brings the sums of all connections up to date.
    fn account(&mut self, slot: usize) {
        let Some(conn) = &mut self.connections[slot] else {
            return;
        };
        let (held, unwritten) = (conn.talk.held(), conn.talk.unwritten());
        change(&self.serving.held, &mut conn.held, held);
        change(&self.serving.unwritten, &mut conn.unwritten, unwritten);
    }

    /// Those who may not read because of others look again.
    fn unblock(&mut self) {
        if self.blocked.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.blocked) {
            if let Some(conn) = &mut self.connections[slot] {
                conn.blocked = false;
                list(&mut self.listed, conn, slot);
            }
        }
    }

    /// Closes what takes too long, and finds out when that is next.
    fn sweep(&mut self, now_us: u64) {
        self.sweep_at = u64::MAX;
        self.chunk.release();
        let max_idle_us = micros(self.serving.config.max_idle);
        let max_stall_us = micros(self.serving.config.max_stall);
        for slot in 0..self.connections.len() {
            let Some(conn) = &mut self.connections[slot] else {
                continue;
            };
            let mut next = u64::MAX;
            let mut why = None;
            if let Some(since) = conn.stalled_us {
                next = since + max_stall_us;
                why = (next <= now_us).then_some("it took nothing of its answers");
            }
            if conn.talk.is_quiet() {
                let idle_at = conn.active_us + max_idle_us;
                next = next.min(idle_at);
                if idle_at <= now_us {
                    why = Some("it was idle");
                }
            } else {
                // It may be idle from any time on.
                next = next.min(now_us + max_idle_us);
            }
            if self.privileged == Some(slot) && now_us > conn.active_us + PRIVILEGE_US {
                why = Some("its request, which is not complete, holds up others");
            }
            if conn.talk.unmute(now_us) {
                list(&mut self.listed, conn, slot);
            }
            next = next.min(conn.talk.muted_until().unwrap_or(u64::MAX));
            match why {
                Some(why) => {
                    conn.closing = Some(why.into());
                    self.close(slot);
                }
                None => self.sweep_by(next),
            }
        }
        if self.privileged.is_some() {
            self.sweep_by(now_us + PRIVILEGE_US);
        }
    }

    fn close(&mut self, slot: usize) {
        let Some(mut conn) = self.connections[slot].take() else {
            return;
        };
        change(&self.serving.held, &mut conn.held, 0);
        change(&self.serving.unwritten, &mut conn.unwritten, 0);
        self.by_id.remove(&conn.id);
        self.free.push(slot);
        if self.privileged == Some(slot) {
            self.privileged = None;
        }
        let _ = self.poll.registry().deregister(&mut conn.stream);
        self.serving.broker.disconnect(conn.id);
        add(&self.counters().closed, 1);
        let why = conn.closing.as_deref().unwrap_or("the server stops");
        self.log().event(
            Level::Debug,
            "connection closed",
            &[
                ("connection", &conn.id.0),
                ("peer", &conn.peer),
                ("why", &why),
            ],
        );
        let ip = conn.peer.ip();
        drop(conn);
        self.leave(ip);
    }

    /// Closes whoever is owed nothing, or everybody. Whether nobody is left.
    fn is_stopped(&mut self, everybody: bool) -> bool {
        for slot in 0..self.connections.len() {
            let owed = |conn: &Connection| conn.talk.is_owed();
            if everybody || !self.connections[slot].as_ref().is_some_and(owed) {
                self.close(slot);
            }
        }
        self.by_id.is_empty()
    }
}

/// The requests of one turn, for the broker.
struct TurnCaller<'a> {
    connections: &'a mut [Option<Connection>],
    by_id: &'a HashMap<ConnId, usize>,
    turn: &'a mut Vec<usize>,
    at: usize,
    left: usize,
    too_much_unwritten: bool,
    now_us: u64,
    panicked: Vec<usize>,
}

impl Caller for TurnCaller<'_> {
    fn next_request(&mut self) -> Option<(ConnId, RequestEnvelope)> {
        if self.left == 0 {
            return None;
        }
        while let Some(&slot) = self.turn.get(self.at) {
            if let Some(conn) = &mut self.connections[slot]
                && conn.closing.is_none()
                && !(self.too_much_unwritten && conn.talk.unwritten() > 0)
                && let Some(envelope) = conn.talk.next_request(self.now_us)
            {
                self.left -= 1;
                return Some((conn.id, envelope));
            }
            self.at += 1;
        }
        None
    }

    fn take_answer(&mut self, id: ConnId, answer: Answer) -> Option<Answer> {
        let Some(&slot) = self.by_id.get(&id) else {
            return Some(answer);
        };
        let conn = self.connections[slot].as_mut()?;
        conn.talk.answer(answer);
        list(self.turn, conn, slot);
        None
    }

    fn mute(&mut self, id: ConnId, throttle_ms: u32) -> bool {
        let Some(conn) = self
            .by_id
            .get(&id)
            .and_then(|&slot| self.connections[slot].as_mut())
        else {
            return false;
        };
        conn.talk.mute(self.now_us, throttle_ms);
        true
    }

    fn take_time_used(&mut self, id: ConnId) -> u64 {
        let slot = self.by_id.get(&id);
        let conn = slot.and_then(|&slot| self.connections[slot].as_mut());
        conn.map_or(0, |conn| std::mem::take(&mut conn.used_us))
    }

    fn panicked(&mut self, id: ConnId) {
        self.panicked.extend(self.by_id.get(&id));
    }
}

/// Puts a connection on a list, once.
fn list(listed: &mut Vec<usize>, conn: &mut Connection, slot: usize) {
    if !conn.listed {
        conn.listed = true;
        listed.push(slot);
    }
}

fn counters_of(serving: &Serving, number: usize) -> &LoopCounters {
    &serving.loops[number].counters
}

fn change(sum: &std::sync::atomic::AtomicUsize, share: &mut usize, to: usize) {
    if to > *share {
        sum.fetch_add(to - *share, Relaxed);
    } else if to < *share {
        sum.fetch_sub(*share - to, Relaxed);
    }
    *share = to;
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

/// Answers leave at once; a peer that is gone without a word is found out within minutes.
fn set_options(stream: &TcpStream) {
    // A socket without them still works.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    #[cfg(target_os = "linux")]
    {
        let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
        let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10));
        let _ = sockopt::set_tcp_keepcnt(stream, 6);
    }
}
