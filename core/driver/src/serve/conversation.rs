//! What is said on one connection, without its socket: frames in, requests out; answers in, bytes out.
//!
//! **Order.** Answers leave in the order of their requests. As in Kafka a request is handed to the broker when those before it are
//! answered (and their answers are bytes that count), with one exception: produces that follow each other are handed in at once, and
//! their answers sorted. A producer with five requests on their way so waits for one sync of the disk, not for five.
//!
//! The broker gets numbers of ours in place of the client's correlation ids, which need not differ.

use super::{
    counters::LoopCounters,
    receive::{Read, Receiver, SharedChunk},
};
use crate::embedded::Answer;
use bytes::{Buf, Bytes};
use ottla_broker::RequestEnvelope;
use ottla_protocol::{
    ApiKey, DecodeError, EncodeError, Request, RequestHeader,
    frame::{decode_request, encode_response},
};
use std::{collections::VecDeque, fmt, io::IoSlice};

/// Requests of one connection that are here, at most; then it isn't read from until some are answered.
const MOST_REQUESTS: usize = 128;
/// Bytes of requests of one connection that are here; above, no more is cut off. One request of any size may be here.
const MOST_REQUEST_BYTES: usize = 32 << 20;
/// While more than this is not taken by the client, none of its requests is handed in.
const MOST_UNWRITTEN: usize = 1 << 20;

/// Why a conversation can't go on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Broken {
    /// The bytes are no request that is served.
    Request(DecodeError),
    /// An answer can't be written: a bug.
    Answer(ApiKey, i16, EncodeError),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Answer(key, version, error) => {
                write!(f, "the answer to {} v{version}: {error}", key.name())
            }
        }
    }
}

/// A request that came and was not handed in.
struct Waiting {
    header: RequestHeader,
    request: Request,
    bytes: usize,
    came_us: u64,
}

/// A request that was handed in and whose answer has not left.
struct InFlight {
    correlation_id: i32,
    key: ApiKey,
    bytes: usize,
    came_us: u64,
    answer: Option<Answer>,
}

/// One connection's half-spoken sentences.
#[derive(Default)]
pub(super) struct Conversation {
    receiver: Receiver,
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    /// The number of the next request that expects an answer.
    next_number: i32,
    /// How many of those in flight are produces.
    produces: usize,
    /// There may be complete frames that had to wait for room.
    has_uncut: bool,
    /// Bytes of frames that are waiting or in flight.
    request_bytes: usize,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Until when nothing is handed in because of a quota (KIP-219), in monotonic microseconds.
    muted_until_us: u64,
}

impl Conversation {
    /// Whether bytes may be read: there is room for what they become, and the client is not muted.
    pub(super) fn wants_bytes(&self, now_us: u64) -> bool {
        now_us >= self.muted_until_us
            && self.waiting.len() + self.in_flight.len() < MOST_REQUESTS
            && self.request_bytes < MOST_REQUEST_BYTES
    }

