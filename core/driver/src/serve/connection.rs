//! A connection: its socket, and what is said on it.

use super::conversation::Conversation;
use mio::net::TcpStream;
use ottla_broker::ConnId;
use std::{
    io::{self, IoSlice, Write},
    net::SocketAddr,
};

/// Most pieces that are written with one system call.
const PIECES_PER_WRITE: usize = 128;
/// Most bytes that are written to one connection before others get their turn.
const MOST_PER_TURN: usize = 8 << 20;

pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) talk: Conversation,
    /// The socket may have something to read, or room to write, as far as is known.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side will send no more, as the system says.
    pub(super) at_end: bool,
    /// All that it sent has been read.
    pub(super) heard_end: bool,
    /// Whether it is on the list of those to look at.
    pub(super) listed: bool,
    /// It may not read: there are too many bytes of requests, of all connections.
    pub(super) blocked: bool,
    /// When it last read or wrote something, in monotonic microseconds.
    pub(super) active_us: u64,
    /// Since when there is something to write that the other side doesn't take.
    pub(super) stalled_us: Option<u64>,
    /// What it has added to the sums of all connections.
    pub(super) held: usize,
    pub(super) unwritten: usize,
    /// What its requests took of the loop's time, in microseconds, and the broker was not told. Only while that is measured.
    pub(super) used_us: u64,
    /// Why it is to be closed.
    pub(super) closing: Option<String>,
}

impl Connection {
    pub(super) fn new(id: ConnId, stream: TcpStream, peer: SocketAddr, now_us: u64) -> Self {
        Self {
            id,
            stream,
            peer,
            talk: Conversation::default(),
            readable: true,
            writable: true,
            at_end: false,
            heard_end: false,
            listed: false,
            blocked: false,
            active_us: now_us,
            stalled_us: None,
            held: 0,
            unwritten: 0,
            used_us: 0,
            closing: None,
        }
    }

    /// Throws away what it sent: nothing of it will be handed in.
    pub(super) fn waste(&mut self) {
        self.talk = Conversation::default();
        self.readable = false;
    }

    /// Writes what there is to write, as far as the other side takes it; how many bytes.
    pub(super) fn write(&mut self, now_us: u64) -> io::Result<usize> {
        let mut total = 0;
        while self.writable && self.talk.unwritten() > 0 && total < MOST_PER_TURN {
            let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let count = self.talk.to_write(&mut pieces);
            let bytes: usize = pieces[..count].iter().map(|piece| piece.len()).sum();
            match self.stream.write_vectored(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    // The rest would not go either: the socket says when there is room again.
                    self.writable = written == bytes;
                    self.talk.written(written);
                    total += written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if total > 0 {
            self.active_us = now_us;
        }
        self.stalled_us = match self.stalled_us {
            _ if self.talk.unwritten() == 0 => None,
            Some(since) if total == 0 => Some(since),
            _ => Some(now_us),
        };
        Ok(total)
    }
}
