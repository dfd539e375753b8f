//! A whole connection without a socket, on a broker without threads: bytes in, bytes out, the same each time. For fuzzing and tests.

use super::{conversation::Conversation, counters::LoopCounters, receive::SharedChunk};
use crate::embedded::Answer;
use ottla_broker::{Broker, BrokerConfig, ConnId, Durability, Output};
use ottla_log::{MemoryStorage, SyncJob};
use ottla_record::Now;
use std::{convert::Infallible, io::IoSlice, sync::Arc};

/// What a client got from a server: all bytes, and whether the connection was closed on it.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

/// Sends `bytes` to a fresh broker in memory, cut into pieces of the sizes that `cuts` gives (again and again; the empty list is one
/// piece), and says what came back. Between pieces a millisecond goes by; at the end two minutes, so that what waits is answered.
///
/// # Panics
/// If an answer can't be written, or is left in the end.
#[doc(hidden)]
pub fn rehearse(
    durability: Durability,
    max_request_bytes: usize,
    cuts: &[u8],
    bytes: &[u8],
) -> Heard {
    let config = BrokerConfig {
        durability,
        max_decompressed_bytes: 1 << 20,
        client_telemetry: true,
        ..BrokerConfig::default()
    };
    let mut now = Now::new(1_000_000, 1_700_000_000_000);
    let conn = ConnId(1);
    let storage = Arc::new(MemoryStorage::new());
    let mut broker = Broker::open(config, storage, now, 42).expect("memory can be opened");
    broker.handle_connect(now, conn, "/127.0.0.1");
    let mut rehearsal = Rehearsal {
        broker,
        conn,
        max_request_bytes,
        talk: Conversation::default(),
        chunk: SharedChunk::default(),
        counters: LoopCounters::default(),
        syncs: Vec::new(),
        heard: Heard {
            bytes: Vec::new(),
            closed: false,
        },
    };
    let mut sizes = cuts.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() && !rehearsal.heard.closed {
        let size = sizes.next().map_or(rest.len(), |&size| size.max(1).into());
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rehearsal.hear(now, piece);
        now = Now::new(now.mono_us + 1000, now.wall_ms + 1);
        rest = after;
    }
    for _ in 0..120 {
        now = Now::new(now.mono_us + 1_000_000, now.wall_ms + 1000);
        rehearsal.turn(now);
    }
    let heard = rehearsal.heard;
    assert!(heard.closed || rehearsal.talk.unwritten() == 0);
    heard
}

struct Rehearsal {
    broker: Broker,
    conn: ConnId,
    max_request_bytes: usize,
    talk: Conversation,
    chunk: SharedChunk,
    counters: LoopCounters,
    syncs: Vec<(ottla_broker::SyncId, SyncJob)>,
    heard: Heard,
}