    /// Reads once, and makes requests of what is complete.
    pub(super) fn read<E>(
        &mut self,
        shared: &mut SharedChunk,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Read, E> {
        self.receiver.read(shared, read)
    }

    /// Makes requests of the frames that are complete, as many as there is room for.
    pub(super) fn cut(
        &mut self,
        shared: &mut SharedChunk,
        max_size: usize,
        now_us: u64,
        counters: &LoopCounters,
    ) -> Result<(), Broken> {
        self.has_uncut = false;
        loop {
            if !self.wants_bytes(now_us) {
                self.has_uncut = self.receiver.is_amid_frame();
                break;
            }
            let frame = self.receiver.next_frame(max_size);
            let Some(frame) = frame.map_err(Broken::Request)? else {
                break;
            };
            let bytes = frame.len();
            let (header, request) = decode_request(frame).map_err(Broken::Request)?;
            counters.request(request.api_key(), bytes);
            self.request_bytes += bytes;
            self.waiting.push_back(Waiting {
                header,
                request,
                bytes,
                came_us: now_us,
            });
        }
        self.receiver.put_away(shared);
        Ok(())
    }

    /// Whether frames had to wait for room.
    pub(super) fn has_uncut(&self) -> bool {
        self.has_uncut
    }

    /// Whether [`Self::next_request`] has one.
    pub(super) fn may_hand_in(&self, now_us: u64) -> bool {
        let Some(next) = self.waiting.front() else {
            return false;
        };
        let is_produce = next.request.api_key() == ApiKey::Produce;
        let only_produces = self.in_flight.len() == self.produces;
        let in_turn = self.in_flight.is_empty() || is_produce && only_produces;
        in_turn && self.out_bytes <= MOST_UNWRITTEN && now_us >= self.muted_until_us
    }

    /// The next request to be handed in.
    pub(super) fn next_request(&mut self, now_us: u64) -> Option<RequestEnvelope> {
        if !self.may_hand_in(now_us) {
            return None;
        }
        let Waiting {
            header,
            request,
            bytes,
            came_us,
        } = self.waiting.pop_front()?;
        let key = request.api_key();
        let number = self.next_number;
        if matches!(&request, Request::Produce(produce) if produce.acks == 0) {
            // Nobody answers: it is done once it is handed in.
            self.request_bytes -= bytes;
        } else {
            self.next_number = number.wrapping_add(1);
            self.produces += usize::from(key == ApiKey::Produce);
            self.in_flight.push_back(InFlight {
                correlation_id: header.correlation_id,
                key,
                bytes,
                came_us,
                answer: None,
            });
        }
        Some(RequestEnvelope {
            correlation_id: number,
            api_version: header.request_api_version,
            client_id: header.client_id,
            request,
        })
    }

    /// The broker's answer to one of them.
    pub(super) fn answer(&mut self, answer: Answer) {
        let first = self.next_number.wrapping_sub(self.in_flight.len() as i32);
        let at = answer.correlation_id.wrapping_sub(first);
        let in_flight = usize::try_from(at)
            .ok()
            .and_then(|at| self.in_flight.get_mut(at));
        if let Some(in_flight) = in_flight.filter(|one| one.answer.is_none()) {
            in_flight.answer = Some(answer);
        }
    }

    /// Writes the answers whose turn it is into the queue of bytes.
    pub(super) fn encode(&mut self, now_us: u64, counters: &LoopCounters) -> Result<(), Broken> {
        while let Some(first) = self.in_flight.front_mut()
            && let Some(answer) = first.answer.take()
        {
            let version = answer.api_version;
            let pieces = encode_response(first.correlation_id, version, &answer.response)
                .map_err(|error| Broken::Answer(first.key, version, error))?;
            counters.answer(first.key, now_us.saturating_sub(first.came_us));
            // The answer leaves at once, and what comes then waits (KIP-219).
            counters.throttled(first.key, answer.mute_ms);
            self.request_bytes -= first.bytes;
            self.produces -= usize::from(first.key == ApiKey::Produce);
            self.in_flight.pop_front();
            if answer.mute_ms > 0 {
                self.mute(now_us, answer.mute_ms);
            }
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                self.out_bytes += piece.len();
                self.out.push_back(piece);
            }
        }
        Ok(())
    }

    /// Nothing more is handed in or read for so long.
    pub(super) fn mute(&mut self, now_us: u64, throttle_ms: u32) {
        let until_us = now_us + u64::from(throttle_ms) * 1000;
        self.muted_until_us = self.muted_until_us.max(until_us);
    }

    /// When a muted conversation goes on, if it is muted.
    pub(super) fn muted_until(&self) -> Option<u64> {
        (self.muted_until_us > 0).then_some(self.muted_until_us)
    }

    /// Ends the muting if its time is over; whether it is.
    pub(super) fn unmute(&mut self, now_us: u64) -> bool {
        let over = self.muted_until_us > 0 && self.muted_until_us <= now_us;
        if over {
            self.muted_until_us = 0;
        }
        over
    }

