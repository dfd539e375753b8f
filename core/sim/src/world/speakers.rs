//! Those that speak the protocol themselves, without a client: what they have in common, their connections.
//!
//! Each has one request under way at a time, through the codec and back, over the same connections as everybody's and through the same
//! stops. What they say and make of the answers is up to [`transactions`] and [`players`].

use ottla_protocol::ErrorCode;

use super::*;

/// Connections of scripts have numbers of actors from here on.
const SCRIPTS: usize = 1 << 20;
/// And those of players.
const PLAYERS: usize = 1 << 21;

/// One of them, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Of [`transactions`].
    Script(usize),
    /// Of [`players`].
    Player(usize),
}

impl Speaker {
    /// Whose connection it is; `None` if it is a client's.
    pub fn of_actor(actor: usize) -> Option<Self> {
        match actor {
            PLAYERS.. => Some(Self::Player(actor - PLAYERS)),
            SCRIPTS.. => Some(Self::Script(actor - SCRIPTS)),
            _ => None,
        }
    }

    fn actor(self) -> usize {
        match self {
            Self::Script(index) => SCRIPTS + index,
            Self::Player(index) => PLAYERS + index,
        }
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(index) => write!(f, "script {index}"),
            Self::Player(index) => write!(f, "player {index}"),
        }
    }
}

/// Where a speaker is with its connection.
#[derive(Default)]
pub(super) struct Line {
    conn: Option<BrokerConn>,
    /// Counts connections.
    life: u64,
    /// Counts timers; only the last one set counts.
    timer: u64,
    correlation: i32,
    waits: bool,
    /// It has left for good.
    pub done: bool,
}

/// Errors after which the same request is sent again, whatever it is.
pub(super) fn passes(error: ErrorCode) -> bool {
    [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ]
    .contains(&error)
}

impl World {
    fn line(&mut self, speaker: Speaker) -> &mut Line {
        match speaker {
            Speaker::Script(index) => self.script_line(index),
            Speaker::Player(index) => self.player_line(index),
        }
    }

    /// It goes on in so many microseconds, whatever it waited for before.
    pub(super) fn speaks_after(&mut self, speaker: Speaker, us: u64) {
        let line = self.line(speaker);
        line.timer += 1;
        let timer = line.timer;
        self.after(us, What::Speaks(speaker, timer));
    }

    /// It leaves for good. Whether it had not before.
    pub(super) fn speaks_no_more(&mut self, speaker: Speaker) -> bool {
        let line = self.line(speaker);
        let was_there = !std::mem::replace(&mut line.done, true);
        line.life += 1;
        if let Some(conn) = line.conn.take() {
            self.cut(conn);
        }
        was_there
    }

    /// A timer of it is up: it connects, or has something to say.
    pub(super) fn speaker_goes_on(&mut self, speaker: Speaker, timer: u64) {
        let now = self.now();
        let line = self.line(speaker);
        if line.done || line.waits || line.timer != timer {
            return;
        }
        if let Some(conn) = line.conn {
            return match speaker {
                Speaker::Script(index) => self.script_speaks(index, conn),
                Speaker::Player(index) => self.player_speaks(index, conn),
            };
        }
        let conn = BrokerConn(self.next_connection);
        let Some(broker) = self.whole_broker() else {
            return self.speaks_after(speaker, 20_000);
        };
        broker.handle_connect(now, conn, "127.0.0.1");
        self.next_connection += 1;
        trace!(self, "{speaker} connects as {}", conn.0);
        let line = self.line(speaker);
        line.life += 1;
        line.conn = Some(conn);
        let connection = Connection::new(speaker.actor(), line.life, ConnId(0));
        self.connections.insert(conn, connection);
        self.speaks_after(speaker, 100);
    }

    /// It sends a request, and waits for the answer.
    pub(super) fn speaks(
        &mut self,
        speaker: Speaker,
        conn: BrokerConn,
        version: i16,
        request: &Request,
    ) {
        let line = self.line(speaker);
        line.correlation += 1;
        line.waits = true;
        let correlation = line.correlation;
        match network::recode_request(version, request) {
            Ok(again) => self.send(conn, correlation, version, again),
            Err(error) => self.checker.violation(format!(
                "{:?} {version} can't be encoded: {error}",
                request.api_key()
            )),
        }
    }

    pub(super) fn speaker_hears(&mut self, speaker: Speaker, correlation: i32, response: Response) {
        let line = self.line(speaker);
        if line.done || correlation != line.correlation {
            return;
        }
        line.waits = false;
        match speaker {
            Speaker::Script(index) => self.script_hears(index, response),
            Speaker::Player(index) => self.player_hears(index, response),
        }
    }

    /// The connection is gone, and with it perhaps an answer.
    pub(super) fn speaker_hears_of_cut(&mut self, speaker: Speaker, life: u64) {
        let line = self.line(speaker);
        if line.life != life || line.done {
            return;
        }
        let waited = std::mem::take(&mut line.waits);
        line.conn = None;
        let pause = match speaker {
            Speaker::Script(index) => Some(self.script_is_cut_off(index, waited)),
            Speaker::Player(index) => self.player_is_cut_off(index, waited),
        };
        if let Some(pause) = pause {
            self.speaks_after(speaker, pause);
        }
    }
}