impl Rehearsal {
    fn hear(&mut self, now: Now, mut piece: &[u8]) {
        while !piece.is_empty() && !self.heard.closed {
            if !self.talk.wants_bytes(now.mono_us) {
                self.turn(now);
                if !self.talk.wants_bytes(now.mono_us) {
                    return; // a client that sends more than may be here has to wait; this one gives up
                }
            }
            let read = self.talk.read(&mut self.chunk, |room| {
                let n = room.len().min(piece.len());
                room[..n].copy_from_slice(&piece[..n]);
                piece = &piece[n..];
                Ok::<_, Infallible>(n)
            });
            let Ok(_) = read;
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Now) {
        if self
            .broker
            .poll_timeout()
            .is_some_and(|due| due <= now.mono_us)
        {
            self.broker.handle_timeout(now);
        }
        loop {
            let cut = self.talk.cut(
                &mut self.chunk,
                self.max_request_bytes,
                now.mono_us,
                &self.counters,
            );
            if cut.is_err() {
                self.heard.closed = true;
                return;
            }
            while let Some(envelope) = self.talk.next_request(now.mono_us) {
                self.broker.handle_request(now, self.conn, envelope);
                self.settle();
            }
            // What is to be synced is synced a little later, all at once.
            for (id, job) in std::mem::take(&mut self.syncs) {
                self.broker.handle_synced(now, id, job.run());
            }
            self.settle();
            let encoded = self.talk.encode(now.mono_us, &self.counters);
            encoded.expect("every answer can be written");
            let mut written = 0;
            loop {
                let mut pieces = [IoSlice::new(&[]); 3];
                let count = self.talk.to_write(&mut pieces);
                // Sockets take what they like.
                let taken = pieces[..count].iter().flat_map(|piece| piece.iter());
                let before = self.heard.bytes.len();
                self.heard.bytes.extend(taken.take(1000));
                let n = self.heard.bytes.len() - before;
                self.talk.written(n);
                written += n;
                if n == 0 {
                    break;
                }
            }
            let more = self.talk.may_hand_in(now.mono_us) || self.talk.has_uncut();
            if self.heard.closed || !more && written == 0 && self.syncs.is_empty() {
                return;
            }
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Respond {
                    correlation_id,
                    api_version,
                    response,
                    ..
                } => self.talk.answer(Answer {
                    correlation_id,
                    api_version,
                    response,
                    mute_ms: 0,
                }),
                Output::Sync { id, job } => self.syncs.push((id, job)),
                Output::Compact { .. }
                | Output::Remove { .. }
                | Output::Warn(_)
                | Output::Mute { .. } => {}
                Output::Disconnect(_) => self.heard.closed = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::{
        ApiKey, Request, RequestHeader, Response,
        frame::{decode_response, encode_request},
        messages::{ApiVersionsRequest, FetchRequest, ListGroupsRequest, MetadataRequest},
    };

    fn frame(id: i32, version: i16, request: &Request) -> Vec<u8> {
        let header = RequestHeader {
            request_api_key: request.api_key() as i16,
            request_api_version: version,
            correlation_id: id,
            client_id: None,
        };
        encode_request(&header, request).unwrap().concat()
    }

    #[test]
    fn cuts_make_no_difference() {
        let versions = ApiVersionsRequest {
            client_software_name: "x".into(),
            client_software_version: "1".into(),
        };
        let stream = [
            frame(1, 3, &Request::ApiVersions(versions)),
            frame(2, 9, &Request::Metadata(MetadataRequest::default())),
            frame(3, 4, &Request::ListGroups(ListGroupsRequest::default())),
            frame(
                4,
                11,
                &Request::Fetch(FetchRequest {
                    replica_id: -1,
                    max_wait_ms: 500,
                    min_bytes: 1,
                    session_epoch: -1,
                    ..Default::default()
                }),
            ),
            frame(5, 9, &Request::Metadata(MetadataRequest::default())),
        ]
        .concat();
        let whole = rehearse(Durability::Fsync, 1 << 20, &[], &stream);
        assert!(!whole.closed);
        let mut rest = &whole.bytes[..];
        for (id, key, version) in [
            (1, ApiKey::ApiVersions, 3),
            (2, ApiKey::Metadata, 9),
            (3, ApiKey::ListGroups, 4),
            (4, ApiKey::Fetch, 11),
            (5, ApiKey::Metadata, 9),
        ] {
            let (size, after) = rest.split_first_chunk().unwrap();
            let (body, after) = after.split_at(u32::from_be_bytes(*size) as usize);
            let (answered, response): (i32, Response) =
                decode_response(key, version, body.to_vec().into()).unwrap();
            assert_eq!((answered, response.api_key()), (id, key));
            rest = after;
        }
        assert!(rest.is_empty());
        for cuts in [&[1][..], &[2, 3, 7], &[255], &[0, 90]] {
            let cut = rehearse(Durability::Fsync, 1 << 20, cuts, &stream);
            assert!(cut == whole, "{cuts:?}");
        }
    }

    /// The fuzz targets' little sister, for every run of the tests: all keys and versions with bodies that are mostly small numbers,
    /// so that many of them mean something.
    #[test]
    fn any_body_of_any_request_is_answered_or_ends_the_connection() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut answered = 0;
        for key in (0..=127).filter_map(ApiKey::from_i16) {
            for version in key.broker_versions() {
                for _ in 0..12 {
                    let header = RequestHeader {
                        request_api_key: key as i16,
                        request_api_version: version,
                        correlation_id: 5,
                        client_id: Some("x".into()),
                    };
                    let mut e = ottla_protocol::Encoder::new();
                    header.encode(&mut e).unwrap();
                    let mut frame = e.into_bytes().to_vec();
                    for _ in 0..random(80) {
                        let byte = match random(8) {
                            0 => random(256),
                            1 => 255,
                            2 | 3 => random(4),
                            _ => 0,
                        };
                        frame.push(byte as u8);
                    }
                    let mut stream = (frame.len() as i32).to_be_bytes().to_vec();
                    stream.extend(&frame);
                    let heard = rehearse(Durability::Fsync, 1 << 16, &[random(40) as u8], &stream);
                    answered += usize::from(!heard.bytes.is_empty());
                }
            }
        }
        assert!(answered > 200, "{answered}");
    }
}