    /// The bytes to be written next, as many pieces as there is room for; how many pieces.
    pub(super) fn to_write<'a>(&'a self, pieces: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, piece) in pieces.iter_mut().zip(&self.out) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// So many of them are written.
    pub(super) fn written(&mut self, mut bytes: usize) {
        self.out_bytes -= bytes;
        while let Some(first) = self.out.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                break;
            }
            bytes -= first.len();
            self.out.pop_front();
        }
        if self.out.is_empty() && self.out.capacity() > 64 {
            self.out = VecDeque::new();
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn unwritten(&self) -> usize {
        self.out_bytes
    }

    /// Bytes of requests that are here and not answered.
    pub(super) fn held(&self) -> usize {
        self.request_bytes + self.receiver.held()
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_amid_frame(&self) -> bool {
        self.receiver.is_amid_frame()
    }

    /// Whether nothing is here, in flight or to be written.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.out.is_empty()
    }

    /// Whether there are requests that were not handed in.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether an answer is on its way, or not taken yet, that a stopping server should wait for: any but those that may take as long as
    /// they like.
    pub(super) fn is_owed(&self) -> bool {
        let may_last = |key| {
            use ApiKey::{Fetch, JoinGroup, ShareFetch, SyncGroup};
            matches!(key, Fetch | ShareFetch | JoinGroup | SyncGroup)
        };
        self.out_bytes > 0 || self.in_flight.iter().any(|one| !may_last(one.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::{Response, frame::encode_request, messages::MetadataRequest};

    fn metadata_frames(count: usize) -> Vec<u8> {
        let request = Request::Metadata(MetadataRequest::default());
        let header = RequestHeader {
            request_api_key: ApiKey::Metadata as i16,
            request_api_version: 9,
            correlation_id: 77,
            client_id: None,
        };
        encode_request(&header, &request)
            .unwrap()
            .concat()
            .repeat(count)
    }

    fn hear(talk: &mut Conversation, bytes: &[u8], now_us: u64) {
        let mut chunk = SharedChunk::default();
        let read = talk.read(&mut chunk, |room| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        });
        read.unwrap();
        let cut = talk.cut(&mut chunk, 1 << 20, now_us, &LoopCounters::default());
        cut.unwrap();
    }

    fn answer(correlation_id: i32, mute_ms: u32) -> Answer {
        Answer {
            correlation_id,
            api_version: 9,
            response: Response::Metadata(Default::default()),
            mute_ms,
        }
    }

    #[test]
    fn a_muted_client_gets_its_answer_and_waits() {
        let mut talk = Conversation::default();
        hear(&mut talk, &metadata_frames(2), 1000);
        let first = talk.next_request(1000).unwrap();
        assert!(talk.next_request(1000).is_none(), "one at a time");
        talk.answer(answer(first.correlation_id, 50));
        talk.encode(2000, &LoopCounters::default()).unwrap();
        assert!(talk.unwritten() > 0);
        assert_eq!(talk.muted_until(), Some(52_000));
        assert!(talk.next_request(51_999).is_none() && !talk.wants_bytes(51_999));
        assert!(!talk.unmute(51_999) && talk.unmute(52_000) && !talk.unmute(52_000));
        assert!(talk.next_request(52_000).is_some() && talk.wants_bytes(52_000));
    }

    #[test]
    fn requests_above_the_bound_wait_in_the_buffer() {
        let mut talk = Conversation::default();
        hear(&mut talk, &metadata_frames(MOST_REQUESTS + 5), 0);
        assert!(talk.has_uncut() && !talk.wants_bytes(0));
        let request = talk.next_request(0).unwrap();
        talk.answer(answer(request.correlation_id, 0));
        // Answers to what was never asked are nobody's.
        talk.answer(answer(request.correlation_id, 0));
        talk.answer(answer(request.correlation_id + 1, 0));
        talk.encode(0, &LoopCounters::default()).unwrap();
        let mut chunk = SharedChunk::default();
        talk.cut(&mut chunk, 1 << 20, 0, &LoopCounters::default())
            .unwrap();
        assert_eq!(talk.waiting.len(), MOST_REQUESTS);
        assert!(talk.has_uncut());
    }
}
